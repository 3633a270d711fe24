"""ResNet-20 and ResNet-56 in fp32, fp16 and half width: ONNX Runtime against torch eager and torch.compile, in one run.

    python benchmarks/gpu.py                          # a GPU: needs leanfit[gpu] and a torch with CUDA
    python benchmarks/gpu.py --batch 1 8 32 128 512   # and where throughput stops growing
    python benchmarks/gpu.py --device cpu --quick     # the same candidates as far as a CPU has them, in about a minute

All candidates of all networks and batches are timed in the same session runs of shuffled rounds. docs/gpu.md says what
they are. Weights are those in $LEANFIT_DATA (docs/data.md) where they are there, else random: neither changes the time
of a call.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn

from compress.graph.export import export_onnx
from compress.graph.onnx_graph import load_graph, serialise
from compress.models import build_model, load_weights
from evaluate.benchmark.bench_record import judge, summarise
from evaluate.benchmark.latency import Call, Opener, measure_conditions
from evaluate.core.errors import LeanfitError
from evaluate.hardware.environment import environment
from evaluate.load_test.saturation import saturation
from evaluate.runtime.session import open_session

BASELINE, CONTROL = "torch fp32", "torch fp32 again"
COMPILE_ERRORS = (RuntimeError, OSError, ImportError)
"""What torch.compile raises without a C++ compiler or without triton; its own errors are RuntimeErrors."""


@dataclass(frozen=True)
class Net:
    """One network: `module` in its precision and on its device, `data` the ONNX file of the same weights."""

    depth: int
    variant: str
    module: nn.Module
    data: bytes
    dtype: torch.dtype

    @property
    def name(self) -> str:
        return f"ResNet-{self.depth} {self.variant}"


@dataclass(frozen=True)
class Place:
    """Where the candidates run."""

    device: str
    provider: str
    threads: int

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()


def networks(depth: int, place: Place) -> Iterator[Net]:
    """fp32, on a GPU fp16 of the same weights, and half width: what pruning every layer to half its channels leaves."""
    torch.manual_seed(0)
    dense = build_model("resnet", depth=depth).eval()
    try:
        print(f"ResNet-{depth}: weights of {load_weights(dense, f'resnet{depth}_cifar10.pt').name}")
    except LeanfitError:
        print(f"ResNet-{depth}: random weights (no resnet{depth}_cifar10.pt in $LEANFIT_DATA)")
    graph = export_onnx(dense, {"image": torch.zeros(2, 3, 32, 32)})
    yield Net(depth, "fp32", _placed(dense, place, torch.float32), serialise(graph), torch.float32)
    if place.gpu:  # a CPU computes in fp32 between casts: a figure for fp16 there would mislead
        half = serialise(convert_float_to_float16(graph, keep_io_types=False))
        yield Net(depth, "fp16", _placed(dense, place, torch.float16), half, torch.float16)
    narrow = build_model("resnet", depth=depth, width=8).eval()
    data = serialise(export_onnx(narrow, {"image": torch.zeros(2, 3, 32, 32)}))
    yield Net(depth, "half width", _placed(narrow, place, torch.float32), data, torch.float32)


def _placed(module: nn.Module, place: Place, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(module).requires_grad_(False).to(place.device, dtype)


def candidates(net: Net, batch: int, place: Place) -> dict[str, Opener]:
    """Every way to run one network on one batch: name -> what opens it."""
    x = np.random.default_rng(0).standard_normal((batch, 3, 32, 32)).astype(str(net.dtype).removeprefix("torch."))
    found: dict[str, Opener] = {
        f"torch {net.variant}": lambda: _torch_call(copy.deepcopy(net.module), x, place),
        f"ort {net.variant}": _ort(net, x, place),
        f"ort {net.variant} host": _ort(net, x, place, io="host"),
    }
    if place.gpu:
        found[f"torch {net.variant} host"] = lambda: _torch_call(copy.deepcopy(net.module), x, place, host=True)
        found[f"ort {net.variant} graphs"] = _ort(net, x, place, graphs=True)
    for suffix, mode in (("", None), (" graphs", "reduce-overhead"))[: 1 + place.gpu]:
        compiled = _compiled(net, x, place, mode)
        if compiled is not None:
            found[f"compile {net.variant}{suffix}"] = lambda run=compiled: _torch_call(run, x, place)
    return found


def _torch_call(module: Callable[..., Any], x: np.ndarray, place: Place, *, host: bool = False) -> Call:
    """On a GPU the call ends when the GPU has; `host` moves the input there and the output back in every call."""
    held = torch.from_numpy(x) if host else torch.from_numpy(x).to(place.device)

    def call() -> object:
        with torch.inference_mode():
            out = module(held.to(place.device) if host else held)
            if host:
                return out.cpu()  # waits for the GPU by itself
        place.wait()
        return out

    return call


def _ort(net: Net, x: np.ndarray, place: Place, *, io: str = "device", graphs: bool = False) -> Opener:
    data = _with_batch(net.data, len(x)) if place.provider == "tensorrt" else net.data

    def opened() -> Call:
        session = open_session(data, provider=place.provider, threads=place.threads, io=io, graphs=graphs)
        return session.bind({"image": x}, try_once=False)

    return opened


def _with_batch(data: bytes, batch: int) -> bytes:
    """The file with a fixed batch: TensorRT builds its engine for that, once, instead of at every opening."""
    graph = load_graph(data)
    for port in (*graph.graph.input, *graph.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = batch
    return serialise(graph)


def _compiled(net: Net, x: np.ndarray, place: Place, mode: str | None) -> Callable[..., Any] | None:
    """The compiled network, compiled once for this shape; None, and a line, where torch.compile cannot."""
    # One code object is compiled for every network and batch; past the limit torch would quietly run it eagerly.
    torch._dynamo.config.recompile_limit = 1000
    run = torch.compile(copy.deepcopy(net.module), fullgraph=True, dynamic=False, mode=mode)
    try:
        for _ in range(3):
            _torch_call(run, x, place)()
    except COMPILE_ERRORS as error:
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        print(f"{net.name}: torch.compile{f' ({mode})' if mode else ''} is left out: {why[:200]}")
        return None
    return run


def differences(net: Net, reference: Net, place: Place) -> str:
    """How far the ONNX file is from torch on the same 64 random images, over the range of torch's outputs."""
    x = np.random.default_rng(1).standard_normal((64, 3, 32, 32)).astype(np.float32)
    mine = x.astype(str(net.dtype).removeprefix("torch."))
    with open_session(net.data, provider=place.provider, threads=place.threads) as session:
        got = session.run({"image": mine})[0].astype(np.float32)
        warnings = session.warnings
    with torch.inference_mode():
        expected = reference.module(torch.from_numpy(x).to(place.device)).float().cpu().numpy()
    off = float(np.abs(got - expected).max() / np.ptp(expected))
    same = float((got.argmax(1) == expected.argmax(1)).mean())
    said = "".join(f"\n  {warning}" for warning in warnings)
    return f"{net.name}: the ONNX file is off torch fp32 by {off:.2g} of its range; same class {same:.1%}{said}"


