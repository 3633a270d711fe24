"""What a bundle needs on a device, what of it is missing there, and the line that brings it.

Only Python's own library is imported before the check: this is what runs where nothing is installed yet.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
import shlex
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.core.errors import MachineError, NoRuntimeError
from evaluate.core.execution_providers import provider_named

NUMPY = "1.21"
RUNTIME = "1.16"
# The first onnxruntime that reads this IR version and this opset, found by trying each release.
READS = (("1.16", 9, 19), ("1.17", 9, 20), ("1.18", 10, 21), ("1.21", 10, 22), ("1.23", 11, 23), ("1.24", 13, 25))
NEWER = "1.25"
# The last release that pip has for an old Python.
LAST = {(3, 9): "1.19", (3, 10): "1.23"}
# onnxruntime built for numpy 1 cannot be imported beside numpy 2.
NUMPY_2_RUNTIME = "1.19"
SOURCE = "or build onnxruntime from source (https://onnxruntime.ai/docs/build/inferencing.html)"

Import = Callable[[str], Any]


@dataclass(frozen=True)
class Host:
    """The Python a bundle runs on, as far as it decides what can be installed.

    libc    : "glibc" or "" on Linux. bits : 32 or 64. managed : the system forbids pip outside a virtual environment.
    """

    executable: str
    python: tuple[int, int]
    system: str
    machine: str
    bits: int
    libc: str
    managed: bool
    has_pip: bool


def here() -> Host:
    """This Python."""
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    return Host(
        executable=sys.executable or "python3",
        python=(sys.version_info[0], sys.version_info[1]),
        system=platform.system(),
        machine=platform.machine(),
        bits=64 if sys.maxsize > 2**32 else 32,
        libc=platform.libc_ver()[0],
        managed=sys.prefix == sys.base_prefix and marker.is_file(),
        has_pip=importlib.util.find_spec("pip") is not None,
    )


def oldest_runtime(ir_version: int, opset: int) -> str:
    """The oldest release of onnxruntime ("1.18") that reads this IR version and this opset of ONNX's own operators."""
    fits = (release for release, ir, ops in READS if ir_version <= ir and opset <= ops)
    return next(fits, NEWER)


def check_needs(
    needs: Mapping[str, str], provider: str = "cpu", *, host: Host | None = None, load: Import = importlib.import_module
) -> dict[str, str]:
    """The versions found, {"numpy": ..., "onnxruntime": ...}, where everything is there.

    needs : at least which versions, {"onnxruntime": "1.18"}. load : imports a module by name.
    Raises NoRuntimeError or MachineError (exit code 8) that says what is missing and how to get it here.
    """
    place = host or here()
    wanted_provider = provider_named(provider)
    own = wanted_provider.opens is not None
    runtime = "onnxruntime" if own else wanted_provider.package
    least = {"numpy": NUMPY, "onnxruntime": max(needs.get("onnxruntime", RUNTIME), RUNTIME, key=_numbers)}
    line = _too_new(place, least["onnxruntime"]) or pip_line(
        place, [f"numpy>={NUMPY}", f"{runtime}>={least['onnxruntime']}"]
    )
    found: dict[str, str] = {}
    modules = {name: _imported(name, load, found, line) for name in least}
    for name, wanted in least.items():
        found[name] = _version(modules[name])
        if _numbers(found[name]) < _numbers(wanted):
            raise MachineError(f"{name} {found[name]} is too old: the bundle needs {wanted} or newer. {line}")
    if _numbers(found["numpy"]) >= (2,) and _numbers(found["onnxruntime"]) < _numbers(NUMPY_2_RUNTIME):
        raise MachineError(
            f"onnxruntime {found['onnxruntime']} was built for numpy 1 and crashes beside numpy {found['numpy']}. "
            + pip_line(place, ["numpy<2"])
        )
    if own:
        if importlib.util.find_spec(wanted_provider.module) is None:
            package = wanted_provider.package
            raise NoRuntimeError(
                f"provider {provider!r} needs {package}, which is not here. {pip_line(place, [package])}"
            )
    else:
        _check_provider(modules["onnxruntime"], provider, place, least["onnxruntime"])
    return found


