"""A study's trials on disk, so that a finished study is recognised without torch: plan.json in the study's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress import __version__
from compress.core.files import file_hash, hash_of, write_text
from compress.recipe.positions import Source
from compress.study.trial import FORMAT, Trial

PLAN = "plan.json"


@dataclass
class Plan:
    """The trials of a study, the most useful first, and what they were derived from.

    key   : the hash of the study as written, with its overrides. files: SHA-256 of weights and modules that it names.
    laws  : the wishes of the study, plain data.
    """

    key: str
    name: str
    trials: list[Trial]
    laws: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def waiting(self) -> list[Trial]:
        """Compressed trials whose native model is not known yet."""
        return [trial for trial in self.trials if trial.waits]

    def write(self, folder: Path) -> None:
        """Keep the plan for the next run."""
        write_text(folder / PLAN, json.dumps({**vars(self), "trials": [t.as_dict() for t in self.trials]}))


def plan_key(source: Source) -> str:
    """What a plan depends on: the study as it is written, and the leanfit whose defaults fill it in."""
    return hash_of("plan", FORMAT, __version__, source.data)


def find_plan(folder: Path, source: Source) -> Plan | None:
    """The plan that an earlier run left, where it is of this very study and the files it names are unchanged."""
    try:
        data: Mapping[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        if source.problems or data["key"] != plan_key(source):
            return None
        if any(file_hash(Path(path)) != claimed for path, claimed in data["files"].items()):
            return None
        return Plan(**{**data, "trials": [Trial(**trial) for trial in data["trials"]]})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def planned_name(folder: Path) -> str | None:
    """The name of the study that a folder holds; None where it holds none, or a plan that cannot be read."""
    try:
        return str(json.loads((folder / PLAN).read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
