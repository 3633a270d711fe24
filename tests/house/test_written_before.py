"""What an older leanfit wrote is still read: an artifact, Records of each kind, a law, and a bundle that runs alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from compress.cli.commands import app
from compress.pipeline.artifact import Artifact
from evaluate.bundle.zipapp import read_bundle
from evaluate.core.journal import find_records
from evaluate.runtime.session import open_session

BEFORE = Path(__file__).parents[1] / "fixtures" / "bcf02c1"
RECORDS = {"digits-mlp-int8": "compress", "study": "trial", "bench.json": "bench", "server.json": "bench"}


def leanfit(*arguments: object) -> dict:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_an_artifact_verifies_and_computes_what_its_file_does():
    found = leanfit("verify", BEFORE / "digits-mlp-int8")
    assert found["ok"] and all(check["ok"] for check in found["checks"]), found
    network = Artifact.load(BEFORE / "digits-mlp-int8" / "baseline").module().eval()
    data = np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(np.float32)
    outputs = open_session(BEFORE / "digits-mlp-int8" / "baseline" / "model.onnx").run({"image": data})[0]
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(data)).numpy(), outputs, atol=1e-4)


@pytest.mark.parametrize("name", RECORDS)
def test_its_records_are_read_without_a_problem_and_reported(name: str, tmp_path: Path):
    problems: list[str] = []
    records = find_records(BEFORE / name, on_problem=problems.append)
    kinds = [r["kind"] if isinstance(r, dict) else r.kind for r in records]
    assert problems == [] and RECORDS[name] in kinds
    found = leanfit("report", BEFORE / name, "--out", tmp_path / "page.html")
    assert found["problems"] == [] and found["records"] == sum(kind != "stage" for kind in kinds)
    assert (tmp_path / "page.html").stat().st_size > 5000


def test_a_law_predicts_what_it_predicted():
    before = json.loads((BEFORE / "predicted.json").read_text())
    again = leanfit("predict", BEFORE / "law.json", "--x", "params=500,900")
    for old, new in zip(before.pop("predictions"), again.pop("predictions"), strict=True):
        assert new.pop("x") == old.pop("x") and new == pytest.approx(old)
    assert again == before


def test_an_old_folder_is_packed_and_a_law_is_fitted_from_its_trials(tmp_path: Path):
    packed = leanfit("pack", BEFORE / "digits-mlp-int8", "-o", tmp_path / "b.pyz", "--samples", 20, "-q")
    assert packed["samples"] == 20 and len(packed["models"]) == 2
    options = ("--x", "params", "--y", "error", "--where", "role=dense", "--law", "power", "-q", "--bootstrap", 20)
    before, again = json.loads((BEFORE / "law.json").read_text()), leanfit("fit", BEFORE / "study", *options)
    assert again["params"] == pytest.approx(before["params"]) and again["law"] == before["law"]


def test_a_bundle_is_whole_and_runs_on_its_own(tmp_path: Path):
    bundle = Path(shutil.copy(BEFORE / "bench.pyz", tmp_path))
    read_bundle(bundle).check()
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "bench.pyz", "--seconds", "0.5", "--json", "back.json", "-q"]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    page = leanfit("report", tmp_path / "back.json", "--out", tmp_path / "page.html")
    assert page["records"] == 1 and page["problems"] == []
