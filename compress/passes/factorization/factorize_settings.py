"""What factorisation is asked for. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from compress.core.amounts import Amount, BytesAmount, MacsAmount, ParamsAmount
from compress.core.config import Config, Place, listed_patterns
from compress.passes.pruning.prune_settings import UNITS, params_left
from compress.training.settings import Recalibrate, RecoverConfig

Rank = Annotated[int, Field(ge=1, le=65_536)]


class LowRankKeepConfig(Config):
    """How much of the uncompressed model stays; exactly one. A number is a ratio, a string an absolute amount."""

    params: ParamsAmount | None = Field(default=None, description="Parameters to keep: 0.5, or '300k'.")
    macs: MacsAmount | None = Field(default=None, description="MACs of one sample to keep: 0.5, or '20M'.")
    bytes: BytesAmount | None = Field(
        default=None, description="Bytes of the fp32 weights (4 per parameter) to keep: 0.5, or '300kB'."
    )
    energy: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Share of what each layer answers to training samples (squared) that stays: 0.95."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"expected exactly one of {known}; got {' and '.join(given) or 'none'}")
        return self

    def target(self) -> tuple[str, Amount] | None:
        """The unit that is given, and the amount; None for a share of energy."""
        return next(((unit, getattr(self, unit)) for unit in UNITS if getattr(self, unit) is not None), None)

    def params_of(self, params: int) -> int | None:
        """How many params of so many stay; None where only a run can tell."""
        target = self.target()
        return None if target is None else params_left(*target, params)


class FactorizeConfig(Config):
    """Settings of layers of low rank."""

    keep: LowRankKeepConfig = Field(description="The target, in params, macs or bytes, or the energy that stays.")
    tucker: bool = Field(
        default=True,
        description="Convolutions may become three (1x1, a small one, 1x1: Tucker-2) where that loses less than two.",
    )
    samples: int = Field(
        default=256,
        ge=0,
        le=1_000_000,
        description="Training samples whose inputs say which part of a weight matters; 0: the weights alone.",
    )
    measure: bool = Field(
        default=True,
        description="Leave alone what would be slower on this device: layers are timed before and after, where a run "
        "may time (not in a study).",
    )
    ranks: dict[str, tuple[Rank, ...]] = Field(
        default={},
        description="Layer: its rank, one number, or two of Tucker-2 (inputs, outputs), in place of what the target "
        "says; all other layers stay whole.",
    )
    layers: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns of layers to factor.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of layers that stay whole.")
    recalibrate: Recalibrate = 32
    recover: RecoverConfig | None = Field(
        default=None, description="Training afterwards; with `distill` the teacher is the uncompressed model."
    )

    @model_validator(mode="after")
    def _one_or_two(self) -> Self:
        for layer, ranks in self.ranks.items():
            if len(ranks) not in (1, 2):
                raise ValueError(f"ranks of {layer}: expected one number or two (Tucker-2), got {len(ranks)}")
        return self

    @property
    def measures(self) -> bool:
        """Whether the result depends on times that are measured on this device."""
        return self.measure and not self.ranks

    def patterns(self) -> list[Place]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        return [*listed_patterns(self), *((("ranks", layer), layer) for layer in self.ranks)]
