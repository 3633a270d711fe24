"""kill -9 a study at random moments until it is through: the same Records as one left in peace, none twice, none lost.

    python benchmarks/study_kill.py [--kills 20] [--seed 0] [--ray]

The whole process group is killed at random moments: one in five while it starts, the others while it works. The study
is started again until it is through; then the next one, until so many kills have hit. With --ray: 2 Ray workers, of
which one that is at work is killed.
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

from evaluate.results import Journal

STUDY = {
    "version": 1,
    "name": "kill",
    "task": {"name": "digits"},
    "model": {"name": "resnet", "depth": 8, "in_channels": 1},
    "sizes": {"width": [2, 4]},
    "train": {"epochs": 6, "batch_size": 64, "learning_rate": 0.1},
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


def run(study: Path, out: Path, *more: str) -> float:
    """Run to the end; gives the seconds it took."""
    began = time.perf_counter()
    done = subprocess.run([*command(study, out, *more), "-q"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{out.name} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return time.perf_counter() - began


def killed_after(study: Path, out: Path, seconds: float, at_work: bool) -> bool:
    """Start a study, kill -9 its process group after `seconds`; whether it was still running.

    at_work : count from the first stage that is begun, however long a busy machine takes to get there.
    """
    before = listing(out)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command(study, out), "-q"], start_new_session=True, **quiet) as process:
        while at_work and process.poll() is None and listing(out) == before:
            time.sleep(0.05)
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


def with_ray(study: Path, out: Path, seed: int) -> None:
    """Run on 2 Ray workers, one of which is killed while it works on a trial."""
    rng = random.Random(seed)
    with subprocess.Popen([*command(study, out, "--ray", "auto"), "-q"], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not trials(out):
            time.sleep(0.2)
        time.sleep(rng.uniform(0.5, 3))
        victims = [pid for pid, line in descendants(process.pid) if line.startswith("ray::")]
        if victims:
            os.kill(rng.choice(victims), signal.SIGKILL)
        print(f"ray: {len(victims)} workers were at work; one was killed", flush=True)
        if process.wait() != 0 or not victims:
            raise SystemExit(f"ray: exit code {process.returncode}, {len(victims)} workers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        study, whole = Path(folder) / "kill.yaml", Path(folder) / "undisturbed"
        study.write_text(json.dumps(STUDY))
        length = run(study, whole)
        wanted = results(whole)
        print(f"undisturbed: {len(wanted)} Records in {length:.1f} s; a second run takes {run(study, whole):.2f} s")
        if arguments.ray:
            with_ray(study, Path(folder) / "ray", arguments.seed)
            sys.exit(not judged("2 Ray workers, one killed", Path(folder) / "ray", wanted))
        hits, good, number = 0, True, 0
        while hits < arguments.kills:
            out, here, number = Path(folder) / f"killed-{number}", hits, number + 1
            at = []
            while hits < arguments.kills and killed_after(study, out, rng.uniform(0, length / 3), hits % 5 > 0):
                hits += 1
                at.append(len(trials(out)))
            print(f"killed {hits - here} times, with {at} Records done", flush=True)
            rest = run(study, out)
            good &= judged(f"study {number}, killed {hits - here} times, {rest:.1f} s at the end", out, wanted)
        print(f"{hits} kills in {number} studies: {'equal' if good else 'DIFFERENT'}")
        sys.exit(not good)


if __name__ == "__main__":
    main()
