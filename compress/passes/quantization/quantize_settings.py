"""The settings of quantization and calibration. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

import fnmatch
from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.core.arguments import ComponentName
from compress.core.config import Config, Place, listed_patterns
from compress.core.registries import OPTIMIZERS
from compress.training.schedules import ScheduleConfig
from compress.training.settings import RecoverConfig

Mode = Literal["static", "dynamic", "weight-only"]
Operators = Literal["auto", "all", "weighted"]
Method = Literal["minmax", "percentile", "mse", "entropy"]


class CalibrateConfig(Config):
    """How activation ranges are found."""

    method: Method = Field(
        default="minmax",
        description="minmax: the whole range seen; percentile: cut rare extremes; mse: least squared rounding error; "
        "entropy: least information lost (Kullback-Leibler).",
    )
    samples: int = Field(
        default=512,
        ge=1,
        le=10**9,
        description="Training samples read for calibration, drawn by the seed, without augmentation.",
    )
    batch_size: int = Field(
        default=16, ge=1, le=65536, description="Samples run at a time; memory grows with this and not with `samples`."
    )
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="percentile: the per cent of values below the upper end of the range."
    )


class BlocksConfig(Config):
    """How weights alone are stored in integers, by blocks of inputs."""

    size: Literal[16, 32, 64, 128, 256] = Field(default=32, description="Weights that share one scale.")
    method: Literal["rtn", "hqq", "gptq"] = Field(
        default="rtn",
        description="rtn: round to nearest, the whole range of each block; hqq: zero points that fit most "
        "weights, 4 bits alone; gptq: rounding errors of a weight are made up for by those not yet rounded, on "
        "calibration samples.",
    )
    symmetric: bool = Field(default=False, description="Steps on either side of zero, and no zero point stored.")
    compute: Literal["int8", "fp32"] = Field(
        default="int8",
        description="What matrix products compute in: int8 rounds the inputs too, block by block, and is faster.",
    )

    @model_validator(mode="after")
    def _zero_points_are_learnt(self) -> BlocksConfig:
        if self.method == "hqq" and self.symmetric:
            raise ValueError("method: hqq finds zero points, which symmetric: true leaves out; give one of the two")
        return self


class QuantizedTrainConfig(RecoverConfig):
    """A training of the file itself: with its rounding in, batch norm folded, and the sizes of its steps learnt."""

    epochs: int = Field(default=2, ge=1, le=1_000_000, description="Passes over the training split.")
    optimizer: Annotated[str, ComponentName(OPTIMIZERS)] = Field(
        default="adamw", description="sgd, adamw, or one of your own as module:name."
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, le=1000, description="Peak rate, of weights in units of their layer's root mean square."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=100, description="Of weights of two and more dimensions.")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="How the learning rate moves.")


class QuantizeConfig(Config):
    """Settings of quantization."""

    mode: Mode = Field(
        default="static",
        description="static: weights and activations, in ranges that calibration finds; dynamic: weights and inputs of "
        "matrix products and LSTMs, in the ranges of each call, for transformers; weight-only: weights of matrix "
        "products, embeddings and (in 8 bits, for storage) convolutions, which compute in fp32.",
    )
    bits: Literal[4, 8, 16] = Field(
        default=8,
        description="Stored bits of a weight. weight-only with 16 is float16, widened when the file is loaded: half "
        "the bytes, nothing lost, the speed of fp32. static with 4 takes half the bytes of 8 and computes in int8, as "
        "fast; it needs `train` to keep its accuracy.",
    )
    layer_bits: dict[str, Literal[4, 8]] = Field(
        default={},
        description="static: bits of single layers, by patterns of their names, in place of `bits`: {head: 8}; of "
        "several that fit the last one counts.",
    )
    blocks: BlocksConfig = Field(default=BlocksConfig(), description="weight-only: how weights are stored.")
    calibrate: CalibrateConfig = Field(default=CalibrateConfig(), description="How activation ranges are found.")
    target: Literal["auto", "vnni", "avx512", "avx2", "arm"] = Field(
        default="auto",
        description="The CPU the file will run on; auto is this machine's. avx2 is safe on every x86 CPU.",
    )
    per_channel: bool = Field(default=True, description="One weight scale per output channel instead of one per layer.")
    layers: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns of layer names to quantize.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of layer names left in fp32.")
    operators: Operators = Field(
        default="auto",
        description="Which operators become integers: all that can, or only those with weights (layers, embeddings). "
        "auto: weighted in a network with layer normalization, whose residual stream loses by rounding; else all.",
    )

    train: QuantizedTrainConfig | None = Field(
        default=None,
        description="static: train weights and the sizes of steps of the very file that is deployed; `distill: {}` "
        "learns from the uncompressed model too. What is no better for it on validation stays as it was.",
    )
    equalize: bool = Field(
        default=True,
        description="static: let channels with a few large values hand their scale on to the weights that read them "
        "(cross-layer equalization, SmoothQuant), where that brings the output at least 1 dB nearer to fp32.",
    )
    choose: Literal["auto", "measured", "fixed", "fp32"] = Field(
        default="auto",
        description="measured: the fastest of a handful of int8 files on this device within the goals, with layers in "
        "fp32 again where the goal of drop asks for it, or fp32 where it is faster than all; fixed: all that `layers` "
        "and `exclude` say, whatever it gives; fp32: nothing, as measured may have found. auto: measured where "
        "`target` is auto, else fixed; weight-only and 4 bits are fixed, for their size.",
    )

    @model_validator(mode="after")
    def _bits_of_weights_alone(self) -> QuantizeConfig:
        if self.bits == 4 and self.mode == "dynamic":
            raise ValueError("bits: 4 needs mode: static or weight-only: dynamic multiplies integers of 8 bits")
        if self.layer_bits and self.mode != "static":
            raise ValueError(f"layer_bits needs mode: static, got {self.mode}")
        if self.bits == 16 and self.mode != "weight-only":
            raise ValueError(f"bits: 16 needs mode: weight-only, got {self.mode}: integers have 8 bits at most")
        if self.train is not None and self.mode != "static":
            raise ValueError(f"train needs mode: static, got {self.mode}: the file's ranges are learnt with it")
        if self.bits != 4 and self.blocks.method == "hqq":
            raise ValueError("blocks.method: hqq needs bits: 4: the runtime takes its zero points for no other")
        return self

    @property
    def measured(self) -> bool:
        """Whether candidates are timed, where there is a device to time them on."""
        return self.choose == "measured" or (
            self.choose == "auto" and self.target == "auto" and self.mode != "weight-only" and not self.narrow
        )

    def bits_of(self, layer: str) -> int:
        """Stored bits of a layer's weights, as asked for."""
        own = [bits for pattern, bits in self.layer_bits.items() if fnmatch.fnmatchcase(layer, pattern)]
        return own[-1] if own else self.bits

    @property
    def narrow(self) -> bool:
        """Whether any layer is to have 4 bits."""
        return 4 in (self.bits, *self.layer_bits.values())

    def patterns(self) -> list[Place]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        return [*listed_patterns(self), *((("layer_bits", pattern), pattern) for pattern in self.layer_bits)]
