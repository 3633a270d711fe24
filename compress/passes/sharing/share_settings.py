"""What shared weights are asked for. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

from pydantic import Field

from compress.core.config import Config
from compress.training.settings import RecoverConfig


class ShareConfig(Config):
    """Settings of shared weights."""

    bits: int = Field(
        default=4,
        ge=2,
        le=8,
        description="Each layer has 2^bits values; up to 4 bits a weight is stored in 4, above in 8.",
    )
    layers: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns of layers whose weights share.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of layers that keep a value for each weight.")
    recalibrate: int = Field(
        default=32,
        ge=0,
        le=1_000_000,
        description="Batches of 128 samples to estimate batch-norm statistics from; 0 keeps the old.",
    )
    recover: RecoverConfig | None = Field(
        default=None, description="Training of the shared values; with `distill` the teacher is the uncompressed model."
    )

    def patterns(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        return [((key, i), p) for key in ("layers", "exclude") for i, p in enumerate(getattr(self, key))]
