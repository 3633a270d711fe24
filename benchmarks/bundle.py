"""The edge bundle in clean environments: its size, and from start to first sample, under every Python found.

    leanfit compress cifar10-resnet20-int8
    python benchmarks/bundle.py [--run runs/cifar10-resnet20-int8] [--samples 200] [--pythons python3.9 python3.13 ...]

For every Python an environment is made that holds numpy and onnxruntime only, and the bundle is run in it three times.
Pythons are looked for on PATH (with pyenv, PYENV_VERSION names several). "First sample" is when the program says that
it times: every model has then been tried in a process of its own and warmed up.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from compress.bundle.pack import pack

PYTHONS = tuple(f"python3.{minor}" for minor in range(9, 15))
RUNS = 3


def answers(python: str) -> str | None:
    """The program behind a name, or None where it does not run (a shim of pyenv's, for one)."""
    if shutil.which(python) is None:
        return None
    done = subprocess.run([python, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def environment(python: str, folder: Path) -> Path | str:
    """The Python of a new environment with numpy and onnxruntime, or why there is none."""
    made = subprocess.run([python, "-m", "venv", str(folder)], capture_output=True, text=True)
    if made.returncode:
        return f"no environment: {made.stderr.strip().splitlines()[-1:]}"
    program = next(path for path in folder.glob("*/python*") if path.stem == "python")
    pip = subprocess.run(
        [program, "-m", "pip", "install", "-q", "numpy", "onnxruntime"], capture_output=True, text=True
    )
    return program if pip.returncode == 0 else f"pip failed: {pip.stderr.strip().splitlines()[-1:]}"


def first_sample(program: Path, bundle: Path, out: Path) -> tuple[float, int]:
    """Seconds from start until the first sample is taken, and the exit code."""
    began = time.perf_counter()
    command = [str(program), str(bundle), "--seconds", "5", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        moments = [time.perf_counter() - began for line in process.stderr or () if line == "timing\n"]
    return (moments or [float("nan")])[0], process.returncode


def report(program: Path, bundle: Path, out: Path) -> str:
    """One line about the runs under one Python."""
    runs = [first_sample(program, bundle, out) for _ in range(RUNS)]
    if any(code for _, code in runs):
        return f"exit codes {[code for _, code in runs]}"
    record = json.loads(out.read_text())
    versions = record["environment"]["versions"]
    same = all(entry["agreement"]["same"] == entry["agreement"]["n"] for entry in record["results"])
    seconds = ", ".join(f"{moment:.2f}" for moment, _ in runs)
    told = f"numpy {versions['numpy']:<7} onnxruntime {versions['onnxruntime']:<7} first sample after {seconds} s"
    return f"{told}, {'answers as packed' if same else 'OTHER ANSWERS THAN PACKED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/cifar10-resnet20-int8"))
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--pythons", nargs="+", default=PYTHONS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, baseline in (("model alone", False), ("with its baseline", True)):
            packed = pack([arguments.run], place / "bench.pyz", samples=arguments.samples, baseline=baseline)
            print(f"{name}: {packed.bytes:,} bytes with {packed.samples} samples, {', '.join(packed.models)}")
        for python in arguments.pythons:
            program = answers(python)
            if program is None:
                print(f"{python:<11} not found")
                continue
            inner = environment(program, place / python)
            told = inner if isinstance(inner, str) else report(inner, place / "bench.pyz", place / f"{python}.json")
            print(f"{python:<11} {told}", flush=True)


if __name__ == "__main__":
    main()
