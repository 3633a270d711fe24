"""Broken inputs through the real command line: a place, a next step, the documented exit code, nothing half-written."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from broken_cases import BRIEF, CASES, QUICK, Case, Ground
from tiny_onnx import linear_onnx
from torch import nn

from compress import Task, compress
from compress.cli.commands import main
from compress.pipeline.artifact import verify
from compress.pipeline.stages import locked
from evaluate.core.errors import LeanfitError

SHELL = [sys.executable, "-m", "compress"]
NOBODY = 65534
ROOT = os.geteuid() == 0


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        patch.setattr(sys, "argv", ["leanfit", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
    return int(caught.value.code or 0), out.getvalue(), err.getvalue()


def check_whole(folder: Path) -> None:
    """No file that is not whole is left outside stages/, and every artifact is what it claims."""
    outside = [p for p in folder.rglob("*") if "stages" not in p.parts and not p.is_dir()]
    assert [p for p in outside if p.name.startswith(".") and p.name != ".lock"] == []
    for place in {p.parent for p in outside if p.name in ("model.onnx", "weights.safetensors", "manifest.json")}:
        assert [check for check in verify(place) if not check.ok] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One finished run."""
    folder = tmp_path_factory.mktemp("broken") / "run"
    code, _, err = call("compress", *QUICK, "--quiet", "--out", folder)
    assert code == 0, err
    return folder


