"""Documents that others wrote, broken in every way: one error of ours or an answer; nothing imported, nothing outside.

The rows are all foreign documents; a new one is one row more: how to read it, given a folder that holds it.
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzz import STRANGE, byte_mutants, json_mutants, json_of

from compress.bundle.packable import open_run, shared_task
from compress.core.files import hash_of
from compress.pipeline.artifact import Artifact, verify
from compress.recipe.load import load_recipe
from compress.study.law_predict import PredictRequest, predicted_table, run_predict
from compress.study.study_checks import check_study
from compress.study.study_source import read_study
from evaluate.bundle.device import main as bench
from evaluate.bundle.zipapp import MANIFEST, read_bundle
from evaluate.core.components import only_allowed
from evaluate.core.errors import LeanfitError
from evaluate.core.journal import find_records
from evaluate.report.html.pages import write_page
from evaluate.report.text.run_table import lines_of

BEFORE = Path(__file__).parents[1] / "fixtures" / "bcf02c1"
ARTIFACT = BEFORE / "digits-mlp-int8"
STRANGER = "strangers_module"
NAMES = (f"{STRANGER}:thing", STRANGER, f"{STRANGER}.sub:thing", f"../{STRANGER}:thing")


@dataclass(frozen=True)
class Foreign:
    """A foreign document.

    data  : as it is when it is whole.
    write : puts a broken one into a folder that holds a copy of `home`; read: what a command does with that.
    """

    data: bytes
    write: Callable[[Path, bytes], Any]
    read: Callable[[Path], Any]
    home: Path | None = None


def manifest(folder: Path) -> None:
    """What verify, load and Artifact's methods do with a manifest."""
    checks = verify(folder)
    assert checks and all(isinstance(check.detail, str) for check in checks)
    artifact = Artifact.load(folder)
    for look in (artifact.table, artifact.summary, artifact.module):
        try:
            look()
        except LeanfitError:
            continue


def write_manifest(folder: Path, data: bytes) -> None:
    """A manifest that carries its own hash, as a stranger's would."""
    try:
        claims = json.loads(data)
        claims.pop("self", None)
        data = json.dumps({**claims, "self": hash_of(claims)}).encode()
    except (ValueError, RecursionError, AttributeError, TypeError):
        pass
    (folder / "manifest.json").write_bytes(data)


def run_of(folder: Path) -> None:
    shared_task([open_run(folder)])


def write_recipe(folder: Path, data: bytes) -> None:
    """A recipe in an artifact whose manifest says that it is as it was written, as a stranger's would."""
    (folder / "recipe.yaml").write_bytes(data)
    claims = json.loads((ARTIFACT / "manifest.json").read_text())
    claims["hashes"]["recipe.yaml"] = sha256(data).hexdigest()
    write_manifest(folder, json.dumps(claims).encode())


def reported(folder: Path) -> None:
    records = find_records(folder, on_problem=lambda problem: None)
    write_page(records, folder / "page.html")
    "\n".join(lines_of(records))


def predicted(folder: Path) -> None:
    predicted_table(run_predict(PredictRequest(path=folder / "law.json", x=["params=500"])))


