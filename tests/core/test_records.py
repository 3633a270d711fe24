"""Records as types: whatever a file holds, the reader gives a Record of the right types, or says that it is none."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from bench_records import bench_record
from fuzz import byte_mutants, json_mutants, json_of
from records import sample_record

from evaluate.core.blocks import Block
from evaluate.core.errors import ArtifactError
from evaluate.core.journal import Journal, find_records
from evaluate.core.records import KINDS, CompressRecord, Record, TrialRecord, read_record, record_schema, sample_table

ROOT = Path(__file__).parents[2]
STORED = sorted([*(ROOT / "studies/records").rglob("*.jsonl"), *(ROOT / "tests/fixtures").rglob("*.jsonl")])
FILES = [ROOT / "tests/fixtures/bcf02c1" / name for name in ("bench.json", "server.json", "law.json")]


def stored() -> list[dict]:
    lines = [json.loads(line) for path in STORED for line in path.read_text(encoding="utf-8").splitlines()]
    return [*lines, *(json.loads(path.read_text(encoding="utf-8")) for path in FILES)]


def blocks(value: object):
    """Every block in a Record."""
    if isinstance(value, Block):
        yield value
        for one in dataclasses.fields(value):
            yield from blocks(getattr(value, one.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from blocks(item)


def original_of(kind: str) -> dict:
    """A stored Record of this kind, with few of its raw samples."""
    stage = {"schema": 1, "kind": "stage", "name": "baseline", "key": "ab", "seconds": 1.5, "ended": 2.0}
    found = next((value for value in stored() if value["kind"] == kind), stage)
    for part in (found, *found.get("results", ()), *found.get("floors", ())):
        if "samples" in part:
            legs = isinstance(part["samples"], dict)
            part["samples"] = {leg: [[[1e-3]]] for leg in part["samples"]} if legs else [[[1e-3]]]
    return found


def check_types(record: Record) -> None:
    for block in blocks(record):
        for one in dataclasses.fields(block):
            value = getattr(block, one.name)
            if one.type == "float | None":
                assert value is None or (isinstance(value, int | float) and math.isfinite(value))
            elif one.type == "str | None":
                assert value is None or (isinstance(value, str) and "\x1b" not in value)
            elif str(one.type).startswith("tuple"):
                assert isinstance(value, tuple)
            elif str(one.type).startswith("dict"):
                assert isinstance(value, dict)


def test_every_record_that_was_ever_written_is_read_whole():
    records = stored()
    assert len(records) > 150
    for value in records:
        problems: list[str] = []
        record = read_record(value, problems)
        assert record is not None and not problems
        assert type(record) is KINDS[value["kind"]] and record.raw is value
        check_types(record)
        unknown = {key for block in blocks(record) for key in block.extra}
        assert not unknown or value["kind"] == "law", f"the types do not know {unknown}"


@pytest.mark.parametrize("kind", ["compress", "bench", "trial", "law", "stage"])
def test_a_mutant_is_read_as_far_as_it_can_be(kind: str):
    for mutant in json_mutants(original_of(kind), 500, seed=7):
        problems: list[str] = []
        record = read_record(mutant, problems)
        assert record is not None or problems
        if record is not None:
            check_types(record)


def test_what_was_read_is_written_back_as_the_same_json():
    for value in stored():
        record = read_record(value)
        assert record is not None
        assert json.dumps(record.to_json()) == json.dumps(value)
        assert type(record).of(value).raw == value


def test_a_record_is_never_made_of_wrong_types():
    value = next(value for value in stored() if value["kind"] == "trial")
    with pytest.raises(TypeError, match=r"kind trial was made wrong: accuracy\.value is a text"):
        TrialRecord.of({**value, "accuracy": {**value["accuracy"], "value": "92"}})


@pytest.mark.parametrize("kind", ["compress", "bench", "trial", "law", "stage"])
def test_a_journal_of_mutants_is_read_in_the_types_of_its_records(kind: str, tmp_path: Path):
    """What find_records gives has what its type says, at every depth, or is skipped with a sentence."""
    path, original = tmp_path / "records.jsonl", original_of(kind)
    path.write_text("".join(f"{json_of(mutant)}\n" for mutant in json_mutants(original, 100, seed=3)), "utf-8")
    journal = Journal(path)
    for value in journal.read():
        problems: list[str] = []
        assert not isinstance(value.get("kind"), str) or read_record(value, problems) is not None
        assert not problems
    assert journal.problems
    whole = json.dumps(original).encode() + b"\n"
    for number, data in enumerate(byte_mutants(whole, 300, seed=3)):
        path.write_bytes(data)
        try:
            find_records(path)
        except ArtifactError as error:
            assert str(error), number


@pytest.mark.parametrize("kind", [None, 3, ["trial"], "Trial", "later"])
def test_a_record_whose_kind_was_lost_is_still_of_right_types_or_skipped(kind: object, tmp_path: Path):
    """What shows a run asks for its parts by name, whatever the kind says."""
    original = {**original_of("compress"), "kind": kind}
    for place, junk in (("task", [{}, {}]), ("baseline", {"sizes": [1]}), ("schema", True)):
        journal = Journal(tmp_path / "records.jsonl")
        journal.path.write_text(json.dumps({**original, place: junk}), "utf-8")
        found = journal.read()
        assert len(journal.problems) == 1
        assert not found or found[0][place] == {"sizes": None}


@pytest.mark.parametrize("value", [None, [], 3, "x", {}, {"kind": 3}, {"kind": "compress", "schema": 99}])
def test_what_is_no_record_is_said_to_be_none(value: object):
    problems: list[str] = []
    assert read_record(value, problems) is None
    assert len(problems) == 1


def test_wrong_types_are_named_with_their_place_and_the_rest_is_kept():
    value = json.loads(json.dumps(sample_record()))
    value["baseline"]["latency"]["median_ms"] = "fast"
    value["goals"] = {"drop": 1}
    value["later"] = [1]
    problems: list[str] = []
    record = read_record(value, problems)
    assert isinstance(record, CompressRecord)
    assert record.baseline is not None and record.baseline.latency is not None
    assert record.baseline.latency.median_ms is None and record.goals == () and record.extra == {"later": [1]}
    assert record.compressed is not None and record.compressed.sizes is not None and record.compressed.sizes.params
    assert any("baseline.latency.median_ms is a text" in problem for problem in problems)
    assert any("goals is an object" in problem for problem in problems)


def test_the_samples_of_the_tests_are_records():
    for value in (sample_record(pruned=True), bench_record()):
        problems: list[str] = []
        assert read_record(json.loads(json.dumps(value)), problems) is not None
        assert not problems


def test_raw_samples_are_numbers_or_nothing():
    assert sample_table([[[1, 2.5]]]) == [[[1.0, 2.5]]]
    assert sample_table([["x"]]) == sample_table(None) == sample_table([[[float("nan")]]]) == []


def test_the_schema_names_every_kind_and_every_field():
    schema = record_schema()
    for name, kind in KINDS.items():
        properties = schema["$defs"][kind.__name__]["properties"]
        assert properties["kind"] == {"const": name}
        assert {f.metadata.get("json", f.name) for f in dataclasses.fields(kind)} - {None, "extra"} == set(properties)
    json.dumps(schema)