@pytest.fixture
def at(tmp_path, run, monkeypatch):
    return Ground(tmp_path, run, monkeypatch)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_there_are_enough_of_them():
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_input_is_refused_with_its_place(case: Case, at: Ground):
    arguments = case.make(at)
    before = files(at.path)
    code, out, err = call(*arguments)
    text = " ".join((out + err).split())
    assert code == case.code, text
    for said in case.said:
        assert " ".join(said.split()) in text
    assert "Traceback" not in text
    assert files(at.path) == before
    assert not (at.path / "harm").exists()
    code, out, err = call(*arguments, "--json")
    answer = json.loads(out)
    assert code == case.code
    assert answer.get("ok") is False or answer["error"]["exit_code"] == case.code
    assert "Traceback" not in out + err


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """As a user without rights over `folder`: root becomes nobody for the time."""
    folder.chmod(0o555 if folder.is_dir() else 0)
    if ROOT:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if ROOT:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def shared_folder():
    """A folder that any user may look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(
    ("name", "command", "code"), [("m.onnx", "bench", 7), ("records.jsonl", "report", 7), ("r.yaml", "compress", 3)]
)
def test_an_unreadable_file_is_named(shared_folder, name, command, code):
    file = shared_folder / name
    file.write_bytes(linear_onnx())
    with unprivileged(file):
        found, _, err = call(command, file)
    assert found == code
    assert name in err
    assert "ermission denied" in err
    assert "Traceback" not in err


def test_an_artifact_that_may_not_be_read_is_not_verified(shared_folder, run):
    folder = shared_folder / "run"
    shutil.copytree(run, folder)
    for name in ("model.onnx", "manifest.json"):
        with unprivileged(folder / name):
            code, out, err = call("verify", folder)
        assert code == 7
        assert name in out
        assert "ermission denied" in out + err


def test_a_read_only_folder_is_named(shared_folder):
    with unprivileged(shared_folder):
        code, out, err = call("compress", *QUICK, "--quiet", "--out", shared_folder / "run", "--json")
    assert code == json.loads(out)["error"]["exit_code"] == 8
    assert f"permission denied: {shared_folder / 'run'}; choose another place" in err
    assert list(shared_folder.iterdir()) == []


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond `size` bytes, as a full disk does in the middle of one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_full(code: int, out: str, err: str, place: Path) -> None:
    assert code == json.loads(out)["error"]["exit_code"] == 8, err
    assert str(place) in err
    assert "ree some space" in err
    assert "run the same command again" in err or "run again" in err
    assert "Traceback" not in err + out


@pytest.mark.parametrize("size", [0, 1_500, 20_000, 50_000, 100_000])
def test_a_disk_that_is_full_at_some_moment(at, size):
    """A run of another recipe in the folder of a finished one; the moments are those its files reach these sizes."""
    folder = at.copy()
    arguments = at.compress("--set", "seed=1", "--json", out=folder)
    with no_file_above(size):
        check_full(*call(*arguments), folder)
    check_whole(folder)
    if size in (0, 50_000):
        assert call(*arguments)[0] == 0
        check_whole(folder)


@pytest.mark.parametrize("lost", [("stages/bench-*",), ("records.jsonl",), ("report.html",), ("baseline/*", "*.onnx")])
def test_a_disk_that_is_full_at_a_late_moment(at, lost):
    folder = at.copy(stages=True)
    for found in [p for pattern in lost for p in folder.glob(pattern)]:
        shutil.rmtree(found) if found.is_dir() else found.unlink()
    (folder / "manifest.json").unlink() if "*.onnx" in lost else None
    arguments = at.compress("--json", out=folder)
    with no_file_above(1_000):
        check_full(*call(*arguments), folder)
    if "*.onnx" not in lost:
        check_whole(folder)
    assert call(*arguments)[0] == 0
    check_whole(folder)


def test_a_real_disk_that_is_full(tmp_path):
    """A file system of 500 kB, where this user may mount one: what it lacks is asked of all files together."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "none", str(disk)]
    if not ROOT or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("test_a_real_disk_that_is_full: this user may not mount a file system")
    arguments = ["compress", *QUICK, "--quiet", "--json", "--out", disk / "run"]
    try:
        check_full(*call(*arguments), disk / "run")
        check_whole(disk)
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        assert call(*arguments)[0] == 0
        check_whole(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_processes_in_one_folder(at):
    folder = at.copy(stages=True)
    before = files(folder)
    with locked(folder):
        code, out, err = call(*at.compress("--json", out=folder))
    assert code == json.loads(out)["error"]["exit_code"] == 8
    assert f"{folder}: another leanfit process is at work in this folder; wait for it" in err
    assert "Traceback" not in err
    assert files(folder) == before


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_nothing_half_written_and_goes_on(at, sent):
    folder = at.path / "run"
    many = ["compress", *QUICK, "--set", "train.epochs=20", "--json", "--out", str(folder)]
    with subprocess.Popen([*SHELL, *many], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert any("epoch" in line for line in process.stderr)
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == json.loads(out)["error"]["exit_code"] == 130
    assert err.rstrip().endswith("run the same command again to go on where it stopped")
    assert "Traceback" not in err
    check_whole(folder)
    if sent == signal.SIGINT:
        assert call(*many)[0] == 0
        check_whole(folder)


def test_the_remains_of_a_killed_process_are_cleared_away(at):
    folder = at.copy(stages=True)
    for place in (folder, folder / "baseline"):
        (place / ".model.onnx.4711.part").write_bytes(b"half")
    assert call(*at.compress(out=folder))[0] == 0
    check_whole(folder)


@pytest.mark.parametrize(
    "damaged", ["baseline-*/weights.safetensors", "0-quantize-*/result.json", "evaluate-*/outputs.npz"]
)
def test_a_damaged_stage_is_done_again(at, damaged):
    folder = at.copy(stages=True)
    (file,) = folder.glob(f"stages/{damaged}")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    code, _, err = call(*at.compress(out=folder))
    assert (code, err) == (0, "")
    assert len(file.read_bytes()) > len(whole) // 2
    check_whole(folder)


def test_a_journal_with_damaged_lines_is_read_with_warnings(at):
    folder = at.copy(stages=True)
    whole = (folder / "records.jsonl").read_bytes()
    (folder / "records.jsonl").write_bytes(b"\xff garbage\n" + whole + whole.splitlines()[-1][:500])
    page = at.path / "page.html"
    code, _, err = call("report", folder, "--out", page)
    assert code == 0
    assert page.is_file()
    last = whole.count(b"\n") + 2
    assert "records.jsonl:1: this record is not a JSON object; it was skipped" in err
    assert f"records.jsonl:{last}: this record was cut off while it was written; it was skipped" in err
    assert call(*at.compress(out=folder))[0] == 0
    check_whole(folder)


def test_a_model_of_a_fixed_batch_is_measured_with_its_own(at):
    fixed, other = at.file("fixed.onnx", linear_onnx(batch=2)), at.file("other.onnx", linear_onnx(features=5))
    code, out, _ = call("bench", fixed, "--batch", 64, *BRIEF)
    assert (code, "fixed batch of 2" in " ".join(out.split())) == (0, True)
    code, out, _ = call("bench", fixed, other, *BRIEF)
    assert (code, "compares different work" in " ".join(out.split())) == (0, True)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Fixed(nn.Linear):
    def forward(self, x):
        return super().forward(x.reshape(2, 4))


def numbers(n=40, features=4):
    return np.random.default_rng(0).normal(size=(n, features)).astype(np.float32), np.arange(n) % 3


def with_nan(module: nn.Module) -> nn.Module:
    nn.init.constant_(next(module.parameters()), float("nan"))
    return module


@pytest.mark.parametrize(
    ("model", "train", "said", "code"),
    [
        (nn.Linear(4, 3), numbers(0), "no samples", 5),
        (nn.Linear(4, 3), (numbers()[0] * np.inf, numbers()[1]), "NaN or infinite", 5),
        (nn.Linear(4, 3), (numbers()[0], numbers()[1][:-1]), "targets have 39", 5),
        (nn.Linear(5, 3), numbers(), "cannot run on the task's inputs", 4),
        (nn.Linear(4, 2), numbers(), "3 classes: expected (batch, 3)", 4),
        (with_nan(nn.Linear(4, 3)), numbers(), "NaN or infinite: weight", 4),
        (Pair(), numbers(), "has several outputs", 4),
        (Fixed(4, 3), numbers(), "Fixed", 4),
    ],
)
def test_a_broken_model_or_task_in_python(tmp_path, model, train, said, code):
    recipe = {"version": 1, "name": "mine", "passes": [{"kind": "quantize"}], "benchmark": {"seconds": 0.3}}
    with pytest.raises((LeanfitError, LeanfitError)) as caught:
        compress(model, recipe, task=Task.from_tensors(train, test=numbers()), out=tmp_path / "run")
    assert said in str(caught.value)
    assert caught.value.exit_code == code
    check_whole(tmp_path)


def test_a_full_disk_in_python_is_an_error_of_leanfits_own(tmp_path):
    recipe = {"version": 1, "name": "mine", "passes": [{"kind": "quantize"}]}
    with no_file_above(100), pytest.raises(LeanfitError, match="ree some space") as caught:
        compress(nn.Linear(4, 3), recipe, task=Task.from_tensors(numbers(), test=numbers()), out=tmp_path / "run")
    assert caught.value.exit_code == 8
    check_whole(tmp_path)
