"""`leanfit study`: its options, and what it prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compress.cli.console import Json, Progress, Quiet, emit, error_boundary
from evaluate.bundle.terminal import say
from evaluate.core.errors import LeanfitError, quoted

if TYPE_CHECKING:
    from compress.core.progress import Status
    from compress.study.study_report import StudyResult


def seconds_of(text: str) -> float:
    """ "8h", "90m", "30 s" or "2d" in seconds. Raises typer.BadParameter."""
    from evaluate.core.units import LONG_TIMES, parse_number

    seconds = parse_number(text, LONG_TIMES)
    if not seconds:
        raise typer.BadParameter(f"expected a time with its unit, as 8h, 90min or 30s; got {quoted(text)}")
    return seconds


def study(
    file: Annotated[str, typer.Argument(help="A study file, or the name of a shipped one.", metavar="STUDY")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value, as in seeds=1.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the study.  [default: runs/<study name>]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes, at most one a core.  [default: 1; with --ray: all cores]", min=1)
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="End in good order after this time, as 8h or 30min.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on a Ray cluster: its address, or auto.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed trials again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the trials and how long they take.")] = False,
    every: Annotated[bool, typer.Option("--every", help="With --dry-run: each trial, in their order.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where training runs.")] = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train and compress models of many sizes: a Record of each, and the laws that they follow."""
    with error_boundary(as_json, resumes=not dry_run):
        budget = None if time_budget is None else seconds_of(time_budget)
        if dry_run:
            from compress.study.run_study import study_so_far

            known = study_so_far(file, overrides or (), out)
            with Progress(quiet or as_json) as progress:
                left, told = _time_of(known, device, progress)
            _show_plan(known, left, told, as_json, every)
            return
        from compress.study.run_study import run_study

        with Progress(quiet, timed=True) as progress:
            outcome = run_study(
                file, overrides=overrides or (), out=out, workers=workers, time_budget=budget, ray=ray, device=device,
                retry_failed=retry_failed, status=progress,
            )  # fmt: skip
        _finish(outcome, as_json)


def _time_of(known: StudyResult, device: str, status: Status) -> tuple[float | None, str]:
    """(seconds of work for one worker that are left, how that is known), by finished trials, else by a few steps."""
    seconds = known.seconds_left()
    if seconds is not None:
        return seconds, "by the trials that are done"
    from compress.study.training_time import seconds_of_training

    rest = [trial for trial in known.trials if trial.id not in known.records]
    try:
        seconds = seconds_of_training(known.trials, rest, device, status)
    except LeanfitError as error:
        say(f"how long it takes is not known: {error}")
        return None, ""
    return seconds, "of training alone, by a few steps of the smallest and the largest model"


def _show_plan(known: StudyResult, seconds: float | None, known_by: str, as_json: bool, every: bool) -> None:
    plan = known.plan
    if as_json:
        listed = [{"label": t.label, "role": t.role, "params": t.params, "id": t.id} for t in plan.trials]
        told = {"study": plan.name, "predicted": True, "trials": listed, "waiting": len(plan.pending)}
        emit({**told, "seconds": seconds})
        return
    from compress.study.study_report import grid_of
    from evaluate.core.text import long_duration
    from evaluate.report.text.text_columns import aligned, columns_of, fits, widths_of

    lines = [f"{n:>5}  {t.role:<10}  {t.label}" for n, t in enumerate(plan.trials, start=1)]
    if not every:
        head, body = grid_of(plan.trials)
        if not fits(widths_of([head, *body]), columns_of(None)):  # params are what a narrow terminal can do without
            head, *body = ([*row[:2], *row[3:]] for row in (head, *body))
        lines = aligned(head, body, columns_of(None))
    done = f"; {len(known.found)} of them are done" if known.found else ""
    lines.append(f"\n{len(plan.trials)} trials, the most useful first{done}. None was run.")
    if seconds:
        lines.append(f"About {long_duration(seconds)} of work for one worker is left ({known_by}).")
    if not every:
        lines.append("--every lists each of them in its order.")
    if plan.pending:
        lines.append(f"{len(plan.pending)} of them get a native model of equal size once their own size is known.")
    typer.echo("\n".join(lines))


def _finish(outcome: StudyResult, as_json: bool) -> None:
    """The table, what is left, and the exit code."""
    from compress.core.errors import PassError
    from compress.study.study_report import report

    for problem in outcome.problems:
        say(f"warning: {problem}")
    if not as_json and outcome.found:
        typer.echo(outcome.table())
    told = report(outcome)
    if as_json:
        emit({**outcome.summary(), **told.summary()})
    elif outcome.found:
        typer.echo(told.text())
    if outcome.left:
        say(_left(outcome))
    if outcome.failed:
        count = len(outcome.failed)
        say(f"leanfit: {count} trial{'s' if count > 1 else ''} failed; --retry-failed tries again")
        raise typer.Exit(PassError.exit_code)


def _left(outcome: StudyResult) -> str:
    from evaluate.core.text import long_duration

    seconds = outcome.seconds_left()
    about = "" if seconds is None else f", about {long_duration(seconds)} of work for one worker"
    folder = shlex.quote(str(outcome.folder))
    return (
        f"leanfit: the time is up: {outcome.left} of {len(outcome.trials)} trials are left{about}. "
        f"What is finished is in {folder}; the same command goes on from there."
    )
