"""`leanfit sensitivity`: what each layer alone costs in accuracy when it computes in integers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli import bench_command
from compress.cli.console import Allow, Json, Progress, Quiet, emit, reading

if TYPE_CHECKING:
    from compress.passes.quantization.calibrate import Calibration
    from compress.pipeline.onnx_source import Source

SAMPLES = 128  # that ranges are found on


def sensitivity(
    path: Annotated[Path, typer.Argument(help="An .onnx file in fp32, or the folder of a run.", metavar="PATH")],
    data: Annotated[
        Path | None, typer.Option(help="For an ONNX file: what it will see, by input, as .npz, .npy or .json.")
    ] = None,
    shape: bench_command.Shapes = None,
    dim: bench_command.Dims = None,
    samples: Annotated[int, typer.Option(help="Samples that ranges are found on.", min=1)] = SAMPLES,
    layers: Annotated[int, typer.Option(help="Layers to print, the noisiest; 0 for all.", min=0)] = 20,
    quiet: Quiet = False,
    allow: Allow = None,
    as_json: Json = False,
) -> None:
    """Say how much each layer alone disturbs the output in int8: those to leave in fp32 come first."""
    with reading(as_json, allow):
        from compress.graph.onnx_graph import load_graph, prepared
        from compress.passes.base import GraphContext
        from compress.passes.quantization.quantize_settings import CalibrateConfig, QuantizeConfig
        from compress.passes.quantization.quantizer import Quantizer
        from compress.passes.quantization.sensitivity import layer_noise
        from compress.pipeline.manifest import read_manifest
        from evaluate.report.text.text_columns import aligned, columns_of

        with Progress(quiet) as progress:
            if path.is_dir():
                if data or shape or dim:
                    raise typer.BadParameter("--data, --shape and --dim are for an ONNX file; a run has its task")
                network = read_manifest(path).has_network
                calls = _calls_of_run(path, network, samples, progress)
                graph = load_graph(path / "baseline" / "model.onnx")
                graph = graph if network else prepared(graph)
            else:
                source = _source(path, data, shape, dim, samples, progress)
                graph, calls = prepared(source.graph), source.calibration
            config = QuantizeConfig(calibrate=CalibrateConfig(samples=samples))
            quantizer = Quantizer.calibrated(graph, config, GraphContext(lambda most: calls, progress))
            named = [change.layer for change in quantizer.changes(config, quantizer.written(config))]
            found = layer_noise(quantizer, config, named, progress, others=True)
        total = sum(one.noise for one in found) or 1.0
        rows = [
            {
                "layer": one.layer, "snr_db": one.decibel, "noise": one.noise, "share": one.noise / total,
                "others_snr_db": one.others_decibel,
            }
            for one in found
        ]  # fmt: skip
        if as_json:
            emit({"path": str(path), "target": quantizer.scheme.target, "layers": rows})
            return
        shown = found[: layers or None]
        body = [
            [
                one.layer[-48:],
                _shown(one.decibel),
                _shown(one.others_decibel),
                f"{100 * one.noise / total:.1f} %",
                "#" * round(40 * one.noise / found[0].noise) if found[0].noise else "",
            ]
            for one in shown
        ]
        print("\n".join(aligned(["layer", "alone in int8", "all but it", "of the noise", ""], body, columns_of(None))))
        if len(found) > len(shown):
            print(f"  and {len(found) - len(shown)} quieter ones (--layers 0, or --json)")
        print(
            "\nSignal over what rounding of this layer alone, and of all but it, adds to the output. To leave one in "
            "fp32:\nquantize: {exclude: [LAYER]}; to let leanfit do it: goals: {drop: 1.0}."
        )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _source(
    path: Path, data: Path | None, shape: list[str] | None, dim: list[str] | None, samples: int, status: Progress
) -> Source:
    from compress.pipeline.onnx_source import Source
    from evaluate.benchmark.model_inputs import wanted_of

    said = bench_command.said_of_inputs(shape, dim, None)
    wanted = wanted_of(said["shapes"], said["dims"], data)
    return Source.read(path, wanted, None, calibrate=samples, batch=1, seed=0, status=status)


def _calls_of_run(folder: Path, network: bool, samples: int, status: Progress) -> Calibration:
    """The samples that the run at `folder` would calibrate on."""
    from compress.pipeline.onnx_job import Job
    from compress.recipe.load import load_recipe
    from evaluate.core.errors import DataError

    recipe = load_recipe(folder / "recipe.yaml")
    if not network:
        return Job.of(None, recipe).source(status).calibration
    from compress.passes.quantization.quantize import NumpySplit
    from compress.pipeline.given import given_task

    if recipe.task is None:
        raise DataError(
            f"{folder}: its task was brought as an object in Python, so its samples are not known here. Give the file "
            f"and its data: leanfit sensitivity {folder / 'baseline' / 'model.onnx'} --data FILE"
        )
    return NumpySplit(given_task(recipe.task, status).calibration(samples, recipe.seed))
