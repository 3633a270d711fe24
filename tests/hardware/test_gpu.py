"""What is told of GPUs, by an nvidia-smi that answers from a table and by a Jetson laid out as a folder."""

from __future__ import annotations

import json

import pytest
from fake_machine import H200, lay_out, nvidia_smi

from evaluate.hardware import gpu
from evaluate.hardware.environment import environment, machine_id


def test_a_gpu_is_described_with_its_settings(monkeypatch, tmp_path):
    nvidia_smi(monkeypatch, tmp_path, H200)
    assert gpu.gpus(tmp_path) == (
        [
            {
                "name": "Example H200", "driver": "590.44", "memory": "143771 MiB", "compute_mode": "Default",
                "persistence": True, "mig": False, "memory_used_mb": 4.0, "sm_mhz": 345.0, "sm_max_mhz": 1980.0,
                "memory_mhz": 3201.0, "memory_max_mhz": 3201.0, "power_limit_w": 700.0, "temperature_c": 31.0,
                "used_percent": 0.0,
            }
        ],
        None,
    )  # fmt: skip


def test_several_gpus_keep_their_order_and_what_a_driver_does_not_tell_is_none(monkeypatch, tmp_path):
    small = {**H200, "name": "Example T4", "mig.mode.current": "[N/A]", "power.limit": "[Not Supported]"}
    nvidia_smi(monkeypatch, tmp_path, H200, {**small, "clocks.max.mem": "N/A", "memory.total": "[N/A]"})
    first, second = gpu.gpus(tmp_path)[0]
    assert (first["name"], second["name"]) == ("Example H200", "Example T4")
    assert [second[key] for key in ("mig", "power_limit_w", "memory_max_mhz", "memory")] == [None] * 4
    assert second["sm_max_mhz"] == 1980.0


@pytest.mark.parametrize("missing", [["mig.mode.current"], ["mig.mode.current", "clocks.max.mem", "memory.used"]])
def test_a_field_the_driver_does_not_know_costs_only_that_field(monkeypatch, tmp_path, missing):
    nvidia_smi(monkeypatch, tmp_path, {key: value for key, value in H200.items() if key not in missing})
    (found,), why = gpu.gpus(tmp_path)
    assert why is None and found["mig"] is None
    assert (found["name"], found["driver"], found["sm_mhz"]) == ("Example H200", "590.44", 345.0)


def test_every_call_asks_again(monkeypatch, tmp_path):
    """Nothing of one machine, or of one moment, is told of the next."""
    nvidia_smi(monkeypatch, tmp_path, H200)
    before = environment(tmp_path)
    nvidia_smi(monkeypatch, tmp_path, {**H200, "name": "Example L4", "clocks.sm": "210"})
    after = environment(tmp_path)
    assert [e["gpu"][0]["sm_mhz"] for e in (before, after)] == [345.0, 210.0]
    assert before["machine_id"] != after["machine_id"] == machine_id(tmp_path)


def test_a_driver_that_hangs_is_given_up_and_said(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "TIMEOUT", 0.2)
    nvidia_smi(monkeypatch, tmp_path, H200, sleep=20)
    found = environment(tmp_path)
    assert found["gpu"] == [] and "no answer in 0.2 seconds" in found["why"]["gpu"]


def test_a_driver_that_fails_is_quoted(monkeypatch, tmp_path):
    nvidia_smi(monkeypatch, tmp_path, fails="couldn't communicate with the NVIDIA driver")
    found, why = gpu.gpus(tmp_path)
    assert found == [] and "couldn't communicate" in why and "(9)" in why


def test_a_script_that_cannot_be_run_is_said(monkeypatch, tmp_path):
    nvidia_smi(monkeypatch, tmp_path, H200)
    (tmp_path / "bin/nvidia-smi").write_text("#!/nowhere/at/all\n")
    assert "could not be run" in gpu.gpus(tmp_path)[1]


def test_a_machine_without_nvidia_has_no_gpu_and_no_complaint(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.gpus(tmp_path) == ([], None)
    assert "gpu" not in environment(tmp_path)["why"]
    assert "PATH" in gpu.ask("-L").why


JETSON = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\x00",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
    "var/lib/nvpmodel/status": "pmode:0001 fmode:fanNull\n",
}


def test_a_jetsons_own_gpu_is_read_from_the_kernel(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,), why = gpu.gpus(lay_out(tmp_path, JETSON))
    assert why is None and found["integrated"] is True
    assert (found["driver"], found["sm_mhz"], found["sm_max_mhz"]) == ("L4T 36.4.3", 306.0, 624.75)
    assert found["power_mode"] == "pmode:0001 fmode:fanNull"
    assert json.dumps(environment(tmp_path))


def test_a_jetson_stays_the_same_machine_when_its_driver_learns_to_list_the_gpu(monkeypatch, tmp_path):
    lay_out(tmp_path, JETSON)
    with monkeypatch.context() as bare:
        bare.setenv("PATH", str(tmp_path))
        before = machine_id(tmp_path)
    nvidia_smi(monkeypatch, tmp_path, {"name": "Orin (nvgpu)", "driver_version": "540.4.0", "memory.total": "[N/A]"})
    assert len(gpu.gpus(tmp_path)[0]) == 1
    assert machine_id(tmp_path) == before


def test_a_jetson_stays_the_same_machine_in_a_container_that_hides_its_release(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    before = machine_id(lay_out(tmp_path, JETSON))
    (tmp_path / "etc/nv_tegra_release").unlink()
    assert gpu.gpus(tmp_path) == ([], None)
    assert machine_id(tmp_path) == before


def test_a_jetson_whose_nvidia_smi_fails_still_has_its_gpu(monkeypatch, tmp_path):
    nvidia_smi(monkeypatch, tmp_path, fails="no devices")
    found, why = gpu.gpus(lay_out(tmp_path, JETSON))
    assert (len(found), why) == (1, None)
