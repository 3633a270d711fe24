"""What a dry run predicts: the sizes after each pass, and the layers that it touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evaluate.core.text import count, size


@dataclass(frozen=True)
class Step:
    """The model before anything (`kind` "baseline") or after a pass: the layers it touches and the predicted sizes.

    `bytes` is the weights alone, params x bits / 8: the exported file adds its graph, some kilobytes.
    """

    kind: str
    layers: tuple[str, ...]
    params: int
    macs: int
    bytes: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "layers": list(self.layers), "notes": list(self.notes)}


@dataclass(frozen=True)
class Plan:
    """The predicted way of a recipe, the baseline first."""

    name: str
    steps: tuple[Step, ...]

    def summary(self) -> dict[str, Any]:
        """The plan as JSON-able data."""
        return {"recipe": self.name, "predicted": True, "steps": [step.as_dict() for step in self.steps]}

    def table(self) -> str:
        """The plan as text: sizes after each step, then the layers each pass matches."""
        base = self.steps[0]
        lines = [f"{'':<12}{'params':>12}{'MACs':>12}{'weights':>12}   of the baseline"]
        for step in self.steps:
            ratios = f"{step.params / base.params:.3f}  {step.macs / base.macs:.3f}  {step.bytes / base.bytes:.3f}"
            sizes = f"{count(step.params):>12}{count(step.macs):>12}{size(step.bytes):>12}"
            lines.append(f"{step.kind:<12}{sizes}   {ratios}")
        for step in self.steps[1:]:
            named = ": " + ", ".join(step.layers) if step.layers else ""
            lines += ["", f"{step.kind}: {len(step.layers)} layers{named}"]
            lines += [f"  {note}" for note in step.notes]
        return "\n".join([*lines, "", "Predicted; nothing was trained or measured."])
