"""Whether two environments are of one machine in one set-up."""

from __future__ import annotations

import pytest

from evaluate.hardware import environment as env
from evaluate.hardware import machines

GPU = {"name": "Example H200", "driver": "590.44", "power_limit_w": 700.0, "sm_max_mhz": 1980.0, "mig": False}
HERE = {
    "machine_id": "abc",
    "cpu": {
        "name": "Example CPU", "architecture": "x86_64", "cores": 8, "usable_cores": 8, "governor": "performance",
        "quota_cores": None, "boost": True, "smt": True, "temperature_c": 40.0,
        "frequency_mhz": {"now": 3000.0, "min": 800.0, "max": 3600.0},
    },
    "int8_path": "vnni", "gpu": [GPU], "transparent_hugepages": "madvise", "container": None, "load": [0.1, 0.1, 0.1],
    "versions": {"python": "3.11.7", "numpy": "2.4.6", "onnxruntime": "1.32.0"}, "providers": ["CPUExecutionProvider"],
}  # fmt: skip


def changed(**changes):
    """HERE with these facts changed; `cpu` and `versions` are merged."""
    merged = {key: {**HERE[key], **value} for key, value in changes.items() if key in ("cpu", "versions")}
    return {**HERE, **changes, **merged}


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (changed(cpu={"name": "Other CPU"}), "processor Example CPU against Other CPU"),
        (changed(cpu={"cores": 16}, machine_id="def"), "number of cores 8 against 16"),
        (changed(cpu={"architecture": "aarch64"}), "architecture x86_64 against aarch64"),
        (changed(gpu=[]), "GPU Example H200 against none"),
        (changed(gpu=[GPU, GPU]), "GPU Example H200 against Example H200, Example H200"),
        (changed(int8_path="avx2"), "int8 path vnni against avx2"),
        (changed(machine_id="def"), "id abc against def"),
    ],
)
def test_another_machine_is_said_in_one_sentence(there, words):
    assert machines.differences(HERE, there) == [f"different machines: {words}"]
    assert not machines.same_machine(HERE, there) and not machines.same_machine(there, HERE)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (changed(versions={"onnxruntime": "1.31.0"}), "runtime onnxruntime 1.32.0 against onnxruntime 1.31.0"),
        (changed(providers=["CUDA", "CPU"]), "providers CPUExecutionProvider against CUDA, CPU"),
        (changed(cpu={"governor": "powersave"}), "governor performance against powersave"),
        (changed(cpu={"usable_cores": 2}), "usable cores 8 against 2"),
        (changed(cpu={"boost": False}), "turbo on against off"),
        (changed(cpu={"frequency_mhz": {"now": 1.0, "max": 2400.0}}), "highest clock (MHz) 3600 against 2400"),
        (changed(gpu=[{**GPU, "driver": "580.1"}]), "GPU driver 590.44 against 580.1"),
        (changed(gpu=[{**GPU, "power_limit_w": 350.0}]), "GPU power limit (W) 700 against 350"),
        (changed(gpu=[{**GPU, "mig": True}]), "MIG off against on"),
    ],
)  # fmt: skip
def test_another_set_up_of_the_same_machine_is_said(there, words):
    assert machines.differences(HERE, there) == [f"other set-up: {words}"]
    assert machines.same_machine(HERE, there)


@pytest.mark.parametrize(
    "there",
    [
        HERE,
        changed(load=[9.0, 9.0, 9.0], cpu={"temperature_c": 80.0, "frequency_mhz": {"now": 900.0}}),
        changed(versions={"python": "3.12.1", "numpy": "2.0.0"}),
        {"machine_id": "abc"},
        changed(cpu={"governor": None}, gpu=None, providers=None, versions={"onnxruntime": "1.32.0"}),
    ],
)
def test_what_changes_by_itself_or_is_not_known_is_no_difference(there):
    assert machines.differences(HERE, there) == machines.differences(there, HERE) == []
    assert machines.same_machine(HERE, there)


def test_an_environment_that_names_no_machine_is_never_the_same():
    nameless = {key: value for key, value in HERE.items() if key != "machine_id"}
    (said,) = machines.differences(HERE, nameless)
    assert "the second environment has no machine_id" in said
    assert not machines.same_machine(nameless, nameless)


def test_this_machine_is_the_same_as_itself():
    assert machines.differences(env.environment(), env.environment()) == []
