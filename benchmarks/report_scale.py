"""`leanfit report` on many Records: processor seconds, peak memory, size of the page.

    python benchmarks/report_scale.py [--records 5000]

Bars, for 5,000 Records of runs (half of them in one journal, half in folders of their own), on one core: at most 60
processor seconds, 300 MB, and a page of 5 MB. Exits 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from records import sample_record

BARS = {"processor seconds": 60.0, "peak MB": 300.0, "page MB": 5.0}


def lay_out(folder: Path, count: int) -> None:
    """Records as runs leave them: each in the journal of a folder, and many in one journal."""
    with (folder / "records.jsonl").open("w") as journal:
        for n in range(count):
            record = sample_record(
                f"run-{n}", pruned=n % 3 == 0, drop=0.01 * (n % 40), seed=n % 17, machine=f"m{n % 5}"
            )
            record |= {"id": f"{n:032x}", "created": f"2026-{1 + n % 12:02}-{1 + n % 28:02}T{n % 24:02}:00:00Z"}
            line = json.dumps(record) + "\n"
            if n % 2:
                journal.write(line)
            else:
                (folder / f"run{n}").mkdir()
                (folder / f"run{n}" / "records.jsonl").write_text(line)


def main() -> int:
    """Print the figures; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, page = Path(place) / "runs", Path(place) / "report.html"
        folder.mkdir()
        lay_out(folder, options.records)
        held = sum(path.stat().st_size for path in folder.rglob("*.jsonl")) / 1e6
        command = [sys.executable, "-m", "compress", "report", str(folder), "--out", str(page), "--quiet", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        found = {
            "processor seconds": usage.ru_utime + usage.ru_stime,
            "peak MB": usage.ru_maxrss / 1024,
            "page MB": page.stat().st_size / 1e6 if page.exists() else float("inf"),
        }
    print(f"{options.records} Records, {held:.0f} MB")
    missed = [name for name, bar in BARS.items() if found[name] > bar]
    for name, value in found.items():
        print(f"  {'MISSED' if name in missed else 'ok':6} {name} {value:.1f} (at most {BARS[name]:g})")
    return 1 if missed or status else 0


if __name__ == "__main__":
    sys.exit(main())
