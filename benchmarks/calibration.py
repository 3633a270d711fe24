"""Calibration of ResNet-20: peak memory and time from 256 to 4,000 images, beside onnxruntime's own calibrator.

    LEANFIT_DATA=... python benchmarks/calibration.py [--images 256 4000]

Every case runs in a fresh process, so that its peak memory is its own; onnxruntime's entropy calibrator takes some 8 GB
for 4,000 images. Needs cifar-10-batches-bin and resnet20_cifar10.pt in $LEANFIT_DATA (docs/data.md).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METHODS = ("minmax", "percentile", "mse", "entropy")


def ours(method: str, images: int) -> None:
    """Calibrate by leanfit and print seconds and peak memory."""
    from compress.passes.base import GraphContext
    from compress.passes.quantization.quantize import NumpySplit
    from compress.passes.quantization.quantize_settings import QuantizeConfig
    from compress.passes.quantization.quantizer import Quantizer

    graph, images_of = _graph_and_split(images)
    split = NumpySplit(images_of)
    config = QuantizeConfig(calibrate={"method": method, "samples": images})  # type: ignore[arg-type]
    began = time.perf_counter()
    Quantizer.calibrated(graph, config, GraphContext(lambda count: split))
    _print(time.perf_counter() - began)


def theirs(method: str, images: int) -> None:
    """Calibrate by onnxruntime and print seconds and peak memory."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    from compress.graph.onnx_graph import serialise

    graph, split = _graph_and_split(images)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = self.read()

        def read(self) -> Iterator[dict[str, Any]]:
            for inputs, _ in split.batches(16):
                yield {name: tensor.numpy() for name, tensor in inputs.items()}

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(serialise(graph))
        began = time.perf_counter()
        kind = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy}[method]
        calibrator = create_calibrator(path, None, str(Path(folder) / "augmented.onnx"), kind)
        calibrator.collect_data(Reader())
        calibrator.compute_data()
        _print(time.perf_counter() - began)


def _graph_and_split(images: int) -> tuple[Any, Any]:
    from compress.graph.export import export_onnx
    from compress.models import build_model, load_weights
    from compress.tasks import get_task

    task = get_task("cifar10", normalize="imagenet")
    model = build_model("resnet", depth=20)
    load_weights(model, "resnet20_cifar10.pt")
    return export_onnx(model, task.example(2)), task.calibration(images, seed=0)


def _print(seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"seconds": round(seconds, 2), "peak_mb": round(peak)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[256, 4000])
    parser.add_argument("--one", nargs=2, metavar=("WHO", "METHOD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        {"leanfit": ours, "onnxruntime": theirs}[arguments.one[0]](arguments.one[1], arguments.images[0])
        return
    cases = [("leanfit", method) for method in METHODS] + [("onnxruntime", "entropy")]
    print(f"{'':<24}" + "".join(f"{n:>8} images{'':>9}" for n in arguments.images) + "  growth")
    for who, method in cases:
        found = [_child(who, method, n) for n in arguments.images]
        cells = "".join(f"{f['seconds']:>10.2f} s {f['peak_mb']:>7} MB  " for f in found)
        print(f"{who + ' ' + method:<24}{cells}{found[-1]['peak_mb'] - found[0]['peak_mb']:>+6} MB", flush=True)


def _child(who: str, method: str, images: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", who, method, "--images", str(images)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout[done.stdout.rindex("{") :]))


if __name__ == "__main__":
    main()
