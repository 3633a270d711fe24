"""What pruning is asked for. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from compress.core.amounts import Amount, BytesAmount, LatencyAmount, MacsAmount, ParamsAmount
from compress.core.config import Config, Place, listed_patterns
from compress.training.settings import Recalibrate, RecoverConfig

ImportanceKind = Literal[
    "l1", "l2", "group_norm", "fpgm", "bn_scale", "taylor", "hessian", "activation", "random"
]  # fmt: skip
Scope = Literal["global", "per_layer", "sensitivity"]
SCOPES: tuple[Scope, ...] = ("global", "per_layer", "sensitivity")
TRIED: tuple[ImportanceKind, ...] = (
    "group_norm", "l1", "l2", "fpgm", "bn_scale", "taylor", "hessian", "activation"
)  # fmt: skip
UNITS = {"params": ("params", 1), "macs": ("macs", 1), "bytes": ("params", 4)}
"""What can be kept so much of: what is counted for it, and how often; bytes are those of the fp32 weights."""
LATENCY, MACS = "latency", "macs"
Share = Annotated[float, Field(gt=0, le=1)]


def params_left(unit: str, amount: Amount, params: int) -> int | None:
    """How many params of so many stay where so much of a unit does; None where only a run can tell."""
    counted, factor = UNITS.get(unit, (unit, 1))
    return round(amount.resolve(params * factor) / factor) if counted == "params" else None


class KeepConfig(Config):
    """How much of the uncompressed model stays; exactly one unit. A number is a ratio, a string an absolute amount."""

    params: ParamsAmount | None = Field(default=None, description="Parameters to keep: 0.5, or '300k'.")
    macs: MacsAmount | None = Field(default=None, description="MACs of one sample to keep: 0.5, or '20M'.")
    bytes: BytesAmount | None = Field(
        default=None, description="Bytes of the fp32 weights (4 per parameter) to keep: 0.5, or '300kB'."
    )
    latency: LatencyAmount | None = Field(
        default=None,
        description="Time of one call to keep, in fp32, measured on this device: 0.5, or '2ms'. How long each layer "
        "takes at each width is measured first, and the pruned file until it is within 3 % of this.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        units = (*UNITS, LATENCY)
        given = [unit for unit in units if getattr(self, unit) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of {', '.join(units)}; got {' and '.join(given) or 'none'}")
        return self

    def target(self) -> tuple[str, Amount]:
        """The unit that is given, and the amount."""
        return next((unit, getattr(self, unit)) for unit in (*UNITS, LATENCY) if getattr(self, unit) is not None)

    @property
    def measured(self) -> bool:
        """Whether only timing on this device tells what it comes to."""
        return self.latency is not None

    def params_of(self, params: int) -> int | None:
        """How many params of so many stay; None where only a run can tell."""
        return params_left(*self.target(), params)


class PruneConfig(Config):
    """Settings of structured pruning."""

    keep: KeepConfig = Field(description="The target, in params, macs, bytes or latency of the uncompressed model.")
    importance: (
        Literal["auto"] | ImportanceKind | Annotated[tuple[ImportanceKind, ...], Field(min_length=2, max_length=8)]
    ) = Field(
        default="auto",
        description="What makes a channel worth keeping: l1 or l2 norm of its filters, group_norm over all layers "
        "coupled to it, fpgm (how far from the layer's other filters), bn_scale of its batch norms, from training "
        "samples taylor (weight x gradient), hessian (weight^2 x gradient^2) or activation (what it brings into the "
        "layers that read it), or random; a list: the mean of the ranks. auto: all but random are tried without "
        "training, and what validation likes best is kept.",
    )
    scope: Literal["auto"] | Scope = Field(
        default="auto",
        description="global: layers give what costs least importance; per_layer: all give the same share; "
        "sensitivity: as global, by how much the loss on validation grows where a layer alone is halved; auto: all "
        "three are tried without training, and the one that validation likes best is kept.",
    )
    steps: int = Field(default=1, ge=1, le=100, description="Prune in so many parts, with recovery split over them.")
    round_to: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = Field(
        default="auto", description="Channel counts are multiples of this; auto: of this device's vector width."
    )
    layers: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Patterns of layers that may lose output channels."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of layers that keep all output channels.")
    per_layer: dict[str, Share] = Field(
        default={}, description="Share of output channels that the layers of a pattern keep, whatever their importance."
    )
    max_ratio: float = Field(
        default=0.9, gt=0, lt=1, description="No layer loses more than this share of its channels."
    )
    batches: int = Field(
        default=16, ge=1, le=100_000, description="taylor, hessian and activation: batches of 64 training samples."
    )
    recalibrate: Recalibrate = 32
    recover: RecoverConfig | None = Field(
        default=None, description="Training after pruning; with `distill` the teacher is the uncompressed model."
    )

    @property
    def measures(self) -> bool:
        """Whether the result depends on times that are measured on this device."""
        return self.keep.measured

    @field_validator("per_layer")
    @classmethod
    def _sorted(cls, shares: dict[str, float]) -> dict[str, float]:
        return dict(sorted(shares.items()))

    def patterns(self) -> list[Place]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        return [*listed_patterns(self), *((("per_layer", pattern), pattern) for pattern in self.per_layer)]
