"""pack(): what goes into a bundle, under which names, with which samples; and what is refused, and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from bundles import clean_python, clean_site
from tiny_onnx import linear_onnx
from torch.utils.data import DataLoader, TensorDataset

from compress.bundle.pack import pack
from compress.cli.bench_command import samples_of_runs, with_baselines
from compress.core.files import file_hash
from compress.graph.export import export_onnx
from compress.graph.onnx_graph import serialise
from compress.models import build_model
from compress.pipeline.manifest import write_artifact
from compress.tasks import Task
from evaluate.bundle.zipapp import SAMPLES, model_member, read_bundle
from evaluate.core.errors import ArtifactError, DataError, MachineError, ModelError
from evaluate.core.journal import Journal
from evaluate.metrics.base import score
from evaluate.metrics.samples import Samples, outputs_on
from evaluate.runtime.session import open_session

DIGITS = "task: {name: digits}"
RECIPE = "version: 1\nname: tiny\npasses: []\nbenchmark: {threads: 1, batch: 4}\n"
CLAIMS = {
    "name": "tiny",
    "recipe_hash": "0",
    "stage": "0",
    "quantized": False,
    "rewrites": [],
    "parity": {},
    "sizes": {},
}


@pytest.fixture(scope="module")
def nets(digits: Task):
    """Three networks for the digits, as (module, ONNX bytes): one export, and the same with other last weights."""
    torch.manual_seed(0)
    module = build_model("mlp", inputs=64, classes=10, width=8, depth=1).eval()
    graph = export_onnx(module, digits.example(4))
    weights = next(t for t in reversed(graph.graph.initializer) if t.data_type == onnx.TensorProto.FLOAT)
    made = []
    for seed in range(3):
        values = np.random.default_rng(seed).normal(size=onnx.numpy_helper.to_array(weights).shape)
        weights.raw_data = values.astype("f4").tobytes()
        made.append((module, serialise(graph)))
    return made


@pytest.fixture(scope="module")
def write(nets, digits: Task):
    """Writes the folder of a run: an artifact, its baseline and its Record."""

    def write(folder: Path, net=1, baseline=0, recipe=f"{RECIPE}{DIGITS}\n", fingerprint: str | None = "") -> Path:
        for place, number in ((folder, net), (folder / "baseline", baseline)):
            module, graph = nets[number]
            place.mkdir(parents=True, exist_ok=True)
            write_artifact(place, model=module, graph=graph, example=digits.example(4), recipe=recipe, claims=CLAIMS)
        hashes = {name: file_hash(folder / name) for name in ("model.onnx", "baseline/model.onnx")}
        if fingerprint is not None:
            task = {"name": "digits", "fingerprint": fingerprint or digits.fingerprint()}
            record = {"schema": 1, "kind": "compress", "id": "1", "hashes": hashes, "task": task}
            Journal(folder / "records.jsonl").append(record)
        return folder

    return write


@pytest.fixture(scope="module")
def run(write, tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("runs") / "a")


def content(path: Path, folder: Path) -> tuple[dict, Samples]:
    bundle = read_bundle(path)
    bundle.check()
    bundle.extract(folder)
    return dict(bundle.manifest), Samples.load(folder / SAMPLES)


# --- what goes in


def test_a_run_is_packed_with_its_baseline_and_samples(run, digits, tmp_path):
    result = pack([run], tmp_path / "bench.pyz", samples=50)
    manifest, samples = content(tmp_path / "bench.pyz", tmp_path / "out")
    assert (result.models, result.samples, result.path) == (("baseline", "a"), 50, tmp_path / "bench.pyz")
    assert result.bytes == result.path.stat().st_size
    assert result.sha256 == file_hash(result.path)
    for name, source in (("baseline", run / "baseline"), ("a", run)):
        assert (tmp_path / "out" / model_member(name)).read_bytes() == (source / "model.onnx").read_bytes()
        assert manifest["models"][name]["sha256"] == file_hash(source / "model.onnx")
        assert manifest["models"][name]["accuracy"] == result.accuracy[name]
    assert manifest["baseline"] == "baseline"
    assert manifest["settings"] == {"threads": 1, "batch": 4}
    assert manifest["task"] == {"name": "digits", "fingerprint": digits.fingerprint()}
    assert (samples.metric, samples.classes, len(samples)) == ("accuracy", digits.classes, 50)


def test_what_was_packed_is_told_with_the_next_step(run, tmp_path):
    result = pack([run], tmp_path / "my bench.pyz", samples=20)
    table = result.table()
    assert all(text in table for text in (str(result.path), result.sha256, "20 test samples", "python3 'my bench.pyz'"))
    assert all(f"{name} " in table and f"{result.accuracy[name]:.4g} %" in table for name in result.models)
    assert "no accuracy" in pack([run], tmp_path / "b.pyz", samples=0).table()


def test_the_outputs_expected_are_those_of_each_file(run, tmp_path):
    result = pack([run], tmp_path / "bench.pyz", samples=40)
    _, samples = content(tmp_path / "bench.pyz", tmp_path / "out")
    for name, source in (("baseline", run / "baseline"), ("a", run)):
        outputs = outputs_on(open_session(source / "model.onnx"), samples)
        assert outputs.tobytes() == samples.expected[name].tobytes()
        assert result.accuracy[name] == score(outputs, samples.targets, "accuracy")["value"]


def test_samples_are_of_the_test_split_seeded_and_by_class(run, digits, tmp_path):
    found = {}
    for seed in (0, 0, 1):
        pack([run], tmp_path / "b.pyz", samples=60, seed=seed)
        _, samples = content(tmp_path / "b.pyz", tmp_path / "out")
        taken = samples.inputs["image"].tobytes()
        assert found.setdefault(seed, taken) == taken
    assert found[0] != found[1]
    test = {row.tobytes() for row in digits.test.materialize().inputs["image"].numpy()}
    assert {row.tobytes() for row in samples.inputs["image"]} <= test
    counts, whole = (np.bincount(np.asarray(t), minlength=10) for t in (samples.targets, digits.test.all_targets()))
    assert np.abs(counts - 60 * whole / whole.sum()).max() < 1


def test_asking_for_more_samples_than_there_are_gives_all(run, digits, tmp_path):
    assert pack([run], tmp_path / "b.pyz", samples=100_000).samples == len(digits.test)


def test_equal_content_gives_equal_bytes(run, tmp_path):
    first, second, other = (pack([run], tmp_path / f"{i}.pyz", samples=20 + (i == 2)) for i in range(3))
    assert first.sha256 == second.sha256 != other.sha256


def test_the_file_can_be_run_and_is_not_left_half_written(run, tmp_path):
    pack([run], tmp_path / "b.pyz", samples=10)
    assert (tmp_path / "b.pyz").stat().st_mode & 0o111
    assert [p.name for p in tmp_path.iterdir()] == ["b.pyz"]


def test_without_baseline_it_is_left_out(run, tmp_path):
    result = pack([run], tmp_path / "b.pyz", samples=10, baseline=False)
    assert result.models == ("a",)
    assert read_bundle(result.path).manifest["baseline"] == "a"


def test_no_samples_where_none_are_wanted(run, tmp_path):
    result = pack([run], tmp_path / "b.pyz", samples=0)
    assert (result.samples, result.accuracy) == (0, {})
    assert SAMPLES not in read_bundle(result.path).manifest["members"]


def test_equal_baselines_go_along_once_and_names_differ(run, write, tmp_path):
    same = write(tmp_path / "x" / "a", net=2)
    other = write(tmp_path / "y" / "a", net=2, baseline=1)
    result = pack([run, same, other], tmp_path / "b.pyz", samples=10)
    assert result.models == ("baseline", "a-baseline", "a", "a-2", "a-3")
    assert read_bundle(result.path).manifest["baseline"] == "baseline"


def test_names_are_made_plain(run, tmp_path):
    odd = tmp_path / "my run (é)@cuda"
    shutil.copytree(run, odd)
    assert pack([odd], tmp_path / "b.pyz", samples=5).models == ("baseline", "my-run-cuda")


def test_the_baseline_of_a_run_can_be_packed_alone(run, tmp_path):
    assert pack([run / "baseline"], tmp_path / "b.pyz", samples=5).models == ("a-baseline",)


def test_an_older_recipe_with_keys_no_longer_known_can_be_packed(write, tmp_path):
    old = write(tmp_path / "old", recipe=f"{RECIPE}{DIGITS}\nodd: {{rounds: 30}}\n")
    assert pack([old], tmp_path / "b.pyz", samples=5).samples == 5


# --- plain ONNX files


def test_a_plain_file_goes_along_and_is_judged_on_the_samples(run, nets, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(nets[2][1])
    result = pack([run, tmp_path / "mine.onnx"], tmp_path / "b.pyz", samples=10)
    assert result.models == ("baseline", "a", "mine")
    assert set(result.accuracy) == {"baseline", "a", "mine"}


def test_plain_files_alone_have_no_samples_unless_a_run_gives_them(run, nets, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(nets[2][1])
    bare = pack([tmp_path / "mine.onnx"], tmp_path / "b.pyz")
    assert (bare.models, bare.samples) == (("mine",), 0)
    given = pack([tmp_path / "mine.onnx"], tmp_path / "b.pyz", samples=10, samples_from=run)
    assert (given.models, given.samples) == (("mine",), 10)


def test_a_fixed_batch_is_filled_up_and_cut_off(run, tmp_path):
    model = onnx.load(run / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, tmp_path / "fixed.onnx")
    pack([run, tmp_path / "fixed.onnx"], tmp_path / "b.pyz", samples=21)
    _, samples = content(tmp_path / "b.pyz", tmp_path / "out")
    np.testing.assert_allclose(samples.expected["fixed"], samples.expected["a"], rtol=1e-5, atol=1e-6)


def test_weights_in_a_file_beside_it_are_taken_in(run, tmp_path):
    model = onnx.load(run / "model.onnx")
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, location="weights.bin", size_threshold=100)
    assert (tmp_path / "weights.bin").exists()
    pack([run, tmp_path / "split.onnx"], tmp_path / "b.pyz", samples=10)
    _, samples = content(tmp_path / "b.pyz", tmp_path / "out")
    assert samples.expected["split"].tobytes() == samples.expected["a"].tobytes()
    (tmp_path / "weights.bin").unlink()
    assert len(open_session(tmp_path / "out" / model_member("split")).inputs) == 1


def test_the_oldest_runtime_that_reads_the_models_is_written_down(tmp_path):
    for opset, ir, needed in ((17, 8, "1.16"), (20, 9, "1.17"), (21, 10, "1.18")):
        model = onnx.load_model_from_string(linear_onnx())
        model.ir_version, model.opset_import[0].version = ir, opset
        onnx.save(model, tmp_path / "m.onnx")
        result = pack([tmp_path / "m.onnx"], tmp_path / "b.pyz")
        assert read_bundle(result.path).manifest["needs"] == {"onnxruntime": needed}


# --- tasks


def test_a_task_brought_in_python_is_given_again(write, digits, tmp_path):
    loaders = [
        DataLoader(TensorDataset(split.inputs["image"], split.targets), batch_size=64, shuffle=False)
        for split in digits.splits().values()
    ]
    task = Task.from_loaders(*loaders, classes=digits.classes)
    (name,) = task.example()
    own = write(tmp_path / "own", recipe=RECIPE, fingerprint=None)
    with pytest.raises(DataError, match=r"brought as an object in Python.*task=task"):
        pack([own], tmp_path / "b.pyz")
    renamed = onnx.load(own / "model.onnx")
    assert renamed.graph.input[0].name == "image"
    if name != "image":
        with pytest.raises(ModelError, match="does not run on the samples"):
            pack([own], tmp_path / "b.pyz", task=task)
    named = Task.from_tensors(*((s.inputs, s.targets) for s in digits.splits().values()), classes=digits.classes)
    assert pack([own], tmp_path / "b.pyz", samples=10, task=named).samples == 10


def test_samples_of_a_loader_are_packed(nets, digits, tmp_path):
    def loader(split):
        pairs = [({"image": image}, target) for image, target in zip(split.inputs["image"], split.targets, strict=True)]
        return DataLoader(pairs, batch_size=64, shuffle=True)

    task = Task.from_loaders(*map(loader, digits.splits().values()), classes=digits.classes)
    (tmp_path / "m.onnx").write_bytes(nets[0][1])
    results = [pack([tmp_path / "m.onnx"], tmp_path / "b.pyz", samples=30, task=task) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0].samples == 30


def test_regression_is_packed_with_its_targets(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(n, 12)).astype("f4"), rng.normal(size=(n, 2)).astype("f4")) for n in (20, 10, 30)]
    task = Task.from_tensors(*(({"x": x}, y) for x, y in pairs))
    (tmp_path / "m.onnx").write_bytes(linear_onnx(classes=2))
    result = pack([tmp_path / "m.onnx"], tmp_path / "b.pyz", samples=20, task=task)
    _, samples = content(result.path, tmp_path / "out")
    assert (samples.metric, samples.classes, samples.targets.shape) == ("mse", (), (20, 2))
    errors = (samples.expected["m"] - samples.targets) ** 2
    assert result.accuracy["m"] == pytest.approx(float(errors.mean()), rel=1e-5)


def test_runs_of_different_tasks_are_refused_by_both_names(run, write, tmp_path):
    other = write(tmp_path / "other", fingerprint="e" * 64)
    with pytest.raises(DataError, match=rf"{run}.*{other}.*different tasks.*eeeeeeeeeeee.*Pack them apart"):
        pack([run, other], tmp_path / "b.pyz")
    unmeasured = write(
        tmp_path / "unmeasured", recipe=f"{RECIPE}task: {{name: digits, split_seed: 1}}\n", fingerprint=None
    )
    with pytest.raises(DataError, match=rf"{run}.*{unmeasured}.*different tasks"):
        pack([run, unmeasured], tmp_path / "b.pyz")


def test_data_that_changed_since_are_refused(write, tmp_path):
    with pytest.raises(DataError, match="other data"):
        pack([write(tmp_path / "run", fingerprint="e" * 64)], tmp_path / "b.pyz")


def test_a_missing_data_set_says_where_it_is_looked_for(write, tmp_path, monkeypatch):
    monkeypatch.setenv("LEANFIT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(
        "compress.tasks.cifar10.fetch", lambda *a, advice, **k: (_ for _ in ()).throw(DataError(advice))
    )
    run = write(tmp_path / "run", recipe=f"{RECIPE}task: {{name: cifar10}}\n", fingerprint=None)
    with pytest.raises(DataError, match="LEANFIT_DATA"):
        pack([run], tmp_path / "b.pyz")
    assert pack([run], tmp_path / "b.pyz", samples=0).samples == 0


# --- what is refused


def test_what_is_no_artifact_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(ArtifactError, match=rf"{place}: not an artifact"):
            pack([place], tmp_path / "b.pyz")
    with pytest.raises(ArtifactError, match=r"no file .*missing\.onnx"):
        pack([tmp_path / "missing.onnx"], tmp_path / "b.pyz")
    with pytest.raises(ArtifactError, match="nothing to pack"):
        pack([], tmp_path / "b.pyz")
    assert not (tmp_path / "b.pyz").exists()


@pytest.mark.parametrize("name", ["model.onnx", "recipe.yaml"])
def test_an_artifact_that_was_changed_is_refused(run, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
    with pytest.raises(ArtifactError, match=rf"{name}: changed or damaged"):
        pack([copy], tmp_path / "b.pyz")
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name} is missing"):
        pack([copy], tmp_path / "b.pyz")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ArtifactError, match=r"text\.onnx"):
        pack([tmp_path / "text.onnx"], tmp_path / "b.pyz")


@pytest.mark.parametrize("data", [linear_onnx(), linear_onnx(bias=float("nan"))])
def test_a_model_that_does_not_run_on_the_samples_is_refused(run, tmp_path, data):
    (tmp_path / "other.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"other\.onnx does not run on the samples of task 'digits'.*--samples 0"):
        pack([run, tmp_path / "other.onnx"], tmp_path / "b.pyz")


def test_outputs_that_are_not_finite_are_refused(run, nets, tmp_path):
    model = onnx.load_model_from_string(nets[0][1])
    weights = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    weights.raw_data = np.full(onnx.numpy_helper.to_array(weights).shape, np.nan, "f4").tobytes()
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(ModelError, match=r"nan\.onnx .* not finite"):
        pack([run, tmp_path / "nan.onnx"], tmp_path / "b.pyz")


def test_nothing_else_is_written_over(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path / "notes.txt", tmp_path):
        with pytest.raises(MachineError, match=r"notes\.txt|is a folder"):
            pack([run], place)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for _ in range(2):
        pack([run], tmp_path / "b.pyz", samples=5)


def test_a_wrong_number_of_samples_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="0 or more"):
        pack([run], tmp_path / "b.pyz", samples=-1)


# --- the whole way


def test_what_was_packed_runs_where_torch_is_not(run, tmp_path):
    import subprocess

    pack([run], tmp_path / "bench.pyz", samples=30)
    command, environment = clean_python(
        clean_site(tmp_path / "site"), tmp_path / "tmp", tmp_path / "bench.pyz", "--seconds", 1, "--out", "out.json"
    )
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out.json").read_text())
    assert [entry["name"] for entry in record["results"]] == ["baseline", "a"]
    assert all(entry["agreement"]["same"] == entry["agreement"]["n"] == 30 for entry in record["results"])
    assert record["results"][1]["sha256"] == file_hash(run / "model.onnx")
    assert record["results"][0]["latency"]["batch"] == 4


def test_a_path_with_its_provider_is_the_same_run(write, digits: Task, tmp_path: Path):
    run = write(tmp_path / "run")
    on_gpu = Path(f"{run}@cuda")
    bare = with_baselines([run], None)
    assert with_baselines([on_gpu], None) == [Path(f"{path}@cuda") for path in bare] and len(bare) == 2
    for paths in ([on_gpu], [on_gpu, Path("net.onnx@cuda")], with_baselines([on_gpu], None)):
        given, wanted = samples_of_runs(paths, 7), samples_of_runs([run], 7)
        assert all(np.array_equal(given.inputs[name], wanted.inputs[name]) for name in wanted.inputs)
