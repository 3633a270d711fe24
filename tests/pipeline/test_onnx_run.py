"""ONNX files compressed as they came, without torch: what is measured, by what, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array
from torch import nn

import leanfit
from compress.bundle.pack import pack
from compress.core.errors import PassError, RecipeError
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import file_sizes, graph_macs, load_graph, prepared, serialise
from compress.graph.sizes import count_macs, count_params
from compress.models import build_model
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import unweighted_nodes
from compress.pipeline.artifact import Artifact, verify
from compress.pipeline.onnx_run import compress_onnx, plan_onnx
from compress.pipeline.onnx_source import FEW
from compress.recipe.load import load_recipe
from compress.tasks import Task
from evaluate.core.errors import ArtifactError, DataError, LeanfitError, ModelError, UsageError
from evaluate.runtime.session import open_session

FLOAT = TensorProto.FLOAT
RECIPE = {
    "version": 1,
    "name": "int8",
    "passes": [{"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 64}}],
    "benchmark": {"seconds": 0.5},
}
info = helper.make_tensor_value_info
rng = np.random.default_rng(0)


def made(nodes, inputs, outputs, constants=(), opset=17):
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def linear(features=16, classes=10, *, batch="batch", nodes=(), outputs=(), row_bias=False, opset=17):
    """x -> Relu(x W + b) V, with more nodes behind y."""
    weights = [
        from_array(rng.normal(size=(features, 32)).astype("f"), "W"),
        from_array(rng.normal(size=(1, 32) if row_bias else 32).astype("f"), "b"),
        from_array(rng.normal(size=(32, classes)).astype("f"), "V"),
    ]
    own = [
        helper.make_node("Gemm", ["x", "W", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "V"], ["y"]),
        *nodes,
    ]
    ports = [info("y", FLOAT, [batch, classes]), *(info(name, FLOAT, None) for name in outputs)]
    return made(own, [info("x", FLOAT, [batch, features])], ports, weights, opset)


def written(model, path):
    onnx.save(model, path)
    return path


def rows(count=60, features=16):
    return {"x": rng.normal(size=(count, features)).astype("f")}


@pytest.fixture(scope="module")
def file(trained: nn.Module, digits: Task, tmp_path_factory) -> Path:
    """A trained network as a file, with the test split of its task beside it."""
    folder = tmp_path_factory.mktemp("onnx")
    (folder / "net.onnx").write_bytes(serialise(export_onnx(trained, digits.example(2))))
    split = digits.test.materialize()
    np.savez(folder / "data.npz", **{name: tensor.numpy() for name, tensor in split.inputs.items()})
    np.save(folder / "labels.npy", split.targets.numpy())
    return folder / "net.onnx"


# --- what comes out ------------------------------------------------------------------------------------------------


def test_with_labels_the_record_is_that_of_any_run(file, tmp_path, capsys):
    given = {"data": file.parent / "data.npz", "labels": file.parent / "labels.npy", "out": tmp_path / "run"}
    artifact = compress_onnx(file, RECIPE, progress=False, **given)
    found = artifact.summary()
    assert found["baseline"]["accuracy"]["metric"] == "accuracy" and found["baseline"]["accuracy"]["value"] > 90
    assert abs(found["drop"]["value"]) < 3 and found["compressed"]["sizes"]["bits"] < 9
    before, after = (found[side]["sizes"]["bytes"] for side in ("baseline", "compressed"))
    assert after < 0.5 * before and before == file.stat().st_size
    assert found["speedup"]["verdict"] in ("faster", "slower", "not resolved") and found["passes"][0]["changes"]
    assert (tmp_path / "run" / "baseline" / "model.onnx").read_bytes() == file.read_bytes()  # as it came
    assert (tmp_path / "run" / "report.html").is_file() and "accuracy %" in artifact.table()
    samples = artifact.record()["task"]["splits"]
    assert samples["test"] == found["baseline"]["accuracy"]["n"] and samples["calibration"] == 64
    heard = []
    again = compress_onnx(file, RECIPE, status=lambda message, done, total: heard.append(message), **given)
    assert any("nothing to do" in message for message in heard) and len(again.record()) == len(artifact.record())
    assert artifact.record()["name"] == "net-int8" and "0.00 (0.00" not in artifact.table()
    checks = {check.name: check.ok for check in verify(tmp_path / "run")}
    assert checks == {"manifest": True, "model.onnx": True, "recipe.yaml": True, "sizes": True, "parity": None}
    with pytest.raises(ArtifactError, match=r"no network of it in torch"):
        Artifact.load(tmp_path / "run").module()


def test_the_command_line_imports_no_torch(file, tmp_path):
    np.savez(tmp_path / "some.npz", **{k: v[:40] for k, v in np.load(file.parent / "data.npz").items()})
    arguments = ["compress", str(file), "--recipe", "int8", "--data", str(tmp_path / "some.npz")]
    arguments += ["-o", str(tmp_path / "run")]
    arguments += ["--set", "benchmark.seconds=0.5", "--json", "-q"]
    code = (
        "import sys; from compress.cli.commands import app\n"
        f"try: app({arguments!r}, prog_name='leanfit')\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    assert json.loads(done.stdout)["baseline"]["accuracy"]["metric"] == "agreement"


def test_without_labels_classes_are_judged_by_agreement_and_the_rest_by_distance(tmp_path):
    found = compress_onnx(
        written(linear(), tmp_path / "m.onnx"), RECIPE, data=rows(200), out=tmp_path / "a", progress=False
    ).summary()
    assert found["baseline"]["accuracy"]["metric"] == "agreement" and found["baseline"]["accuracy"]["value"] == 100
    assert found["compressed"]["accuracy"]["low"] < 100 and found["heads"][1]["compressed"]["metric"] == "rel_error"
    one = compress_onnx(
        written(linear(classes=1), tmp_path / "n.onnx"), RECIPE, data=rows(), out=tmp_path / "b", progress=False
    ).summary()
    assert one["baseline"]["accuracy"] | {"metric": "rel_error", "value": 0.0} == one["baseline"]["accuracy"]
    assert 0 < one["compressed"]["accuracy"]["value"] < 0.1 and one["heads"] == []


def test_every_output_has_its_own_distance(tmp_path):
    more = [helper.make_node("Softmax", ["y"], ["p"]), helper.make_node("ArgMax", ["y"], ["top"], axis=1)]
    model = linear(nodes=more, outputs=["p"])
    model.graph.output.append(info("top", TensorProto.INT64, None))
    found = compress_onnx(written(model, tmp_path / "m.onnx"), RECIPE, data=rows(), out=tmp_path / "a", progress=False)
    heads = found.summary()["heads"]
    assert [(head["name"], head["baseline"]["metric"]) for head in heads] == [
        ("y", "agreement"), ("y", "rel_error"), ("p", "rel_error"),
    ]  # fmt: skip
    assert "p: rel_error" in found.table()


def test_a_fixed_batch_is_called_as_it_is_and_few_calls_are_said_to_be_few(tmp_path):
    model = written(linear(batch=4), tmp_path / "m.onnx")
    found = compress_onnx(model, RECIPE, data=rows(80), out=tmp_path / "a", progress=False)
    assert found.record()["task"]["splits"] == {"calibration": 40, "test": 40}
    assert found.summary()["baseline"]["accuracy"]["n"] == 40
    few = compress_onnx(model, RECIPE, data=rows(4 * (FEW - 1)), out=tmp_path / "b", progress=False)
    assert any("too few to be judged on others" in warning for warning in few.record()["warnings"])


def test_labels_of_a_fixed_batch_stay_with_their_samples(tmp_path):
    """Rows that fill no call are left out, and so are their labels."""
    model, data = linear(batch=4), rows(83)
    file = written(model, tmp_path / "m.onnx")
    truth = np.concatenate([open_session(file).run({"x": data["x"][i : i + 4]})[0] for i in range(0, 80, 4)]).argmax(1)
    labels = np.append(truth, [0, 0, 0])
    found = compress_onnx(file, RECIPE, data=data, labels=labels, out=tmp_path / "a", progress=False).summary()
    assert found["baseline"]["accuracy"]["value"] == 100 and found["baseline"]["accuracy"]["n"] == 40


def test_an_output_that_cannot_be_bound_is_timed_all_the_same(tmp_path):
    more = [helper.make_node("Unsqueeze", ["y", "axis"], ["z"])]
    model = linear(nodes=more)
    model.graph.initializer.append(from_array(np.array([0]), "axis"))
    wrong = info("z", FLOAT, ["n"])  # its rank is 3
    del model.graph.output[:]
    model.graph.output.append(wrong)
    found = compress_onnx(written(model, tmp_path / "m.onnx"), RECIPE, data=rows(), out=tmp_path / "a", progress=False)
    assert found.summary()["baseline"]["latency"]["median_ms"] > 0


def test_calibration_and_judgement_share_no_call(tmp_path):
    from compress.pipeline.onnx_source import Source
    from evaluate.benchmark.model_inputs import wanted_of

    data, labels = rows(50), np.arange(50)
    given = {"calibrate": 512, "batch": 1, "seed": 3, "status": lambda *step: None}
    source = Source.read(written(linear(), tmp_path / "m.onnx"), wanted_of(inputs=data), labels, **given)
    fitted, judged = ({float(f["x"][0, 0]) for f in calls.feeds} for calls in (source.calibration, source.judged))
    assert not fitted & judged and len(fitted) + len(judged) == 50 and len(fitted) == 25
    kept = [float(data["x"][i, 0]) for i in source.judged.labels]
    assert kept == [float(f["x"][0, 0]) for f in source.judged.feeds]  # a label stays with its sample


def test_weights_in_another_file_are_taken_in(tmp_path):
    onnx.save(
        linear(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0
    )  # fmt: skip
    compress_onnx(tmp_path / "m.onnx", RECIPE, data=rows(), out=tmp_path / "a", progress=False)
    (tmp_path / "m.data").unlink()
    for place in ("a", "a/baseline"):
        assert open_session(tmp_path / place / "model.onnx").run(rows(2))[0].shape == (2, 10)


# --- by a recipe ---------------------------------------------------------------------------------------------------


def recipe_of(file, **more):
    blocks = {"model": {"onnx": str(file)}, "task": {"data": str(file.parent / "data.npz")}}
    return {**RECIPE, **blocks, **more}


def test_a_recipe_names_the_file_and_its_data(file, tmp_path):
    """By either door; and the recipe that a run keeps is one that gives it again, however it was given."""
    labels = str(file.parent / "labels.npy")
    task = {"data": str(file.parent / "data.npz"), "labels": labels}
    first = compress_onnx(recipe=recipe_of(file, task=task), out=tmp_path / "a", progress=False)
    assert first.summary()["baseline"]["accuracy"]["metric"] == "accuracy" and first.record()["name"] == "int8"
    heard = []
    for again in (tmp_path / "a" / "recipe.yaml", recipe_of(file, task=task)):
        leanfit.compress(recipe=again, out=tmp_path / "a", status=lambda message, *_: heard.append(message))
    assert sum("nothing to do" in message for message in heard) == 2
    given = {"data": task["data"], "labels": labels, "out": tmp_path / "b", "progress": False}
    compress_onnx(file, RECIPE, **given)
    kept = load_recipe(tmp_path / "b" / "recipe.yaml")
    assert kept.model.args == {"file": str(file)} and kept.task.args["labels"] == labels
    compress_onnx(recipe=kept, out=tmp_path / "b", status=lambda message, *_: heard.append(message))
    assert "nothing to do" in heard[-1]


def test_what_was_handed_over_in_python_stands_in_no_recipe(tmp_path):
    compress_onnx(written(linear(), tmp_path / "m.onnx"), RECIPE, data=rows(), out=tmp_path / "a", progress=False)
    kept = load_recipe(tmp_path / "a" / "recipe.yaml")
    assert kept.task is None
    with pytest.raises(DataError, match=r"say what the model will see"):
        compress_onnx(recipe=kept, out=tmp_path / "a", progress=False)


def test_shapes_and_what_is_timed_come_from_the_recipe(tmp_path):
    """A scale that the data do not hold, of a length that only the recipe knows; other values to time on."""
    model = linear(nodes=[helper.make_node("ReduceSum", ["s"], ["t"], keepdims=0)], outputs=["t"])
    model.graph.input.append(info("s", FLOAT, ["length"]))
    file = written(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", **rows())
    np.savez(tmp_path / "timed.npz", x=np.zeros((1, 16), "f"), s=np.zeros(5, "f"))
    with pytest.raises(UsageError, match=r"length"):
        compress_onnx(recipe=recipe_of(file), out=tmp_path / "a", progress=False)
    benchmark = {"seconds": 0.5, "dim": {"length": 5}, "inputs": str(tmp_path / "timed.npz")}
    recipe = recipe_of(file, benchmark=benchmark)
    compress_onnx(recipe=recipe, out=tmp_path / "a", progress=False)
    assert load_recipe(tmp_path / "a" / "recipe.yaml").benchmark.dim == {"length": 5}
    packed = pack([tmp_path / "a"], tmp_path / "b.pyz", samples=0)
    assert packed.samples == 0 and packed.models == ("baseline", "a")


def test_a_dry_run_names_layers_and_sizes(file, tmp_path):
    found = plan_onnx(recipe=recipe_of(file))
    assert leanfit.plan(recipe=recipe_of(file)) == found
    before, after = found.steps
    done = compress_onnx(recipe=recipe_of(file), out=tmp_path / "a", progress=False).summary()
    assert list(after.layers) == [change["layer"] for change in done["passes"][0]["changes"]]
    assert (before.params, before.macs) == tuple(done["baseline"]["sizes"][key] for key in ("params", "macs"))
    assert after.bytes == before.bytes / 4


def test_samples_of_its_data_go_into_a_bundle(file, tmp_path):
    """With labels, and without; and not where what is judged is not made of rows."""
    labels = str(file.parent / "labels.npy")
    for place, more in (("a", {"labels": labels}), ("b", {})):
        task = {"data": str(file.parent / "data.npz"), **more}
        run = compress_onnx(recipe=recipe_of(file, task=task), out=tmp_path / place, progress=False)
        packed = pack([tmp_path / place], tmp_path / "x.pyz", samples=50)
        assert packed.metric == run.summary()["baseline"]["accuracy"]["metric"] and packed.samples == 50
        assert packed.accuracy["baseline"] > 85 and packed.models == ("baseline", place)
    with pytest.raises(DataError, match=r"judged on different tasks"):
        pack([tmp_path / "a", tmp_path / "b"], tmp_path / "y.pyz")
    model = made(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        [info("x", FLOAT, ["time", 16])],
        [info("y", FLOAT, ["time", 4])],
        [from_array(rng.normal(size=(16, 4)).astype("f"), "W")],
    )
    file = written(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(40, 7, 16)).astype("f"))
    compress_onnx(recipe=recipe_of(file), out=tmp_path / "c", progress=False)
    with pytest.raises(DataError, match=r"are not rows of one shape"):
        pack([tmp_path / "c"], tmp_path / "z.pyz")


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ({"task": {"name": "digits"}}, r"task: an ONNX file is judged on {data: FILE}"),
        ({"model": {"name": "mlp", "weights": "w.pt"}}, r"task: a network's task is not {data: FILE}"),
        ({"model": {"onnx": "m.onnx", "weights": "w.pt"}}, r"model.weights: an ONNX file holds its weights itself"),
        ({"model": {"onnx": "m.onnx", "nmae": 1}}, r"unknown key 'nmae'"),
        ({"model": {"onxn": "m.onnx"}}, r"missing key 'name'"),
        ({"train": {"epochs": 1}}, r"an ONNX file cannot be trained"),
        ({"model": {"onnx": "gone.onnx"}}, r"gone\.onnx"),
        ({"task": {"data": "gone.npz"}}, r"no file gone\.npz"),
        (
            {"model": {"name": "mlp", "weights": "w.pt"}, "task": {"name": "digits"}, "benchmark": {"dim": {"n": 1}}},
            r"benchmark\.dim: for ONNX files only",
        ),
    ],
)
def test_blocks_that_do_not_fit_are_said(file, tmp_path, blocks, sentence):
    with pytest.raises(LeanfitError, match=sentence):
        compress_onnx(recipe=recipe_of(file, **blocks), out=tmp_path / "a", progress=False)
    assert not (tmp_path / "a" / "model.onnx").exists()


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"recipe": "half-int8"}, RecipeError, r"passes\.0: prune needs the network in torch"),
        ({"data": {"z": np.zeros((4, 16), "f")}}, UsageError, r"no input and no free dimension 'z'"),
        ({"data": {"x": np.zeros((4, 3), "f")}}, ModelError, r"could not run on x"),
        ({"data": {"x": np.zeros((4, 2, 16, 3), "f")}}, DataError, r"gives one of shape"),
        ({"data": []}, DataError, r"say what the model will see"),
        ({"labels": np.zeros(3, int)}, DataError, r"60 numbers are needed"),
        ({"labels": np.zeros(500, int)}, DataError, r"500 labels for 60 samples"),
        ({"labels": np.zeros(61, int)}, DataError, r"61 labels for 60 samples"),
        ({"labels": np.full(60, 77)}, DataError, r"class ids go from 77"),
        ({"labels": "gone.npy"}, DataError, r"gone\.npy cannot be read as labels"),
        ({"labels": np.zeros(60, int), "metric": "acuracy"}, UsageError, r"did you mean 'accuracy'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, given, error, sentence):
    model = written(linear(), tmp_path / "m.onnx")
    asked = {"recipe": RECIPE, "data": rows(), "out": tmp_path / "a", "progress": False, **given}
    with pytest.raises(error, match=sentence):
        compress_onnx(model, **asked)


def test_what_passes_cannot_work_on_is_said(tmp_path):
    data = rows()
    compress_onnx(written(linear(), tmp_path / "m.onnx"), RECIPE, data=data, out=tmp_path / "a", progress=False)
    with pytest.raises(PassError, match=r"holds integers already"):
        compress_onnx(tmp_path / "a" / "model.onnx", RECIPE, data=data, out=tmp_path / "b", progress=False)
    bare = made([helper.make_node("Relu", ["x"], ["y"])], [info("x", FLOAT, ["n", 16])], [info("y", FLOAT, ["n", 16])])
    with pytest.raises(PassError, match=r"quantize would change nothing"):
        compress_onnx(written(bare, tmp_path / "r.onnx"), RECIPE, data=data, out=tmp_path / "c", progress=False)
    ids = made(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1)],
        [info("x", FLOAT, ["n", 16])],
        [info("y", TensorProto.INT64, None)],
    )
    with pytest.raises(ModelError, match=r"nothing to judge"):
        compress_onnx(written(ids, tmp_path / "i.onnx"), RECIPE, data=data, out=tmp_path / "d", progress=False)
    assert not (tmp_path / "c" / "model.onnx").exists()


def test_labels_in_another_order_are_noticed(file, tmp_path):
    labels = np.random.default_rng(1).permutation(np.load(file.parent / "labels.npy"))
    given = {"data": file.parent / "data.npz", "labels": labels, "out": tmp_path / "run", "progress": False}
    warnings = compress_onnx(file, RECIPE, **given).record()["warnings"]
    assert any("one and the same answer" in warning and "in the order of the data" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["m.onnx"], "say what the model will see, values by input in an .npz, .npy or .json: --data FILE"),
        (["m.onnx", "--data", "d.npz", "--task", "digits"], "takes no --weights and no --task"),
        (["digits-mlp-int8", "--data", "d.npz"], "--data is for an ONNX file"),
        (["m.onnx", "--data", "d.npz", "--dry-run"], "there is no file d.npz"),
        (["m.onnx", "--data", "d.npz", "--device", "cuda"], "--force and --device are for training"),
        (["--model", "m.onnx", "--data", "d.npz"], "there is no file d.npz"),
    ],
)
def test_the_command_line_says_what_is_missing_or_too_much(arguments, sentence):
    done = subprocess.run(
        [sys.executable, "-m", "compress", "compress", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode in (2, 5) and sentence in " ".join(done.stderr.replace("│", " ").split())


# --- graphs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "vit", "mlp"])
def test_macs_and_parameters_of_a_file_are_those_of_its_network(name):
    settings = {"mlp": {"inputs": 64}}.get(name, {})
    network = build_model(name, **settings).eval()
    example = {"input": torch.zeros(2, 64) if name == "mlp" else torch.zeros(2, 3, 32, 32)}
    graph = export_onnx(network, example)
    feeds = {key: value[:1].numpy() for key, value in example.items()}
    feeds = {graph.graph.input[0].name: next(iter(feeds.values()))}
    assert graph_macs(graph, feeds) == count_macs(network, example)
    found = file_sizes(graph, serialise(graph), feeds)
    assert 0.95 * count_params(network) < found["params"] < 1.1 * count_params(network)  # batch norm is folded in


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_macs_of_recurrent_layers(kind):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(6, 8, batch_first=True, bidirectional=True)

        def forward(self, x):
            return self.layer(x)[0]

    example = {"x": torch.zeros(2, 5, 6)}
    graph = export_onnx(Net().eval(), example)
    assert graph_macs(graph, {"x": np.zeros((1, 5, 6), "f")}) == count_macs(Net().eval(), example)


def test_a_graph_is_prepared_whatever_wrote_it(tmp_path):
    """Nameless nodes, weights in Constant nodes, batch norm beside its convolution, a row as a bias, an old opset."""
    weight = from_array(rng.normal(size=(4, 3, 3, 3)).astype("f"), "w")
    norm = [
        from_array(np.abs(rng.normal(size=4)).astype("f") + 0.1, name) for name in ("scale", "shift", "mean", "var")
    ]
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
        helper.make_node("GlobalAveragePool", ["n"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    old = made(nodes, [info("x", FLOAT, ["n", 3, 8, 8])], [info("y", FLOAT, ["n", 4])], norm, opset=11)
    found = prepared(old)
    assert [node.op_type for node in found.graph.node].count("BatchNormalization") == 0
    assert all(node.name for node in found.graph.node) and found.opset_import[0].version >= 13
    x = rng.normal(size=(5, 3, 8, 8)).astype("f")
    sides = [open_session(serialise(graph)).run({"x": x})[0] for graph in (old, found)]
    np.testing.assert_allclose(*sides, rtol=1e-4, atol=1e-5)
    data = {"x": rng.normal(size=(40, 3, 8, 8)).astype("f")}
    artifact = compress_onnx(written(old, tmp_path / "old.onnx"), RECIPE, data=data, out=tmp_path / "a", progress=False)
    assert artifact.summary()["compressed"]["accuracy"]["value"] > 50
    row = compress_onnx(
        written(linear(row_bias=True), tmp_path / "row.onnx"), RECIPE, data=rows(), out=tmp_path / "b", progress=False
    )
    assert len(row.summary()["passes"][0]["changes"]) == 2


def test_a_normalization_by_its_parts_keeps_what_has_no_weights_in_floats():
    def parts(graph):
        return unweighted_nodes(graph, QuantizeConfig())

    root = [helper.make_node("Abs", ["y"], ["a"]), helper.make_node("Sqrt", ["a"], ["z"])]
    assert parts(prepared(linear(nodes=root, outputs=["z"]))) and not parts(prepared(linear()))
    assert load_graph(serialise(linear())).graph.node


# --- from other frameworks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["keras", "jax"])
def test_a_file_of_another_framework(name, tmp_path):
    """Trained on the first 1,400 digits and exported as docs/onnx.md says, in environments of their own."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x[1400:] / 16).astype("float32")
    data = {"": x.reshape(-1, 8, 8, 1) if name == "keras" else x}
    file = Path(__file__).parents[1] / "fixtures" / "onnx" / f"{name}.onnx"
    found = compress_onnx(file, RECIPE, data=data, labels=y[1400:], out=tmp_path / "run", progress=False).summary()
    assert found["baseline"]["accuracy"]["value"] > 85 and found["drop"]["low"] <= 0 <= found["drop"]["high"]
    assert len(found["passes"][0]["changes"]) > 1


def test_a_pipeline_of_scikit_learn(tmp_path):
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_digits(return_X_y=True)
    x = x.astype("float32")
    steps = StandardScaler(), MLPClassifier((64,), max_iter=400, random_state=0)
    pipeline = make_pipeline(*steps).fit(x[:1400], y[:1400])
    (tmp_path / "p.onnx").write_bytes(to_onnx(pipeline, x[:1], options={"zipmap": False}).SerializeToString())
    given = {"data": {"X": x[1400:]}, "labels": y[1400:], "out": tmp_path / "run", "progress": False}
    found = compress_onnx(tmp_path / "p.onnx", RECIPE, **given).summary()
    assert found["baseline"]["accuracy"]["value"] > 85 and abs(found["drop"]["value"]) < 3
