"""`leanfit bench`: its options, which models are meant and on which samples; the rest is `evaluate`'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from compress.cli.console import Json, Progress, Quiet, emit, error_boundary
from compress.core.progress import Status, silent
from evaluate.bundle.terminal import say

if TYPE_CHECKING:
    from evaluate.metrics.samples import Samples


Shapes = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT=N,N", help="Shape of an input in one call, as x=1,3,640,640."),
]
Dims = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=N", help="Size of a free dimension, by its name in all inputs, as sequence=128."),
]
Inputs = Annotated[
    Path | None, typer.Option(help="Values of inputs, by name: .npz, .npy or .json; several calls take turns.")
]


def bench(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs (one alone: with its baseline) or .onnx files; PATH@cuda.", metavar="PATH..."
        ),
    ],
    baseline: Annotated[Path | None, typer.Option(help="What speed-up is against.  [default: the first PATH]")] = None,
    threads: Annotated[str, typer.Option(help="Threads of one call; several as 1,2.")] = "1",
    batch: Annotated[str, typer.Option(help="Samples of one call; several as 1,8,32.")] = "1",
    provider: Annotated[str, typer.Option(help="cpu, cuda or tensorrt.")] = "cpu",
    io: Annotated[str, typer.Option(help="device: inputs and outputs stay there. host: with transfers.")] = "device",
    graphs: Annotated[bool, typer.Option("--graphs", help="Record and replay CUDA graphs.")] = False,
    seconds: Annotated[float, typer.Option(help="How long all of it may take.", min=0.1)] = 20.0,
    samples: Annotated[int, typer.Option(help="Test samples of the runs' task to time and to score on.", min=0)] = 0,
    shape: Shapes = None,
    dim: Dims = None,
    inputs: Inputs = None,
    profile: Annotated[bool, typer.Option("--profile", help="Say which operators and layers take the time.")] = False,
    scenario: Annotated[
        Literal["single-stream", "offline", "server"] | None, typer.Option(help="Measure as MLPerf does.")
    ] = None,
    latency_bound: Annotated[str, typer.Option(help="Bound of the 99th percentile for the server, as 50ms.")] = "",
    patience: Annotated[float, typer.Option(help="Seconds without a sign of life: the model hangs.", min=0.1)] = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of inputs and of the order of rounds.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the Record to this .json file, for `leanfit report`.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write an HTML page with pictures to this file.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time models against one another in one interleaved run: faster, slower, or not resolved."""
    with error_boundary(as_json):
        from evaluate.benchmark.compare import compare, serve
        from evaluate.core.records import require_writable, write_record

        if scenario is not None and (baseline is not None or profile):
            raise typer.BadParameter("a scenario runs one model after the other: it takes no --baseline or --profile")
        if latency_bound and scenario is None:
            raise typer.BadParameter("--latency-bound is for --scenario server; add that, or leave the bound out")
        if out is not None:
            require_writable(out, "--out")
        if page is not None and page == out:
            raise typer.BadParameter("--page and --out name the same file")
        models = with_baselines(paths, baseline)
        said = said_of_inputs(shape, dim, inputs)
        conditions = {"threads": numbers(threads, "threads"), "batch": numbers(batch, "batch")}
        common: dict[str, Any] = {
            "provider": provider, "io": io, "graphs": graphs, "seconds": seconds, "seed": seed, "patience": patience,
            **said, **conditions,
        }  # fmt: skip
        with Progress(quiet) as progress:
            real = samples_of_runs(models, samples, seed, progress) if samples else None
            common |= {"samples": real, "status": progress}
            if scenario is None:
                found = compare(models, baseline, profile=profile, **common)
            else:
                found = serve(models, scenario, bound=latency_bound, **common)
        # Shown before it is written, so that a full disk costs a file and not the measurement.
        if as_json:
            emit(found.record)
        else:
            print(found.table())
        if out is not None:
            write_record(out, found.record)
            say(f"record   {out}")
        if page is not None:
            say(f"to read  {found.page(page)}")
        if found.exit_code:
            say(f"leanfit: not measured: {', '.join(failure['name'] for failure in found.failed)}")
            raise typer.Exit(found.exit_code)


def said_of_inputs(shape: list[str] | None, dim: list[str] | None, inputs: Path | None) -> dict[str, Any]:
    """What the options say of inputs, as `compare` and `pack` take it. Raises UsageError."""
    from evaluate.benchmark.model_inputs import parse_dims, parse_shapes

    return {"shapes": parse_shapes(shape or ()), "dims": parse_dims(dim or ()), "inputs": inputs}


def numbers(text: str, what: str) -> list[int]:
    """ "1,2,8" as numbers. Raises UsageError for anything else."""
    from evaluate.core.errors import UsageError

    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise UsageError(f"--{what} takes whole numbers of at least 1, as in 1,2; got {text!r}")
    return found


def with_baselines(paths: Sequence[Path], baseline: Path | None) -> list[Path]:
    """The models that are meant: the folder of a run alone means its baseline too, which comes first."""
    from evaluate.benchmark.candidates import split_provider

    if len(paths) == 1 and baseline is None:
        run, provider = split_provider(paths[0], "")
        reference = run / "baseline"
        if (reference / "model.onnx").is_file():
            return [Path(f"{reference}@{provider}") if provider else reference, paths[0]]
    return list(paths)


def samples_of_runs(paths: Sequence[Path], count: int, seed: int = 0, status: Status = silent) -> Samples:
    """Test samples of the one task of the runs among these paths; the samples that `pack` would take.

    Raises ArtifactError where no path is the folder of a run, DataError where their tasks differ or data is missing.
    """
    from compress.bundle.pack import samples_of
    from compress.bundle.packable import is_onnx, open_run, shared_task
    from evaluate.benchmark.candidates import split_provider
    from evaluate.core.errors import ArtifactError

    places = [split_provider(path, "")[0] for path in paths]
    runs = [place.parent if place.name == "baseline" else place for place in places if not is_onnx(place)]
    task = shared_task([open_run(path) for path in dict.fromkeys(runs)], None, status)
    if task is None:
        raise ArtifactError("--samples takes samples of a run's task, and no folder of a run is named; name one")
    return samples_of(task, count, seed)
