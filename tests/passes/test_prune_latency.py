"""Pruning to a target in time: on a machine whose times are told, so that what should come of it is known."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from prune_nets import FIXED, build, colour_task, context, same, size

from compress.core.errors import PassError
from compress.graph.model_state import ModelState
from compress.passes.base import Loss, Trials
from compress.passes.pruning import latency_target, layer_times
from compress.passes.pruning import prune as module
from compress.passes.pruning.layer_times import LayerKind, Times, layer_kinds, one_layer
from compress.passes.pruning.prune_settings import PruneConfig
from evaluate.core.errors import NoRuntimeError

STEP, REST = 8, 0.08  # kernels work in blocks of 8 channels; milliseconds of all that has no weights


def told_ms(weight: tuple[int, ...], op: str) -> float:
    """A layer's time on the machine of these tests, from the shape of its weight alone."""
    out, ins = weight[:2]
    return 1e-3 * (2 + math.ceil(out / STEP) * math.ceil(ins / STEP) * (3 if op == "Conv" else 1))


def ms_of(data: bytes) -> float:
    """The time of a file there: its layers and the rest, together 5 % more than their sum."""
    graph = onnx.load_from_string(data).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    layers = [told_ms(shapes[n.input[1]], n.op_type) for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    return 1.05 * (sum(layers) + REST)


def shapes_alone(model, example):
    """A file that holds the network's layers, which is all that this machine's times depend on, and is no export."""
    nodes, weights = [], []
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.modules.conv._ConvNd):
            op = "Gemm" if isinstance(layer, torch.nn.Linear) else "Conv"
            weights.append(numpy_helper.from_array(layer.weight.detach().numpy(), name))
            nodes.append(onnx.helper.make_node(op, ["x", name], [f"{name}.y"]))
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "layers", [], [], weights))


@pytest.fixture
def device(monkeypatch, tmp_path):
    """A machine whose clock is `told_ms`; what was timed is counted."""
    counts = {"profiled": 0, "files": 0}

    def profiles(subjects, **how):
        counts["profiled"] += len(subjects)
        found = []
        for subject in subjects:
            graph = onnx.load_from_string(subject.model).graph
            shapes = {t.name: tuple(t.dims) for t in graph.initializer}
            rows = [{"layer": n.name, "ms": told_ms(shapes[n.input[1]], n.op_type)} for n in graph.node]
            found.append({"layers": rows})
        return found

    def together(files, trials, status, seconds):
        counts["files"] += 1
        ms = {name: ms_of(data) for name, data in files.items()}
        base = ms[next(iter(files))]
        speedups = {n: {"value": base / t, "low": base / t / 1.01, "high": base / t * 1.01} for n, t in ms.items()}
        return SimpleNamespace(speedups=speedups, seconds={n: 1e-3 * t for n, t in ms.items()})

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(layer_times, "profiles", profiles)
    monkeypatch.setattr(latency_target, "time_together", together)
    monkeypatch.setattr(latency_target, "export_onnx", shapes_alone)
    monkeypatch.setattr(module, "export_onnx", shapes_alone)
    return counts


@pytest.fixture(scope="module")
def task():
    return colour_task()


def trials(task, **more) -> Trials:
    feeds = {name: t.numpy() for name, t in task.example(1).items()}
    return Trials("cpu", 1, feeds, lambda data: Loss(0, 0, 0), None, lambda data: True, 20.0, **more)


def prune(model, task, keep, **settings):
    given = PruneConfig(**{"keep": {"latency": keep}, "round_to": STEP, "recalibrate": 0, **FIXED} | settings)
    where = context(task, model, trials=trials(task))
    return module.prune(ModelState(model), given, where)


