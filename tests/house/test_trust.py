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


THING = """
open({imported!r}, "w").close()
print("hello from a stranger")
from torch import nn
from compress import register_model, register_task
from compress.tasks import get_task
@register_model("thing")
def thing():
    "A stranger's network."
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
@register_task("thing")
def task():
    "A stranger's task."
    return get_task("digits")
"""
RECIPE = """
version: 1
name: theirs
model: {name: "stranger:thing"}
task: {name: "stranger:thing"}
train: {epochs: 1, batch_size: 64}
passes:
  - {kind: quantize, calibrate: {samples: 32}}
benchmark: {seconds: 0.2}
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A stranger's folder: a run whose files name a module that lies beside it and says when it is imported."""
    folder = tmp_path_factory.mktemp("strangers")
    imported = folder.parent / f"{folder.name}-imported"
    (folder / "stranger.py").write_text(THING.format(imported=str(imported)))
    (folder / "theirs.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "compress", "compress", "theirs.yaml", "--out", "run", "--json"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    assert imported.exists()
    return folder, imported, made.stdout + "\0" + made.stderr


def test_a_recipe_says_what_it_imports_and_the_answer_stays_one_object(theirs):
    out, _, err = theirs[2].partition("\0")
    assert json.loads(out)["compressed"] and "leanfit: importing stranger, which" in err and "hello" in err


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("command", ["verify run", "pack run --out {}/b.pyz -q", "report run --out {}/page.html"])
def test_what_only_reads_imports_nothing_that_a_file_names(theirs, command, allow, tmp_path: Path):
    folder, imported, _ = theirs
    imported.unlink(missing_ok=True)
    arguments = [*command.format(tmp_path).split(), "--json", *(["--allow", "stranger"] if allow else [])]
    done = subprocess.run(
        [sys.executable, "-m", "compress", *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )
    answer = json.loads(done.stdout)
    reads_only = command.startswith("report")  # nothing in a Record needs the module
    assert imported.exists() == (allow and not reads_only), done.stderr
    assert "hello" not in done.stdout
    if allow or reads_only:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0 and "--allow stranger" in json.dumps(answer), done.stderr
