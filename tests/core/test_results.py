"""The journal: nothing is lost by several writers, a killed one, or a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from evaluate.core.errors import ArtifactError, MachineError
from evaluate.core.journal import Journal, find_records

WRITER = """
import sys
from evaluate.core.journal import Journal
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for i in range(count):
    Journal(path).append({"id": f"{name}-{i}", "filling": name * 4000})
"""


def writer(path, name, count):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(count)])


def test_what_was_written_is_read_in_order(tmp_path):
    journal = Journal(tmp_path / "deep" / "records.jsonl")
    assert journal.read() == []
    records = [{"id": i, "text": "zürich\nnew line", "list": [1, 2.5, None, True]} for i in range(3)]
    for record in records:
        journal.append(record)
    assert journal.read() == records and journal.problems == []
    assert len(journal.path.read_bytes().splitlines()) == 3


def test_four_writers_lose_and_tear_nothing(tmp_path):
    path = tmp_path / "records.jsonl"
    writers = [writer(path, name, 50) for name in "abcd"]
    assert [w.wait(timeout=60) for w in writers] == [0] * 4
    journal = Journal(path)
    found = journal.read()
    assert journal.problems == []
    assert sorted(r["id"] for r in found) == sorted(f"{name}-{i}" for name in "abcd" for i in range(50))
    assert all(r["filling"] == r["id"][0] * 4000 for r in found)


def test_a_killed_writer_leaves_a_journal_that_goes_on(tmp_path):
    path = tmp_path / "records.jsonl"
    process = writer(path, "a", 100_000)
    deadline = time.monotonic() + 30
    while (not path.exists() or path.stat().st_size < 20_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    journal = Journal(path)
    before = journal.read()
    journal.append({"id": "after"})
    assert [r["id"] for r in journal.read()] == [f"a-{i}" for i in range(len(before))] + ["after"]
    assert len(before) >= 4


def test_a_writer_waits_for_the_one_before(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    journal = Journal(tmp_path / "records.jsonl")
    journal.append({"id": 1})
    with journal.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=journal.append, args=({"id": 2},))
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive() and journal.path.read_bytes() == b'{"id":1}\n'
    thread.join(timeout=10)
    assert [r["id"] for r in journal.read()] == [1, 2]


def test_a_record_is_on_the_disk_before_append_returns(tmp_path, monkeypatch):
    journal, synced, real = Journal(tmp_path / "records.jsonl"), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), real(handle)))
    journal.append({"id": 1})
    assert synced == [journal.path.stat().st_ino, tmp_path.stat().st_ino]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_told_and_closed_by_the_next_writer(tmp_path, cut):
    journal = Journal(tmp_path / "records.jsonl")
    for i in range(3):
        journal.append({"id": i, "filling": "x" * 50})
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[: -1 - cut])
    assert [r["id"] for r in journal.read()] == [0, 1]
    assert len(journal.problems) == 1
    assert "records.jsonl:3" in journal.problems[0] and "cut off" in journal.problems[0]
    journal.append({"id": 9})
    assert [r["id"] for r in journal.read()] == [0, 1, 9]
    assert "records.jsonl:3" in journal.problems[0]


def test_a_line_that_lost_only_its_end_of_line_is_whole(tmp_path):
    journal = Journal(tmp_path / "records.jsonl")
    journal.append({"id": 1})
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    assert [r["id"] for r in journal.read()] == [1] and journal.problems == []
    journal.append({"id": 2})
    assert [r["id"] for r in journal.read()] == [1, 2] and journal.problems == []


@pytest.mark.parametrize("broken", [b"{nonsense", b"[1, 2]", b"\xff\xfe\x00", b'"text"', b'{"schema": 2, "id": 7}'])
def test_a_broken_line_is_told_with_its_number_and_skipped(tmp_path, broken):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"id": 1}\n\n' + broken + b'\n{"id": 2}\n')
    journal = Journal(path)
    assert [r["id"] for r in journal.read()] == [1, 2]
    assert len(journal.problems) == 1 and f"{path}:3:" in journal.problems[0]
    assert journal.read() and len(journal.problems) == 1


def test_what_json_does_not_know_is_written_as_what_it_does(tmp_path):
    journal = Journal(tmp_path / "records.jsonl")
    journal.append(
        {
            "numpy": np.float32(1.5),
            "count": np.int64(3),
            "array": np.array([[1.0, np.nan]]),
            "yes": np.bool_(True),
            "path": Path("a/b"),
            "tuple": (1, float("inf")),
            7: {"nested": np.arange(2)},
        }
    )
    assert journal.read() == [
        {
            "numpy": 1.5,
            "count": 3,
            "array": [[1.0, None]],
            "yes": True,
            "path": "a/b",
            "tuple": [1, None],
            "7": {"nested": [0, 1]},
        }
    ]


def test_a_record_that_cannot_be_written_leaves_the_file_alone(tmp_path):
    journal = Journal(tmp_path / "records.jsonl")
    with pytest.raises(TypeError):
        journal.append({"object": object()})
    assert not journal.path.exists()


FULL = """
import resource, sys
from evaluate.core.journal import Journal
from evaluate.core.errors import MachineError
journal = Journal(sys.argv[1])
journal.append({"id": 1})
size = journal.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
try:
    journal.append({"id": 2, "filling": "x" * 1000})
