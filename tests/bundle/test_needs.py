"""What a bundle says to a device that lacks something: what, and the line that brings it to this very Python."""

from __future__ import annotations

import platform
from dataclasses import replace
from types import SimpleNamespace

import pytest

from evaluate.bundle.needs import READS, Host, check_needs, here, oldest_runtime, pip_line
from evaluate.core.errors import LeanfitError, MachineError, NoRuntimeError, UsageError

PI = Host("/usr/bin/python3", (3, 11), "Linux", "aarch64", 64, "glibc", managed=False, has_pip=True)
CPU = ["CPUExecutionProvider"]


def modules(numpy="2.1.0", onnxruntime="1.20.1", providers=CPU):
    """An import function for a device: a version that is installed, None, an error on import, or any module."""

    def load(name):
        made = {"numpy": numpy, "onnxruntime": onnxruntime}[name]
        if made is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if isinstance(made, Exception):
            raise made
        if isinstance(made, str):
            made = SimpleNamespace(__version__=made, InferenceSession=object, get_available_providers=lambda: providers)
        return made

    return load


def said(needs=None, provider="cpu", host=PI, **installed):
    with pytest.raises(LeanfitError) as error:
        check_needs(needs or {}, provider, host=host, load=modules(**installed))
    assert error.value.exit_code == (2 if isinstance(error.value, UsageError) else 8)
    return str(error.value)


def test_what_is_all_there_is_told_with_its_versions():
    assert check_needs({"onnxruntime": "1.18"}, host=PI, load=modules()) == {"numpy": "2.1.0", "onnxruntime": "1.20.1"}


def test_this_very_machine_has_what_is_needed():
    assert set(check_needs({})) == {"numpy", "onnxruntime"}
    assert here().python >= (3, 9)


@pytest.mark.parametrize("name", ["numpy", "onnxruntime"])
def test_what_is_missing_is_named_with_the_command(name):
    text = said({"onnxruntime": "1.18"}, **{name: None})
    assert text.startswith(f"{name} is not installed for Python {platform.python_version()}. ")
    assert text.endswith('Run: /usr/bin/python3 -m pip install "numpy>=1.21" "onnxruntime>=1.18"')


def test_a_part_of_the_runtime_that_is_missing_is_named():
    assert "onnxruntime lacks flatbuffers" in said(onnxruntime=ModuleNotFoundError("No module", name="flatbuffers"))


@pytest.mark.parametrize("error", [ImportError(), ImportError("libstdc++.so.6: no"), SystemError("odd"), OSError("x")])
def test_a_runtime_that_cannot_be_imported_is_explained(error):
    text = said(onnxruntime=error)
    assert str(error) in text
    assert "needs numpy below 2" in text
    assert "pip install" in text


def test_a_half_removed_runtime_is_explained():
    assert "no InferenceSession" in said(onnxruntime=SimpleNamespace(__version__="1.20"))


@pytest.mark.parametrize(
    ("installed", "needs", "wanted"),
    [
        ({"numpy": "1.20.3"}, {}, "numpy 1.20.3 is too old: the bundle needs 1.21"),
        ({"onnxruntime": "1.9.0"}, {}, "onnxruntime 1.9.0 is too old: the bundle needs 1.16"),
        ({"onnxruntime": "1.20.1"}, {"onnxruntime": "1.21"}, "onnxruntime 1.20.1 is too old: the bundle needs 1.21"),
    ],
)
def test_what_is_too_old_is_named_with_what_is_wanted(installed, needs, wanted):
    assert wanted in said(needs, **installed)


@pytest.mark.parametrize(("numpy", "runtime", "fits"), [
    ("2.0.2", "1.18.1", False), ("2.0.2", "1.19.2", True), ("1.26.4", "1.18.1", True), ("1.26.4", "1.20.1", True),
])  # fmt: skip
def test_a_runtime_built_for_numpy_1_is_not_run_beside_numpy_2(numpy, runtime, fits):
    if fits:
        assert check_needs({}, host=PI, load=modules(numpy, runtime)) == {"numpy": numpy, "onnxruntime": runtime}
    else:
        text = said(numpy=numpy, onnxruntime=runtime)
        assert "crashes beside numpy 2.0.2" in text
        assert text.endswith('-m pip install "numpy<2"')


def test_an_old_python_is_told_that_no_newer_runtime_comes_for_it():
    text = said({"onnxruntime": "1.21"}, host=replace(PI, python=(3, 9)), onnxruntime="1.19.2")
    assert "The last onnxruntime for Python 3.9 is 1.19" in text
    assert "pip install" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "armv7l", "bits": 32}, "32-bit"),
        ({"bits": 32}, "32-bit"),  # a 64-bit kernel below a 32-bit system
        ({"libc": ""}, "glibc"),
        ({"machine": "riscv64"}, "riscv64"),
    ],
)
def test_where_pip_has_no_runtime_no_command_is_given(change, words):
    text = pip_line(replace(PI, **change), ["onnxruntime>=1.18"])
    assert words in text
    assert "build onnxruntime from source" in text
    assert "-m pip install" not in text


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64", "arm64"])
@pytest.mark.parametrize(("system", "libc"), [("Linux", "glibc"), ("Darwin", ""), ("Windows", "")])
def test_common_machines_get_a_command(machine, system, libc):
    assert "-m pip install" in pip_line(replace(PI, machine=machine, system=system, libc=libc), ["onnxruntime"])


def test_a_managed_python_is_given_an_environment():
    text = pip_line(replace(PI, managed=True), ["numpy"])
    assert "/usr/bin/python3 -m venv bench-env && bench-env/bin/python -m pip install" in text


def test_a_python_without_pip_is_told_so():
    assert "pip itself is missing" in pip_line(replace(PI, has_pip=False), ["numpy"])


def test_a_path_with_spaces_is_quoted():
    assert "'/opt/my python/bin/python' -m pip" in pip_line(replace(PI, executable="/opt/my python/bin/python"), ["x"])


def test_a_missing_provider_is_named_with_what_brings_it():
    text = said(provider="cuda", host=replace(PI, machine="x86_64"))
    assert "provider 'cuda' was asked for, and this onnxruntime has only CPU" in text
    assert "onnxruntime-gpu>=1.16" in text
    assert "JetPack" in said(provider="cuda")


def test_a_provider_that_is_there_is_enough():
    assert check_needs({}, "cuda", host=PI, load=modules(providers=["CUDAExecutionProvider", *CPU]))


def test_an_unknown_provider_is_a_usage_problem():
    assert "did you mean 'cuda'" in said(provider="cudaa")


@pytest.mark.parametrize(("release", "ir", "opset"), READS)
def test_a_release_reads_what_it_is_known_to_read(release, ir, opset):
    assert oldest_runtime(ir, opset) == next(r for r, i, o in READS if i >= ir and o >= opset)
    assert oldest_runtime(1, 1) == READS[0][0]


def test_newer_formats_need_newer_releases():
    found = [oldest_runtime(10, opset) for opset in range(17, 27)]
    numbers = [tuple(map(int, release.split("."))) for release in found]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 3
    assert oldest_runtime(99, 1) == oldest_runtime(1, 99) > READS[-1][0]


def test_problems_are_the_ones_callers_expect():
    assert issubclass(NoRuntimeError, MachineError)
