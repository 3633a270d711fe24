"""kill -9 a digits run at random moments, run it again: every run ends, and all end with the same files.

    python benchmarks/kill_resume.py [--kills 10] [--seed 0] [--recipe digits-resnet-half-int8]

The first run is left in peace, and a second one beside it, which shows that the same recipe and seed give the same
SHA-256 of weights and ONNX files. Then each run is killed once, at a moment drawn between its start and the length of
the first run, and started again.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evaluate.core.journal import find_records

FILES = ("model.onnx", "weights.safetensors", "baseline/model.onnx")


def hashes(folder: Path) -> tuple[str, ...]:
    """SHA-256 of the deployed files."""
    return tuple(hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16] for name in FILES)


def command(recipe: str, out: Path) -> list[str]:
    return [sys.executable, "-m", "compress", "compress", recipe, "--out", str(out), "--quiet"]


def run(recipe: str, out: Path) -> float:
    """Run to the end; gives the seconds it took."""
    began = time.perf_counter()
    done = subprocess.run(command(recipe, out), capture_output=True, text=True)
    if done.returncode not in (0, 9):  # 9: finished, and a goal was missed
        raise SystemExit(f"{out.name} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def killed_at(recipe: str, out: Path, seconds: float) -> str:
    """Start a run and kill -9 it after `seconds`; gives the stages that were finished by then."""
    with subprocess.Popen(command(recipe, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    stages = sorted(p.name.rsplit("-", 1)[0] for p in (out / "stages").glob("[!.]*")) if out.exists() else []
    return ", ".join(stages) or "nothing"


def repeated(out: Path) -> bool:
    """Whether a stage that was finished was done again: its key would stand in the journal twice."""
    keys = [record["key"] for record in find_records(out) if record["kind"] == "stage"]
    return len(keys) != len(set(keys))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", default="digits-resnet-half-int8")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "undisturbed"
        length = run(arguments.recipe, whole)
        wanted = hashes(whole)
        run(arguments.recipe, Path(folder) / "again")
        same = hashes(Path(folder) / "again") == wanted
        print(f"undisturbed: {length:.1f} s, {' '.join(wanted)}; run twice: {'equal' if same else 'DIFFERENT'}")
        failures = not same
        for n in range(arguments.kills):
            out, moment = Path(folder) / f"killed-{n}", rng.uniform(0, length)
            finished = killed_at(arguments.recipe, out, moment)
            rest = run(arguments.recipe, out)
            same = hashes(out) == wanted and not repeated(out)
            failures |= not same
            print(
                f"kill {n}: at {moment:5.1f} s with {finished} done; went on for {rest:5.1f} s; "
                f"{'equal' if same else 'DIFFERENT'}",
                flush=True,
            )
    sys.exit(int(failures))


if __name__ == "__main__":
    main()
