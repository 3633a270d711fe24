"""The settings of quantization and calibration. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.core.config import Config

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


class QuantizeConfig(Config):
    """Settings of static int8 quantization."""

    bits: Literal[8] = Field(default=8, description="Stored bits of weights and activations.")
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

    choose: Literal["auto", "measured", "fixed", "fp32"] = Field(
        default="auto",
        description="measured: the fastest of a handful of int8 files on this device within the goals, with layers in "
        "fp32 again where the goal of drop asks for it, or fp32 where it is faster than all; fixed: all that `layers` "
        "and `exclude` say, whatever it gives; fp32: nothing, as measured may have found. auto: measured where "
        "`target` is auto, else fixed.",
    )

    @property
    def measured(self) -> bool:
        """Whether candidates are timed, where there is a device to time them on."""
        return self.choose == "measured" or (self.choose == "auto" and self.target == "auto")

    def patterns(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        return [((key, i), p) for key in ("layers", "exclude") for i, p in enumerate(getattr(self, key))]
