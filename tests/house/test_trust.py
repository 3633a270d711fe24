"""What runs code and what never does, seen from outside: the command itself, in folders of strangers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_onnx import linear_onnx

NOT_THESE = ("evaluate", "compress", "json", "random", "numpy", "torch")
STUDY = {
    "version": 1,
    "name": "small",
    "task": {"name": "digits"},
    "model": {"name": "mlp", "inputs": 64, "depth": 1},
    "sizes": {"width": [4]},
    "train": {"epochs": 1, "batch_size": 64},
    "seeds": 1,
}


def leanfit(*arguments: str, folder: Path, program: Path, **environment: str) -> subprocess.CompletedProcess:
    """The console script, which lies in a folder of its own as after an installation."""
    program.mkdir(exist_ok=True)
    script = program / "leanfit"
    script.write_text("from compress.cli import main\nmain()\n")
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def astray(tmp_path: Path) -> Path:
    """A working directory whose modules are named as Python's and leanfit's own."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in NOT_THESE:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'w'); raise SystemExit('not this one')"
        )
    return folder


def test_a_study_is_not_led_astray_by_files_in_the_working_directory(astray: Path, tmp_path: Path):
    (astray / "s.yaml").write_text(json.dumps(STUDY))
    done = leanfit("study", "s.yaml", "--json", "-q", folder=astray, program=tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished"] == 1 and not (tmp_path / "imported").exists()


def test_a_benchmark_is_not_led_astray_by_files_in_the_working_directory(astray: Path, tmp_path: Path):
    (astray / "a.onnx").write_bytes(linear_onnx(depth=2))
    done = leanfit("bench", "a.onnx", "--json", "-q", "--seconds", "0.5", folder=astray, program=tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"] and not (tmp_path / "imported").exists()
