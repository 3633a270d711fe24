"""The native small model: the dense one of the same family whose params come nearest to those of a compressed model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from compress.core.files import canonical_json

KEEPS_SHAPE = ("quantize", "finetune", "distill")
PARTS = 64  # a width that is a multiplier is searched in such parts of the large model's


def params_of(name: str, args: Mapping[str, Any]) -> int:
    """Parameters of a registered model, counted on torch's meta device: nothing is allocated or initialised.

    Raises ModelError or RecipeError where the arguments do not go together.
    """
    return _params(name, canonical_json(dict(args)))


@lru_cache(maxsize=4096)
def _params(name: str, args: str) -> int:
    import torch

    from compress.graph.sizes import count_params
    from compress.models import build_model

    with torch.device("meta"):
        return count_params(build_model(name, **json.loads(args)))


def expected_params(passes: Sequence[Any], params: int) -> int | None:
    """Params after these passes (`PassStep`s) on a model of so many; None where only a run can tell.

    A pruning that is asked for params or bytes says it itself; one that is asked for MACs, and a pass of the user's
    own, do not.
    """
    now = params
    for step in passes:
        if step.kind in KEEPS_SHAPE:
            continue
        unit, amount = step.config.keep.target() if step.kind == "prune" else ("", None)
        if unit not in ("params", "bytes") or amount is None:
            return None
        per_param = 4 if unit == "bytes" else 1
        now = min(now, round(amount.resolve(params * per_param) / per_param))
    return now


def nearest_width(name: str, args: Mapping[str, Any], target: int) -> int | float:
    """The width up to that of `args` at which the model's params come nearest to `target`, in ratio.

    Params grow with the width, so halving finds the two widths around the target.
    """
    width = args["width"]
    parts = width if isinstance(width, int) else PARTS

    def at(n: int) -> int | float:
        return n if isinstance(width, int) else round(width * n / PARTS, 6)

    low, high = 1, max(parts, 1)
    while high - low > 1:
        middle = (low + high) // 2
        inside = params_of(name, {**args, "width": at(middle)}) <= target
        low, high = (middle, high) if inside else (low, middle)
    return min((at(low), at(high)), key=lambda w: abs(params_of(name, {**args, "width": w}) / target - 1))
