"""run_study(): sizes x levels x data x seeds, each trial a Record, each paid for once.

A finished study is recognised by its file and its journal alone: only what is left to do needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.core.files import clear_parts, writing
from compress.core.progress import Status, silent
from compress.pipeline.stages import locked
from compress.recipe.positions import SourceMap
from compress.study.pools import LocalPool, Pool
from compress.study.scheduler import Drive
from compress.study.study_report import StudyResult
from compress.study.study_source import read_study
from compress.study.trial import FAILED, FINISHED, PLAN, Plan, Trial, by_id, find_plan, plan_key, planned_name
from evaluate.core.errors import MachineError
from evaluate.core.journal import JOURNAL, Journal

STAGES = "stages"


def run_study(
    source: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    workers: int | None = None,
    time_budget: float | None = None,
    ray: str | None = None,
    device: str = "auto",
    retry_failed: bool = False,
    status: Status = silent,
) -> StudyResult:
    """Run what is left of a study, the most useful trials first, and write a Record of each to OUT/records.jsonl.

    source      : a study file, the name of a shipped one, or a mapping; `overrides` as `--set` gives them.
    out         : the study's folder; default runs/<study name>. One that was cut off goes on where it stopped.
    workers     : processes at a time, at most one for each core; default 1 (with Ray, all cores of the cluster).
    time_budget : seconds after which it ends in good order; None for no limit.
    ray         : "auto" or the address of a cluster; None for processes of this machine.
    device      : where training runs: cpu, cuda or auto.

    A trial that fails is a Record as well and stops nothing; what every trial would meet alike (missing data, a full
    disk) is raised. Raises a subclass of LeanfitError or LeanfitError.
    """
    deadline = None if time_budget is None else time.monotonic() + time_budget
    read = read_study(source, overrides)
    name = str(read.data.get("name", "study"))
    folder = Path(out) if out is not None else Path("runs") / name
    with writing(folder):
        _check_folder(folder, name)
        journal = Journal(folder / JOURNAL)
        known = find_plan(folder, read)
        if known is not None and not known.pending:
            records = by_id(journal.read())
            if _all_done(known, records, retry_failed):
                return StudyResult(folder, known, records, problems=tuple(journal.problems))
        expansion, plan = _expanded(read)  # before the folder is made: a wrong study leaves nothing behind
        with locked(folder):
            clear_parts(folder)
            records = by_id(journal.read())
            problems = tuple(journal.problems)

            def resolve(trial: Trial, params: int) -> Plan:
                expansion.resolve(trial, params)
                return _written(folder, _plan_of(expansion, read))

            _written(folder, plan)
            drive = Drive(plan, folder, journal, records, resolve, status, deadline, retry_failed)
            _run(drive, workers, ray, device)
            return StudyResult(folder, drive.plan, drive.records, len(drive.fresh), problems)


def plan_study(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Plan:
    """The trials that a study means, without running any. Raises StudyProblems, all at once."""
    return _expanded(read_study(source, overrides))[1]


def study_so_far(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), out: str | Path | None = None
) -> StudyResult:
    """The trials that a study means, with the Records that its folder has of them; nothing is run or written.

    Raises StudyProblems, all at once.
    """
    plan = plan_study(source, overrides)
    folder = Path(out) if out is not None else Path("runs") / plan.name
    journal = Journal(folder / JOURNAL)
    records = by_id(journal.read()) if folder.is_dir() else {}
    return StudyResult(folder, plan, records, problems=tuple(journal.problems))


def _expanded(read: SourceMap) -> tuple[Any, Plan]:
    from compress.study.expand import Expansion
    from compress.study.study_checks import check_study

    expansion = Expansion(check_study(read))
    return expansion, _plan_of(expansion, read)


def _plan_of(expansion: Any, read: SourceMap) -> Plan:
    laws = [law.model_dump(mode="json") for law in expansion.study.laws]
    return Plan(plan_key(read), expansion.study.name, expansion.trials, laws, expansion.files)


def _written(folder: Path, plan: Plan) -> Plan:
    plan.write(folder)
    return plan


def _all_done(plan: Plan, records: Mapping[str, Mapping[str, Any]], retry_failed: bool) -> bool:
    wanted = {FINISHED} if retry_failed else {FINISHED, FAILED}
    return all(records.get(trial.id, {}).get("status") in wanted for trial in plan.trials)


def _run(drive: Drive, workers: int | None, ray: str | None, device: str) -> None:
    drive.resolve_known()
    if not drive.left():
        return
    pool = _pool(drive.folder, workers, ray, device)
    try:
        drive.run(pool)
    finally:
        pool.stop()
        for lock in (drive.folder / STAGES).glob(".*.lock"):  # nobody holds or waits for one any more
            lock.unlink(missing_ok=True)


def _pool(folder: Path, workers: int | None, ray: str | None, device: str) -> Pool:
    from compress.pipeline.run import device_for
    from evaluate.hardware.environment import usable_cores
    from evaluate.runtime.session import require_provider

    require_provider("cpu")  # before a training is paid for, not after
    if ray is not None:
        from compress.study.ray_pool import RayPool

        return RayPool(ray, workers, folder, device)
    count = min(workers or 1, usable_cores())  # more would take memory, and be no faster
    return LocalPool(count, folder, device_for(device), usable_cores() // count)


def _check_folder(folder: Path, name: str) -> None:
    """Raise MachineError where a folder holds other things than this study: nothing there shall be lost."""
    if folder.exists() and not folder.is_dir():
        raise MachineError(f"{folder} is a file; --out must name a folder")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there - {".lock"} and PLAN not in there:
        raise MachineError(
            f"{folder} holds other files and no study; give an empty or new folder with --out, so that nothing is lost"
        )
    held = planned_name(folder)
    if held is not None and held != name:
        raise MachineError(
            f"{folder} holds the study {held!r}, and this one is {name!r}; give another folder with --out, or go on "
            f"with that study under its name (--set name={held})"
        )
