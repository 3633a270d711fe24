"""What `leanfit doctor` looks at: the versions, the runtime, the CPU, the data folder and the disk."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compress.core.folders import data_folder

REQUIRED = ("torch", "torch-pruning", "onnx", "onnxscript", "numpy", "scipy", "pydantic", "PyYAML", "safetensors")
LEAST_FREE_GB = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `fail` keeps leanfit from working, `warn` makes its figures doubtful."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str


def examine() -> list[Finding]:
    """Everything that was looked at, in the order of a report. Never raises for what is missing."""
    looks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "packages": _packages,
        "torch": _torch,
        "onnxruntime": _runtime,
        "evaluate": _evaluate,
        "cpu": _cpu,
        "load": _load,
        "data": _data,
        "disk": _disk,
    }
    return [_guarded(name, look) for name, look in looks.items()]


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # noqa: BLE001  (whatever is broken here is the finding)
        return Finding(name, "fail", f"{type(error).__name__}: {error}")


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Finding:
    found, missing = [], []
    for name in REQUIRED:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", "fail", f"not installed: {', '.join(missing)}; pip install leanfit brings them")
    return Finding("packages", "ok", ", ".join(found))


def _torch() -> Finding:
    torch: Any = importlib.import_module("torch")
    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device: training runs on the CPU"
    return Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads; {where}")


def _runtime() -> Finding:
    from evaluate.hardware.environment import onnxruntime_conflict
    from evaluate.runtime.providers import load_runtime

    conflict = onnxruntime_conflict()
    if conflict is not None:
        return Finding("onnxruntime", "fail", conflict)
    runtime = load_runtime()
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers())
    return Finding("onnxruntime", "ok", f"{runtime.__version__}, providers {providers}")


def _evaluate() -> Finding:
    try:
        version = importlib.metadata.version("evaluate")
    except importlib.metadata.PackageNotFoundError:
        return Finding("evaluate", "ok", "the package `evaluate` is leanfit's own")
    return Finding(
        "evaluate", "warn", f"Hugging Face's evaluate {version} is installed too and shares its name with ours"
    )


def _cpu() -> Finding:
    from evaluate.hardware.environment import channel_block, cpu_model, int8_path, usable_cores

    words = {
        "vnni": "int8 is fast and exact",
        "neon-dot": "int8 is fast and exact",
        "other": "no known int8 kernels: measure before you ship int8",
    }
    said = words.get(int8_path(), "int8 weights keep 7 bits, so that sums do not saturate")
    detail = f"{cpu_model() or 'unknown'}, {usable_cores()} cores; int8 path {int8_path()}: {said}"
    return Finding("cpu", "ok", f"{detail}; channel block {channel_block()}")


def _load() -> Finding:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 0.7 * cores:
        return Finding(
            "load", "warn", f"{load:.1f} on {cores} cores: latency figures will be wide; quieten the machine"
        )
    return Finding("load", "ok", f"{load:.1f} on {cores} cores")


def _data() -> Finding:
    folder = data_folder()
    if not folder.is_dir():
        return Finding("data", "warn", f"{folder} is not there yet; LEANFIT_DATA names it. The digits task needs none")
    entries = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    return Finding("data", "ok", f"{folder}: {', '.join(entries[:8]) or 'empty'}{' ...' if len(entries) > 8 else ''}")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if not os.access(Path.cwd(), os.W_OK):
        return Finding("disk", "warn", f"{Path.cwd()} cannot be written: give --out")
    status: Literal["ok", "warn"] = "ok" if free >= LEAST_FREE_GB else "warn"
    return Finding("disk", status, f"{free:.1f} GB free in {Path.cwd()}")
