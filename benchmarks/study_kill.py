"""kill -9 a study at random moments until it is through: the same Records as one left in peace, none twice, none lost.

    python benchmarks/study_kill.py [--kills 20] [--seed 0] [--ray]

The whole process group is killed while its workers work, at random moments after the first stage that they begin. It
is started again and again until it is through; then the next study, until so many kills have hit. With --ray: 2 Ray
workers, of which one is killed while it works on a trial. Exit code 1 where anything is lost, done twice or different.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from evaluate.core.journal import Journal

STUDY = {
    "version": 1,
    "name": "kill",
    "task": {"name": "digits"},
    "model": {"name": "resnet", "depth": 8, "in_channels": 1},
    "sizes": {"width": [2, 4]},
    "train": {"epochs": 8, "batch_size": 64, "learning_rate": 0.1},
    "levels": {
        "pruned": {
            "values": {"density": [0.5]},
            "passes": [{"kind": "prune", "keep": {"params": "$density"}, "round_to": 1, "recover": {"epochs": 2}}],
        },
        "pruned-int8": {"after": "pruned", "passes": [{"kind": "quantize"}]},
    },
    "seeds": 1,
}
VARIES = ("created", "seconds", "environment")


def command(study: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "compress", "study", str(study), "--out", str(out), "--workers", "2", *more]


def run(study: Path, out: Path, *more: str) -> tuple[float, float]:
    """Run to the end; gives the seconds it took, and those of them from its first stage on."""
    before, began, first = listing(out), time.perf_counter(), 0.0
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen([*command(study, out, *more), "-q"], stdout=subprocess.DEVNULL, stderr=said) as process,
    ):
        while process.poll() is None:
            first = first or (time.perf_counter() if listing(out) != before else 0.0)
            time.sleep(0.05)
        said.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"{out.name} ended with exit code {process.returncode}:\n{said.read().decode()[-3000:]}")
    ended = time.perf_counter()
    return ended - began, ended - first if first else 0.0


def killed_after(study: Path, out: Path, seconds: float) -> bool:
    """Start a study, kill -9 its process group `seconds` after the first stage it begins; whether it still ran."""
    before = listing(out)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command(study, out), "-q"], start_new_session=True, **quiet) as process:
        while process.poll() is None and listing(out) == before:
            time.sleep(0.02)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


def listing(out: Path) -> list[str]:
    """The stages that are begun or done."""
    return sorted(str(path) for path in (out / "stages").rglob("*"))


def trials(out: Path) -> list[dict[str, Any]]:
    return [record for record in Journal(out / "records.jsonl").read() if record["kind"] == "trial"]


def results(out: Path) -> dict[str, str]:
    """What was found, by id, without what differs from one run to the next (times)."""
    return {r["id"]: json.dumps({k: v for k, v in r.items() if k not in VARIES}, sort_keys=True) for r in trials(out)}


def repeated(out: Path) -> list[str]:
    """Trials and stages that were done twice."""
    keys = [record["id"] for record in trials(out)]
    keys += [record["key"] for record in Journal(out / "stages.jsonl").read()]
    return [key for key, count in Counter(keys).items() if count > 1]


def judged(name: str, out: Path, wanted: dict[str, str]) -> bool:
    found = results(out)
    lost, other = wanted.keys() - found.keys(), [key for key in wanted if found.get(key, wanted[key]) != wanted[key]]
    twice = repeated(out)
    print(
        f"{name}: {len(found)} Records; lost {len(lost)}, done twice {len(twice)}, different {len(other)}", flush=True
    )
    return not lost and not twice and not other and found.keys() == wanted.keys()


def descendants(root: int) -> list[tuple[int, str]]:
    """(pid, command line) of every process below this one."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(path.name)] = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
    found, here = [], {root}
    while here:
        here = {pid for pid, parent in parents.items() if parent in here}
        for pid in here:
            with contextlib.suppress(OSError):
                found.append((pid, Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")))
    return found


def with_ray(study: Path, out: Path, seed: int) -> bool:
    """Run on 2 Ray workers, one of which is killed while it works on a trial; whether one was, and all went well."""
    rng = random.Random(seed)
    with subprocess.Popen([*command(study, out, "--ray", "auto"), "-q"], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not trials(out):
            time.sleep(0.2)
        time.sleep(rng.uniform(0, 1))
        busy: list[int] = []
        while process.poll() is None and not busy:
            busy = [pid for pid, line in descendants(process.pid) if line.startswith("ray::_work")]
        if busy:
            os.kill(rng.choice(busy), signal.SIGKILL)
        print(
            f"ray: {len(busy)} workers were at work; one was killed, with {len(trials(out))} Records done", flush=True
        )
        process.wait()
    return bool(busy) and process.returncode == 0


def with_kills(study: Path, folder: Path, wanted: dict[str, str], work: float, kills: int, seed: int) -> bool:
    """Studies one after the other, each killed again and again, until so many kills have hit; whether all are equal."""
    rng = random.Random(seed)
    hits, good, number = 0, True, 0
    while hits < kills:
        out, number, at = folder / f"killed-{number}", number + 1, []
        while hits + len(at) < kills and killed_after(study, out, rng.uniform(0, work / 4)):
            at.append(f"{len(trials(out))}")
        hits += len(at)
        run(study, out)
        good &= judged(f"study {number}, killed {len(at)} times, with {' '.join(at)} Records done", out, wanted)
    print(f"{hits} kills in {number} studies: {'equal' if good else 'DIFFERENT'}")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study, whole = folder / "kill.yaml", folder / "undisturbed"
        study.write_text(json.dumps(STUDY))
        length, work = run(study, whole)
        wanted = results(whole)
        again, _ = run(study, whole)
        print(f"undisturbed: {len(wanted)} Records in {length:.1f} s, {work:.1f} s of it work; again: {again:.2f} s")
        if arguments.ray:
            good = with_ray(study, folder / "ray", arguments.seed)
            good &= judged("2 Ray workers, one killed", folder / "ray", wanted)
        else:
            good = with_kills(study, folder, wanted, work, arguments.kills, arguments.seed)
    print(f"{time.perf_counter() - began:.0f} s altogether: {'as it should be' if good else 'MISSED'}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
