"""Records of trials: which are done, those that failed, and what a study's journal says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from compress import __version__
from compress.core.files import hash_of
from compress.study.trial import Trial
from evaluate.core.records import TrialRecord

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
