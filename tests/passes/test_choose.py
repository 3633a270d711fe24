"""Which int8 file pays is measured: what is chosen, what is kept of it, and when nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from compress import compress, load_recipe
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import WEIGHTED
from compress.passes.base import GraphContext, Loss
from compress.passes.quantization import choose as choosing
from compress.passes.quantization.quantize import NumpySplit
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import Quantizer
from compress.passes.quantization.sensitivity import layer_noise
from compress.pipeline.chain import Chain
from compress.pipeline.onnx_run import compress_onnx
from compress.pipeline.stages import Stages
from compress.tasks import Task
from evaluate.core.journal import JOURNAL, Journal
from evaluate.core.records import as_record
from evaluate.report.messages.run_messages import candidate_table

BENCH = {"seconds": 0.5}


def recipe(**more):
    quantize = {"kind": "quantize", "calibrate": {"samples": 32}, **more.pop("quantize", {})}
    return {"version": 1, "name": "r", "passes": [quantize], "benchmark": BENCH, **more}


@pytest.fixture
def timed(monkeypatch):
    """Speeds over fp32 by how many layers a candidate leaves out, in place of a clock; what differs by 2 % is told."""

    def script(speed):
        def times(files, trials, context):
            names = [name for name in files if name != choosing.FLOATS]
            values = {name: speed(number) for number, name in enumerate(names)}

            def verdict(ratio):
                return "faster" if ratio > 1.02 else "slower" if ratio < 1 / 1.02 else "not resolved"

            told = {
                n: {"value": v, "low": v * 0.99, "high": v * 1.01, "verdict": verdict(v)} for n, v in values.items()
            }
            return told, lambda one, other: verdict(values[one] / values[other]) == "faster"

        monkeypatch.setattr(choosing, "_timed", times)
        monkeypatch.setattr(choosing._Choosing, "costly", lambda self: [self.layers[:1], self.layers[:2]])

    return script


def chosen(artifact):
    (entry,) = artifact.summary()["passes"]
    return next(one["name"] for one in entry["candidates"] if one["chosen"]), entry


def test_by_the_clock_itself(trained: nn.Module, digits: Task, tmp_path: Path):
    """The real path: every candidate has its figures, and what was taken is no slower than fp32."""
    artifact = compress(trained, recipe(), task=digits, out=tmp_path / "r", progress=False)
    name, entry = chosen(artifact)
    assert [one["name"] for one in entry["candidates"]][:2] == ["fp32", "all layers"]
    speeds = {one["name"]: one["speedup"] for one in entry["candidates"] if one["speedup"]}
    assert name == "fp32" or speeds[name]["verdict"] != "slower"
    assert all(one["bytes"] > 0 for one in entry["candidates"])
    if name == "fp32":
        assert all(  # a busy machine may resolve nothing
            speed["verdict"] == "slower" or (speed["verdict"] == "not resolved" and speed["value"] <= choosing.ALIKE)
            for speed in speeds.values()
        )


def test_the_fastest_is_taken_and_the_kept_recipe_gives_its_bytes(trained, digits, tmp_path, timed):
    timed(lambda left: 1.2 + 0.1 * (left == 1))
    artifact = compress(trained, recipe(), task=digits, out=tmp_path / "a", progress=False)
    name, entry = chosen(artifact)
    assert name.startswith("without ")
    kept = load_recipe(tmp_path / "a" / "recipe.yaml")
    (step,) = kept.passes
    assert step.config.choose == "fixed" and len(step.config.exclude) == 1
    assert step.config.exclude[0] not in [change["layer"] for change in entry["changes"]]
    monkey = compress(trained, kept, task=digits, out=tmp_path / "b", progress=False)
    files = [(tmp_path / place / "model.onnx").read_bytes() for place in ("a", "b")]
    assert files[0] == files[1] and monkey.summary()["passes"][0]["candidates"] == []
    heard = []
    compress(trained, recipe(), task=digits, out=tmp_path / "a", status=lambda text, *_: heard.append(text))
    assert any("nothing to do" in text for text in heard)


def test_of_what_cannot_be_told_apart_the_one_that_leaves_out_least(trained, digits, tmp_path, timed):
    timed(lambda left: 1.2 + 0.005 * left)
    name, _ = chosen(compress(trained, recipe(), task=digits, out=tmp_path / "a", progress=False))
    assert name == "all layers"


def test_a_busy_machine_does_not_make_int8_win(trained, digits, tmp_path, monkeypatch):
    """What cannot be told apart is judged by its value: 0.72x (0.35 to 1.50) was taken for as fast."""
    told = {"value": 0.72, "low": 0.35, "high": 1.5, "verdict": "not resolved"}
    monkeypatch.setattr(
        choosing,
        "_timed",
        lambda files, *rest: (
            dict.fromkeys([name for name in files if name != choosing.FLOATS], told),
            lambda one, other: False,
        ),
    )
    artifact = compress(trained, recipe(), task=digits, out=tmp_path / "a", progress=False)
    name, entry = chosen(artifact)
    assert name == "fp32" and any("not resolved: the machine was busy" in text for text in entry["warnings"])


@pytest.mark.parametrize("door", ["network", "file"])
def test_fp32_stays_where_nothing_pays(door, trained, digits, tmp_path, timed):
    timed(lambda left: 0.5)
    made = compress(
        trained, recipe(quantize={"choose": "fixed"}), task=digits, out=tmp_path / "net", progress=False
    ).path
    net = made / "baseline" / "model.onnx"

    def run(settings, place):
        if door == "network":
            return compress(trained, settings, task=digits, out=tmp_path / place, progress=False)
        data = {name: tensor.numpy() for name, tensor in digits.test.materialize().inputs.items()}
        return compress_onnx(net, settings, data=data, out=tmp_path / place, progress=False)

    artifact = run(recipe(), "a")
    name, entry = chosen(artifact)
    assert name == "fp32" and entry["changes"] == []
    assert any("stays in fp32" in text and "slower (" in text for text in entry["warnings"])
    files = [(tmp_path / "a" / place / "model.onnx").read_bytes() for place in (".", "baseline")]
    assert files[0] == files[1] and artifact.summary()["compressed"]["sizes"]["bits"] == 32
    kept = load_recipe(tmp_path / "a" / "recipe.yaml")
    assert kept.passes[0].config.choose == "fp32"
    again = run({**recipe(), "passes": [{"kind": "quantize", "choose": "fp32"}]}, "b")
    assert (again.path / "model.onnx").read_bytes() == files[0]
    fixed = run(recipe(quantize={"choose": "fixed"}), "c")
    assert fixed.summary()["compressed"]["sizes"]["bits"] < 32
    assert any(word in line for line in fixed.table().splitlines() for word in ("slower", "faster", "not resolved"))


def test_a_goal_of_size_is_worth_time(trained, digits, tmp_path, timed):
    timed(lambda left: 0.5 + 0.1 * left)
    goals = {"bytes": 0.5}
    artifact = compress(trained, recipe(goals=goals), task=digits, out=tmp_path / "a", progress=False)
    assert chosen(artifact)[0] != "fp32" and artifact.summary()["compressed"]["sizes"]["bits"] < 32
    same = compress(trained, recipe(goals={"bytes": 1.0}), task=digits, out=tmp_path / "a", progress=False)
    assert chosen(same)[0] == "fp32"  # other goals, another choice, in the folder of the first run too
    impossible = compress(trained, recipe(goals={"bytes": 0.01}), task=digits, out=tmp_path / "b", progress=False)
    assert chosen(impossible)[0] == "fp32"


def test_what_loses_more_than_the_goal_is_not_taken(trained, digits, tmp_path, timed, monkeypatch):
    timed(lambda left: 1.5 - 0.1 * left)
    losses = iter((Loss(2.0, 1.5, 2.5), Loss(0.4, -0.1, 1.2)))
    monkeypatch.setattr("compress.pipeline.chain.loss_of", lambda *given: next(losses))
    artifact = compress(trained, recipe(goals={"drop": 1.0}), task=digits, out=tmp_path / "a", progress=False)
    name, entry = chosen(artifact)
    assert name.startswith("without ")
    assert [one["lost"] and one["lost"]["value"] for one in entry["candidates"]] == [None, 2.0, 0.4, None]
    monkeypatch.setattr(
        "compress.pipeline.chain.loss_of", lambda *given: Loss(0.8, 0.5, 1.1)
    )  # seen, and not surely less
    none = compress(trained, recipe(goals={"drop": 1.0}), task=digits, out=tmp_path / "b", progress=False)
    name, entry = chosen(none)
    assert name == "fp32" and any("loses 0.8 (0.5 to 1.1)" in text for text in entry["warnings"])


class Outlier(nn.Module):
    """A trained network behind a detour whose first layer has a channel far from all others, taken out by the next."""

    def __init__(self, network: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.network, self.loud, self.quiet = network, nn.Conv2d(1, width, 1), nn.Conv2d(width, 1, 1)
        with torch.no_grad():
            self.loud.weight[:] = 1.0
            self.loud.bias[:] = 0.0
            self.loud.bias[0] = 3000.0
            self.quiet.weight[:] = 1.0 / (width - 1)
            self.quiet.weight[:, 0] = 0.0
            self.quiet.bias[:] = 0.0

    def forward(self, input):
        return self.network(self.quiet(self.loud(input)))


def test_layers_return_to_fp32_until_the_goal_holds(trained, digits, tmp_path, timed, monkeypatch):
    """Accuracy control: the layers whose rounding drowns the signal return, named, and few others."""
    timed(lambda left: 1.5)
    monkeypatch.setattr(choosing._Choosing, "costly", lambda self: [])
    model = Outlier(trained).eval()
    bad = compress(model, recipe(quantize={"choose": "fixed"}), task=digits, out=tmp_path / "a", progress=False)
    assert bad.summary()["drop"]["value"] > 10
    goals = {"drop": 1.0}
    good = compress(model, recipe(goals=goals), task=digits, out=tmp_path / "b", progress=False)
    _, entry = chosen(good)
    exclude = load_recipe(tmp_path / "b" / "recipe.yaml").passes[0].config.exclude
    assert 1 <= len(exclude) <= 3 and set(exclude) & {"loud", "quiet"}
    assert good.summary()["drop"]["value"] < 2 and good.summary()["compressed"]["sizes"]["bits"] < 32
    (said,) = (text for text in entry["warnings"] if "these stay in fp32" in text)
    assert all(name in said for name in exclude)


def test_noise_is_of_the_layer_that_is_loud(trained, digits):
    model = Outlier(trained).eval()
    graph = export_onnx(model, digits.example(2))
    split = NumpySplit(digits.calibration(64, 0))
    quantizer = Quantizer.calibrated(graph, QuantizeConfig(), GraphContext(lambda count: split))
    layers = [node.name for node in graph.graph.node if node.op_type in WEIGHTED]
    found = layer_noise(quantizer, QuantizeConfig(), layers)
    assert {one.layer for one in found} == set(layers) and found[0].layer in ("loud", "quiet")
    assert found[0].noise > 100 * found[2].noise and found[0].decibel < found[-1].decibel


def test_pictures_and_tables_show_what_there_was(trained, digits, tmp_path, timed):
    timed(lambda left: 1.3)
    artifact = compress(trained, recipe(), task=digits, out=tmp_path / "a", progress=False)
    (entry,) = as_record(artifact.record()).passes
    head, *rows = candidate_table(entry)
    assert head[:3] == ["candidate", "speed", "bytes"] and rows[0][:2] == ["fp32", "1"]
    assert [row[-1] for row in rows].count("chosen") == 1
    assert "all layers" in artifact.table()
    assert "all layers" in (tmp_path / "a" / "report.html").read_text()


def test_where_nothing_can_be_timed_the_rules_decide(trained, digits, tmp_path, monkeypatch):
    """Trials of a study share the machine; another target is not this one."""

    def never(*given):
        raise AssertionError("nothing is to be timed")

    monkeypatch.setattr(choosing, "_timed", never)
    found = compress(
        trained, recipe(quantize={"target": "avx2"}), task=digits, out=tmp_path / "a", progress=False
    ).summary()
    assert found["passes"][0]["candidates"] == [] and found["passes"][0]["changes"]
    stages = Stages(tmp_path / "stages", Journal(tmp_path / JOURNAL))
    settings = load_recipe(recipe())
    steps = Chain(settings, trained, digits, "cpu", stages, lambda *step: None).steps()
    assert "candidates" not in steps[1].stored and steps[1].stored["changes"]
    with_word = load_recipe(recipe(quantize={"choose": "measured"}))
    steps = Chain(with_word, trained, digits, "cpu", stages, lambda *step: None).steps()
    assert any("Nothing could be timed here" in text for text in steps[1].stored["warnings"])


def test_ranges_of_each_call_are_a_candidate_where_they_take_all(trained, digits, tmp_path, timed):
    """Of a network of products; one with convolutions would keep most of itself in fp32."""
    timed(lambda number: [1.2, 1.1, 1.1, 1.5][number])
    torch.manual_seed(0)
    products = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10)
    )
    artifact = compress(products, recipe(), task=digits, out=tmp_path / "a", progress=False, force=True)
    name, entry = chosen(artifact)
    assert name == "dynamic" and len(entry["changes"]) == 3 and entry["details"]["mode"] == "dynamic"
    kept = load_recipe(tmp_path / "a" / "recipe.yaml")
    assert (kept.passes[0].config.mode, kept.passes[0].config.choose) == ("dynamic", "fixed")
    again = compress(products, kept, task=digits, out=tmp_path / "b", progress=False, force=True)
    assert (again.path / "model.onnx").read_bytes() == (artifact.path / "model.onnx").read_bytes()
    timed(lambda number: 1.2)
    found = compress(trained, recipe(), task=digits, out=tmp_path / "c", progress=False)
    assert "dynamic" not in [one["name"] for one in chosen(found)[1]["candidates"]]


def test_layers_return_from_dynamic_int8_too(digits, tmp_path, timed, monkeypatch):
    timed(lambda number: 1.2)
    losses = iter([0.5, 0.4, 0.0, 0.0])
    monkeypatch.setattr("compress.pipeline.chain.loss_of", lambda *args: Loss(*[next(losses)] * 3))
    monkeypatch.setattr(choosing._Choosing, "costly", lambda self: [])
    torch.manual_seed(0)
    products = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10)
    )
    asked = recipe(quantize={"mode": "dynamic"}, goals={"drop": 0.1})
    name, entry = chosen(compress(products, asked, task=digits, out=tmp_path / "a", progress=False, force=True))
    assert name.startswith("all, ") and len(entry["changes"]) == 1
    assert [one["name"] for one in entry["candidates"]][:2] == ["fp32", "all layers"] and len(entry["candidates"]) == 4
