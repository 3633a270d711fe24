"""The machine's description, on this machine and on others laid out as folders."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys

import pytest
from fake_machine import lay_out as machine

from evaluate.hardware import environment as env

X86 = (
    "processor\t: 0\nmodel name\t: Example CPU @ 2.50GHz\nflags\t: sse2 avx avx2 fma hypervisor\n\nmodel name: other\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp aes\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


@pytest.fixture(autouse=True)
def forget():
    """What is remembered of one machine must not describe the next."""
    env.isa.cache_clear()
    yield
    env.isa.cache_clear()


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


CPU = "sys/devices/system/cpu"
SETTINGS = {
    "proc/cpuinfo": X86 + "cpu MHz\t: 1234.5\n",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "3400000\n",
    f"{CPU}/cpu0/cpufreq/scaling_min_freq": "800000\n",
    f"{CPU}/cpu0/cpufreq/scaling_max_freq": "3600000\n",
    f"{CPU}/cpu0/cpufreq/scaling_driver": "intel_pstate\n",
    f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "900000\n",
    f"{CPU}/cpu1/cpufreq/scaling_min_freq": "600000\n",
    f"{CPU}/cpu1/cpufreq/scaling_max_freq": "3000000\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    f"{CPU}/smt/active": "1\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/class/dmi/id/sys_vendor": "QEMU\n",
    "proc/loadavg": "0.51 0.40 0.30 2/90 4711\n",
    ".dockerenv": "",
}


def test_the_settings_of_a_machine_are_read(tmp_path):
    found = env.environment(machine(tmp_path, SETTINGS))
    cpu = found["cpu"]
    assert cpu["frequency_mhz"] == {"now": 3400.0, "min": 600.0, "max": 3600.0}
    assert (cpu["clock_driver"], cpu["boost"], cpu["smt"]) == ("intel_pstate", True, True)
    assert (found["transparent_hugepages"], found["container"], found["hypervisor"]) == ("madvise", "docker", "QEMU")
    assert found["load"] == [0.51, 0.4, 0.3]


def test_without_cpufreq_the_clock_is_that_of_cpuinfo(tmp_path):
    two = "processor\t: 0\ncpu MHz\t\t: 2596.124\n\nprocessor\t: 1\ncpu MHz\t\t: 2601.5\n"
    cpu = env.environment(machine(tmp_path, {"proc/cpuinfo": two}))["cpu"]
    assert cpu["frequency_mhz"] == {"now": 2601.5, "min": None, "max": None}
    assert (cpu["boost"], cpu["smt"], cpu["temperature_c"]) == (None, None, None)


@pytest.mark.parametrize(
    ("files", "boost"),
    [
        ({f"{CPU}/intel_pstate/no_turbo": "1\n"}, False),
        ({f"{CPU}/cpufreq/boost": "1\n"}, True),
        ({f"{CPU}/cpufreq/boost": "0\n"}, False),
        ({f"{CPU}/cpufreq/boost": "?\n"}, None),
    ],
)
def test_turbo_is_read_where_the_driver_shows_it(tmp_path, files, boost):
    assert env.environment(machine(tmp_path, files))["cpu"]["boost"] is boost


HWMON, ZONE = "sys/class/hwmon/hwmon", "sys/class/thermal/thermal_zone"
INTEL = {f"{HWMON}1/name": "coretemp\n", f"{HWMON}1/temp1_label": "Package id 0\n", f"{HWMON}1/temp1_input": "61000\n"}
JETSON = {f"{ZONE}3/type": "CPU-therm", f"{ZONE}3/temp": "44000"}
CORES = {f"{HWMON}1/temp2_label": "Core 0\n", f"{HWMON}1/temp2_input": "65000\n"}


@pytest.mark.parametrize(
    ("files", "degrees"),
    [
        ({**INTEL, **CORES}, 61.0),
        ({**INTEL, f"{HWMON}2/name": "coretemp\n", f"{HWMON}2/temp1_input": "72500\n"}, 72.5),
        ({f"{HWMON}0/name": "nvme\n", f"{HWMON}0/temp1_input": "30000\n"}, None),
        ({f"{HWMON}0/name": "k10temp\n", f"{HWMON}0/temp1_label": "Tctl\n", f"{HWMON}0/temp1_input": "48125"}, 48.125),
        ({f"{ZONE}0/type": "cpu-thermal\n", f"{ZONE}0/temp": "51121\n"}, 51.121),  # Raspberry Pi
        ({f"{ZONE}0/type": "acpitz", f"{ZONE}0/temp": "27800", **JETSON}, 44.0),
        ({f"{ZONE}0/type": "gpu-thermal", f"{ZONE}0/temp": "40000"}, None),
        ({**JETSON, f"{ZONE}3/temp": "-256000"}, None),  # a sensor that is switched off
        ({f"{ZONE}0/type": "x86_pkg_temp", f"{ZONE}0/temp": "55000", **INTEL}, 61.0),
        ({**INTEL, f"{HWMON}1/temp1_input": "-256000", f"{ZONE}0/type": "soc", f"{ZONE}0/temp": "54000"}, 54.0),
        ({f"{ZONE}0/type": "cpu-thermal", f"{ZONE}1/type": "soc-thermal", f"{ZONE}1/temp": "47000"}, 47.0),
    ],
)  # fmt: skip
def test_the_temperature_is_that_of_the_processors_best_sensor(tmp_path, files, degrees):
    assert env.environment(machine(tmp_path, files))["cpu"]["temperature_c"] == degrees


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({}, None),
        ({"run/.containerenv": ""}, "podman"),
        ({".dockerenv": "", "proc/self/cgroup": "0::/kubepods/besteffort/pod1\n"}, "kubernetes"),
        ({"run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"proc/self/cgroup": "4:memory:/docker/0123\n"}, "docker"),
        ({"proc/self/cgroup": "0::/user.slice\n"}, None),
    ],
)
def test_a_container_is_named(tmp_path, files, kind):
    assert env.environment(machine(tmp_path, files))["container"] == kind


DMI = "sys/class/dmi/id"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({f"{DMI}/sys_vendor": "Dell Inc.\n", f"{DMI}/product_name": "PowerEdge R750\n"}, None),
        ({f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "c7g.xlarge\n"}, "Amazon EC2"),
        ({f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "c7g.metal\n"}, None),
        ({f"{DMI}/sys_vendor": "Microsoft Corporation", f"{DMI}/product_name": "Virtual Machine"}, "Virtual Machine"),
        ({f"{DMI}/sys_vendor": "Microsoft Corporation", f"{DMI}/product_name": "Surface Pro 9"}, None),
        ({"sys/hypervisor/type": "xen\n"}, "xen"),
        ({"proc/device-tree/hypervisor/compatible": "linux,kvm\x00"}, "linux,kvm"),
        ({"proc/cpuinfo": X86}, "a hypervisor"),
    ],
)
def test_a_virtual_machine_is_named(tmp_path, files, name):
    found = env.environment(machine(tmp_path, files))
    assert found["hypervisor"] == name
    missing = "a virtual machine shows none" if name else "this system shows none"
    if sys.platform == "linux":
        assert found["why"]["cpu.temperature_c"] == missing


@pytest.mark.parametrize(
    ("files", "quota", "memory"),
    [
        ({"proc/self/cgroup": "0::/a/b\n"}, None, None),
        (
            {"proc/self/cgroup": "1:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"},
            None,
            None,
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "25000 50000\n",
                "sys/fs/cgroup/memory.max": f"{2**30}\n",
                "sys/fs/cgroup/a/memory.max": f"{512 * 2**20}\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
            0.5,
            512,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/box\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * 2**30}\n",
            },
            None,
            3072,
        ),
    ],
)
def test_limits_of_cores_and_memory_are_those_of_the_tightest_group(tmp_path, files, quota, memory):
    found = env.environment(machine(tmp_path, files))
    assert (found["cpu"]["quota_cores"], found["memory_limit_mb"]) == (quota, memory)


def test_a_runtime_without_build_information_is_described_without(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_build_info", lambda: "Built for a test")
    assert env.environment()["onnxruntime_build"] == "Built for a test"
    monkeypatch.delattr(onnxruntime, "get_build_info")
    assert env.environment()["onnxruntime_build"] is None


def test_an_old_numpy_that_only_prints_its_instruction_sets_is_no_fault(tmp_path, monkeypatch):
    def show_config():
        """As before numpy 1.26."""

    monkeypatch.setattr(env.np, "show_config", show_config)
    assert env.isa(tmp_path) == frozenset()


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


def test_dot_products_are_seen_without_proc_as_well(tmp_path, monkeypatch):
    found = {"SIMD Extensions": {"baseline": ["SSE2"], "found": ["AVX2", "AVX512_SKX", "AVX512_CLX"]}}
    monkeypatch.setattr(env.np, "show_config", lambda mode: found)
    assert env.int8_path(env.isa(tmp_path)) == "vnni"


def test_a_system_without_a_name_is_described(tmp_path, monkeypatch):
    monkeypatch.setattr(env.platform, "system", lambda: "")
    monkeypatch.setattr(env.platform, "release", lambda: "")
    assert "cpu" in env.environment(tmp_path)["why"]
