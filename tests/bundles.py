"""Tiny bundles, Pythons of other versions, and a Python that finds numpy and onnxruntime and nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
from tiny_onnx import linear_onnx

from evaluate.bundle.zipapp import build_bundle
from evaluate.hardware.environment import onnxruntime_distributions
from evaluate.metrics.samples import Samples, outputs_on
from evaluate.runtime.session import open_session

# Packages that `leanfit` itself needs and a device does not have.
ELSEWHERE = ("compress", "evaluate", "torch", "onnx", "pydantic", "scipy", "rich", "typer", "yaml", "matplotlib")
FACTS = {
    "leanfit": "0.1.0",
    "task": {"name": "tiny", "fingerprint": "f" * 64},
    "metric": "accuracy",
    "classes": [str(i) for i in range(10)],
    "needs": {"onnxruntime": "1.18"},
    "settings": {"threads": 1, "batch": 1},
    "source": {"machine_id": "0" * 12, "cpu": "a test", "int8_path": "avx2"},
}


def tiny_models(**more: bytes) -> dict[str, bytes]:
    return {"big": linear_onnx(depth=3), "small": linear_onnx(seed=1), **more}


def tiny_samples(models: dict[str, bytes], count: int = 30) -> Samples:
    """Random rows, with the first model's answers for targets, and what each model that runs makes of them."""
    rng = np.random.default_rng(0)
    bare = Samples({"x": rng.normal(size=(count, 12)).astype(np.float32)})
    expected = {name: outputs_on(open_session(data), bare) for name, data in models.items()}
    targets = next(iter(expected.values())).argmax(axis=1)
    return Samples(bare.inputs, targets, "accuracy", tuple(FACTS["classes"]), expected)


def tiny_bundle(path: Path, models: dict[str, bytes] | None = None, samples: Samples | None = None, **facts) -> Path:
    """A bundle of small models; without samples of its own where `samples` is not given and no facts name any."""
    models = tiny_models() if models is None else models
    samples = tiny_samples(models) if samples is None else samples
    described = {name: {"ir_version": 10, "opset": 20, "inputs": []} for name in models}
    told = {**FACTS, "baseline": next(iter(models)), "samples": len(samples), "models": described, **facts}
    path.write_bytes(build_bundle(models, samples.save(), told))
    return path


def clean_site(folder: Path) -> Path:
    """A folder to import from that holds numpy and onnxruntime by links, and nothing else."""
    folder.mkdir()
    for name in ("numpy", *onnxruntime_distributions()):
        distribution = importlib.metadata.distribution(name)
        tops = {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


def clean_python(site: Path, scratch: Path, *arguments: object) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a Python that sees its own library and `site`; its temporary files go to `scratch`."""
    scratch.mkdir(exist_ok=True)
    kept = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT", "LANG") if key in os.environ}
    environment = {**kept, "PYTHONPATH": str(site), "TMPDIR": str(scratch)}
    return [sys.executable, "-S", "-s", *map(str, arguments)], environment


@cache
def python_of(version: str) -> str | None:
    """The program of a Python of this version ("3.9"), found on PATH or by pyenv; None where there is none."""
    name = f"python{version}"
    found = _answer([name, "-c", "import sys; print(sys.executable)"])
    if found:
        return found
    for release in (_answer(["pyenv", "whence", name]) or "").split():
        program = Path(_answer(["pyenv", "prefix", release]) or "/") / "bin" / name
        if program.is_file():
            return str(program)
    return None


def _answer(command: list[str]) -> str | None:
    program = shutil.which(command[0])
    if program is None:
        return None
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
