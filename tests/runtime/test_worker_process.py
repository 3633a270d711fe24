"""Every worker process: it searches what its parent searches, talks in messages, and its end is told with its words."""

from __future__ import annotations

import queue
import sys
from pathlib import Path

import pytest

from evaluate.core.errors import MachineError
from evaluate.runtime.worker_process import WorkerProcess, worker_command

WORKERS = {
    "evaluate.benchmark.worker": ({"kind": "no such job", "beacon": "", "candidates": []}, "bug"),
    "compress.study.study_worker": ({"out": ".", "device": "cpu", "threads": 1}, "ready"),
}
NOT_THESE = ("evaluate", "compress", "json", "random", "numpy", "queue", "torch", "typing")


def start(module: str, log: Path, **options) -> tuple[WorkerProcess, queue.SimpleQueue]:
    messages = queue.SimpleQueue()
    return WorkerProcess(module, log, messages.put, environment={}, **options), messages


def command(code: str) -> list[str]:
    return [sys.executable, "-c", f"import sys, time, os\n{code}"]


def searched(monkeypatch: pytest.MonkeyPatch, *places: object) -> list[str]:
    monkeypatch.setattr(sys, "path", list(places))
    return worker_command("m")[-1].split("\n")


@pytest.mark.parametrize("module", WORKERS)
@pytest.mark.parametrize("notebook", [False, True])
def test_no_worker_is_led_astray_by_files_where_it_is_started(module, notebook, tmp_path, monkeypatch):
    for name in NOT_THESE:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    own = [place for place in sys.path if place not in ("", ".")]
    monkeypatch.setattr(sys, "path", ["", *own] if notebook else own)
    message, answer = WORKERS[module]
    worker, messages = start(module, tmp_path / "log")
    try:
        worker.send(message)
        assert answer in messages.get(timeout=120), worker.last_words()
    finally:
        worker.stop()


def test_a_worker_searches_what_its_parent_searches_and_the_working_directory_last(tmp_path, monkeypatch):
    home = str(Path(__file__).parents[2])
    monkeypatch.chdir(tmp_path)
    assert searched(monkeypatch, "", home, "/lib", ".") == [home, "/lib", str(tmp_path)]
    assert searched(monkeypatch, "", "/lib", "own", Path("/more")) == [
        home,
        "/lib",
        "/more",
        str(tmp_path),
        str(tmp_path / "own"),
    ]
    assert searched(monkeypatch, "/lib", home) == ["/lib", home]  # site-packages may hold a module named as Python's


def test_messages_go_both_ways_and_what_else_is_printed_goes_to_the_log(tmp_path):
    code = """
from evaluate.runtime.worker_process import Parent
parent = Parent()
print("a library says hello")
parent.send({"got": parent.receive()})
os.write(1, b"and so does C")
raise ValueError("\\x1b[31mthat was all")
"""
    worker, messages = start("", tmp_path / "log", command=command(code))
    worker.send({"n": 1})
    assert messages.get(timeout=60) == {"got": {"n": 1}} and messages.get(timeout=60) is None
    assert worker.ending() == "exit code 1; its last words: ValueError:  [31mthat was all"
    assert "hello" in (tmp_path / "log").read_text() and "so does C" in (tmp_path / "log").read_text()
    worker.stop()


def test_the_last_words_are_those_of_this_worker(tmp_path):
    for said in ("the first", "", "the third"):
        worker, messages = start("", tmp_path / "log", command=command(f"sys.stderr.write({said!r}); sys.exit(3)"))
        assert messages.get(timeout=60) is None
        assert worker.ending(" while it did") == "exit code 3 while it did" + (
            f"; its last words: {said}" if said else ""
        )
        worker.stop()


@pytest.mark.parametrize("printed", ["print('3')", "print('[1]')", "print('no json')", "print('{\"n\": 1}', end='')"])
def test_what_is_no_message_is_not_taken_for_one(printed, tmp_path):
    worker, messages = start("", tmp_path / "log", command=command(printed))
    assert messages.get(timeout=60) is None
    worker.stop()


def test_a_worker_ends_with_its_parent(tmp_path):
    code = "from evaluate.runtime.worker_process import Parent\nParent()\ntime.sleep(600)"
    worker, messages = start("", tmp_path / "log", command=command(code))
    worker.process.stdin.close()
    assert messages.get(timeout=60) is None and "exit code 1" in worker.ending()
    worker.stop()


def test_a_python_that_does_not_know_itself_is_said(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(MachineError, match="does not know its own program"):
        worker_command("m")