def measure(place: Place, depths: list[int], batches: list[int], seconds: float) -> dict[str, Any]:
    """Open, check and time everything; gives the record that is printed and written."""
    conditions: dict[tuple[int, int], dict[str, Opener]] = {}
    for depth in depths:
        nets = list(networks(depth, place))
        for net in nets:
            print(differences(net, nets[0] if net.variant == "fp16" else net, place))
        for batch in batches:
            openers = {name: opener for net in nets for name, opener in candidates(net, batch, place).items()}
            conditions[depth, batch] = {**openers, CONTROL: openers[BASELINE]}
    timings = measure_conditions(list(conditions.values()), seconds=seconds, seed=0, status=_progress)
    judged = judge([timing.samples for timing in timings], BASELINE, CONTROL)
    results = []
    for (depth, batch), timing, verdicts in zip(conditions, timings, judged, strict=True):
        for name, samples in timing.samples.items():
            latency = summarise(samples, provider=place.provider, threads=place.threads, batch=batch)
            speedup = verdicts.speedups.get(name)
            results.append({"depth": depth, "leg": name, "batch": batch, "latency": latency, "speedup": speedup,
                            "noise_floor": verdicts.floor, "samples": samples.round(9).tolist()})  # fmt: skip
    return {"environment": environment(), "torch": torch.__version__, "place": vars(place), "results": results}


