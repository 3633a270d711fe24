"""Two processes in one folder: one works, the other waits or is told; a lock of a killed one is free at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compress.pipeline.stages import Stages, locked
from evaluate.core.errors import MachineError
from evaluate.core.journal import Journal

HOLD = """
import sys, time
from pathlib import Path
from compress.pipeline.stages import Stages, locked
from evaluate.core.journal import Journal
folder = Path(sys.argv[1])
def hold(*_):
    print("held", flush=True)
    time.sleep(600)
if sys.argv[2] == "folder":
    with locked(folder):
        hold()
Stages(folder, Journal(folder / "stages.jsonl"), shared=True).run("0-prune", "f" * 64, hold)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Starts a process that holds a lock in the folder until it is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(what: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(tmp_path), what]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout and started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_folder_is_held_against_a_second_process_until_the_first_is_killed(holder, tmp_path: Path):
    process = holder("folder")
    with pytest.raises(MachineError, match="another leanfit process"), locked(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(tmp_path):
        pass
    with locked(tmp_path), pytest.raises(MachineError), locked(tmp_path):
        pass


def test_a_stage_of_a_killed_process_is_made_at_once(holder, tmp_path: Path):
    process = holder("stage")
    process.send_signal(signal.SIGKILL)
    process.wait()
    stages = Stages(tmp_path, Journal(tmp_path / "stages.jsonl"), shared=True)
    made = []
    folder, _ = stages.run("0-prune", "f" * 64, lambda *places: made.append(places) or {})
    assert len(made) == 1 and (folder / "result.json").is_file()


def test_the_torch_side_imports_where_there_is_no_fcntl():
    code = (
        "import sys, importlib.abc\n"
        "class No(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'fcntl': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, No()); sys.modules.pop('fcntl', None)\n"
        "import compress.pipeline.stages, compress.pipeline.run, compress.study.run_study, compress.cli.commands\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
