"""The edge bundle: what is in it, that damage is found and named, and what its command does on a device."""

from __future__ import annotations

import ast
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import (
    ELSEWHERE,
    clean_python,
    clean_site,
    python_of,
    tiny_bundle,
    tiny_models,
    tiny_samples,
)
from tiny_onnx import linear_onnx

from evaluate.benchmark import compare as comparison
from evaluate.bundle import device
from evaluate.bundle.device import main
from evaluate.bundle.zipapp import MAIN, MANIFEST, SAMPLES, START, build_bundle, model_member, read_bundle, sources
from evaluate.core.errors import ArtifactError, MachineError
from evaluate.core.journal import find_records
from evaluate.metrics.samples import Samples

SOURCES = sources()
QUICK = ("--seconds", "1", "--quiet")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "bench.pyz")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return clean_site(tmp_path_factory.mktemp("clean") / "site")


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, out, change):
    """The bundle with its members changed; the zip itself is whole."""
    files = members(path)
    change(files)
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out


# --- what is in it


def test_equal_content_gives_equal_bytes(tmp_path):
    first, second = (tiny_bundle(tmp_path / name).read_bytes() for name in ("a.pyz", "b.pyz"))
    other = tiny_bundle(tmp_path / "c.pyz", leanfit="0.2.0").read_bytes()
    assert first == second != other


def test_it_holds_what_was_given_and_says_so(bundle):
    whole, files = read_bundle(bundle), members(bundle)
    whole.check()
    assert {name: files[model_member(name)] for name in whole.models} == tiny_models()
    assert Samples.load(files[SAMPLES]).expected.keys() == whole.models.keys()
    assert set(whole.manifest["members"]) == set(files) - {MANIFEST}
    assert [*whole.models] == ["big", "small"]


def test_it_unpacks_to_the_same_files(bundle, tmp_path):
    read_bundle(bundle).extract(tmp_path)
    unpacked = {str(f.relative_to(tmp_path).as_posix()): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    assert unpacked == {name: data for name, data in members(bundle).items() if name != MANIFEST}


@pytest.mark.parametrize("name", ["../up", "/root", "a/../../b", ".hidden", "", "a b", "é"])
def test_no_name_leads_out_of_the_folder(name):
    with pytest.raises(ValueError, match="plain names"):
        build_bundle({name: b"x"}, b"", {})


def imported(source, top_only=False):
    """(module, names) of the imports of a source; with `top_only` those that run when it is imported."""
    tree = ast.parse(source)
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.If)) and top_only
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in lazy:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module), tuple(alias.name for alias in node.names)


@pytest.mark.parametrize("name", SOURCES)
def test_every_module_in_it_needs_numpy_and_onnxruntime_at_most(name):
    known = {*sys.stdlib_module_names, "numpy", "onnxruntime", "evaluate"}
    assert {module.split(".")[0] for module, _ in imported(SOURCES[name])} <= known


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_module_imports_at_its_top_is_in_it_too(name):
    for module, names in imported(SOURCES[name], top_only=True):
        place = module.replace(".", "/")
        if module.split(".")[0] == "evaluate":
            inside = {f"{place}/{each}.py" for each in names}
            assert f"{place}.py" in SOURCES or (f"{place}/__init__.py" in SOURCES and inside <= set(SOURCES))


BEFORE = (
    "bundle.zipapp",
    "bundle.needs",
    "bundle.terminal",
    "core.errors",
    "core.components",
    "core.execution_providers",
)


@pytest.mark.parametrize("name", ["bundle/device", *(room.replace(".", "/") for room in BEFORE), "__init__"])
def test_what_runs_before_the_check_needs_nothing_but_python(name):
    source = SOURCES[f"evaluate/{name}.py"]
    tops = {module.split(".")[0] for module, _ in imported(source, top_only=True)}
    assert tops <= {*sys.stdlib_module_names, "evaluate"}
    inner = {module for module, _ in imported(source, top_only=True) if module.startswith("evaluate.")}
    assert inner <= {f"evaluate.{room}" for room in BEFORE}


