"""kill -9 in a real process: nothing that was finished is done again, and the files come out the same."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluate.core.journal import find_records

COMMAND = [sys.executable, "-m", "compress", "compress", "digits-mlp-int8", "--quiet"]
COMMAND += ["--set", "train.epochs=6", "--set", "benchmark.seconds=0.5", "--set", "passes.0.choose=fixed"]
FILES = ("model.onnx", "weights.safetensors", "baseline/model.onnx")


def finish(out: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run([*COMMAND, "--out", str(out)], capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 9), done.stderr
    return time.perf_counter() - began


def hashes(out: Path) -> list[str]:
    return [hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], float]:
    out = tmp_path_factory.mktemp("kill") / "run"
    seconds = finish(out)
    return hashes(out), seconds


@pytest.mark.parametrize("share", [round(random.Random(7).uniform(0.2 * n, 0.2 * (n + 1)), 2) for n in range(1, 4, 2)])
def test_a_killed_run_ends_like_one_left_in_peace(share: float, undisturbed: tuple[list[str], float], tmp_path: Path):
    wanted, seconds = undisturbed
    out = tmp_path / "run"
    process = subprocess.Popen([*COMMAND, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(share * seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finish(out)
    assert hashes(out) == wanted
    stages = [r["key"] for r in find_records(out) if r.get("kind") == "stage"]
    assert len(stages) == len(set(stages)) == 5
