"""What GPUs are here and how they are set, as nvidia-smi and, on a Jetson, the kernel tell it.

Nothing is remembered between calls: clocks, temperature and use change, and a call costs some 10 to 100 ms. GPUs of
other makers are not looked for.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from evaluate.hardware.sysfs import ROOT, integer, text

TIMEOUT = 5.0
# Our name -> nvidia-smi's (`nvidia-smi --help-query-gpu`). An older or newer driver that does not know one of them
# refuses the whole question and names it: it is then asked again without.
_TEXTS = {"name": "name", "driver": "driver_version", "memory": "memory.total", "compute_mode": "compute_mode"}
_SWITCHES = {"persistence": "persistence_mode", "mig": "mig.mode.current"}
_NUMBERS = {
    "memory_used_mb": "memory.used",
    "sm_mhz": "clocks.sm",
    "sm_max_mhz": "clocks.max.sm",
    "memory_mhz": "clocks.mem",
    "memory_max_mhz": "clocks.max.mem",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
    "used_percent": "utilization.gpu",
}
_FIELDS = {**_TEXTS, **_SWITCHES, **_NUMBERS}


class Answer(NamedTuple):
    """What nvidia-smi printed, or why it did not."""

    text: str | None
    why: str | None


def ask(*arguments: str) -> Answer:
    """Run nvidia-smi with these arguments, for at most `TIMEOUT` seconds."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return Answer(None, "there is no nvidia-smi on the PATH: no NVIDIA driver is installed here")
    try:
        done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return Answer(None, f"nvidia-smi gave no answer in {TIMEOUT:g} seconds: the driver hangs; try `nvidia-smi`")
    except (OSError, UnicodeDecodeError) as error:
        return Answer(None, f"nvidia-smi could not be run: {error}")
    if done.returncode:
        said = " ".join(f"{done.stdout} {done.stderr}".split())[:300]
        return Answer(None, f"nvidia-smi failed ({done.returncode}): {said or 'it says nothing'}")
    return Answer(done.stdout, None)


def gpus(root: Path = ROOT) -> tuple[list[dict[str, Any]], str | None]:
    """The GPUs of this machine, in nvidia-smi's order, and why there may be more than can be told (else None).

    Each: name, driver, memory (text with its unit), compute_mode; persistence and mig (bool); memory_used_mb, sm_mhz,
    sm_max_mhz, memory_mhz, memory_max_mhz, power_limit_w, temperature_c, used_percent (float). None where the driver
    does not tell. A Jetson's own GPU, which nvidia-smi may not know, comes from the kernel, with `integrated` true.
    """
    fields = dict(_FIELDS)
    while True:
        answer = ask(f"--query-gpu={','.join(fields.values())}", "--format=csv,noheader,nounits")
        unknown = _unknown_field(answer.why, fields)
        if unknown is None:
            break
        del fields[unknown]
    own = _jetson(root)
    if answer.text is None:
        return own, answer.why if shutil.which("nvidia-smi") and not own else None
    found = [_gpu(fields, line.split(", ")) for line in answer.text.splitlines() if line.count(", ") == len(fields) - 1]
    # JetPack 6 has an nvidia-smi that knows the Jetson's own GPU by name only.
    return [gpu for gpu in found if not (own and "nvgpu" in str(gpu["name"]))] + own, None


def load_nvml() -> tuple[Any, str | None]:
    """The module pynvml, ready to be asked, or None and why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the old package pynvml tells on import that it is now nvidia-ml-py
            nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None, "the module pynvml is not installed; run: pip install nvidia-ml-py"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, f"NVIDIA's driver cannot be asked: {error}"
    return nvml, None


def number(word: str) -> float | None:
    """A cell of nvidia-smi as a number; None for "[N/A]" and its like."""
    try:
        return float(word.split()[0])
    except (ValueError, IndexError):
        return None


def _unknown_field(why: str | None, fields: dict[str, str]) -> str | None:
    """Our name of the field that this driver does not know."""
    named = re.search(r'Field "([\w.]+)" is not a valid', why or "")
    return next((ours for ours, theirs in fields.items() if named and theirs == named.group(1)), None)


def _gpu(fields: dict[str, str], cells: list[str]) -> dict[str, Any]:
    row = {name: cell.strip() for name, cell in zip(fields, cells)}
    known = {name: None if cell.startswith("[") or cell in ("", "N/A") else cell for name, cell in row.items()}
    found: dict[str, Any] = {name: known.get(name) for name in _TEXTS}
    if found["memory"] is not None:
        found["memory"] = f"{found['memory']} MiB"
    found.update({name: {"Enabled": True, "Disabled": False}.get(known.get(name) or "") for name in _SWITCHES})
    found.update({name: number(known.get(name) or "") for name in _NUMBERS})
    return found


def _jetson(root: Path) -> list[dict[str, Any]]:
    """The GPU inside a Jetson's processor; [] elsewhere. Its clocks are those of the devfreq driver."""
    release = text(root / "etc/nv_tegra_release")
    if release is None:
        return []
    version = re.search(r"R(\d+) .*?REVISION: ([\d.]+)", release)
    clocks = [f for f in sorted((root / "sys/class/devfreq").glob("*")) if re.search(r"gpu|g[vmp]\d+b|ga\d+b", f.name)]
    found: dict[str, Any] = dict.fromkeys(_FIELDS)
    found.update(
        name=text(root / "proc/device-tree/model") or "NVIDIA Jetson",
        driver=f"L4T {version.group(1)}.{version.group(2)}" if version else None,
        memory="shared with the processor",
        sm_mhz=_mhz(clocks, "cur_freq"),
        sm_max_mhz=_mhz(clocks, "max_freq"),
        power_mode=text(root / "var/lib/nvpmodel/status"),
        integrated=True,
    )
    return [found]


def _mhz(folders: list[Path], name: str) -> float | None:
    hertz = integer(folders[0] / name) if folders else None
    return None if hertz is None else hertz / 1e6
