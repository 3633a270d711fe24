"""Candidates that crash, hang, give NaN, divide by zero, are cut off or need a provider, beside two good ones.

    python benchmarks/three_candidates.py       # half a minute

Asked: the good ones are measured; each bad one is named with the reason; the exit code says so.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from tiny_onnx import dividing_onnx, hanging_onnx, linear_onnx, nan_onnx

from evaluate import compare

GOOD = {"big": linear_onnx(256, 256, depth=6), "small": linear_onnx(256, 256)}
BAD = {"hangs": hanging_onnx(), "nan": nan_onnx(), "divides": dividing_onnx(), "cut": linear_onnx()[:300]}
OPTIONS = ("--seconds", "3", "--patience", "3", "--quiet")


def crashed(folder: Path) -> None:
    """A candidate whose process is ended by SIGSEGV in its first call, as by a faulty kernel."""
    start, started = subprocess.Popen, []

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = start(*arguments, **options)
        started.append(process)
        if len(started) == 2:  # the process that tries the second candidate
            threading.Timer(3.0, process.send_signal, [signal.SIGSEGV]).start()
        return process

    subprocess.Popen = popen  # type: ignore[misc, assignment]
    try:
        found = compare([folder / f"{name}.onnx" for name in ("big", "hangs", "small")], seconds=5)
    finally:
        subprocess.Popen = start  # type: ignore[misc]
    print(f"--- a crash: exit code {found.exit_code}\n{found.table()}")


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, data in {**GOOD, **BAD}.items():
            (folder / f"{name}.onnx").write_bytes(data)
        for bad in [*(f"{name}.onnx" for name in BAD), "small.onnx@cuda"]:
            command = [sys.executable, "-m", "compress", "bench", "big.onnx", bad, "small.onnx", *OPTIONS]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            print(f"--- {bad}: exit code {done.returncode}\n{done.stdout}")
        crashed(folder)


if __name__ == "__main__":
    main()
