"""int8 of three trained CIFAR-10 networks by leanfit and by onnxruntime's quantizer, in one run of interleaved rounds.

    LEANFIT_DATA=... python benchmarks/peers.py [--seconds 60] [--images 10000] [--only resnet8]

onnxruntime's best known settings (uint8 activations, int8 weights per channel, 7 bits where the CPU has no VNNI, after
its own preparation) and its defaults; leanfit with all layers in int8, and as it chooses by measurement. All are
calibrated on the same 256 training images by min-max. Top-1 of the test images, what is lost paired against fp32, batch
1, one thread. Needs cifar-10-batches-bin and the three .pt files in $LEANFIT_DATA (docs/data.md).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlperf_resnet8 import cifar10_raw, reference
from numpy.typing import NDArray
from torch import nn

from compress import compress
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from compress.models import build_model, load_weights
from compress.tasks import Task, get_task
from evaluate import compare
from evaluate.hardware.environment import int8_path
from evaluate.metrics.base import drop
from evaluate.runtime.session import open_session

CALIBRATED = 256


def resnet(depth: int) -> tuple[nn.Module, Task]:
    """A CIFAR ResNet with its trained weights."""
    model = build_model("resnet", depth=depth)
    load_weights(model, f"resnet{depth}_cifar10.pt")
    return model.eval(), get_task("cifar10", normalize="imagenet")


NETS: dict[str, Callable[[], tuple[nn.Module, Task]]] = {
    "resnet20": lambda: resnet(20),
    "resnet56": lambda: resnet(56),
    "resnet8": lambda: (reference().eval(), cifar10_raw()),
}


def theirs(path: Path, rows: NDArray[Any], folder: Path) -> dict[str, Path]:
    """onnxruntime's best settings, and its defaults."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"image": rows[at : at + 16]} for at in range(0, len(rows), 16)])

        def get_next(self) -> Any:
            return next(self.left, None)

    prepared, made = folder / "prepared.onnx", {name: folder / f"{name}.onnx" for name in ("ort-best", "ort-defaults")}
    quant_pre_process(str(path), str(prepared))
    quantize_static(
        prepared, made["ort-best"], Reader(), per_channel=True, reduce_range=int8_path() != "vnni",
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    quantize_static(path, made["ort-defaults"], Reader())
    return made


def outputs(path: Path, batches: Iterator[NDArray[Any]]) -> NDArray[Any]:
    """(n, classes)"""
    session = open_session(path, threads=2)
    return np.concatenate([session.run({"image": rows})[0] for rows in batches])


def main() -> None:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--only", choices=tuple(NETS), nargs="+", default=list(NETS))
    given = parser.parse_args()
    for title in given.only:
        model, task = NETS[title]()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            files = {"fp32": folder / "fp32.onnx"}
            files["fp32"].write_bytes(serialise(export_onnx(model, task.example(2))))
            for name, choose in (("leanfit-all", "fixed"), ("leanfit-chosen", "measured")):
                step = {"kind": "quantize", "choose": choose, "calibrate": {"samples": CALIBRATED}}
                recipe = {"version": 1, "passes": [step], "benchmark": {"seconds": 10}}
                run = compress(model, recipe, task=task, out=folder / name, progress=False)
                files[name] = run.onnx_path
                if choose == "measured":
                    taken = [one for one in run.summary()["passes"][0]["candidates"] if one["chosen"]]
                    print(f"{title}: chosen: {taken[0]['name']}", flush=True)
            images = task.calibration(CALIBRATED, 0).materialize().inputs["image"].numpy()
            files |= theirs(files["fp32"], images, folder)
            test = task.test.materialize()
            judged, targets = test.inputs["image"][: given.images], test.targets[: given.images].numpy()
            one = {"image": judged[:1].numpy()}
            found = compare(list(files.values()), names=list(files), inputs=one, seconds=given.seconds).results
            best = next(result for result in found if result["name"] == "ort-best")["latency"]["median_ms"]
            base = outputs(files["fp32"], (part.numpy() for part in torch.split(judged, 250)))
            print(f"{title}: {int8_path()}, 1 thread, batch 1, {len(judged)} images")
            for result in found:
                size, latency = files[result["name"]].stat().st_size, result["latency"]["median_ms"]
                after = outputs(files[result["name"]], (part.numpy() for part in torch.split(judged, 250)))
                lost, speed = drop(base, after, targets, task.metric), result["speedup"]
                told = f"{speed['value']:.3f}x ({speed['low']:.3f} to {speed['high']:.3f})" if speed else "1"
                print(
                    f"{result['name']:<16} file {size / files['fp32'].stat().st_size:.4f}  {latency:.4f} ms  "
                    f"{latency / best:.3f} of ort-best  {told}  top-1 {100 * (after.argmax(1) == targets).mean():.2f}  "
                    f"lost {lost['value']:.2f} ({lost['low']:.2f} to {lost['high']:.2f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
