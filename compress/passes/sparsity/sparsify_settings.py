"""What sparse weights are asked for. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from compress.core.config import Config, Place, listed_patterns
from compress.training.settings import Recalibrate, RecoverConfig

WeightScore = Literal["magnitude", "taylor"]
_LARGEST = 64


class Pattern(NamedTuple):
    """Either `kept` of every `of` weights along the inputs, or zeros in blocks of `rows` outputs x `columns` inputs."""

    kept: int
    of: int
    rows: int
    columns: int

    @property
    def fixed(self) -> bool:
        """Whether the pattern itself says how many weights are zero."""
        return self.of > 0


def read_pattern(text: str) -> Pattern:
    """Raises ValueError for what is neither `2:4` nor `4x1`."""
    found = re.fullmatch(r"\s*(\d{1,3})\s*([:x])\s*(\d{1,3})\s*", text)
    if found is None:
        raise ValueError(f"expected a pattern such as 2:4 (2 of 4 weights stay) or 4x1 (blocks of zeros); got {text!r}")
    first, second = int(found[1]), int(found[3])
    if found[2] == ":" and 0 < first < second <= _LARGEST:
        return Pattern(first, second, 1, 1)
    if found[2] == "x" and 0 < first <= _LARGEST and 0 < second <= _LARGEST:
        return Pattern(0, 0, first, second)
    raise ValueError(f"expected fewer kept than there are (2:4), or blocks of up to {_LARGEST} (4x1); got {text!r}")


class SparsifyConfig(Config):
    """Settings of sparse weights."""

    sparsity: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Share of the weights of the chosen layers that become zero: 0.8. Not beside N:M."
    )
    pattern: str = Field(
        default="1x1",
        description="1x1: any weights; 4x1: blocks of 4 outputs x 1 input; 2:4 or 4:8: so many of every so many along "
        "the inputs stay, which says the sparsity too.",
    )
    score: WeightScore = Field(
        default="magnitude", description="What stays: the largest weights, or by taylor (weight x gradient) of samples."
    )
    scope: Literal["global", "per_layer"] = Field(
        default="global",
        description="global: all layers share the target, by LAMP scores (what a weight is of those that would stay "
        "beside it); per_layer: each layer has the same share.",
    )
    steps: int = Field(
        default=1, ge=1, le=100, description="In so many parts, most of it early (cubic), recovery spread over them."
    )
    regrow: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of the weights that stay which is given to zeros with the largest gradient instead, in "
        "every part but the last: what was cut too early comes back.",
    )
    layers: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns of layers whose weights count.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of layers that stay dense.")
    batches: int = Field(
        default=16, ge=1, le=100_000, description="taylor and regrow: batches of 64 training samples for the gradients."
    )
    recalibrate: Recalibrate = 32
    recover: RecoverConfig | None = Field(
        default=None, description="Training after each part; with `distill` the teacher is the uncompressed model."
    )

    @field_validator("pattern")
    @classmethod
    def _readable(cls, text: str) -> str:
        read_pattern(text)
        return text

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        fixed = read_pattern(self.pattern).fixed
        if fixed and self.sparsity is not None:
            raise ValueError(f"pattern {self.pattern} says how many weights are zero; leave out sparsity")
        if not fixed and self.sparsity is None:
            raise ValueError("expected sparsity, the share of weights that become zero, such as 0.8, or a pattern 2:4")
        if self.regrow and self.steps == 1:
            raise ValueError("regrow gives weights back in parts but the last: ask for steps above 1")
        if self.regrow and fixed:
            raise ValueError("regrow is for weights that may be zero anywhere; leave it out beside N:M")
        return self

    def patterns(self) -> list[Place]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        return listed_patterns(self)