def write_bundle(folder: Path, data: bytes) -> None:
    """The bundle with another manifest, which carries its own hash, as a stranger's would."""
    try:
        claims = json.loads(data)
        claims.pop("self", None)
        claims["self"] = sha256(json.dumps(claims, separators=(",", ":"), allow_nan=False).encode()).hexdigest()
        data = json.dumps(claims).encode()
    except (ValueError, RecursionError, AttributeError):
        pass
    with zipfile.ZipFile(BEFORE / "bench.pyz") as old, zipfile.ZipFile(folder / "bench.pyz", "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name == MANIFEST else old.read(name))


def checked_bundle(folder: Path) -> None:
    """Looked at as `pack` does, listed, checked, and unpacked as it is before it is run."""
    for option in ("--list", "--check"):
        assert bench([option], folder / "bench.pyz") in (0, 2, 7, 8)
    bundle = read_bundle(folder / "bench.pyz")
    bundle.check()
    bundle.extract(folder / "unpacked")


def last_of(path: Path, kind: str) -> bytes:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return json.dumps([record for record in records if record["kind"] == kind][-1]).encode()


def as_file(name: str) -> Callable[[Path, bytes], Any]:
    return lambda folder, data: (folder / name).write_bytes(data)


RECIPE = json.dumps(yaml.safe_load((ARTIFACT / "recipe.yaml").read_text())).encode()
STUDY = json.dumps(yaml.safe_load((BEFORE / "study" / "study.yaml").read_text())).encode()
BUNDLE = zipfile.ZipFile(BEFORE / "bench.pyz").read(MANIFEST)
SMALL = BytesIO()
with zipfile.ZipFile(SMALL, "w") as small:
    for member in ("__main__.py", MANIFEST):
        small.writestr(member, zipfile.ZipFile(BEFORE / "bench.pyz").read(member), zipfile.ZIP_DEFLATED)
DOCUMENTS = {
    "manifest": Foreign((ARTIFACT / "manifest.json").read_bytes(), write_manifest, manifest, ARTIFACT),
    "recipe of a run": Foreign(RECIPE, write_recipe, run_of, ARTIFACT),
    "recipe": Foreign(RECIPE, as_file("recipe.yaml"), lambda folder: load_recipe(folder / "recipe.yaml")),
    "study": Foreign(STUDY, as_file("s.yaml"), lambda folder: check_study(read_study(folder / "s.yaml", ()))),
    "Record of a run": Foreign(last_of(ARTIFACT / "records.jsonl", "compress"), as_file("records.jsonl"), reported),
    "Record of a trial": Foreign(
        last_of(BEFORE / "study" / "records.jsonl", "trial"), as_file("records.jsonl"), reported
    ),
    "Record of a benchmark": Foreign((BEFORE / "bench.json").read_bytes(), as_file("bench.json"), reported),
    "Record of a scenario": Foreign((BEFORE / "server.json").read_bytes(), as_file("server.json"), reported),
    "law": Foreign((BEFORE / "law.json").read_bytes(), as_file("law.json"), predicted),
    "manifest of a bundle": Foreign(BUNDLE, write_bundle, checked_bundle),
    "bundle": Foreign(SMALL.getvalue(), as_file("bench.pyz"), checked_bundle),
}
PARSED = [name for name in DOCUMENTS if name != "bundle"]
# A few of them always, all of them with the slow tests.
COUNTS = [pytest.param(0.05, id="some"), pytest.param(1.0, id="all", marks=pytest.mark.slow)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside one that holds a stranger's module, which says when it is imported."""
    monkeypatch.delenv("LEANFIT_ALLOW", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{STRANGER}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "place"


def survive(document: Foreign, mutants: Any, place: Path) -> None:
    """Read every mutant; fails with the first few that raised something else than an error of ours."""
    outside, faults = {path.name for path in place.parent.iterdir()}, []
    for number, mutant in enumerate(mutants):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(document.home, place) if document.home else place.mkdir()
        document.write(place, mutant)
        try:
            with only_allowed(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as the command does
                document.read(place)
        except LeanfitError as error:
            assert str(error) and not any(c in str(error) for c in "\x1b\x00"), f"mutant {number}: {str(error)[:300]!r}"
        except Exception as error:  # noqa: BLE001
            faults.append(f"mutant {number}: {type(error).__name__}: {str(error)[:200]} at {where(error)}")
        there = {path.name for path in place.parent.iterdir()} - {"place", "__pycache__"}
        assert there == outside and STRANGER not in sys.modules, f"mutant {number} left {there - outside}"
    assert not faults, f"{len(faults)} of them:\n" + "\n".join(faults[:12])


def where(error: BaseException) -> str:
    trace = error.__traceback__
    lines = []
    while trace is not None:
        lines.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " ".join(lines[-3:])


@pytest.mark.parametrize("share", COUNTS)
@pytest.mark.parametrize("name", PARSED)
def test_a_document_with_wrong_values_is_an_answer_or_one_error(name: str, share: float, place: Path, capsys):
    document = DOCUMENTS[name]
    mutants = json_mutants(json.loads(document.data), int(500 * share), seed=1, strange=(*STRANGE, *NAMES * 3))
    survive(document, (json_of(mutant).encode() for mutant in mutants), place)


@pytest.mark.parametrize("share", COUNTS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_of_wrong_bytes_is_an_answer_or_one_error(name: str, share: float, place: Path, capsys):
    document = DOCUMENTS[name]
    survive(document, byte_mutants(document.data, int(300 * share), seed=2), place)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_whole_document_is_read(name: str, place: Path, capsys):
    document = DOCUMENTS[name]
    if name != "bundle":
        survive(document, [document.data], place)
