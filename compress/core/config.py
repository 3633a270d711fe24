"""The base of every configuration: frozen, keyword-only, and closed to unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen record of settings. Unknown keys are errors; field descriptions become the recipe reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