# Names that Python 3.9 has not, by module.
LATER = {
    "typing": {"TypeAlias", "TypeGuard", "ParamSpec", "Concatenate", "Self", "Never", "assert_never", "override",
               "NotRequired", "Required", "Unpack", "LiteralString", "reveal_type", "dataclass_transform"},
    "datetime": {"UTC"},
    "itertools": {"pairwise", "batched"},
    "enum": {"StrEnum"},
    "types": {"NoneType", "UnionType", "EllipsisType"},
    "hashlib": {"file_digest"},
    "contextlib": {"chdir", "aclosing"},
    "tomllib": set(),
}  # fmt: skip
LATER_KEYWORDS = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}, "TemporaryDirectory": {"delete"}}


@pytest.mark.parametrize("name", SOURCES)
def test_every_module_in_it_is_of_python_3_9(name):
    tree = ast.parse(SOURCES[name], feature_version=(3, 9))
    for module, names in imported(SOURCES[name], top_only=True):
        assert module != "tomllib"
        assert not LATER.get(module, set()) & set(names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            assert not LATER_KEYWORDS.get(called, set()) & {keyword.arg for keyword in node.keywords}
            kinds = node.args[1] if called in ("isinstance", "issubclass") and len(node.args) > 1 else None
            assert not isinstance(kinds, ast.BinOp)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.attr not in LATER.get(node.value.id, set())


# --- damage


@pytest.mark.parametrize("kind", ["changed", "longer", "missing"])
def test_every_damaged_member_is_named(bundle, tmp_path, kind):
    for number, name in enumerate(read_bundle(bundle).manifest["members"]):

        def damage(files, name=name):
            if kind == "missing":
                del files[name]
            else:
                files[name] = files[name] + b"x" if kind == "longer" else bytes([files[name][0] ^ 1]) + files[name][1:]

        broken = rewritten(bundle, tmp_path / f"{number}.pyz", damage)
        with pytest.raises(ArtifactError, match="Copy it to this device again") as error:
            read_bundle(broken).check()
        assert [n for n in members(bundle) if f"{n} (" in str(error.value)] == [name]


def test_all_damaged_members_are_named_at_once(bundle, tmp_path):
    broken = rewritten(bundle, tmp_path / "b.pyz", lambda files: [files.pop(MAIN), files.__setitem__(SAMPLES, b"x")])
    with pytest.raises(ArtifactError, match=rf"{MAIN} \(missing\).*{SAMPLES} \(1 bytes, packed were"):
        read_bundle(broken).check()


def test_a_member_that_was_put_in_is_named(bundle, tmp_path):
    broken = rewritten(bundle, tmp_path / "b.pyz", lambda files: files.update({"numpy.py": b"print('mine')"}))
    with pytest.raises(ArtifactError, match=r"numpy\.py \(not in its manifest\)"):
        read_bundle(broken).check()


def test_a_member_that_is_there_twice_is_named(bundle, tmp_path):
    shutil.copy(bundle, tmp_path / "b.pyz")
    with zipfile.ZipFile(tmp_path / "b.pyz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(MAIN, START)
    with pytest.raises(ArtifactError, match=rf"{MAIN} \(twice\)"):
        read_bundle(tmp_path / "b.pyz").check()


@pytest.mark.parametrize(
    "change", [lambda m: m.update(baseline="small"), lambda m: m.pop("self"), lambda m: m.pop("members")]
)
def test_a_changed_manifest_is_named(bundle, tmp_path, change):
    def damage(files):
        manifest = json.loads(files[MANIFEST])
        change(manifest)
        files[MANIFEST] = json.dumps(manifest).encode()

    with pytest.raises(ArtifactError, match=rf"{MANIFEST} is not what was packed"):
        read_bundle(rewritten(bundle, tmp_path / "b.pyz", damage))


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff"])
def test_a_manifest_that_is_no_manifest_is_named(bundle, tmp_path, text):
    with pytest.raises(ArtifactError, match=MANIFEST):
        read_bundle(rewritten(bundle, tmp_path / "b.pyz", lambda files: files.update({MANIFEST: text})))


def test_a_bundle_of_a_newer_leanfit_says_so(bundle, monkeypatch):
    monkeypatch.setattr("evaluate.bundle.zipapp.SCHEMA", 0)
    with pytest.raises(ArtifactError, match="schema 1"):
        read_bundle(bundle)


def test_any_flipped_bit_is_found_or_changes_nothing(bundle, tmp_path):
    whole, rng = bundle.read_bytes(), random.Random(0)
    packed, found = members(bundle), 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path = tmp_path / "b.pyz"
        path.write_bytes(damaged)
        try:
            read_bundle(path).check()
        except ArtifactError as error:
            found += 1
            assert str(path) in str(error)
        else:  # a date or a right in the zip's directory, or the first line
            assert members(path) == packed
    assert found > 100


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_bundle_that_was_cut_off_is_one_file_problem(bundle, tmp_path, share):
    whole = bundle.read_bytes()
    (tmp_path / "b.pyz").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ArtifactError, match="no whole bundle"):
        read_bundle(tmp_path / "b.pyz")


def test_what_is_no_bundle_is_one_file_problem(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(ArtifactError, match="no leanfit bundle"):
        read_bundle(tmp_path / "other.zip")
    for name in ("missing.pyz", "."):
        with pytest.raises(ArtifactError, match="cannot be read"):
            read_bundle(tmp_path / name)


# --- the command, in this process


def run(capsys, *arguments, archive):
    code = main([str(a) for a in arguments], archive=archive)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_list_says_what_is_in_it_and_check_that_it_is_whole(bundle, capsys):
    code, out, err = run(capsys, "--list", archive=bundle)
    assert (code, err) == (0, "")
    assert "tiny: 30 samples, accuracy" in out
    assert all(name in out for name in ("big", "small", "the baseline", "a test"))
    code, out, err = run(capsys, "--check", archive=bundle)
    assert (code, err) == (0, "")
    assert "is whole" in out
    assert f"numpy {np.__version__}" in out


def test_a_damaged_bundle_is_exit_code_7_whatever_is_asked(bundle, tmp_path, capsys):
    broken = rewritten(bundle, tmp_path / "b.pyz", lambda files: files.pop("evaluate/core/stats.py"))
    for arguments in ((), ("--list",), ("--check",), QUICK):
        code, out, err = run(capsys, *arguments, archive=broken)
        assert (code, out) == (7, "")
        assert "evaluate/core/stats.py" in err


def test_a_runtime_too_old_for_the_models_is_exit_code_8(tmp_path, capsys):
    future = tiny_bundle(tmp_path / "f.pyz", needs={"onnxruntime": "99.0"})
    code, _, err = run(capsys, "--check", archive=future)
    assert code == 8
    assert "is too old: the bundle needs 99.0 or newer" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--baseline", "smal"], 2, "did you mean 'small'"),
        (["--out", "no/such/out.json"], 8, "there is no folder"),
        (["--out", "."], 8, "is a folder"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(bundle, capsys, monkeypatch, arguments, code, words):
    monkeypatch.setattr("evaluate.benchmark.compare.compare", lambda *a, **k: pytest.fail("it was measured"))
    assert run(capsys, *arguments, archive=bundle)[0] == code
    main(arguments, archive=bundle)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--seconds", "0"], ["--seconds", "nan"], ["--threads", "0"], ["--batch", "1,,2"], ["--threads", "x"], ["--nope"]],
)
def test_a_wrong_argument_is_exit_code_2(bundle, capsys, arguments):
    with pytest.raises(SystemExit) as error:
        main(arguments, archive=bundle)
    assert error.value.code == 2
    assert "usage: bench" in capsys.readouterr().err


class Fake:
    """compare(), which keeps what it was asked and answers with one record."""

    def __init__(self, error=None):
        self.error = error

    def __call__(self, paths, other, **options):
        self.asked = {"paths": [Path(p) for p in paths], "other": other, **options}
        self.files = [Path(p).read_bytes() for p in paths]
        if self.error is not None:
            raise self.error
        entry = {"name": "big", "path": str(paths[0]), "warnings": [], "agreement": None, "odd": float("nan")}
        record = {
            "schema": 1,
            "kind": "bench",
            "environment": {},
            "results": [entry],
            "failed": [{"path": str(paths[1])}],
        }
        return SimpleNamespace(record=record, exit_code=4, table=lambda: "the table")


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    monkeypatch.setattr("evaluate.benchmark.compare.compare", made)
    monkeypatch.setattr("evaluate.benchmark.compare.serve", made)
    return made


def test_every_option_reaches_the_comparison(bundle, capsys, fake):
    given = "--threads 1,2 --batch 8 --seconds 7 --seed 3 --baseline small --io host --graphs --patience 9 --profile"
    run(capsys, *given.split(), archive=bundle)
    asked = fake.asked
    assert fake.files == list(tiny_models().values())
    assert asked["names"] == ["big", "small"]
    assert asked["other"] == asked["paths"][1]
    assert asked["paths"][1].name == "small.onnx"
    wanted = {"threads": [1, 2], "batch": [8], "seconds": 7.0, "seed": 3, "provider": "cpu", "io": "host",
              "graphs": True, "patience": 9.0, "profile": True}  # fmt: skip
    assert {key: asked[key] for key in wanted} == wanted
    wanted = tiny_samples(tiny_models())
    assert np.array_equal(asked["samples"].inputs["x"], wanted.inputs["x"])


def test_threads_and_batch_are_those_that_were_packed(tmp_path, capsys, fake):
    run(capsys, archive=tiny_bundle(tmp_path / "b.pyz", settings={"threads": 3, "batch": 16}))
    assert (fake.asked["threads"], fake.asked["batch"]) == ([3], [16])


def test_a_scenario_is_asked_for_with_its_bound(tmp_path, capsys, fake):
    archive = tiny_bundle(tmp_path / "b.pyz", settings={"threads": 2, "batch": 16})
    run(capsys, "--scenario", "server", "--latency-bound", "50ms", archive=archive)
    asked = fake.asked
    assert (asked["other"], asked["bound"], asked["threads"], asked["batch"]) == ("server", "50ms", [2], [1])


def test_scenarios_are_those_the_comparison_knows():
    assert device.SCENARIOS == comparison.SCENARIOS


def test_without_samples_there_are_none(tmp_path, capsys, fake):
    models = tiny_models()
    told = {"leanfit": "0", "task": None, "metric": None, "samples": 0, "needs": {}, "baseline": "big",
            "settings": {"threads": 1, "batch": 1}, "source": {"cpu": None},
            "models": {name: {"opset": 20} for name in models}}  # fmt: skip
    (tmp_path / "b.pyz").write_bytes(build_bundle(models, b"", told))
    assert run(capsys, "--list", archive=tmp_path / "b.pyz")[0] == 0
    run(capsys, archive=tmp_path / "b.pyz")
    assert fake.asked["samples"] is None


def test_the_record_speaks_of_the_bundle_and_is_json(bundle, tmp_path, capsys, fake):
    code, out, _ = run(capsys, "--out", tmp_path / "out.json", archive=bundle)
    assert (code, out) == (4, "the table\n")
    record = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
    assert record["results"][0]["path"] == model_member("big")
    assert record["failed"][0]["path"] == model_member("small")
    assert record["results"][0]["odd"] is None
    assert (record["leanfit"], record["task"]["name"], record["bundle"]["samples"]) == ("0.1.0", "tiny", 30)
    assert record["bundle"]["digest"] == read_bundle(bundle).digest
    assert [*tmp_path.iterdir()] == [tmp_path / "out.json"]
    code, out, _ = run(capsys, "--json", archive=bundle)
    again = json.loads(out, parse_constant=pytest.fail)
    assert code == 4 and again.keys() == record.keys() and again["results"] == record["results"]


def test_a_full_disk_leaves_the_old_record_and_nothing_half_written(bundle, tmp_path, capsys, fake, monkeypatch):
    old = json.dumps({"schema": 1, "kind": "bench"})
    (tmp_path / "out.json").write_text(old)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = run(capsys, "--out", tmp_path / "out.json", archive=bundle)
    assert (code, out) == (8, "the table\n")
    assert "No space left on device" in err
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out.json", old)]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "nothing was written"),
        (MachineError("no memory"), 8, "no memory"),
        (OSError(28, "No space left on device", "/tmp/x"), 8, "No space left on device: /tmp/x"),
        (BrokenPipeError(), 1, ""),
        (ZeroDivisionError("odd"), 1, "a bug in leanfit: ZeroDivisionError: odd"),
    ],
)
def test_every_end_has_its_exit_code(bundle, tmp_path, capsys, monkeypatch, error, code, words):
    monkeypatch.setattr("evaluate.benchmark.compare.compare", Fake(error))
    monkeypatch.setattr("evaluate.bundle.device.close_stdout", lambda: None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    found, _, err = run(capsys, "--out", tmp_path / "out.json", archive=bundle)
    assert found == code
    assert words in err
    assert "Traceback" not in err
    assert [*tmp_path.iterdir()] == []


def test_outside_a_bundle_it_says_where_it_belongs(capsys):
    assert main([]) == 7
    assert "leanfit pack" in capsys.readouterr().err


# --- the command, measuring


def test_a_device_that_computes_something_else_is_told_with_figures(tmp_path, capsys):
    models = tiny_models()
    right = tiny_samples(models)
    other = {"big": right.expected["big"], "small": -right.expected["small"]}
    wrong = Samples(right.inputs, right.targets, "accuracy", right.classes, other)
    archive = tiny_bundle(tmp_path / "b.pyz", models, wrong)
    assert run(capsys, *QUICK, "--out", tmp_path / "out.json", archive=archive)[0] == 0
    (record,) = find_records(tmp_path / "out.json")
    big, small = record["results"]
    assert big["agreement"]["same"] == big["agreement"]["n"] == 30
    assert not [w for w in big["warnings"] if "something else" in w]
    differ = 30 - small["agreement"]["same"]
    assert any(f"{differ} of 30 answers differ" in warning for warning in small["warnings"])
    largest = 2 * np.abs(right.expected["small"]).max()
    assert small["agreement"]["max_abs"] == pytest.approx(largest, rel=1e-5)


def test_a_model_that_fails_is_named_and_the_others_are_measured(tmp_path, capsys):
    models = {**tiny_models(), "broken": linear_onnx(bias=float("nan"))}
    archive = tiny_bundle(tmp_path / "b.pyz", models, tiny_samples(tiny_models()))
    code, out, _ = run(capsys, *QUICK, "--out", tmp_path / "out.json", archive=archive)
    (record,) = find_records(tmp_path / "out.json")
    assert [entry["name"] for entry in record["results"]] == ["big", "small"]
    assert [(f["name"], f["kind"], f["path"]) for f in record["failed"]] == [
        ("broken", "not finite", "models/broken.onnx")
    ]
    assert code == record["failed"][0]["exit_code"] != 0
    assert "broken" in out


# --- the command, on a device


def left_in(folder):
    """What was left in the folder for temporary files; `.ses` is onnxruntime's own."""
    return [path.name for path in folder.iterdir() if path.name != ".ses"]


def test_it_runs_with_numpy_and_onnxruntime_alone(bundle, site, tmp_path):
    look = "import importlib.util, sys; print(*[m for m in sys.argv[1:] if importlib.util.find_spec(m)])"
    names = [*ELSEWHERE, "numpy", "onnxruntime"]
    here = subprocess.run([sys.executable, "-c", look, *names], capture_output=True, text=True, check=True)
    assert here.stdout.split() == names  # so that what follows says something
    command, environment = clean_python(site, tmp_path / "tmp", "-c", look, *names)
    there = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert there.stdout.split() == ["numpy", "onnxruntime"]

    command, environment = clean_python(site, tmp_path / "tmp", bundle, "--seconds", "1", "--out", "out.json")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "trying big")
    text = (tmp_path / "out.json").read_text()
    (record,) = find_records(tmp_path / "out.json")
    assert record["kind"] == "bench"
    assert [entry["name"] for entry in record["results"]] == ["big", "small"]
    assert all(entry["agreement"]["same"] == 30 for entry in record["results"])
    assert record["results"][0]["accuracy"]["value"] == 100
    assert "leanfit-bundle-" not in text
    assert left_in(tmp_path / "tmp") == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(bundle, site, tmp_path, number):
    command, environment = clean_python(site, tmp_path / "tmp", bundle, "--seconds", "60", "--out", "out.json")
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        said = list(itertools.takewhile(lambda line: not line.startswith("timing"), process.stderr))
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted; nothing was written" in rest
    assert any(line.startswith("trying small") for line in said)
    assert [p.name for p in tmp_path.iterdir()] == ["tmp"]
    assert left_in(tmp_path / "tmp") == []


