"""The folder that is deployed: it comes back in a fresh process, and vouches for itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from prune_nets import FIXED
from torch import nn

from compress import Artifact, compress
from compress.graph.model_state import load_state, network_from, save_state
from compress.pipeline.artifact import verify
from compress.tasks import Task
from evaluate.core.errors import ArtifactError, DataError
from evaluate.runtime.session import open_session

RECIPE = {
    "version": 1,
    "name": "tiny",
    "passes": [
        {"kind": "prune", "keep": {"macs": 0.5}, **FIXED},
        {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 64}},
    ],
    "benchmark": {"seconds": 0.5},
}


@pytest.fixture(scope="module")
def folder(trained: nn.Module, digits: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifact") / "run"
    compress(trained, RECIPE, task=digits, out=out)
    return out


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


FRESH = """
import sys, numpy as np, torch
from compress import Artifact
from compress.models import build_model
a = Artifact.load(sys.argv[1])
module = a.module(build_model("resnet", depth=8, width=8, in_channels=1))
np.save(sys.argv[2], module(torch.ones(3, 1, 8, 8)).detach().numpy())
"""


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "factorize", "keep": {"params": 0.7}, "measure": False},
        {"kind": "shorten", "keep": {"macs": 0.9}},
        {"kind": "share", "bits": 4},
        {"kind": "sparsify", "sparsity": 0.5},
    ],
    ids=lambda step: step["kind"],
)
def test_what_a_pass_made_comes_back_in_a_fresh_process(step, trained, digits, tmp_path):
    recipe = {"version": 1, "passes": [step], "benchmark": {"seconds": 0.5}}
    artifact = compress(trained, recipe, task=digits, out=tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(artifact.path), str(tmp_path / "y.npy")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    want = artifact.module(trained)(torch.ones(3, 1, 8, 8)).detach().numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), want, rtol=1e-5, atol=1e-5)


def test_the_folder_holds_what_the_documents_say(folder: Path):
    wanted = {"model.onnx", "weights.safetensors", "manifest.json", "recipe.yaml", "report.html", "records.jsonl"}
    assert wanted <= {path.name for path in folder.iterdir()}
    assert (folder / "baseline" / "model.onnx").is_file()


def test_a_fresh_process_rebuilds_the_pruned_network(folder: Path, digits: Task):
    inputs = digits.example(4)["image"]
    np.save(folder / "inputs.npy", inputs.numpy())
    code = (
        "import sys, numpy as np, torch; from compress import Artifact\n"
        "m = Artifact.load(sys.argv[1]).module()\n"
        "y = m(torch.from_numpy(np.load(sys.argv[1] + '/inputs.npy')))\n"
        "np.save(sys.argv[1] + '/outputs.npy', y.detach().numpy())\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    here = Artifact.load(folder).module()(inputs).detach().numpy()
    np.testing.assert_allclose(np.load(folder / "outputs.npy"), here, rtol=1e-5, atol=1e-5)
    deployed = open_session(folder / "model.onnx").run({"image": inputs.numpy()})[0]
    assert np.abs(deployed - here).max() < 0.1 * np.ptp(here)


def test_an_artifact_verifies(folder: Path):
    checks = verify(folder)
    assert [c.name for c in checks if not c.ok] == []
    assert {"manifest", "model.onnx", "weights.safetensors", "recipe.yaml", "sizes", "parity"} <= {
        c.name for c in checks
    }


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "manifest.json", "recipe.yaml"])
def test_one_flipped_bit_is_found(name: str, copied: Path):
    data = bytearray((copied / name).read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), size=5):
        changed = bytearray(data)
        changed[place] ^= 1
        (copied / name).write_bytes(changed)
        assert any(not check.ok for check in verify(copied)), f"byte {place} of {name}"


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "manifest.json"])
def test_a_missing_file_is_found(name: str, copied: Path):
    (copied / name).unlink()
    assert any(not check.ok for check in verify(copied))


@pytest.mark.parametrize("unit", ["params", "nonzero", "macs", "bytes", "packed_bytes", "bits"])
def test_a_claim_that_is_not_true_is_found(unit: str, copied: Path):
    from compress.core.files import hash_of

    manifest = json.loads((copied / "manifest.json").read_text())
    manifest.pop("self")
    manifest["sizes"][unit] *= 0.9
    manifest["self"] = hash_of(manifest)
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert [c.name for c in verify(copied) if not c.ok] == ["sizes"]


def test_what_is_no_artifact_is_said(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        Artifact.load(tmp_path)
    with pytest.raises(ArtifactError, match="there is no such folder"):
        Artifact.load(tmp_path / "nowhere")


class Brought(nn.Module):
    """A user's own network, with tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))


