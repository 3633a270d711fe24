"""Energy counters, laid out as folders and as a pynvml of our own."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from fake_machine import lay_out

from evaluate.hardware import energy
from evaluate.hardware.energy import open_meter

RANGE = 262_143_328_850


@pytest.fixture(autouse=True)
def linux(monkeypatch):
    monkeypatch.setattr(energy.platform, "system", lambda: "Linux")
    monkeypatch.setattr(energy.platform, "machine", lambda: "x86_64")


def zone(root, number, microjoules, name="package-0", top=RANGE):
    files = {"name": name, "energy_uj": microjoules, "max_energy_range_uj": top}
    place = f"sys/class/powercap/intel-rapl:{number}"
    return lay_out(root, {f"{place}/{file}": f"{value}\n" for file, value in files.items() if value is not None})


def test_joules_are_counted_from_the_opening_on(tmp_path):
    meter = open_meter(root=zone(tmp_path, 0, 5_000_000))
    assert meter.read() == 0.0
    zone(tmp_path, 0, 7_500_000)
    assert meter.read() == 2.5 and meter.why is None


def test_the_source_says_what_is_counted_with_it(tmp_path):
    source = open_meter(root=zone(tmp_path, 0, 1)).source
    assert all(words in source for words in ("RAPL", "package-0", "idle power", "other processes"))


def test_whole_packages_are_summed_and_nothing_is_counted_twice(tmp_path):
    """Parts of a package are in it, and psys holds the package once more."""
    names = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
    for number, name in names.items():
        zone(tmp_path, number, 0, name)
    meter = open_meter(root=tmp_path)
    for number, name in names.items():
        zone(tmp_path, number, 1_000_000, name)
    assert meter.read() == 2.0
    assert "package-0, package-1:" in meter.source


@pytest.mark.parametrize("start", [0, 1, RANGE // 2, RANGE - 1])
def test_a_counter_that_starts_again_from_zero_never_falls(tmp_path, start):
    """Whatever the first value, joules are those that were spent, over several wraps."""
    meter = open_meter(root=zone(tmp_path, 0, start))
    spent = 0
    for step in (3_000_000, RANGE - 1, 10, RANGE // 2, RANGE // 2, RANGE - 7):
        spent += step
        zone(tmp_path, 0, (start + spent) % RANGE)
        assert meter.read() == pytest.approx(spent / 1e6, rel=1e-12)


def test_packages_wrap_each_for_itself(tmp_path):
    zone(tmp_path, 0, 900, top=1000)
    zone(tmp_path, 1, 100, "package-1", top=1000)
    meter = open_meter(root=tmp_path)
    zone(tmp_path, 0, 50, top=1000)
    zone(tmp_path, 1, 300, "package-1", top=1000)
    assert meter.read() == pytest.approx((150 + 200) / 1e6)


def test_a_wrap_of_unknown_range_ends_the_counting(tmp_path):
    meter = open_meter(root=zone(tmp_path, 0, 900, top=None))
    zone(tmp_path, 0, 950, top=None)
    assert meter.read() == pytest.approx(50e-6)
    zone(tmp_path, 0, 10, top=None)
    assert meter.read() is None and "range" in meter.why


def test_a_counter_only_root_may_read_gives_the_next_step(tmp_path, monkeypatch):
    zone(tmp_path, 0, 5)
    whole = Path.read_bytes

    def denied(path):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    meter = open_meter(root=tmp_path)
    assert meter.read() is None and meter.source is None
    assert all(words in meter.why for words in ("root", "sudo chmod a+r", "udev", "CVE-2020-8694"))


def test_a_counter_that_vanishes_says_so_once_and_stays_silent(tmp_path):
    meter = open_meter(root=zone(tmp_path, 0, 5))
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert meter.read() is None and "no longer" in meter.why and meter.source is None
    zone(tmp_path, 0, 5)
    assert meter.read() is None


@pytest.mark.parametrize(
    ("machine", "files", "words"),
    [
        ("x86_64", {}, ("virtual machines", "containers", "modprobe")),
        ("x86_64", {"sys/class/powercap/intel-rapl:0/name": "psys"}, ("virtual machines",)),
        ("aarch64", {}, ("ARM", "power supply")),
        ("aarch64", {"etc/nv_tegra_release": "# R36"}, ("Jetson", "not guessed")),
    ],
)
def test_a_machine_without_a_counter_says_why(tmp_path, monkeypatch, machine, files, words):
    monkeypatch.setattr(energy.platform, "machine", lambda: machine)
    meter = open_meter(root=lay_out(tmp_path, files))
    assert (meter.read(), meter.source) == (None, None)
    assert all(word in meter.why for word in words)


def test_another_system_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(energy.platform, "system", lambda: "Darwin")
    assert "Darwin" in open_meter(root=tmp_path).why


class Nvml(types.ModuleType):
    """A pynvml whose GPUs have counted as many millijoules as their number in thousands, and `spent` more."""

    class NVMLError(Exception):
        pass

    spent = 0
    broken = ""
    names = ()

    def nvmlDeviceGetCount(self):
        return 8

    def nvmlInit(self):
        self._check()

    def _check(self):
        if self.broken:
            raise self.NVMLError(self.broken)

    def nvmlDeviceGetHandleByIndex(self, index):
        self.asked = index
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked = {"GPU-abc": 7}[uuid]
        return self.asked

    def nvmlDeviceGetName(self, handle):
        return self.names[handle % len(self.names)] if self.names else b"Example GPU"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self._check()
        return 1000 * handle + self.spent


@pytest.fixture
def nvml(monkeypatch):
    module = Nvml("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return module


def test_a_gpus_joules_are_its_boards(nvml):
    meter = open_meter("cuda")
    before = meter.read()
    nvml.spent = 2500
    assert meter.read() - before == 2.5
    assert "NVML Example GPU:" in meter.source and "idle power" in meter.source


@pytest.mark.parametrize(("visible", "gpu"), [("2,0", 2), ("GPU-abc", 7), ("0", 0)])
def test_the_gpu_counted_is_the_one_cuda_sees_first(nvml, monkeypatch, visible, gpu):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert open_meter("tensorrt").source and nvml.asked == gpu


def test_among_several_kinds_of_gpu_the_order_has_to_be_cudas(nvml, monkeypatch):
    nvml.names = (b"Example GPU 0", b"Another GPU")
    meter = open_meter("cuda")
    assert meter.read() is None and "CUDA_DEVICE_ORDER=PCI_BUS_ID" in meter.why
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert "Example GPU 0:" in open_meter("cuda").source


def test_a_gpu_without_a_counter_says_why(nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    assert "MIG-1" in open_meter("cuda").why
    nvml.broken = "Driver Not Loaded"
    assert "Driver Not Loaded" in open_meter("cuda").why


def test_a_gpu_that_is_lost_stops_the_counting(nvml):
    meter = open_meter("cuda")
    nvml.broken = "GPU is lost"
    assert meter.read() is None and "GPU is lost" in meter.why


def test_without_pynvml_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = open_meter("cuda")
    assert meter.read() is None and "pip install nvidia-ml-py" in meter.why
