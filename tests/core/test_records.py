"""Records as types: whatever a file holds, the reader gives a Record of the right types, or says that it is none."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from bench_records import bench_record
from fuzz import json_mutants
from records import sample_record

from evaluate.core.blocks import Block
from evaluate.core.records import KINDS, CompressRecord, Record, read_record, record_schema, sample_table

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
    original = next((value for value in stored() if value["kind"] == kind), None)
    original = original or {"schema": 1, "kind": "stage", "name": "baseline", "key": "ab", "seconds": 1.5, "ended": 2.0}
    for mutant in json_mutants(original, 500, seed=7):
        problems: list[str] = []
        record = read_record(mutant, problems)
        assert record is not None or problems
        if record is not None:
            check_types(record)


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
