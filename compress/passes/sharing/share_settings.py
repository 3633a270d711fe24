"""What shared weights are asked for. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

from pydantic import Field

from compress.core.config import Config, Place, listed_patterns
from compress.training.settings import Recalibrate, RecoverConfig


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
    recalibrate: Recalibrate = 32
    recover: RecoverConfig | None = Field(
        default=None, description="Training of the shared values; with `distill` the teacher is the uncompressed model."
    )

    def patterns(self) -> list[Place]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        return listed_patterns(self)