@pytest.mark.parametrize("name", ["residual", "mobilenet", "concat", "grouped transposed", "one slope"])
@pytest.mark.parametrize("scope", ["global", "per_layer"])
def test_the_time_asked_for_is_met_or_nothing_nearer_was_left_to_try(name, scope, task, device):
    model, asked = build(name), 0.7 if name == "one slope" else 0.6
    result = prune(model, task, asked, scope=scope)
    latency = result.details["latency"]
    tried = [one["measured"] for one in latency["attempts"]]
    best = min(tried, key=lambda r: (r > asked * 1.03, abs(r / asked - 1)))
    assert latency["measured"] == pytest.approx(best, abs=1e-4)
    assert [one["chosen"] for one in result.choice.candidates].count(True) == 1 and len(tried) <= 6
    near = abs(latency["measured"] / asked - 1) <= 0.03
    assert near != any("the nearest of" in text for text in result.warnings)
    before, after = (ms_of(shapes_alone(m, {}).SerializeToString()) for m in (model, result.model.module))
    assert after / before == pytest.approx(latency["measured"]), "another network than was timed"
    if name in ("residual", "mobilenet"):
        assert latency["measured"] == pytest.approx(0.6, rel=0.03)


def test_what_was_chosen_gives_the_same_again_with_nothing_measured(task, device):
    model = build("residual")
    first = prune(model, task, 0.5, importance="auto", scope="auto")
    device.update(profiled=0, files=0)
    again = module.prune(ModelState(model), first.choice.settings, context(task, model))
    assert same(first.model.module, again.model.module) and device == {"profiled": 0, "files": 0}
    assert first.choice.settings.keep.latency is None
    assert len(first.details["tried"]) == 24 and first.details["way"] in first.details["tried"]


def test_parts_end_at_the_widths_that_were_measured(task, device):
    model = build("residual")
    at_once, in_parts = (prune(model, task, 0.5, steps=steps) for steps in (1, 3))
    (final, again) = ([g["after"] for g in r.details["groups"]] for r in (at_once, in_parts))
    assert final == again and len(in_parts.details["history"]) == 3
    again = module.prune(ModelState(model), in_parts.choice.settings, context(task, model))
    assert same(in_parts.model.module, again.model.module)


def test_an_absolute_time_is_of_one_call_on_this_device(task, device):
    model = build("residual")
    whole = ms_of(shapes_alone(model, {}).SerializeToString())
    result = prune(model, task, f"{0.7 * whole:.4f}ms")
    assert result.details["latency"]["asked"] == pytest.approx(0.7, rel=1e-3)
    assert result.details["latency"]["uncompressed_ms"] == pytest.approx(whole)
    assert result.details["latency"]["measured"] == pytest.approx(0.7, rel=0.03)


def test_after_another_pass_the_ratio_is_still_of_the_uncompressed_model(task, device):
    model = build("residual")
    first = prune(model, task, 0.8).model
    given = PruneConfig(keep={"latency": 0.5}, round_to=STEP, recalibrate=0, **FIXED)
    second = module.prune(first, given, context(task, model, trials=trials(task)))
    assert second.details["latency"]["measured"] == pytest.approx(0.5, rel=0.03)
    assert size(second.model.module, task, "macs") < size(first.module, task, "macs")
    with pytest.raises(PassError, match=r"would change nothing: keep 0.9 latency is .* ms, and the model takes .* ms"):
        again = PruneConfig(keep={"latency": 0.9}, round_to=STEP, recalibrate=0, **FIXED)
        module.prune(first, again, context(task, model, trials=trials(task)))


def test_a_time_out_of_reach_names_the_smallest(task, device):
    with pytest.raises(PassError, match=r"cannot keep 0.05 latency .*: the smallest reachable is .* ms of all layers"):
        prune(build("residual"), task, 0.05)


def test_a_call_that_is_mostly_no_layers_says_what_is_reached(task, device, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "REST", 10 * REST)
    with pytest.raises(PassError, match=r"cannot keep 0.3 latency .*the fastest of \d measured files keeps 0\.\d+"):
        prune(build("residual"), task, 0.3)


def test_where_nothing_may_be_timed_a_target_in_time_is_refused(task, device):
    model = build("residual")
    with pytest.raises(PassError, match=r"trials of a study share the machine. Use a target in macs"):
        module.prune(ModelState(model), PruneConfig(keep={"latency": 0.5}), context(task, model))


