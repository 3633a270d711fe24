"""The command line's half of a benchmark: which models are meant, and on which samples; the rest is `evaluate`'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress.bundle.packable import is_onnx, open_run, shared_task
from compress.core.progress import Status, silent
from evaluate.benchmark.inputs import split_provider
from evaluate.core.errors import ArtifactError, UsageError
from evaluate.metrics.samples import Samples


def numbers(text: str, what: str) -> list[int]:
    """ "1,2,8" as numbers. Raises UsageError for anything else."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise UsageError(f"--{what} takes whole numbers of at least 1, as in 1,2; got {text!r}")
    return found


def with_baselines(paths: Sequence[Path], baseline: Path | None) -> list[Path]:
    """The models that are meant: the folder of a run alone means its baseline too, which comes first."""
    if len(paths) == 1 and baseline is None:
        run, provider = split_provider(paths[0], "")
        reference = run / "baseline"
        if (reference / "model.onnx").is_file():
            return [Path(f"{reference}@{provider}") if provider else reference, paths[0]]
    return list(paths)


def samples_of_runs(paths: Sequence[Path], count: int, seed: int = 0, status: Status = silent) -> Samples:
    """Test samples of the one task of the runs among these paths; the samples that `pack` would take.

    Raises ArtifactError where no path is the folder of a run, DataError where their tasks differ or data is missing.
    """
    from compress.bundle.pack import samples_of

    places = [split_provider(path, "")[0] for path in paths]
    runs = [place.parent if place.name == "baseline" else place for place in places if not is_onnx(place)]
    task = shared_task([open_run(path) for path in dict.fromkeys(runs)], None, status)
    if task is None:
        raise ArtifactError("--samples takes samples of a run's task, and no folder of a run is named; name one")
    return samples_of(task, count, seed)