def test_a_brought_network_needs_its_constructor_in_a_fresh_process(digits: Task, tmp_path: Path):
    torch.manual_seed(0)
    recipe = {**RECIPE, "passes": [RECIPE["passes"][1]]}
    artifact = compress(Brought(), recipe, task=digits, out=tmp_path / "run", force=True)
    x = digits.example(2)["image"]
    expected = artifact.module()(x)
    loaded = Artifact.load(tmp_path / "run")
    with pytest.raises(ArtifactError, match=r"module\(base=MyNet\(\)\)"):
        loaded.module()
    torch.testing.assert_close(loaded.module(base=Brought())(x), expected)
    unseen = {check.name: check.detail for check in verify(tmp_path / "run") if check.ok is None}
    assert set(unseen) == {"sizes", "parity"} and "module(base=MyNet())" in unseen["parity"]
    assert all(check.ok for check in verify(tmp_path / "run", base=Brought()))
    with pytest.raises(ArtifactError, match="do not fit"):
        loaded.module(base=nn.Linear(3, 3))


def test_tied_weights_are_stored_once_and_come_back_tied(tmp_path: Path):
    model = Brought()
    (tmp_path / "w.safetensors").write_bytes(save_state(model))
    assert len([n for n in load_state(tmp_path / "w.safetensors") if n.endswith("weight")]) == 2
    again = network_from(Brought(), [], tmp_path / "w.safetensors")
    assert again.first.weight is again.second.weight
    torch.testing.assert_close(again.second.weight, model.second.weight)


def test_no_pickle_is_written(folder: Path):
    for path in folder.rglob("*"):
        assert path.suffix not in {".pt", ".pth", ".pkl", ".bin"}
        if path.is_file():
            assert not path.read_bytes().startswith(b"\x80\x04")


def test_a_prompt_shows_one_line_and_a_notebook_the_report(folder: Path, tmp_path: Path, copied: Path):
    artifact = Artifact.load(folder)
    assert repr(artifact).startswith(f"<Artifact {folder}: ") and "smaller" in repr(artifact)
    shown = artifact._repr_html_()
    assert shown.startswith("<iframe") and "srcdoc=" in shown and shown.count("<iframe") == 1
    (copied / "report.html").unlink()
    assert Artifact.load(copied)._repr_html_().startswith("<pre>&lt;Artifact")
    (copied / "records.jsonl").unlink()
    assert repr(Artifact.load(copied)).endswith("not measured>")


def test_the_deployed_file_predicts(folder: Path, digits: Task):
    artifact = Artifact.load(folder)
    example = digits.test.first(70)
    wanted = open_session(artifact.onnx_path.read_bytes(), threads=1).run({k: v.numpy() for k, v in example.items()})[0]
    for given in (example, example["image"], example["image"].numpy()):
        np.testing.assert_array_equal(artifact.predict(given), wanted)
    assert artifact.figures == artifact.summary()
    with pytest.raises(DataError, match="got inputs a, b; the file takes image"):
        artifact.predict({"a": example["image"], "b": example["image"]})


def test_progress_is_shown_unless_it_is_turned_off(trained: nn.Module, digits: Task, tmp_path: Path, capsys):
    compress(trained, RECIPE, task=digits, out=tmp_path / "run")
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("reading the recipe")
    compress(trained, RECIPE, task=digits, out=tmp_path / "run", progress=False)
    assert capsys.readouterr().err == ""


def test_a_task_says_what_it_is(digits: Task):
    assert repr(digits).startswith("<Task digits: image [1, 8, 8] float32 -> 10 classes; ")
    assert "10 classes: 0, 1, 2" in digits._repr_html_() and "[1, 8, 8] float32" in digits._repr_html_()