except MachineError as error:
    print(error.exit_code, error)
"""


def test_a_record_that_fits_only_in_part_is_taken_back(tmp_path):
    path = tmp_path / "records.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("8 ") and str(path) in done.stdout
    assert path.read_bytes() == b'{"id":1}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named():
    with pytest.raises(MachineError, match=r"No space left on device.*run the same command again"):
        Journal("/dev/full").append({"id": 1})


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match=r"could not be written"):
        Journal(tmp_path / "file" / "records.jsonl").append({"id": 1})
    with pytest.raises(ArtifactError, match=r"cannot be read"):
        Journal(tmp_path).read()


def test_records_are_found_below_a_folder_once_and_in_order(tmp_path):
    for where, number, created in [("runs/b", 2, "2026-01-02"), ("runs/a/deep", 1, "2026-01-01"), ("other", 3, "2025")]:
        Journal(tmp_path / where / "records.jsonl").append({"id": number, "created": created})
    Journal(tmp_path / "runs/copy/records.jsonl").append({"id": 2, "created": "2026-01-02"})
    assert [r["id"] for r in find_records(tmp_path / "runs")] == [1, 2]
    assert [r["id"] for r in find_records(tmp_path)] == [3, 1, 2]
    assert [r["id"] for r in find_records(tmp_path / "other/records.jsonl")] == [3]


def test_problems_are_handed_on(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"id": 1}\n{"id": 2')
    told = []
    assert len(find_records(tmp_path, on_problem=told.append)) == 1
    assert len(told) == 1 and ":2:" in told[0]


def test_finding_nothing_says_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match=r"there is no .*nowhere") as caught:
        find_records(tmp_path / "nowhere")
    assert caught.value.exit_code == 7
    with pytest.raises(ArtifactError, match=r"no records .*leanfit compress"):
        find_records(tmp_path)
    (tmp_path / "records.jsonl").write_text("{broken")
    with pytest.raises(ArtifactError, match=r"no records .*records.jsonl:1: .*cut off"):
        find_records(tmp_path)


def test_an_appended_line_is_compact_json(tmp_path):
    journal = Journal(tmp_path / "records.jsonl")
    journal.append({"a": [1, 2], "b": "ü"})
    assert journal.path.read_text(encoding="utf-8") == '{"a":[1,2],"b":"ü"}\n'
    assert json.loads(journal.path.read_text(encoding="utf-8")) == {"a": [1, 2], "b": "ü"}


def test_a_path_that_is_no_utf_8_is_kept_as_it_is(tmp_path):
    journal = Journal(tmp_path / "records.jsonl")
    journal.append({"path": "run\udcff"})
    assert journal.read() == [{"path": "run\udcff"}] and journal.problems == []
