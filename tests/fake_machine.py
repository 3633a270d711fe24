"""Machines laid out as folders, and an nvidia-smi that answers from a table."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

SMI = """#!{python} -IS
import json, os, sys, time
table = json.loads({table!r})
if table["sleep"]:
    time.sleep(table["sleep"])
if table["fails"]:
    print(table["fails"])
    sys.exit(9)
asked = next(a for a in sys.argv if a.startswith("--query-")).partition("=")[2].split(",")
for field in asked:
    if any(field not in row for row in table["rows"]):
        print('Field "%s" is not a valid field to query.' % field)
        sys.exit(2)
for row in table["rows"]:
    print(", ".join(row[field] for field in asked))
"""
H200 = {
    "name": "Example H200", "driver_version": "590.44", "memory.total": "143771", "memory.used": "4",
    "clocks.sm": "345", "clocks.max.sm": "1980", "clocks.mem": "3201", "clocks.max.mem": "3201",
    "power.limit": "700.00", "temperature.gpu": "31", "utilization.gpu": "0", "persistence_mode": "Enabled",
    "compute_mode": "Default", "mig.mode.current": "Disabled",
}  # fmt: skip


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    """Write these files (path below the folder -> text) and give the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def nvidia_smi(monkeypatch, folder: Path, *rows: dict[str, str], fails: str = "", sleep: float = 0.0) -> None:
    """Put an nvidia-smi first on the PATH: it knows the fields of `rows` and no others."""
    table = json.dumps({"rows": list(rows), "fails": fails, "sleep": sleep})
    script = lay_out(folder, {"bin/nvidia-smi": SMI.format(python=sys.executable, table=table)}) / "bin/nvidia-smi"
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
