"""The command `leanfit`: parse, call, print. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from compress.cli import (
    bench_command,
    init_command,
    inspect_command,
    law_commands,
    recipe_commands,
    sensitivity_command,
    study_commands,
)
from compress.cli.console import (
    Allow,
    Json,
    Progress,
    Quiet,
    check_lines,
    emit,
    error_boundary,
    reading,
    where_to_look,
)
from compress.core.files import WEIGHT_FILES
from evaluate.bundle.terminal import say

if TYPE_CHECKING:
    from compress.pipeline.artifact import Artifact
    from compress.pipeline.predicted import Plan
    from compress.recipe.schema import Recipe

WrongCommandLine: type[Exception] = typer.BadParameter.__base__ or typer.BadParameter  # typer does not export it


class _Commands(TyperGroup):
    """The commands; a wrong command line with --json answers with the one JSON object as well."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except WrongCommandLine as error:
            if "--json" in sys.argv[1:]:
                emit({"error": {"kind": "UsageError", "message": _said(error), "exit_code": 2}})
            raise


def _said(error: Exception) -> str:
    return str(error.format_message() if hasattr(error, "format_message") else error)


app = typer.Typer(
    cls=_Commands,
    name="leanfit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make a trained PyTorch model smaller and faster by a recipe, and prove it on the device it will run on.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from compress import __version__

        print(f"leanfit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Make a trained PyTorch model smaller and faster by a recipe, and prove it on the device it will run on."""


@app.command()
def compress(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file, or the name of a shipped one (leanfit list recipes).")
    ] = None,
    chosen: Annotated[str | None, typer.Option("--recipe", help="The recipe, as the argument.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A registered name, timm:NAME, torchvision:NAME, hf:FOLDER, or module:name of your own."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights: safetensors, a state dict, or a .pt2.")] = None,
    task: Annotated[
        str | None, typer.Option(help="A registered name, images:FOLDER, csv:FILE, npz:FILE, or package.module:name.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="For an ONNX file: what it will see, by input, as .npz, .npy or .json.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="For an ONNX file: labels of the data, as .npy.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="For an ONNX file: what the labels are judged by (leanfit list metrics).")
    ] = None,
    shape: bench_command.Shapes = None,
    dim: bench_command.Dims = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value, as in passes.0.keep.macs=0.4."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run.  [default: runs/<recipe name>]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where the baseline is no better than a constant answer.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; train nothing.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where training runs.")] = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compress a model by a recipe: a folder to deploy, and one honest table."""
    with error_boundary(as_json, resumes=True):
        from compress.recipe.load import load_recipe
        from compress.recipe.named_blocks import is_file

        given = {"data": data, "labels": labels, "metric": metric, "shape": shape, "dim": dim}
        file = next((text for text in (model, recipe) if text and Path(text).suffix.lower() == ".onnx"), None)
        argument = None if file is not None and file == recipe else recipe
        named = argument or chosen or file is None
        name = _one_recipe(argument, chosen, given=model is not None or file is not None) if named else "int8"
        blocks, objects = ([], {}) if file is not None else _brought(model, weights, task)
        loaded = load_recipe(name, [*blocks, *(overrides or ())])
        for warning in loaded.warnings:
            say(f"warning: {warning}")
        if file is not None or is_file("model", loaded.model):
            if force or device != "auto":
                raise typer.BadParameter(
                    "--force and --device are for training, and an ONNX file is compressed as it is"
                )
            if weights or task:
                raise typer.BadParameter(
                    "an ONNX file is a whole model: it takes no --weights and no --task; --data FILE"
                )
            _file(file, loaded, given, out, dry_run, quiet, as_json)
            return
        for option, value in given.items():
            if value:
                raise typer.BadParameter(f"--{option} is for an ONNX file; a network's data come by --task")
        _check_complete(loaded, name, objects)
        if dry_run:
            _dry_run(loaded, objects, as_json)
        else:
            _run(loaded, {**objects, "force": force}, out, device, quiet, as_json)


def _file(
    file: str | None,
    recipe: Recipe,
    given: dict[str, Any],
    out: Path | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compress an ONNX file, or predict it. No torch is imported."""
    from compress.pipeline.onnx_run import compress_onnx, plan_onnx

    said = bench_command.said_of_inputs(given["shape"], given["dim"], None)
    common = {"data": given["data"], "labels": given["labels"], "metric": given["metric"]}
    common |= {"shapes": said["shapes"], "dims": said["dims"]}
    with Progress(quiet) as progress:
        if dry_run:
            planned = plan_onnx(file, recipe, status=progress, **common)
        else:
            artifact = compress_onnx(file, recipe, out=out, status=progress, **common)
    if dry_run:
        _show_plan(planned, as_json)
    else:
        _show(artifact, as_json)


def _one_recipe(argument: str | None, option: str | None, given: bool) -> str:
    """The recipe that was named, once; for a model that was named half-int8, as in Python. Raises a usage error."""
    from compress.core.errors import RecipeError

    if argument is not None and option is not None:
        raise typer.BadParameter(f"two recipes: {argument!r} and --recipe {option!r}")
    name = argument if argument is not None else option
    if name is None and not given:
        raise typer.BadParameter("name a recipe (leanfit list recipes), or a --model and a --task")
    if name is not None and Path(name).suffix.lower() in WEIGHT_FILES:
        raise RecipeError(
            f"{name}: a file of weights, where a recipe was expected. Say which network they belong to: leanfit "
            f"compress --model package.module:name --weights {name} --task ... --recipe half-int8"
        )
    return name if name is not None else "half-int8"


def _brought(model: str | None, weights: str | None, task: str | None) -> tuple[list[str], dict[str, Any]]:
    """What was named on the command line: as blocks of the recipe where it is registered, else as objects."""
    if weights is not None and model is None:
        raise typer.BadParameter("--weights needs --model, the network that they belong to (or model.weights by --set)")
    if model is None and task is None:
        return [], {}
    from compress.pipeline.given import given_model, given_task, is_registered

    blocks: list[str] = []
    objects: dict[str, Any] = {}
    if model is not None and is_registered(model, "model"):
        blocks += [f"model={json.dumps({'name': model} | ({'weights': weights} if weights else {}))}"]
    elif model is not None:
        objects["model"] = given_model(model, weights)
    if task is not None and is_registered(task, "task"):
        blocks.append(f"task={json.dumps({'name': task})}")
    elif task is not None:
        objects["task"] = given_task(task)
    return blocks, objects


def _check_complete(recipe: Recipe, given: str, objects: dict[str, Any]) -> None:
    """A recipe for the command line names its model and its task, or they were named beside it. Raises RecipeError."""
    wanted = [block for block in ("model", "task") if block not in objects]
    missing = " and no ".join(block for block in wanted if getattr(recipe, block) is None)
    if missing:
        from compress.core.errors import RecipeError

        raise RecipeError(
            f"{given}: names no {missing}: it is for a model brought in Python, compress(model, {given!r}, task=task). "
            "On the command line say --model and --task, or add a block for each, as in recipes/digits-mlp-int8.yaml."
        )


def _dry_run(recipe: Recipe, objects: dict[str, Any], as_json: bool) -> None:
    from compress.pipeline.plan import plan

    _show_plan(plan(recipe=recipe, **objects), as_json)


def _show_plan(planned: Plan, as_json: bool) -> None:
    if as_json:
        emit(planned.summary())
    else:
        print(planned.table())


def _run(recipe: Recipe, objects: dict[str, Any], out: Path | None, device: str, quiet: bool, as_json: bool) -> None:
    from compress.pipeline.run import compress as run

    with Progress(quiet) as progress:
        artifact = run(recipe=recipe, out=out, device=device, status=progress, **objects)
    _show(artifact, as_json)


def _show(artifact: Artifact, as_json: bool) -> None:
    """What came out; exit code 6 where a goal was missed."""
    from compress.core.errors import GoalMissedError

    if as_json:
        emit(artifact.summary())
    else:
        print(artifact.table())
        print(where_to_look(artifact.path))
    missed = [goal["goal"] for goal in artifact.record().get("goals") or () if goal.get("status") == "missed"]
    if missed:
        say(f"leanfit: finished and saved, and missed the goal of {' and '.join(missed)}")
        raise typer.Exit(GoalMissedError.exit_code)


app.command()(bench_command.bench)
app.command()(inspect_command.inspect)
app.command()(sensitivity_command.sensitivity)


@app.command()
def pack(
    paths: Annotated[list[Path], typer.Argument(help="Folders of runs, or .onnx files.", metavar="PATH...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle to write.")] = Path("bench.pyz"),
    samples: Annotated[int, typer.Option(help="Test samples that go along, to time and to score on.", min=0)] = 200,
    baseline: Annotated[bool, typer.Option(help="Whether the runs' baselines go along.")] = True,
    samples_from: Annotated[Path | None, typer.Option(help="A run whose task gives samples for .onnx files.")] = None,
    shape: bench_command.Shapes = None,
    dim: bench_command.Dims = None,
    inputs: bench_command.Inputs = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of samples.", min=0)] = 0,
    quiet: Quiet = False,
    allow: Allow = None,
    as_json: Json = False,
) -> None:
    """Pack models, samples and the benchmark into one file that a bare device runs: python bench.pyz."""
    with reading(as_json, allow):
        from compress.bundle.pack import pack as write

        said = bench_command.said_of_inputs(shape, dim, inputs)
        with Progress(quiet) as progress:
            done = write(
                paths, out, samples=samples, baseline=baseline, seed=seed, samples_from=samples_from, status=progress,
                **said,
            )  # fmt: skip
        if as_json:
            emit({**vars(done), "path": str(done.path)})
        else:
            print(done.table())


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.", metavar="DIR")],
    allow: Allow = None,
    as_json: Json = False,
) -> None:
    """Check an artifact: hashes, claimed sizes, and that the file computes what the network computes."""
    with reading(as_json, allow):
        from compress.pipeline.artifact import verify as examine
        from evaluate.core.errors import ArtifactError

        checks = examine(folder)
        ok = not any(check.failed for check in checks)
        if as_json:
            listed = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
            emit({"path": str(folder), "ok": ok, "checks": listed})
        else:
            words = {True: "ok", False: "FAIL", None: "skip"}
            print(check_lines([(words[check.ok], check.name, check.detail) for check in checks]))
        if not ok:
            say(f"leanfit: {folder} is not what it claims; compress again, or copy it anew")
            raise typer.Exit(ArtifactError.exit_code)


app.command("list")(recipe_commands.list_)
app.command()(init_command.init)
app.command()(recipe_commands.show)
app.command()(recipe_commands.check)


@app.command()
def report(
    paths: Annotated[
        list[Path], typer.Argument(help="Folders of runs, records.jsonl or bench .json files.", metavar="PATH...")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write.  [default: report.html, or stdout]")
    ] = None,
    kind: Annotated[
        Literal["html", "md", "csv", "json"], typer.Option("--format", help="A page, or tables for other programs.")
    ] = "html",
    allow: Allow = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write one self-contained page, or tables, about the records found below these paths."""
    with reading(as_json, allow):
        from compress.core.files import write_text
        from evaluate.core.errors import ArtifactError
        from evaluate.core.journal import find_records
        from evaluate.report.formats import exported
        from evaluate.report.html.pages import MOST_WHOLE, write_page
        from evaluate.report.text.run_table import lines_of

        problems: list[str] = []
        with Progress(quiet or as_json) as progress:
            common: dict[str, Any] = {"on_problem": problems.append, "whole": MOST_WHOLE, "status": progress}
            read = [record for path in paths for record in find_records(path, **common)]
        found = {record.get("id") or n: record for n, record in enumerate(read) if record.get("kind") != "stage"}
        records = sorted(found.values(), key=lambda record: str(record.get("created", "")))
        if not records:
            raise ArtifactError(
                f"no finished run is recorded in {', '.join(map(str, paths))}; run `leanfit compress` to its end"
            )
        for problem in problems:
            say(f"warning: {problem}")
        if kind != "html":
            text = exported(records, kind)
            if as_json and out is None and kind != "json":
                raise typer.BadParameter(
                    f"--json prints one object: add --out FILE for the {kind}, or leave --json out"
                )
            if as_json:
                emit(json.loads(text) if out is None else {"out": str(out), "records": len(records)})
            if out is None and not as_json:
                print(text, end="")
            elif out is not None:
                write_text(out, text)
                say(f"written  {out}")
            return
        with Progress(quiet or as_json) as progress:
            page = write_page(records, out or Path("report.html"), progress)
        if as_json:
            emit({"out": str(page), "records": len(records), "problems": problems})
        else:
            print("\n".join(lines_of(records)))
            print(f"\nto read    {page}")


app.command()(law_commands.fit)
app.command()(law_commands.size)
app.command()(law_commands.predict)
app.command()(study_commands.study)


@app.command()
def schema(
    of: Annotated[Literal["recipe", "record"], typer.Argument(help="Of what.", metavar="recipe|record")] = "recipe",
) -> None:
    """Print the JSON schema of recipes, by which editors complete and check them, or of Records."""
    with error_boundary():
        if of == "record":
            from evaluate.core.records import record_schema

            emit(record_schema())
        else:
            from compress.recipe.schema import recipe_schema

            emit(recipe_schema())


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say whether this machine has what leanfit needs, and what makes its figures doubtful."""
    with error_boundary(as_json):
        from compress.cli.doctor import examine
        from evaluate.core.errors import MachineError
        from evaluate.hardware.environment import environment

        found = examine()
        ok = all(finding.status != "fail" for finding in found)
        if as_json:
            emit({"ok": ok, "checks": [vars(finding) for finding in found], "environment": environment()})
        else:
            print(check_lines([(finding.status, finding.name, finding.detail) for finding in found]))
        if not ok:
            raise typer.Exit(MachineError.exit_code)


def _patient_threads() -> None:
    """Let torch's idle threads sleep instead of spin; it must be said before torch is imported.

    On a machine whose cores are busy, spinning makes the training of small networks tens of times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")


def main() -> None:
    """Entry point of the console script."""
    _patient_threads()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if not sys.warnoptions and os.environ.get("LEANFIT_DEBUG") != "1":
        warnings.simplefilter("ignore")
    app(prog_name="leanfit")
