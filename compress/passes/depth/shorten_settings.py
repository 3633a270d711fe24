"""What fewer blocks are asked for. Needs no torch, so that recipes load quickly."""

from __future__ import annotations

from pydantic import Field

from compress.core.config import Config, Place, listed_patterns
from compress.passes.pruning.prune_settings import KeepConfig
from compress.training.settings import Recalibrate, RecoverConfig


class ShortenConfig(Config):
    """Settings of leaving out blocks."""

    keep: KeepConfig = Field(description="The target, in params, macs, bytes or latency of the uncompressed model.")
    samples: int = Field(
        default=1024, ge=1, le=10_000_000, description="Validation samples by which blocks are judged."
    )
    layers: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns of blocks that may go.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of blocks that stay.")
    recalibrate: Recalibrate = 32
    recover: RecoverConfig | None = Field(
        default=None, description="Training afterwards; with `distill` the teacher is the uncompressed model."
    )

    @property
    def measures(self) -> bool:
        """Whether the result depends on times that are measured on this device."""
        return self.keep.measured

    def patterns(self) -> list[Place]:
        """Every layer pattern with its place in the configuration, so that one that matches nothing is an error."""
        return listed_patterns(self)
