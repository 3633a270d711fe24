"""The Record of a run: everything that a table or a page shows, as one JSON object.

Whether a run met the goals of its recipe. Every goal is "at most"; intervals decide, or leave it not resolved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from compress import __version__
from compress.core.files import hash_of
from evaluate.benchmark.bench_record import judge, summarise
from evaluate.core.errors import ModelError, quoted
from evaluate.core.records import CompressRecord
from evaluate.core.text import finite
from evaluate.hardware.environment import environment
from evaluate.metrics.base import drop, metric_of, per_class_drop, score

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from compress.recipe.named_blocks import Goals
    from compress.recipe.schema import Recipe
    from evaluate.metrics.base import Metric


Outcome = Literal["met", "missed", "not resolved"]


class Goal(TypedDict):
    """One goal: its name, the limit as the recipe wrote it, the value in the same unit, and the outcome."""

    goal: str
    limit: float | str
    value: float
    status: Outcome


def judge_goals(goals: Goals, record: Mapping[str, Any]) -> list[Goal]:
    """Compare a Record with the goals. Sizes are exact; drop and latency are judged by their intervals."""
    return list(_judged(goals, record))


def _judged(goals: Goals, record: Mapping[str, Any]) -> Iterator[Goal]:
    if goals.drop is not None:
        first = metric_of(record["baseline"]["accuracy"])
        lost = {"drop": (first, record["drop"])}
        for head in record.get("heads", [])[1:]:  # a limit in points is one for every head that is judged in points
            metric = metric_of(head["baseline"])
            if metric.unit == first.unit == "%":
                lost[f"drop of {head['name']}"] = metric, head["drop"]
        for name, (metric, found) in lost.items():
            worse = metric.as_loss(found["value"], found["low"], found["high"])
            yield Goal(goal=name, limit=goals.drop, value=worse[0], status=_outcome(*worse, goals.drop))
    for unit, amount in goals.amounts():
        value, low, high = unit.judged(unit.name, record, amount.relative)
        yield Goal(goal=unit.name, limit=amount.written, value=value, status=_outcome(value, low, high, amount.value))


def _outcome(value: float, low: float, high: float, limit: float) -> Outcome:
    if high <= limit:
        return "met"
    return "missed" if low > limit else "not resolved"


@dataclass(frozen=True)
class Deployed:
    """What a unit of the user's own may measure: the network, inputs by name, the deployed graph and its file."""

    module: nn.Module
    example: Mapping[str, Tensor]
    graph: onnx.ModelProto
    data: bytes


def own_sizes(goals: Goals, deployed: Deployed) -> dict[str, float]:
    """The sizes of a model in the units that these goals are set in and that are not leanfit's own.

    Raises ModelError where one gives no finite number.
    """
    sizes = {unit.name: unit.measure(deployed) for unit, _ in goals.amounts() if unit.measure}
    for name, value in sizes.items():
        if not finite(value):
            raise ModelError(f"unit {name!r} gives {quoted(value)}, where a finite number was expected")
    return {name: float(value) for name, value in sizes.items()}


@dataclass(frozen=True)
class Evaluation:
    """Outputs (n, ...) of both files on the test split, and its targets."""

    baseline: NDArray[Any]
    compressed: NDArray[Any]
    targets: NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Latency samples (session runs, rounds, n) in seconds from the same rounds; `again` is the baseline a second time.

    loops : calls in each sample, whose mean it is. opened_once : whether the sessions were never opened anew.
    """

    baseline: NDArray[np.float64]
    control: NDArray[np.float64]
    compressed: NDArray[np.float64]
    loops: int
    opened_once: bool = False


@dataclass(frozen=True)
class Measured:
    """What a stage stored of the model that it left, and the output channels of the model's layers."""

    stored: dict[str, Any]
    widths: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class JudgedOutput:
    """One of several outputs, or heads, with the outputs and targets that its own metric judges."""

    name: str
    metric: str | Metric
    classes: Sequence[str]
    baseline: NDArray[Any]
    compressed: NDArray[Any]
    targets: NDArray[Any]


class Judge(Protocol):
    """What a Record needs to know of the task that judged a run."""

    @property
    def name(self) -> str: ...
    @property
    def metric(self) -> str | Metric: ...
    @property
    def classes(self) -> Sequence[str]: ...
    def fingerprint(self) -> str:
        """The hash of its data."""

    def splits(self) -> Mapping[str, Sized]:
        """Its data, by what they are for."""


