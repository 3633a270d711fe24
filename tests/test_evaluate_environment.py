"""The machine's description, on this machine and on others laid out as folders."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess

import pytest

from evaluate import environment as env

X86 = (
    "processor\t: 0\nmodel name\t: Example CPU @ 2.50GHz\nflags\t: sse2 avx avx2 fma hypervisor\n\nmodel name: other\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp aes\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


def machine(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(autouse=True)
def forget():
    """What is remembered of one machine must not describe the next."""
    env.isa.cache_clear()
    env._gpu.cache_clear()
    yield
    env.isa.cache_clear()
    env._gpu.cache_clear()


def test_this_machine_is_described_and_the_description_is_json():
    found = env.environment()
    assert json.loads(json.dumps(found)) == found
    assert 1 <= found["cpu"]["usable_cores"] <= found["cpu"]["cores"]
    assert found["versions"]["onnxruntime"] == importlib.metadata.version("onnxruntime")
    assert "CPUExecutionProvider" in found["providers"]
    assert found["int8_path"] == env.int8_path() and found["channel_block"] == env.channel_block()


def test_an_x86_machine_is_read(tmp_path):
    root = machine(tmp_path, {"proc/cpuinfo": X86, "proc/meminfo": "MemTotal:  2048000 kB\nMemFree: 1 kB\n"})
    governor = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    found = env.environment(machine(root, {governor: "powersave\n"}))
    assert found["cpu"]["name"] == "Example CPU @ 2.50GHz"
    assert found["cpu"]["isa"] == ["avx", "avx2", "fma"]
    assert found["cpu"]["governor"] == "powersave" and found["cpu"]["virtual"] is True
    assert (found["int8_path"], found["channel_block"], found["memory_mb"]) == ("avx2", 8, 2000)


def test_an_arm_machine_is_read(tmp_path):
    root = machine(tmp_path, {"proc/cpuinfo": ARM})
    found = env.environment(root)
    assert (found["int8_path"], found["channel_block"]) == ("neon-dot", 4)
    assert found["cpu"]["name"] == "ARM implementer 0x41 part 0xd0c"
    assert found["cpu"]["virtual"] is None and found["memory_mb"] is None
    assert env.cpu_model(machine(root, {"proc/device-tree/model": "Example Board 4\x00"})) == "Example Board 4"


def test_a_machine_without_proc_is_described_as_far_as_it_goes(tmp_path):
    found = env.environment(tmp_path)
    assert json.dumps(found)
    assert found["cpu"]["governor"] is None and found["memory_mb"] is None
    assert found["int8_path"] in ("vnni", "avx512", "avx2", "neon-dot", "neon", "other")


def test_without_proc_the_instruction_sets_are_numpys(tmp_path):
    """The two ways to know them agree on this machine."""
    assert env.channel_block(env.isa(tmp_path)) == env.channel_block()


@pytest.mark.parametrize(
    ("flags", "path", "block"),
    [
        ("avx2 fma", "avx2", 8),
        ("avx2 avx_vnni", "vnni", 8),
        ("avx2 avx512f avx512bw avx512vl", "avx512", 16),
        ("avx2 avx512f avx512bw avx512vl avx512_vnni", "vnni", 16),
        ("asimd", "neon", 4),
        ("asimd asimddp", "neon-dot", 4),
        ("sse2", "other", 8),
        ("", "other", 8),
    ],
)
def test_int8_path_and_channel_block_follow_from_the_flags(flags, path, block):
    have = frozenset(flags.split())
    assert (env.int8_path(have), env.channel_block(have)) == (path, block)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "1600000 100000\n"}, 8),
        (
            {
                "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/box\n0::/\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({"proc/self/cgroup": "nonsense\n", "sys/fs/cgroup/cpu.max": "\n"}, 8),
    ],
)
def test_usable_cores_follow_affinity_and_quota(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert env.usable_cores(machine(tmp_path, files)) == cores


def test_the_machines_id_is_that_of_its_kind(tmp_path):
    x86 = machine(tmp_path / "x86", {"proc/cpuinfo": X86})
    newer_kernel = machine(tmp_path / "newer", {"proc/cpuinfo": X86.replace("hypervisor", "hypervisor user_shstk")})
    arm = machine(tmp_path / "arm", {"proc/cpuinfo": ARM})
    assert env.machine_id(x86) == env.machine_id(newer_kernel) != env.machine_id(arm)
    assert len(env.machine_id(x86)) == 12


def test_a_gpu_is_read_from_nvidia_smi(monkeypatch):
    monkeypatch.setattr(env.shutil, "which", lambda name: f"/usr/bin/{name}")
    done = subprocess.CompletedProcess([], 0, stdout="Example GPU, 590.1, 143771 MiB\n", stderr="")
    monkeypatch.setattr(env.subprocess, "run", lambda *args, **options: done)
    assert env.environment()["gpu"] == [{"name": "Example GPU", "driver": "590.1", "memory": "143771 MiB"}]


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("nvidia-smi", 5), OSError("gone")])
def test_a_gpu_that_does_not_answer_is_no_gpu(monkeypatch, error):
    def fails(*args, **options):
        raise error

    monkeypatch.setattr(env.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(env.subprocess, "run", fails)
    assert env.environment()["gpu"] == []


def install(monkeypatch, **versions):
    def version(name):
        if name.replace("-", "_") not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(env.importlib.metadata, "version", version)


def test_one_distribution_of_the_runtime_is_as_it_should_be(monkeypatch):
    install(monkeypatch, onnxruntime="1.32.0")
    assert env.onnxruntime_distributions() == {"onnxruntime": "1.32.0"}
    assert env.onnxruntime_conflict() is None


def test_two_distributions_of_the_runtime_are_a_conflict(monkeypatch):
    install(monkeypatch, onnxruntime="1.32.0", onnxruntime_gpu="1.31.0")
    said = env.onnxruntime_conflict()
    assert "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.0" in said
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in said and "leanfit[gpu]" in said


def test_no_distribution_of_the_runtime_says_what_to_install(monkeypatch):
    install(monkeypatch)
    assert "leanfit[cpu]" in env.onnxruntime_conflict()
