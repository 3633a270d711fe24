"""Tables of Records for other programs, and a page of more Records than anyone reads."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from bench_records import HOSTILE, bench_record
from law_runs import called
from records import sample_record

from evaluate.core.errors import UsageError
from evaluate.core.journal import Journal, find_records
from evaluate.report.formats import FORMATS, exported, tables
from evaluate.report.html.pages import MOST_WHOLE, write_page

FIXTURES = Path(__file__).parents[1] / "fixtures" / "bcf02c1"


def mixed() -> list[dict]:
    trials = [json.loads(line) for line in (FIXTURES / "study" / "records.jsonl").read_text().splitlines()]
    law = json.loads((FIXTURES / "law.json").read_text())
    return [sample_record(), sample_record(pruned=True, speed=1.0, seed=1), bench_record(), *trials, law]


def test_every_figure_is_that_of_its_record():
    record = sample_record()
    (row,) = tables([record])["runs"]
    assert row["compressed_value"] == record["compressed"]["accuracy"]["value"]
    assert row["speedup"] == record["speedup"]["value"] and row["speedup_verdict"] == record["speedup"]["verdict"]
    assert row["baseline_bytes"] == record["baseline"]["sizes"]["bytes"]
    found = tables(mixed())
    assert len(found["benchmarks"]) == len(bench_record()["results"])
    assert len(found["trials"]) > 1 and found["laws"][0]["law"]


def test_csv_is_read_back_by_a_csv_reader():
    rows = list(csv.DictReader(io.StringIO(exported(mixed(), "csv"))))
    assert [row["table"] for row in rows] == [name for name, group in tables(mixed()).items() for _ in group]
    assert all(None not in row for row in rows)


def test_markdown_has_as_many_cells_in_every_line_of_a_table():
    for part in exported(mixed(), "md").split("\n\n"):
        lines = [line.replace("\\|", "") for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


@pytest.mark.parametrize("kind", FORMATS)
def test_a_hostile_name_stays_text(kind: str):
    record = sample_record(HOSTILE + "|=1+1")
    text = exported([record, {**sample_record("=cmd()"), "id": "x"}], kind)
    assert "\x1b" not in text
    assert kind == "json" or "<script>" not in text or kind == "csv"
    if kind == "csv":
        assert not any(row["name"].startswith("=") for row in csv.DictReader(io.StringIO(text)))
    if kind == "json":
        json.loads(text)


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'json'"):
        exported([sample_record()], "jsn")


def many(folder: Path, count: int) -> Path:
    journal = Journal(folder / "records.jsonl")
    for n in range(count):
        made = {"id": f"{n:032}", "created": f"2026-01-01T{n // 60:02}:{n % 60:02}:00Z"}
        journal.append({**sample_record(f"run-{n:03}", seed=n % 3), **made})
    return folder


def test_of_many_runs_all_have_a_line_and_the_newest_a_report(tmp_path: Path):
    count = MOST_WHOLE + 15
    records = find_records(many(tmp_path, count), whole=MOST_WHOLE)
    assert [bool(record.get("samples")) for record in records] == [False] * 15 + [True] * MOST_WHOLE
    steps = []
    page = write_page(records, tmp_path / "page.html", lambda *step: steps.append(step)).read_text()
    assert all(f"run-{n:03}" in page for n in range(count))
    assert page.count('<details class="run">') == MOST_WHOLE
    assert f"The reports of the newest {MOST_WHOLE} of {count}" in page
    assert len(steps) == MOST_WHOLE


def test_the_command_writes_every_format(tmp_path: Path):
    runs = many(tmp_path / "runs", 3)
    for kind in FORMATS:
        code, out, err = called("report", runs, "--format", kind, "--quiet")
        assert code == 0, err
        assert out == exported(find_records(runs, whole=MOST_WHOLE), kind)
    code, out, _ = called("report", runs, "--format", "csv", "--out", tmp_path / "t.csv", "--quiet")
    assert (code, out) == (0, "") and (tmp_path / "t.csv").read_text().startswith("table,")
    code, out, _ = called("report", runs, "--format", "json", "--json", "--quiet")
    assert code == 0 and len(json.loads(out)["runs"]) == 3
    code, out, _ = called("report", runs, "--format", "csv", "--json", "--quiet")
    assert code == 2
