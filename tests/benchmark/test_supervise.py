"""A worker that crashes, hangs, talks nonsense or is cut off: what is heard of it, and that nothing is left of it."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from evaluate.benchmark.supervise import DOING, Beacon, run_job
from evaluate.core.errors import MachineError

LEGS = ["a", "b"]
PATIENT = 30.0


def worker(body):
    """A command that reads its job, has `beacon` and `emit`, and runs `body`."""
    start = """
        import json, os, signal, sys, time
        from evaluate.benchmark.supervise import Beacon
        job = json.loads(sys.stdin.readline())
        beacon = Beacon(job["beacon"], job["candidates"])
        emit = lambda event: print(json.dumps(event), flush=True)
    """
    return [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(body)]


def run(body, patience=PATIENT, **job):
    heard = []
    return run_job(job, LEGS, heard.append, patience=patience, command=worker(body)), heard


def test_a_worker_is_given_its_job_and_heard_to_the_end():
    ended, heard = run(
        'emit({"got": job["what"]}); emit({"candidates": job["candidates"]}); emit({"done": True})', what="x"
    )
    assert ended.kind == "done" and heard == [{"got": "x"}, {"candidates": LEGS}]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_named_with_its_candidate_and_signal(number):
    ended, heard = run(f'emit({{"n": 1}}); beacon.show("b", "timing"); os.kill(os.getpid(), {int(number)})')
    assert (ended.kind, ended.candidate, ended.doing) == ("crashed", "b", "timing")
    assert signal.Signals(number).name in ended.reason and heard == [{"n": 1}]


def test_an_early_exit_is_a_crash_with_its_last_words():
    ended, _ = run('beacon.show("a", "opening"); sys.exit("terminate called: out of luck")')
    assert (ended.kind, ended.candidate) == ("crashed", "a")
    assert "exit code 1" in ended.reason and "out of luck" in ended.reason


def test_a_hang_is_named_with_its_candidate():
    ended, _ = run('beacon.show("b", "first call"); time.sleep(600)', patience=1.0)
    assert (ended.kind, ended.candidate, ended.doing) == ("hung", "b", "first call") and "1 s" in ended.reason


@pytest.mark.parametrize("sign", ['emit({"n": i})', 'beacon.show("a", "timing")'])
def test_whoever_gives_a_sign_of_life_does_not_hang(sign):
    body = f"for i in range(8):\n    time.sleep(0.25)\n    {sign}\nemit({{'done': True}})"
    assert run(body, patience=1.5)[0].kind == "done"


def test_a_fault_of_the_workers_own_is_no_candidates_fault():
    with pytest.raises(RuntimeError, match=r"KeyError"):
        run('emit({"bug": "KeyError: models"})')


def test_what_else_is_printed_is_not_taken_for_an_event():
    ended, heard = run('print("Welcome to the library"); print(3); emit({"n": 1}); emit({"done": True})')
    assert ended.kind == "done" and heard == [{"n": 1}]


def test_no_temporary_file_of_a_worker_that_is_killed_is_left():
    body = 'import tempfile; emit({"at": tempfile.mkdtemp(prefix="engines-")}); emit({"done": True}); time.sleep(600)'
    _, heard = run(body)
    assert "engines-" in heard[0]["at"] and not Path(heard[0]["at"]).exists()


def test_the_real_worker_is_not_led_astray_by_files_where_it_is_started(tmp_path, monkeypatch):
    for name in ("json", "random", "numpy", "evaluate"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*(p for p in sys.path if p not in ("", ".")), tmp_path / "no text"])
    with pytest.raises(RuntimeError, match=r"KeyError: 'no such job'"):
        run_job({"kind": "no such job"}, LEGS, print, patience=PATIENT)


def test_nothing_is_left_running_when_the_listener_fails():
    def fails(event):
        os.kill(event["pid"], 0)  # it lives
        pids.append(event["pid"])
        raise KeyboardInterrupt

    pids = []
    with pytest.raises(KeyboardInterrupt):
        run_job({}, LEGS, fails, patience=PATIENT, command=worker('emit({"pid": os.getpid()}); time.sleep(600)'))
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_real_worker_ends_when_nobody_listens_any_more(tmp_path):
    import json
    import subprocess

    from evaluate.benchmark.supervise import SHOT, WORKER
    from evaluate.runtime.worker_process import worker_command

    (tmp_path / "beacon").write_bytes(bytes(SHOT.size))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(worker_command(WORKER), stdin=subprocess.PIPE, **quiet)
    # Its stdin closes at once, as when its parent is killed: the job is not worked on.
    job = {"kind": "latency", "beacon": str(tmp_path / "beacon"), "candidates": ["a"]}
    process.communicate(json.dumps(job).encode() + b"\n", timeout=30)
    assert process.returncode is not None


def test_a_program_that_is_not_there_is_the_machines_problem():
    with pytest.raises(MachineError, match=r"no worker process could be started"):
        run_job({}, LEGS, print, patience=1, command=["/no/such/python"])


def test_a_beacon_is_read_by_others_and_costs_little(tmp_path):
    place = tmp_path / "beacon"
    place.write_bytes(bytes(64))
    mine, other = Beacon(place, LEGS), Beacon(place, LEGS)
    assert other.read() == (0, None, "starting")
    for candidate in LEGS:
        for doing in DOING:
            mine.show(candidate, doing)
            assert other.read()[1:] == (candidate, doing)
    assert other.read()[0] == len(LEGS) * len(DOING)
    start = time.process_time()
    for _ in range(10_000):
        mine.show("a", "timing")
    assert time.process_time() - start < 0.5
