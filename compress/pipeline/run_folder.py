"""What every run does in its folder: whether it is its own, two files timed there, the Record and the page kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress.core.files import file_hash, write_arrays
from compress.core.progress import Status
from compress.pipeline.manifest import Manifest, read_manifest
from compress.pipeline.record import Samples
from compress.recipe.schema import Benchmark
from evaluate.benchmark.latency import Opener, measure_latency
from evaluate.core.errors import ArtifactError, MachineError
from evaluate.core.journal import JOURNAL, Journal
from evaluate.hardware.monitor import Watch

FILES = ("model.onnx", "weights.safetensors", "baseline/model.onnx")  # whose hashes a Record keeps


def require_own(folder: Path) -> None:
    """Raise MachineError for a folder of somebody else's: stages/ and manifest.json are names that others use too."""
    if folder.exists() and not folder.is_dir():
        raise MachineError(f"{folder} is a file; --out must name a folder")
    ours = (folder / ".lock").exists() or _manifest(folder) is not None
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise MachineError(
            f"{folder} holds other files and no leanfit run; give an empty or new folder with --out, "
            "so that nothing is lost"
        )


def is_written(folder: Path, stage: str, recipe_hash: str) -> bool:
    """Whether the artifact of a stage is there, whole."""
    found = _manifest(folder)
    return (
        found is not None
        and (found.stage, found.recipe_hash) == (stage, recipe_hash)
        and all((folder / name).is_file() and file_hash(folder / name) == h for name, h in found.hashes.items())
    )


def _manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except ArtifactError:
        return None


def hashes_of(folder: Path) -> dict[str, str]:
    """The SHA-256 of the deployed files that a folder has, by name."""
    return {name: file_hash(folder / name) for name in FILES if (folder / name).is_file()}


def time_files(
    folder: Path, openers: Mapping[str, Opener], config: Benchmark, seed: int, status: Status
) -> dict[str, Any]:
    """Time "baseline", the same once more, and "compressed", interleaved, into a stage's folder, for `times_in`."""
    watch = Watch()

    def told(message: str, done: float, total: float) -> None:
        if message == "timing":  # after the pilot: a clock that wakes up is not one that swings
            watch.mark()
        status(message, done, total)

    candidates = {"baseline": openers["baseline"], "again": openers["baseline"], "compressed": openers["compressed"]}
    timing = measure_latency(candidates, seconds=config.seconds, seed=seed, status=told)
    write_arrays(folder / "samples.npz", timing.samples)
    loops = timing.candidates["baseline"].loops
    return {"loops": loops, "opened_once": timing.opened_once, "machine": watch.summary()}


def times_in(folder: Path, stored: Mapping[str, Any]) -> tuple[Samples, list[str]]:
    """The samples of a stage, and what is to be said of the machine meanwhile."""
    remarks = [f"{text[0].upper()}{text[1:]}." for text in Watch.warnings(stored["machine"])]
    with np.load(folder / "samples.npz", allow_pickle=False) as kept:
        times = kept["baseline"], kept["again"], kept["compressed"]
        return Samples(*times, stored["loops"], stored["opened_once"]), remarks


def keep_record(folder: Path, record: dict[str, Any], status: Status) -> None:
    """Append a Record, once, and write its page, where it is not there already."""
    journal, page = Journal(folder / JOURNAL), folder / "report.html"
    known = [r for r in journal.read() if r.get("kind") == "compress" and r["id"] == record["id"]]
    if known:
        status(f"nothing to do: this was done on {known[0]['created']}", 0, 0)
        if page.is_file() and page.stat().st_mtime_ns >= journal.path.stat().st_mtime_ns:
            return  # `leanfit report` draws one anew
    else:
        journal.append(record)
    from evaluate.report.html.pages import write_page  # charts take a second to import

    write_page([*known, record][:1], page)
