"""Memory of this process, of one that a large process started, and of a GPU."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
from fake_machine import lay_out, nvidia_smi

from evaluate.hardware import memory

STATUS = "Name:\tpython\nVmPeak:\t  999999 kB\nVmHWM:\t   51200 kB\nVmRSS:\t   25600 kB\nThreads:\t1\n"
REPO = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")


def test_the_figures_are_those_of_proc_in_units_of_two_to_the_twenty(tmp_path):
    root = lay_out(tmp_path, {"proc/self/status": STATUS})
    assert (memory.peak_rss_mb(root), memory.rss_mb(root), memory.rss_why(root)) == (50.0, 25.0, None)


@pytest.mark.parametrize("status", [None, "Name:\tpython\n", "VmHWM:\n", "VmHWM: many kB\n"])
def test_what_proc_does_not_show_is_none_with_a_reason(tmp_path, monkeypatch, status):
    monkeypatch.setattr(memory.platform, "system", lambda: "Linux")
    if status is not None:
        lay_out(tmp_path, {"proc/self/status": status})
    assert memory.peak_rss_mb(tmp_path) is None
    assert "VmHWM" in memory.rss_why(tmp_path)


def test_another_system_is_named_in_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.platform, "system", lambda: "Windows")
    assert memory.peak_rss_mb(tmp_path) is None and "Windows" in memory.rss_why(tmp_path)


def test_macos_counts_its_peak_in_bytes(tmp_path, monkeypatch):
    import resource

    monkeypatch.setattr(memory.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(resource, "getrusage", lambda who: types.SimpleNamespace(ru_maxrss=3 * 2**20))
    assert (memory.peak_rss_mb(tmp_path), memory.rss_mb(tmp_path), memory.rss_why(tmp_path)) == (3.0, None, None)


@linux
def test_the_peak_stays_when_memory_is_given_back():
    before = memory.peak_rss_mb()
    block = bytearray(b"x") * (64 * 2**20)
    held = memory.rss_mb()
    del block
    assert memory.peak_rss_mb() >= max(before, held - 1) > memory.rss_mb() + 48


@linux
def test_a_small_process_does_not_inherit_the_peak_of_the_large_one_that_started_it():
    """ru_maxrss would give the parent's: its peak is handed on through fork and exec."""
    ask = (
        "import resource; from evaluate.hardware.memory import peak_rss_mb as p; "
        "print(p(), resource.getrusage(0).ru_maxrss)"
    )
    start = (
        "import subprocess, sys; block = bytearray(b'x') * (200 * 2**20);"
        "print(subprocess.check_output([sys.executable, '-c', sys.argv[1]], text=True))"
    )
    said = subprocess.check_output([sys.executable, "-c", start, ask], text=True, cwd=REPO).split()
    ours, inherited = float(said[0]), int(said[1]) / 1024
    assert ours < 150 < 200 <= inherited


COMPUTE = {"pid": "4711", "used_gpu_memory": "512"}


@pytest.fixture
def without_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.mark.usefixtures("without_nvml")
def test_gpu_memory_of_a_process_is_summed_over_the_gpus(monkeypatch, tmp_path):
    rows = [COMPUTE, {**COMPUTE, "used_gpu_memory": "100"}, {"pid": "9", "used_gpu_memory": "7"}]
    nvidia_smi(monkeypatch, tmp_path, *rows)
    assert memory.gpu_memory_mb(4711) == (612.0, None)


@pytest.mark.usefixtures("without_nvml")
def test_gpu_memory_that_is_not_told_has_a_reason(monkeypatch, tmp_path):
    nvidia_smi(monkeypatch, tmp_path, COMPUTE, {**COMPUTE, "used_gpu_memory": "[N/A]"})
    value, why = memory.gpu_memory_mb(4711)
    assert value is None and "single processes" in why
    value, why = memory.gpu_memory_mb(1)
    assert value is None and "container" in why and "process 1 " in why
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nvidia-smi" in memory.gpu_memory_mb(4711).why


def nvml(processes, error=None):
    """A pynvml whose single GPU runs these (pid, bytes)."""
    module = types.ModuleType("pynvml")
    module.NVMLError = type("NVMLError", (Exception,), {})

    def running(handle):
        if error:
            raise module.NVMLError(error)
        return [types.SimpleNamespace(pid=p, usedGpuMemory=b) for p, b in processes]

    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: 1
    module.nvmlDeviceGetHandleByIndex = lambda i: i
    module.nvmlDeviceGetComputeRunningProcesses = running
    return module


def test_nvml_is_asked_first(monkeypatch, tmp_path):
    nvidia_smi(monkeypatch, tmp_path, COMPUTE)
    monkeypatch.setitem(sys.modules, "pynvml", nvml([(4711, 3 * 2**20), (9, None)]))
    assert memory.gpu_memory_mb(4711) == (3.0, None)
    assert "single processes" in memory.gpu_memory_mb(9).why
    monkeypatch.setitem(sys.modules, "pynvml", nvml([], error="gone"))
    assert memory.gpu_memory_mb(4711) == (512.0, None)
