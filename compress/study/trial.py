"""Trials: each an ordinary recipe with its place in the study; and the list of them that is kept on disk.

Records of trials: which are done, those that failed, and what a study's journal says.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from compress import __version__
from compress.core.files import file_hash, hash_of, write_text
from compress.recipe.positions import SourceMap
from evaluate.core.components import files_of_module
from evaluate.core.records import TrialRecord

FORMAT = 1  # of what an id is the hash of


@dataclass(frozen=True)
class Trial:
    """One model to be trained, compressed and judged.

    id       : the hash of the resolved inputs; trials of equal inputs are one trial.
    role     : "dense", "compressed" or "native".
    size     : the model's arguments that vary; level: its name, its values and its bits; data: what was changed there.
    recipe   : the resolved recipe, plain data.
    prefixes : a hash for each of its stages, the baseline first: equal ones are one stage, made once.
    epochs   : of training in each of those stages; samples: of the training split, where the recipe limits them.
    params   : of the uncompressed model; known from its shapes alone.
    target   : params expected after compression; None where only a run can tell, and for what is not smaller.
    pending  : whether its native model is not known yet.
    rank     : smaller is more useful, see `tiers`.
    native   : the id of the dense model of equal size, where it is known.
    """

    id: str
    role: str
    size: dict[str, Any]
    level: dict[str, Any]
    data: dict[str, Any]
    seed: int
    recipe: dict[str, Any]
    prefixes: list[str]
    epochs: list[int]
    params: int
    samples: int | None = None
    target: int | None = None
    pending: bool = False
    rank: list[float] = field(default_factory=list)
    native: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data that `Trial(**data)` reads back."""
        return asdict(self)

    def named(self, **changes: Any) -> Trial:
        """The same trial with some fields changed."""
        return replace(self, **changes)

    @property
    def label(self) -> str:
        """A few words for progress: `width 8 depth 14, pruned density 0.5, seed 0`."""
        size = " ".join(f"{k} {v}" for k, v in self.size.items())
        values = (f"{k} {v}" for k, v in self.level.items() if k not in ("name", "bits"))
        level = " ".join([self.level["name"], *values])
        data = "".join(f", {k} {v}" for k, v in self.data.items())
        return f"{size}, {level}{data}, seed {self.seed}"


def identify(recipe: Mapping[str, Any], files: Mapping[str, str]) -> list[str]:
    """The prefixes of a resolved recipe: of its baseline, and then of each pass.

    Name, goals and benchmark are left out: they change nothing that a trial measures. `files` maps the files that
    decide a result beside the recipe (weights, a user's own modules) to their SHA-256.
    """
    parts = [recipe.get(key) for key in ("model", "task", "train", "seed", "export")]
    found = [hash_of("trial", FORMAT, parts, sorted(files.values()))]
    for step in recipe["passes"]:
        found.append(hash_of(found[-1], step))
    return found


def own_files(recipe: Any) -> dict[str, str]:
    """SHA-256, by path, of what decides a trial beside its recipe: weights, and the user's own modules."""
    return {str(path): _hashed(str(path)) for path in sorted(set(_files(recipe)))}


@lru_cache(maxsize=1024)
def _hashed(path: str) -> str:
    return file_hash(Path(path))


def _files(recipe: Any) -> Iterator[Path]:
    from compress.models.weights import find_weights

    if recipe.model.weights is not None:
        yield find_weights(recipe.model.weights)
    for step in recipe.passes:
        yield from getattr(step.config, "files", list)()
    modules = {type(step.config).__module__ for step in recipe.passes} | set(_named_modules(recipe.dump()))
    for module in modules:
        if module.partition(".")[0] != "compress":
            yield from files_of_module(module).values()


def _named_modules(data: Any) -> Iterator[str]:
    """The module of each `module:name` anywhere in plain data: a model, a task, a pass or a loss of the user's own."""
    if isinstance(data, str) and re.fullmatch(r"[\w.]+:\w+", data) and data.partition(":")[0] in sys.modules:
        yield data.partition(":")[0]
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _named_modules(item)