def test_a_runtime_without_a_profiler_is_said(task, device, monkeypatch):
    def none(*args, **how):
        raise NoRuntimeError("no trace")

    monkeypatch.setattr(layer_times, "profiles", none)
    with pytest.raises(PassError, match=r"cpu gives none: no trace. Use a target in macs"):
        prune(build("residual"), task, 0.5)


def test_layers_are_timed_once_on_a_device_and_kept(task, device):
    prune(build("residual"), task, 0.5)
    assert device["profiled"] > 0
    device["profiled"] = 0
    prune(build("residual"), task, 0.7)
    assert device["profiled"] == 0
    (kept,) = layer_times.Path(layer_times.os.environ["XDG_CACHE_HOME"]).rglob("*.json")
    kept.write_text("torn {", encoding="utf-8")
    prune(build("residual"), task, 0.7)
    assert device["profiled"] > 0


def test_a_preview_asks_nothing_of_the_machine(task, device):
    model = build("residual")
    shown = module.preview_prune(model, PruneConfig(keep={"latency": 0.5}, **FIXED), context(task, model))
    assert "as if MACs were latency" in " ".join(shown.notes) and device == {"profiled": 0, "files": 0}
    shown = module.preview_prune(model, PruneConfig(keep={"latency": "2ms"}), context(task, model))
    assert "2ms are found by measuring" in " ".join(shown.notes) and device == {"profiled": 0, "files": 0}


LAYERS = {
    "convolution": (torch.nn.Conv2d(8, 16, 3, stride=2, padding=1), (2, 8, 9, 9)),
    "padding in words": (torch.nn.Conv2d(8, 16, 3, padding="same", dilation=2), (1, 8, 9, 9)),
    "grouped": (torch.nn.Conv2d(8, 16, 3, groups=4), (1, 8, 9, 9)),
    "depthwise": (torch.nn.Conv2d(16, 16, 3, groups=16), (1, 16, 9, 9)),
    "transposed": (torch.nn.ConvTranspose2d(8, 16, 2, 2), (1, 8, 5, 5)),
    "grouped transposed": (torch.nn.ConvTranspose2d(8, 16, 2, 2, groups=4), (1, 8, 5, 5)),
    "one dimension": (torch.nn.Conv1d(8, 16, 5, padding=2), (1, 8, 20)),
    "linear": (torch.nn.Linear(8, 16), (3, 7, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_file_of_one_layer_does_the_layers_work(name):
    """The operator, attributes and shapes that are timed are those of the layer: its weights in it give its outputs."""
    import onnxruntime

    layer, shape = LAYERS[name]
    x = torch.randn(shape)
    ((kind,),) = layer_kinds(torch.nn.Sequential(layer), {"input": x}).values()
    inputs, outputs = (16, 16) if name == "depthwise" else (8, 16)
    file = onnx.load_from_string(one_layer(kind, inputs, [outputs]))
    weight = next(t for t in file.graph.initializer if t.name == "w16.weight")
    assert tuple(weight.dims) == tuple(layer.weight.shape)
    weight.CopyFrom(numpy_helper.from_array(layer.weight.detach().numpy(), "w16.weight"))
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    flat = x.numpy().reshape(-1, 8) if name == "linear" else x.numpy()
    want = (layer(x) - layer.bias.view(-1, *[1] * (x.ndim - 2)) if name != "linear" else layer(x) - layer.bias).detach()
    (got,) = session.run(None, {"x": flat})
    np.testing.assert_allclose(got.reshape(want.shape), want.numpy(), atol=1e-5)


def test_layers_are_really_timed(task, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    times = Times(trials(task))
    kind = LayerKind("Conv", (1, 16, 16), (3, 3), (1, 1), (1, 1), (1, 1))
    times.measure([(kind, 16, 16), (kind, 16, 128)], lambda *told: None)
    assert 0 < times.of(kind, 16, 16) < times.of(kind, 16, 128) < 100