def pip_line(host: Host, packages: list[str]) -> str:
    """The sentence that says how to get packages on this host: a command, or why there is none."""
    missing = _no_wheel(host)
    if missing and any(package.startswith("onnxruntime") for package in packages):
        return missing
    wanted = " ".join(f'"{package}"' for package in packages)
    if host.managed:
        return (
            f"This system keeps pip out of its own Python, so make an environment: {_python(host)} -m venv "
            f"bench-env && bench-env/bin/python -m pip install {wanted}; then run the bundle with bench-env/bin/python"
        )
    without = "" if host.has_pip else " (pip itself is missing: python3 -m ensurepip, or the system's python3-pip)"
    return f"Run: {_python(host)} -m pip install {wanted}{without}"


def _python(host: Host) -> str:
    return f'"{host.executable}"' if host.system == "Windows" else shlex.quote(host.executable)


def _too_new(host: Host, wanted: str) -> str:
    """What to do where pip has no onnxruntime that new for this Python; empty where it has one."""
    last = LAST.get(host.python)
    if last is None or _numbers(wanted) <= _numbers(last):
        return ""
    python = ".".join(map(str, host.python))
    return f"The last onnxruntime for Python {python} is {last}, and the models need {wanted}: run with a newer Python"


def _no_wheel(host: Host) -> str:
    """Why pip has no onnxruntime for this host; empty where it has one."""
    where = f"{host.system} on {host.machine}"
    if host.bits == 32:
        return f"pip has no onnxruntime for a 32-bit Python ({where}): take a 64-bit system and Python, {SOURCE}"
    if host.system == "Linux" and host.libc != "glibc":
        return (
            f"pip has no onnxruntime for a Linux without glibc, such as Alpine ({where}): take a system with glibc "
            f"(Debian, Ubuntu, Fedora), the system's own package, {SOURCE}"
        )
    if host.machine.lower() not in ("x86_64", "amd64", "aarch64", "arm64"):
        return f"pip has no onnxruntime for {host.machine}: take the system's own package, {SOURCE}"
    return ""


def _imported(name: str, load: Import, found: Mapping[str, str], line: str) -> Any:
    try:
        module = load(name)
    except ModuleNotFoundError as error:
        what = f"{name} is not installed" if error.name == name else f"{name} lacks {error.name}"
        raise NoRuntimeError(f"{what} for Python {platform.python_version()}. {line}") from error
    except Exception as error:  # a broken installation can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NoRuntimeError(f"{name} is installed and cannot be imported ({reason}). {_broken(name, line)}") from error
    if name == "onnxruntime" and not hasattr(module, "InferenceSession"):
        raise NoRuntimeError(
            "onnxruntime is damaged: it has no InferenceSession, as when one of onnxruntime and onnxruntime-gpu was "
            f"removed from beside the other. Uninstall both. {line}"
        )
    return module


def _broken(name: str, line: str) -> str:
    if name != "onnxruntime":
        return line
    return f"An onnxruntime before {NUMPY_2_RUNTIME} needs numpy below 2. {line}"


def _check_provider(runtime: Any, provider: str, host: Host, least: str) -> None:
    available = runtime.get_available_providers()
    if provider_named(provider).native in available:
        return
    has = ", ".join(name[: -len("ExecutionProvider")] for name in available)
    jetson = host.system == "Linux" and host.machine == "aarch64"
    line = (
        "On a Jetson, install NVIDIA's onnxruntime-gpu for its JetPack"
        if jetson
        else f"Uninstall onnxruntime first, both cannot stand together. {pip_line(host, [f'onnxruntime-gpu>={least}'])}"
    )
    raise NoRuntimeError(f"provider {provider!r} was asked for, and this onnxruntime has only {has}. {line}")


def _version(module: Any) -> str:
    return str(getattr(module, "__version__", "0"))


def _numbers(version: str) -> tuple[int, ...]:
    """(1, 18) of "1.18.0rc1": what two releases are compared by."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