def stage_epochs(recipe: Mapping[str, Any]) -> list[int]:
    """Epochs of training in the baseline and in each pass of a resolved recipe."""
    train = recipe.get("train")
    return [int(train["epochs"]) if train else 0, *(_epochs(step) for step in recipe["passes"])]


def _epochs(step: Mapping[str, Any]) -> int:
    return sum(int(part.get("epochs", 0)) for part in (step, *step.values()) if isinstance(part, Mapping))


PLAN = "plan.json"


@dataclass
class Plan:
    """The trials of a study, the most useful first, and what they were derived from.

    key   : the hash of the study as written, with its overrides. files: SHA-256 of weights and modules that it names.
    laws  : the law specs of the study, plain data.
    """

    key: str
    name: str
    trials: list[Trial]
    laws: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def pending(self) -> list[Trial]:
        """Compressed trials whose native model is not known yet."""
        return [trial for trial in self.trials if trial.pending]

    def write(self, folder: Path) -> None:
        """Keep the plan for the next run."""
        write_text(folder / PLAN, json.dumps({**vars(self), "trials": [t.as_dict() for t in self.trials]}))


def plan_key(source: SourceMap) -> str:
    """What a plan depends on: the study as it is written, and the leanfit whose defaults fill it in."""
    return hash_of("plan", FORMAT, __version__, source.data)


def find_plan(folder: Path, source: SourceMap) -> Plan | None:
    """The plan that an earlier run left, where it is of this very study and the files it names are unchanged."""
    try:
        plan = _read_plan(folder)
        unchanged = all(file_hash(Path(path)) == claimed for path, claimed in plan.files.items())
        return plan if unchanged and not source.problems and plan.key == plan_key(source) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def planned_name(folder: Path) -> str | None:
    """The name of the study that a folder holds; None where it holds none, or a plan that cannot be read."""
    try:
        return str(_plan_data(folder)["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plan_data(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    return found


def _read_plan(folder: Path) -> Plan:
    """A plan, checked at every depth: who edits it by hand makes it be planned again."""
    data = _plan_data(folder)
    trials = [{"pending": trial.pop("waits", False), **trial} for trial in data["trials"]]  # "waits": before 0.2
    return TypeAdapter(Plan).validate_python({**data, "trials": trials})


FINISHED, FAILED = "finished", "failed"
HEAD = {"id", "role", "size", "level", "data", "seed", "created"}
DONE = {"sizes", "baseline", "retained", "accuracy", "error", "loss", "train_samples", "seconds"}


def head(trial: Trial) -> dict[str, Any]:
    """What the Records of finished and failed trials have in common."""
    return {
        "schema": 1,
        "kind": "trial",
        "id": trial.id,
        "study": trial.recipe["name"],
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "leanfit": __version__,
        "role": trial.role,
        "size": trial.size,
        "level": trial.level,
        "data": trial.data,
        "seed": trial.seed,
        "native": trial.native,
        "recipe_hash": hash_of(trial.recipe),
    }


def failed_record(trial: Trial, kind: str, message: str) -> dict[str, Any]:
    """The Record of a trial that cannot be finished, with the reason."""
    reason = {"kind": kind, "message": message[:600]}
    return dict(TrialRecord.of({**head(trial), "status": FAILED, "reason": reason}).raw)


def by_id(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The Record of each trial: the finished one where there is one, else the last. Torn ones are no Records."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if _whole(record) and found.get(record["id"], {}).get("status") != FINISHED:
            found[record["id"]] = dict(record)
    return found


def _whole(record: Mapping[str, Any]) -> bool:
    """Whether a Record has what a study reads of it: a file that was edited by hand may not."""
    status = record.get("status")
    needed = HEAD | (DONE if status == FINISHED else {"reason"})
    known = record.get("kind") == "trial" and isinstance(record.get("id"), str) and status in (FINISHED, FAILED)
    return known and needed <= record.keys()