def test_without_numpy_it_says_how_to_get_it(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    command, environment = clean_python(tmp_path / "empty", tmp_path / "tmp", bundle)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (8, "")
    assert "numpy is not installed" in done.stderr
    assert "pip" in done.stderr
    listed = subprocess.run([*command, "--list"], env=environment, capture_output=True, text=True)
    assert (listed.returncode, listed.stderr) == (0, "")


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8"])
def test_an_old_python_is_told_in_one_sentence(bundle, version):
    program = python_of(version)
    if program is None:
        pytest.skip(f"there is no Python {version} on this machine")
    done = subprocess.run([program, str(bundle), "--list"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith(f"bench: Python 3.9 or newer is needed; this is Python {version}.")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_every_python_reads_every_module(bundle, version, tmp_path):
    program = python_of(version)
    if program is None:
        pytest.skip(f"there is no Python {version} on this machine")
    read_bundle(bundle).extract(tmp_path)
    done = subprocess.run(
        [program, "-W", "error", "-m", "compileall", "-q", str(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    listed = subprocess.run([program, "-I", str(bundle), "--list"], capture_output=True, text=True)
    assert (listed.returncode, listed.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_it_runs_in_a_real_environment_of_every_python(bundle, version, tmp_path):
    program = python_of(version)
    if program is None:
        pytest.skip(f"there is no Python {version} on this machine")
    subprocess.run([program, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = next(p for p in (tmp_path / "venv").glob("*/python*") if p.stem == "python")
    pip = subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "onnxruntime"], capture_output=True, text=True)
    if pip.returncode:
        pytest.skip(f"pip has no numpy and onnxruntime for Python {version} here: {pip.stderr.splitlines()[-1:]}")
    done = subprocess.run(
        [python, str(bundle), *QUICK, "--out", "out.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    (record,) = find_records(tmp_path / "out.json")
    assert record["environment"]["versions"]["python"].startswith(f"{version}.")
    assert all(entry["agreement"]["same"] == 30 for entry in record["results"])


def test_the_start_is_a_zip_application(bundle):
    data = bundle.read_bytes()
    assert data.startswith(b"#!/usr/bin/env python3\n")
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
