"""The base of every configuration: frozen, keyword-only, and closed to unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Place = tuple[tuple[str | int, ...], str]  # where in a configuration a pattern of layers stands, and the pattern


class Config(BaseModel):
    """A frozen record of settings. Unknown keys are errors; field descriptions become the recipe reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def listed_patterns(config: Config) -> list[Place]:
    """The patterns in `layers` and `exclude`, each with its place, so that one that matches nothing is an error."""
    return [((key, i), p) for key in ("layers", "exclude") for i, p in enumerate(getattr(config, key))]
