"""The watch over a machine laid out as a folder whose files change between marks, and over this one."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from fake_machine import lay_out

from evaluate.hardware.monitor import Watch

CPU = "sys/devices/system/cpu/cpu0"


class Machine:
    """A machine of `cores` cores with a clock of its own; times are in seconds, files in ticks of 10 ms."""

    def __init__(self, root, cores=2, **files):
        self.root, self.cores, self.now = root, cores, 100.0
        self.user, self.interrupts, self.stolen, self.idle = 3000, 50, 40, 90000
        self.processes = {}
        self.process("self", ticks=500)
        self.write(**files)

    def process(self, name, ticks, parent=1, children=0, core=0, pid=None):
        self.processes[name] = (pid or (7 if name == "self" else int(name)), parent, ticks, children, core)

    def run(self, seconds, own=0.0, others=0.0, steal=0.0):
        """Let time pass: so many cores used by the measurement, by others, and taken by the host."""
        self.now += seconds
        ticks = [round(100 * seconds * cores) for cores in (own, others, steal)]
        pid, parent, used, children, core = self.processes["self"]
        self.processes["self"] = (pid, parent, used + ticks[0], children, core)
        self.user += ticks[0]
        self.interrupts += ticks[1]  # as a network that serves others does
        self.stolen += ticks[2]
        self.idle += round(100 * seconds * self.cores) - sum(ticks)
        self.write()

    def write(self, **files):
        each = "".join(f"cpu{i} 0 0 0 0 0 0 0 0 0 0\n" for i in range(self.cores))
        line = f"cpu  {self.user} 100 100 {self.idle} 60 50 {self.interrupts} {self.stolen} 999 999\n"
        lay_out(self.root, {"proc/stat": f"{line}{each}intr 1 2 3\n"})
        for name, (pid, parent, ticks, children, core) in self.processes.items():
            words = [
                f"{pid}",
                "(a (b) c)",
                "R",
                f"{parent}",
                *["0"] * 9,
                f"{ticks - children}",
                "0",
                f"{children}",
                "0",
            ]
            lay_out(self.root, {f"proc/{name}/stat": " ".join([*words, *["0"] * 21, f"{core}", "0", "0"])})
        lay_out(self.root, {name.replace("__", "/"): text for name, text in files.items()})

    def kill(self, name):
        del self.processes[name]
        (self.root / f"proc/{name}/stat").unlink()

    def watch(self, **options):
        return Watch(self.root, lambda: self.now, **options)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def summary(machine, *periods, **options):
    """The summary over these periods, each the arguments of `run`, with a mark after each."""
    watch = machine.watch(**options)
    watch.mark()
    for period in periods:
        machine.run(**period)
        watch.mark()
    return watch.summary()


def test_what_others_use_is_told_from_what_the_measurement_uses(machine):
    found = summary(machine, *[{"seconds": 1, "own": 1.0, "others": o} for o in (0.2, 0.9, 0.3)])
    assert found["others_cores"] == {"median": 0.3, "max": 0.9}
    assert (found["seconds"], found["marks"], found["cores"]) == (3.0, 4, 2)


@pytest.mark.parametrize("own", [0.0, 0.5, 2.0])
def test_our_own_work_is_nobody_elses(machine, own):
    assert summary(machine, {"seconds": 2, "own": own})["others_cores"] == {"median": 0.0, "max": 0.0}


def test_a_measurement_counted_finer_than_the_machine_makes_no_negative_strangers(machine):
    watch = machine.watch()
    watch.mark()
    machine.run(1.0, own=0.5)
    machine.process("self", ticks=560)  # ten ticks more than the machine has counted so far
    machine.write()
    watch.mark()
    assert watch.summary()["others_cores"] == {"median": 0.0, "max": 0.0}


def test_marks_close_together_are_joined_to_intervals_that_ticks_can_measure(machine):
    """A tick that falls into a 10 ms interval is not a core in use."""
    periods = [{"seconds": 0.01, "others": 1.0 if i % 10 == 0 else 0.0} for i in range(300)]
    found = summary(machine, *periods)
    assert found["others_cores"]["max"] == pytest.approx(0.1, abs=0.02)


def test_a_watch_too_short_for_ticks_says_nothing_of_others(machine):
    assert summary(machine, {"seconds": 0.05, "others": 2.0})["others_cores"] is None
    assert summary(machine, {"seconds": 0.2, "others": 2.0})["others_cores"] == {"median": 2.0, "max": 2.0}


def test_processes_named_to_the_watch_are_not_others(machine):
    machine.process("40", ticks=1000, parent=7)
    machine.write()
    watch = machine.watch(pids=[40])
    watch.mark()
    machine.process("40", ticks=1080, parent=7)
    machine.user += 80
    machine.run(1.0, own=0.1, others=0.5)
    watch.mark()
    assert watch.summary()["others_cores"]["max"] == 0.5


@pytest.mark.parametrize(("parent", "handed_on"), [(7, 1100), (1, 0)])
def test_a_watched_process_that_ends_stays_counted_and_is_counted_once(machine, parent, handed_on):
    """A child's time comes to us when we have waited for it; that of a stranger's child does not."""
    machine.process("40", ticks=1000, parent=parent)
    machine.write()
    watch = machine.watch(pids=[40])
    watch.mark()
    machine.process("40", ticks=1100, parent=parent)
    machine.user += 100
    machine.run(1.0)
    watch.mark()
    machine.kill("40")
    machine.process("self", ticks=500 + handed_on, children=handed_on)
    machine.run(1.0, others=0.25)
    watch.mark()
    assert watch.summary()["others_cores"] == {"median": 0.12, "max": 0.25}


def test_steal_is_the_hosts_share_of_all_time(machine):
    assert summary(machine, {"seconds": 10, "own": 1.0, "steal": 0.1})["steal_share"] == pytest.approx(0.05)
    assert summary(machine, {"seconds": 10, "own": 1.0})["steal_share"] == 0.0


def test_clock_temperature_load_and_switches_are_followed(tmp_path):
    sensor = "sys/class/hwmon/hwmon1"
    machine = Machine(tmp_path, **{f"{sensor}/name": "k10temp"})
    machine.process("self", ticks=500, core=1)
    other = CPU.replace("cpu0", "cpu1")
    watch = None
    for mhz, degrees, load, switches in ((3600, 41.5, 0.2, 10), (1200, 78.0, 0.9, 15), (2400, 70.25, 1.3, 400)):
        machine.write(**{
            f"{CPU}/cpufreq/scaling_cur_freq": "800000\n", f"{other}/cpufreq/scaling_cur_freq": f"{1000 * mhz}\n",
            f"{sensor}/temp1_input": f"{int(1000 * degrees)}\n", "proc/loadavg": f"{load} 0.1 0.1 1/90 3\n",
            "proc/self/status": f"voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t{switches}\n",
        })  # fmt: skip
        watch = watch or machine.watch()
        machine.run(1.0, own=1.0)
        watch.mark()
    found = watch.summary()
    assert found["frequency_mhz"] == [1200.0, 3600.0]
    assert found["temperature_c"] == pytest.approx([41.5, 70.2, 78.0], abs=0.06)
    assert found["load_1m"] == [0.2, 1.3] and found["involuntary_switches"] == 390
    assert found["why"] == {}
    said = " | ".join(watch.warnings(found))
    assert "between 1200 and 3600 MHz" in said and "from 42 to 70 degrees" in said


THROTTLE = {
    "intel core": (f"{CPU}/thermal_throttle/core_throttle_count", "12", "12", "13"),
    "intel package": (f"{CPU}/thermal_throttle/package_throttle_count", "0", "0", "2"),
    "jetson": ("sys/class/hwmon/hwmon3/oc3_event_cnt", "0", "0", "1"),
    "cooling": ("sys/class/thermal/cooling_device0/cur_state", "0", "0", "3"),
    "pi, now": ("sys/devices/platform/soc/soc:firmware/get_throttled", "50000", "50000", "50004"),
    "pi, under-voltage since": ("sys/devices/platform/soc/soc:firmware/get_throttled", "40000", "40000", "50000"),
}


@pytest.mark.parametrize("kind", THROTTLE)
def test_throttling_is_what_happened_between_the_marks(tmp_path, kind):
    path, *values = THROTTLE[kind]
    machine = Machine(tmp_path, **{"sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0", path: values[0]})
    watch = machine.watch()
    for step, value in enumerate(values):
        machine.write(**{path: f"{value}\n"})
        machine.run(1.0)
        watch.mark()
        assert watch.summary()["throttled"] is (step == 2)
    assert any("throttled" in line and "measure again" in line for line in watch.warnings(watch.summary()))


def test_a_fan_is_no_throttling(tmp_path):
    fan = "sys/class/thermal/cooling_device0"
    machine = Machine(tmp_path, **{f"{fan}/type": "pwm-fan", f"{fan}/cur_state": "3"})
    assert summary(machine, {"seconds": 1})["throttled"] is None


V1 = {"proc/self/cgroup": "3:cpu,cpuacct:/box\n", "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000"}
QUOTAS = {
    "version 2": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"},
        ("sys/fs/cgroup/cpu.stat", "throttled_usec 1000000\n", "nr_throttled 9\nthrottled_usec 3500000\n"),
    ),
    "version 1": (
        {**V1, "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000"},
        (
            "sys/fs/cgroup/cpu/box/cpu.stat",
            "throttled_time 1000000000\n",
            "throttled_time 3500000000\nnr_throttled 9\n",
        ),
    ),
}


@pytest.mark.parametrize("version", QUOTAS)
def test_a_quota_that_stops_the_measurement_is_told(tmp_path, version):
    files, (stat, before, after) = QUOTAS[version]
    machine = Machine(tmp_path, **{**files, stat: before})
    watch = machine.watch()
    watch.mark()
    machine.write(**{stat: after})
    machine.run(10.0, own=0.5)
    watch.mark()
    found = watch.summary()
    assert (found["quota_cores"], found["quota_stopped_s"]) == (0.5, 2.5)
    (said,) = watch.warnings(found)
    assert "0.5 cores, and its cores were stopped for 2.5 s in all, in a run of 10.0 s" in said
    assert "at least one core" in said


def test_without_a_quota_nothing_is_told_of_one(tmp_path):
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "max 100000",
        "sys/fs/cgroup/cpu.stat": "throttled_usec 5",
    }
    found = summary(Machine(tmp_path, **files), {"seconds": 1})
    assert (found["quota_cores"], found["quota_stopped_s"]) == (None, None)


def test_what_cannot_be_read_is_none_with_a_reason_and_without_a_warning(tmp_path):
    watch = Watch(tmp_path, iter(range(9)).__next__)
    watch.mark()
    watch.mark()
    found = watch.summary()
    known = {key for key, value in found.items() if value is not None}
    assert known == {"seconds", "marks", "why"} and found["seconds"] == 1
    assert "/proc/stat" in found["why"]["others_cores"] and watch.warnings(found) == []


def test_a_virtual_machine_without_sensors_says_so(tmp_path):
    machine = Machine(tmp_path, **{"proc/cpuinfo": "flags\t: sse2 hypervisor\n"})
    assert all("virtual machine" in why for why in summary(machine, {"seconds": 1})["why"].values())


def test_a_watch_without_marks_has_an_empty_summary(machine):
    found = machine.watch().summary()
    assert (found["marks"], found["seconds"], found["others_cores"]) == (0, 0.0, None)
    assert Watch.warnings(found) == []


def test_files_with_nonsense_are_not_read(tmp_path):
    nonsense = {"proc/stat": "cpu a b c\n", "proc/self/stat": "7 (x", "proc/loadavg": "busy", "proc/self/status": ":"}
    lay_out(tmp_path, {**nonsense, "sys/class/thermal/thermal_zone0/type": "cpu", "sys/class/thermal/x": ""})
    watch = Watch(tmp_path, lambda: 1.0)
    watch.mark()
    watch.mark()
    assert json.dumps(watch.summary()) and watch.summary()["others_cores"] is None


QUIET = {
    "seconds": 20.0, "marks": 40, "cores": 4, "others_cores": {"median": 0.05, "max": 0.3}, "steal_share": 0.0,
    "load_1m": [3.9, 3.9], "frequency_mhz": [3500.0, 3600.0], "temperature_c": [60.0, 65.0, 66.0], "throttled": False,
    "involuntary_switches": 900, "governor": "performance", "clock_driver": "acpi-cpufreq", "quota_cores": 2.0,
    "quota_stopped_s": 0.0,
}  # fmt: skip


def test_a_quiet_machine_has_no_warnings():
    assert Watch.warnings(QUIET) == []
    assert Watch.warnings({}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"others_cores": {"median": 0.9, "max": 1.0}}, "0.9 of 4 cores while this was measured"),
        ({"others_cores": {"median": 0.0, "max": 1.2}}, "up to 1.2 at times"),
        ({"others_cores": {"median": 0.6, "max": 0.6}, "cores": 64}, "0.6 of 64 cores"),
        ({"others_cores": None}, "the load was 3.9 on 4 cores"),
        ({"steal_share": 0.034}, "took 3.4 % of the processor time"),
        ({"throttled": True}, "throttled (heat or power supply) at up to 66 degrees"),
        ({"frequency_mhz": [2000.0, 3600.0]}, "between 2000 and 3600 MHz"),
        ({"frequency_mhz": [2000.0, 3600.0], "governor": "ondemand"}, "ondemand: set the governor performance"),
        ({"temperature_c": [50.0, 60.0, 61.0]}, "warmed from 50 to 60"),
        ({"governor": "powersave"}, "the governor is powersave"),
        ({"quota_cores": 0.5}, "may use 0.5 cores: calls wait"),
        ({"quota_stopped_s": 1.0}, "stopped for 1.0 s in all, in a run of 20.0 s"),
    ],
)
def test_each_disturbance_has_one_sentence_with_its_figures(change, words):
    (said,) = Watch.warnings({**QUIET, **change})
    assert words in said


@pytest.mark.parametrize(
    "change",
    [
        {"governor": "powersave", "clock_driver": "intel_pstate"},
        {"others_cores": {"median": 0.2, "max": 0.4}},
        {"quota_cores": None, "quota_stopped_s": None},
        {"others_cores": None, "load_1m": [1.0, 3.9]},
        {"temperature_c": [60.0, 65.0, 79.0]},
    ],
)
def test_what_is_usual_is_not_warned_of(change):
    assert Watch.warnings({**QUIET, **change}) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_on_this_machine_a_busy_stranger_is_seen_and_a_watched_process_is_not():
    spin = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin) as child:
        try:
            plain, ours = Watch(), Watch(pids=[child.pid])
            for _ in range(3):
                plain.mark()
                ours.mark()
                time.sleep(0.6)
            hidden, seen = ours.summary()["others_cores"], plain.summary()["others_cores"]
            used = max(0.0, seen["median"] - hidden["median"])
            assert 0.05 < used <= 1.5
            assert json.dumps(plain.summary())
        finally:
            child.kill()
