"""What the command line says on stderr: progress, errors with their exit code, and where the details of a bug are."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Annotated, Any, NoReturn

import typer

from compress.core.errors import disk_problem
from compress.pipeline.progress_bar import Progress as Progress
from compress.recipe.positions import MOST_PROBLEMS, RecipeProblems
from evaluate.bundle.terminal import close_stdout, say, stopped_by_signals
from evaluate.core.errors import MachineError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="NAME", help="A module that the files may name: it is run."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

INTERRUPTED = 130
_answers: ContextVar[tuple[IO[str], int | None] | None] = ContextVar("answers", default=None)


def emit(value: Any) -> None:
    """The one JSON object of a `--json` command, on stdout. NaN and infinity, which JSON lacks, are null."""
    from evaluate.core.whole_files import plain  # needs numpy, which no --help should wait for

    text = json.dumps(plain(value), indent=1, default=str, allow_nan=False)
    stream, number = _answers.get() or (sys.stdout, None)
    if number is None:
        typer.echo(text, file=stream)
        return
    data = f"{text}\n".encode()
    while data:
        data = data[os.write(number, data) :]


@contextmanager
def error_boundary(as_json: bool = False, *, resumes: bool = False) -> Iterator[None]:
    """The boundary of the program: what was raised inside becomes a message and an exit code (docs/architecture.md).

    With `as_json` the failure is the one JSON object on stdout as well: {"error": {kind, message, exit_code}}, and
    whatever else prints there, prints on stderr.
    resumes : the command keeps what is finished, and goes on from there when it is run again.
    """
    with _answers_apart() if as_json else nullcontext():
        try:
            with stopped_by_signals():
                yield
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            kept = "; what is finished is kept: run the same command again to go on where it stopped" if resumes else ""
            _leave("Interrupted", f"interrupted{kept}", INTERRUPTED, as_json)
        except BrokenPipeError:
            if not as_json:
                close_stdout()
            raise typer.Exit(1) from None
        except RecipeProblems as error:
            places = [{"where": p.where, "message": p.message} for p in error.problems[:MOST_PROBLEMS]]
            say(str(error))
            count = f"{len(error.problems)} problem{'s' if len(error.problems) > 1 else ''}"
            _leave("RecipeError", f"the {error.what} has {count}", error.exit_code, as_json, problems=places)
        except Exception as error:  # noqa: BLE001  (library code raises, here it ends)
            message, code = _explain(error)
            _leave(type(error).__name__, message, code, as_json)


@contextmanager
def reading(as_json: bool, allow: Sequence[str] | None) -> Iterator[None]:
    """The boundary of a command that reads what others wrote: imports no module that a file names, unless allowed."""
    with error_boundary(as_json):
        from evaluate.core.components import only_allowed

        with only_allowed(allow or ()):
            yield


@contextmanager
def _answers_apart() -> Iterator[None]:
    """While a `--json` command works, stdout is stderr, for Python and for what it calls; `emit` has the real one."""
    stream, number = sys.stdout, None
    with suppress(AttributeError, OSError, ValueError):  # a stream of a test or of a notebook has no number
        if stream.fileno() == 1:
            stream.flush()
            number = os.dup(1)
            os.dup2(2, 1)
    token = _answers.set((stream, number))
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _answers.reset(token)
        if number is not None:
            os.dup2(number, 1)
            os.close(number)


def _leave(kind: str, message: str, code: int, as_json: bool, **more: Any) -> NoReturn:
    say(f"leanfit: {message}")
    if as_json:
        with suppress(OSError):  # the reader went away, or the disk is full
            emit({"error": {"kind": kind, "message": message, "exit_code": code, **more}})
    raise typer.Exit(code)


def _explain(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an error."""
    if isinstance(error, ImportError) and (missing := _not_installed(error)):
        return missing, MachineError.exit_code
    code = getattr(error, "exit_code", None)  # of compress.core.errors and evaluate.core.errors
    if isinstance(code, int):
        if os.environ.get("LEANFIT_DEBUG") == "1":
            say(traceback.format_exc())
        return str(error), code
    if isinstance(error, OSError) and (problem := disk_problem(error)):
        return str(problem), problem.exit_code
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; take a smaller batch_size or a smaller model", MachineError.exit_code
    return _bug(error), 1


def _not_installed(error: ImportError) -> str:
    """What to do about a package that is missing, or that is another one of the same name."""
    name = (error.name or "").split(".")[0]
    if name == "evaluate" and not isinstance(error, ModuleNotFoundError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and name in ("compress", "evaluate"):
        return f"leanfit is not whole: its module {error.name} is missing; install leanfit again"
    if isinstance(error, ModuleNotFoundError) and name:
        return (
            f'the package {name!r} is not installed: pip install "leanfit[cpu]" brings everything; see `leanfit doctor`'
        )
    return ""


def _bug(error: Exception) -> str:
    """A short message for an error that is leanfit's own fault; the traceback goes to a file."""
    details = "".join(traceback.format_exception(error))
    first = (str(error).splitlines() or [""])[0]
    message = f"a bug in leanfit: {type(error).__name__}: {first[:300]}"
    if os.environ.get("LEANFIT_DEBUG") == "1":
        return f"{message}\n{details}"
    try:
        handle, name = tempfile.mkstemp(prefix="leanfit-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"leanfit {' '.join(sys.argv[1:])}\nPython {sys.version}\n\n{details}")
    except OSError:
        return f"{message}\n{details}"
    return f"{message}\nThe details are in {name}; please report them. LEANFIT_DEBUG=1 shows them here."


def check_lines(rows: Sequence[tuple[str, str, str]]) -> str:
    """(status, name, detail) as aligned lines."""
    width = max((len(name) for _, name, _ in rows), default=0)
    return "\n".join(f"{status:<4}  {name:<{width}}  {detail}" for status, name, detail in rows)


def where_to_look(folder: Path) -> str:
    """The last words of a run: where its files are, and what to do next."""
    place, reference = shlex.quote(str(folder)), shlex.quote(str(folder / "baseline"))
    lines = (
        f"to deploy  {folder}",
        f"to read    {folder / 'report.html'}",
        f"next       leanfit verify {place}",
        f"           leanfit bench {reference} {place}",
    )
    return "\n" + "\n".join(lines)