def make_record(
    recipe: Recipe,
    task: Judge,
    steps: Sequence[Measured],
    evaluation: Evaluation,
    outputs: Sequence[JudgedOutput],
    samples: Samples,
    hashes: dict[str, str],
    folder: Path,
    seconds: float,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """`steps` holds the baseline first, then one entry a pass; `hashes` the SHA-256 of the deployed files by name.

    The id is the hash of what was run and measured, so that a run which is only found again gives the same Record.
    """
    bench = recipe.benchmark
    units = {unit.name for unit, _ in recipe.goals.amounts() if unit.measure}
    own = [[step.stored["sizes"][name] for step in steps] for name in sorted(units)]
    sides = {
        "baseline": (steps[0], evaluation.baseline, samples.baseline),
        "compressed": (steps[-1], evaluation.compressed, samples.compressed),
    }
    record: dict[str, Any] = {
        "schema": 1,
        "kind": "compress",
        "id": hash_of(recipe.hash, task.fingerprint(), hashes, samples.baseline.tolist(), *own)[:32],
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "name": recipe.name,
        "leanfit": __version__,
        "recipe": recipe.dump(),
        "recipe_hash": recipe.hash,
        "task": _task(task),
        "artifact": str(folder),
        "hashes": hashes,
        "environment": environment(),
    }
    for side, (step, found, times) in sides.items():
        record[side] = {
            "sizes": step.stored["sizes"],
            "accuracy": score(found, evaluation.targets, task.metric, task.classes),
            "latency": summarise(
                times, provider=bench.provider, threads=bench.threads, batch=bench.batch, loops=samples.loops
            ),
            "validation": step.stored["validation"],
            "parity": step.stored["parity"],
            "widths": list(step.widths),
        }
    record["passes"] = [_pass(before, after) for before, after in pairwise(steps)]
    record["drop"] = drop(evaluation.baseline, evaluation.compressed, evaluation.targets, task.metric)
    record["per_class_drop"] = per_class_drop(
        evaluation.baseline, evaluation.compressed, evaluation.targets, task.classes, task.metric
    )
    record["heads"] = [_output(output) for output in outputs]
    candidates = {"baseline": samples.baseline, "again": samples.control, "compressed": samples.compressed}
    (judged,) = judge([candidates], "baseline", "again", seed=recipe.seed, opened_once=samples.opened_once)
    record["speedup"] = judged.speedups["compressed"]
    record["noise_floor"] = judged.floor
    record["samples"] = {name: np.round(times, 10).tolist() for name, times in candidates.items()}
    record["goals"] = judge_goals(recipe.goals, record)
    record["warnings"] = [*remarks, *recipe.warnings, *_warnings(record)]
    record["seconds"] = round(seconds, 3)
    return dict(CompressRecord.of(record).raw)


def _output(output: JudgedOutput) -> dict[str, Any]:
    """The figures of one of several outputs: its score before and after, and what was lost on the same samples."""
    sides = {"baseline": output.baseline, "compressed": output.compressed}
    return {
        "name": output.name,
        **{side: score(values, output.targets, output.metric, output.classes) for side, values in sides.items()},
        "drop": drop(output.baseline, output.compressed, output.targets, output.metric),
    }


def _task(task: Judge) -> dict[str, Any]:
    return {
        "name": task.name,
        "fingerprint": task.fingerprint(),
        "classes": list(task.classes),
        "splits": {name: len(split) for name, split in task.splits().items()},
    }


def _pass(before: Measured, after: Measured) -> dict[str, Any]:
    stored = after.stored
    kept = ("kind", "config", "seconds", "changes", "warnings", "details")
    return {
        **{key: stored[key] for key in kept},
        "candidates": stored.get("candidates", []),
        "sizes_before": before.stored["sizes"],
        "sizes_after": stored["sizes"],
        "validation": {"before": before.stored["validation"]["metric"], "after": stored["validation"]["metric"]},
    }


def _warnings(record: dict[str, Any]) -> Iterator[str]:
    for step in record["passes"]:
        yield from step["warnings"]
    if record["speedup"]["verdict"] == "slower":
        yield (
            "The compressed model is slower than the baseline on this machine. Smaller it may be; where the goal is "
            "speed, do not ship it here."
        )
    for goal in record["goals"]:
        if goal["status"] == "not resolved":
            yield (
                f"Goal {goal['goal']}: its interval holds the limit, so this run cannot tell whether it was met; "
                "measure more (test samples for drop, benchmark.seconds for latency)."
            )
