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

from compress.core.files import data_folder

REQUIRED = ("torch", "torch-pruning", "onnx", "onnxscript", "numpy", "scipy", "pydantic", "PyYAML", "safetensors")
LEAST_FREE_GB = 1.0
INT8 = {
    "vnni": "int8 is fast and exact",
    "neon-dot": "int8 is fast and exact",
    "other": "no known int8 kernels: measure before you ship int8",
}
SEVEN_BITS = "int8 weights keep 7 bits, so that sums do not saturate"
Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `fail` keeps leanfit from working, `warn` makes its figures doubtful."""

    name: str
    status: Status
    detail: str


def examine() -> list[Finding]:
    """Everything that was looked at, in the order of a report. Never raises for what is missing."""
    return [_guarded(look) for look in (_python, _packages, _torch, _onnxruntime, _evaluate, _cpu, _load, _data, _disk)]


def _guarded(look: Callable[[], tuple[Status, str]]) -> Finding:
    name = look.__name__.strip("_")
    try:
        return Finding(name, *look())
    except Exception as error:  # noqa: BLE001  (whatever is broken here is the finding)
        return Finding(name, "fail", f"{type(error).__name__}: {error}")


def _python() -> tuple[Status, str]:
    return "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages() -> tuple[Status, str]:
    found = {name: _version(name) for name in REQUIRED}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        return "fail", f"not installed: {', '.join(missing)}; pip install leanfit brings them"
    return "ok", ", ".join(f"{name} {version}" for name, version in found.items())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> tuple[Status, str]:
    torch: Any = importlib.import_module("torch")
    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device: training runs on the CPU"
    return "ok", f"{torch.__version__}, {torch.get_num_threads()} threads; {where}"


def _onnxruntime() -> tuple[Status, str]:
    from evaluate.hardware.environment import onnxruntime_conflict
    from evaluate.runtime.providers import load_runtime

    conflict = onnxruntime_conflict()
    if conflict is not None:
        return "fail", conflict
    runtime = load_runtime()
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers())
    return "ok", f"{runtime.__version__}, providers {providers}"


def _evaluate() -> tuple[Status, str]:
    version = _version("evaluate")
    if version is None:
        return "ok", "the package `evaluate` is leanfit's own"
    return "warn", f"Hugging Face's evaluate {version} is installed too and shares its name with ours"


def _cpu() -> tuple[Status, str]:
    from evaluate.hardware.environment import channel_block, cpu_model, int8_path, usable_cores

    path = int8_path()
    detail = f"{cpu_model() or 'unknown'}, {usable_cores()} cores; int8 path {path}: {INT8.get(path, SEVEN_BITS)}"
    return "ok", f"{detail}; channel block {channel_block()}"


def _load() -> tuple[Status, str]:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 0.7 * cores:
        return "warn", f"{load:.1f} on {cores} cores: latency figures will be wide; quieten the machine"
    return "ok", f"{load:.1f} on {cores} cores"


def _data() -> tuple[Status, str]:
    folder = data_folder()
    if not folder.is_dir():
        return "warn", f"{folder} is not there yet; LEANFIT_DATA names it. The digits task needs none"
    entries = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    return "ok", f"{folder}: {', '.join(entries[:8]) or 'empty'}{' ...' if len(entries) > 8 else ''}"


def _disk() -> tuple[Status, str]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if not os.access(Path.cwd(), os.W_OK):
        return "warn", f"{Path.cwd()} cannot be written: give --out"
    return "ok" if free >= LEAST_FREE_GB else "warn", f"{free:.1f} GB free in {Path.cwd()}"