def _progress(what: str, done: float, total: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{what} {done:.0f} of {total:.0f} s  ")


def table(results: list[dict[str, Any]]) -> str:
    """Latency and speed-up of every candidate, per network and batch."""
    lines, before = [], None
    for row in results:
        if (row["depth"], row["batch"]) != before:
            before = row["depth"], row["batch"]
            lines += _heading(row)
        latency, speedup = row["latency"], row["speedup"]
        span = f"{latency['low']:.3f} to {latency['high']:.3f}"
        rate = 1e3 * row["batch"] / latency["median_ms"]
        line = f"{row['leg']:<26}{latency['median_ms']:>11.3f}  {span:<18}{rate:>11.0f}"
        if speedup:
            line += f"   {speedup['value']:.2f}x ({speedup['low']:.2f} to {speedup['high']:.2f}) {speedup['verdict']}"
        lines.append(line)
    return "\n".join(lines)


def _heading(row: dict[str, Any]) -> list[str]:
    what = f"ResNet-{row['depth']}, batch {row['batch']}, {row['latency']['sittings']} session runs"
    columns = f"{'candidate':<26}{'median ms':>11}  {'95 %':<18}{'samples/s':>11}   speed-up over {BASELINE}"
    return ["", f"{what}; differences below {row['noise_floor']:.1%} cannot be claimed", columns]


def saturations(results: list[dict[str, Any]]) -> str:
    """Where a larger batch stops paying, for each candidate; empty for a single batch."""
    if len({row["batch"] for row in results}) < 2:
        return ""
    sweeps: dict[tuple[int, str], dict[int, tuple[float, float, float]]] = {}
    for row in results:
        median, low, high = (row["latency"][key] for key in ("median_ms", "low", "high"))
        rates = tuple(1e3 * row["batch"] / ms for ms in (median, high, low))
        sweeps.setdefault((row["depth"], row["leg"]), {})[row["batch"]] = rates
    lines = ["", "smallest batch within 5 % of the best throughput:"]
    for (depth, candidate), sweep in sweeps.items():
        if candidate != CONTROL:
            lines.append(f"ResNet-{depth} {candidate:<26}{saturation(sweep) or f'above {max(sweep)}, or not resolved'}")
    return "\n".join(lines)


def chosen(arguments: argparse.Namespace) -> Place:
    """The device asked for, checked before anything is built."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; install a torch with CUDA, or take --device cpu")
    provider = arguments.provider or arguments.device
    torch.set_num_threads(arguments.threads)
    # What onnxruntime does by itself: TF32 where the GPU has it, and a search for the fastest convolution.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return Place(arguments.device, provider, arguments.threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--provider", choices=("cuda", "tensorrt", "cpu"), help="of onnxruntime; else as the device")
    parser.add_argument("--depth", type=int, nargs="+", default=[20, 56])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=300.0, help="for the timing; building comes on top")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write everything, raw samples included")
    parser.add_argument("--quick", action="store_true", help="ResNet-20 alone, for 8 seconds: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.depth, arguments.seconds = [20], 8.0
    place = chosen(arguments)
    try:
        record = measure(place, arguments.depth, arguments.batch, arguments.seconds)
    except LeanfitError as error:
        raise SystemExit(f"{error}") from error
    print(table(record["results"]))
    print(saturations(record["results"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
