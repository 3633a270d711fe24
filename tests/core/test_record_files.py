"""Records in JSON files: one, or a list, beside journals and beside what others write."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from bench_records import bench_record
from records import sample_record

from evaluate.core.errors import ArtifactError, MachineError
from evaluate.core.journal import Journal, find_records
from evaluate.core.records import require_writable, write_record

# --- files of records --------------------------------------------------------------------------------------------


def test_records_are_read_from_json_files_and_journals_alike(tmp_path):
    pi, laptop = bench_record(device="pi"), bench_record()
    (tmp_path / "pi.json").write_text(json.dumps(pi, indent=1))
    (tmp_path / "two.json").write_text(json.dumps([laptop, pi]))
    Journal(tmp_path / "run" / "records.jsonl").append(sample_record())
    assert find_records(tmp_path / "pi.json") == [pi]
    assert [r["id"] for r in find_records(tmp_path / "two.json")] == [laptop["id"], pi["id"]]
    told = []
    found = find_records(tmp_path, on_problem=told.append)
    assert {r["id"] for r in found} == {pi["id"], laptop["id"], sample_record()["id"]}
    assert len(found) == 3
    assert told == []
    Journal(tmp_path / "journal.json").append(laptop)
    Journal(tmp_path / "journal.json").append(pi)
    assert len(find_records(tmp_path / "journal.json")) == 2


def test_json_of_others_is_passed_over_in_a_folder_and_named_where_it_was_given(tmp_path):
    others = {
        "a": '{"schema": "v1", "kind": "Pod"}',
        "b": "[1, 2]",
        "c": '"schema" "kind" nonsense',
        "d": "{}",
        "e": "",
    }
    for name, text in others.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "real.json").write_text(json.dumps(bench_record()))
    (tmp_path / "folder.json").mkdir()
    told = []
    assert len(find_records(tmp_path, on_problem=told.append)) == 1
    assert [text.partition(".json")[0][-1] for text in told] == ["c"]
    with pytest.raises(ArtifactError, match=r'a\.json: this record has no "schema" and "kind"'):
        find_records(tmp_path / "a.json")


def test_a_file_cut_off_is_told_in_one_sentence(tmp_path):
    whole = json.dumps(bench_record(), indent=1)
    (tmp_path / "out.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"out\.json: this file is not whole JSON"):
        find_records(tmp_path / "out.json")


@pytest.mark.parametrize(
    ("change", "why"),
    [({"schema": 2}, "schema 2"), ({"baseline": {}, "results": "none"}, "results"), ({"floors": {"a": 1}}, "floors")],
)
def test_records_that_cannot_be_read_are_named(change, why, tmp_path):
    (tmp_path / "list.json").write_text(json.dumps([bench_record(), {**bench_record(seed=1), **change}]))
    told = []
    assert len(find_records(tmp_path / "list.json", on_problem=told.append)) == 1
    assert re.search(rf"list\.json: record 2 has .*{why}", told[0])


def test_numbers_that_json_has_no_word_for_become_null(tmp_path):
    file = tmp_path / "out.json"
    write_record(file, {**bench_record(), "id": "a", "seconds": np.float32(2.5), "machine": {"steal": float("nan")}})
    (found,) = find_records(file)
    assert (found["seconds"], found["machine"]) == (2.5, {"steal": None})
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("identity", [["a"], {"a": 1}, None, 1.5])
def test_an_id_that_is_none_stops_no_reading(identity, tmp_path):
    records = [{**bench_record(), "id": identity}, {**bench_record(), "id": identity}]
    (tmp_path / "two.json").write_text(json.dumps(records))
    assert len(find_records(tmp_path)) == 2


def test_a_folder_is_no_place_for_a_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MachineError, match="cannot write the Record"):
        write_record(Path(), bench_record())
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_record(pipe, {"id": "a"})
    assert json.loads(os.read(reading, 1000)) == {"id": "a"}
    os.close(reading)
    assert pipe.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_place_for_a_record_is_checked_before_anything_is_measured(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"files": ["model.onnx"]}))
    (tmp_path / "old.json").write_text(json.dumps({"schema": 1, "kind": "bench"}))
    (tmp_path / "empty.json").touch()
    for fine in ("new.json", "old.json", "empty.json"):
        require_writable(tmp_path / fine, "--out")
    for place, said in (("run.json", "holds no Record"), (".", "is a folder"), ("no/new.json", "there is no folder")):
        with pytest.raises(MachineError, match=said):
            require_writable(tmp_path / place, "--out")
    assert json.loads((tmp_path / "run.json").read_text()) == {"files": ["model.onnx"]}
