"""Time any number of ONNX models against a baseline: what `leanfit bench` prints."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate import latency, stats
from evaluate.errors import FileProblem, MachineProblem, ModelProblem, UsageProblem, did_you_mean
from evaluate.session import Port, Session, open_session

__all__ = ["compare", "model_file", "random_feeds"]

Status = Callable[[str, float, float], None]


def compare(
    paths: Sequence[str | Path],
    baseline: str | Path | None = None,
    *,
    provider: str = "cpu",
    threads: int = 1,
    batch: int = 1,
    rounds: int = 30,
    seconds: float | None = 20.0,
    seed: int = 0,
    status: Status | None = None,
) -> list[dict[str, Any]]:
    """Latency, speed-up and size of every model, from one interleaved measurement on seeded random inputs.

    paths    : ONNX files, or folders that hold a `model.onnx`. A path given twice is measured twice: the noise floor.
    baseline : one of them, or another one (it is then measured as well and comes first); the first where not given.
    batch    : the size of a free batch dimension; a model with a fixed one is measured with its own, and says so.

    Gives one dict a model: path, file, baseline (bool), sizes {bytes, packed_bytes}, inputs, latency, speedup (against
    the baseline; None for itself), noise_floor, samples (seconds, a list a round), warnings.
    Raises FileProblem, ModelProblem, RuntimeMissing as `open_session` does; UsageProblem for a wrong argument.
    """
    _check_arguments(len(paths), batch, rounds)
    given, base = _with_baseline([Path(p) for p in paths], None if baseline is None else Path(baseline))
    models = [_Model(path, provider, threads, batch, seed) for path in given]
    calls = {f"{i}": model.call for i, model in enumerate(models)}
    taken = latency.measure_latency(calls, rounds=rounds, seconds=seconds, seed=seed, status=status)
    samples = [taken[f"{i}"] for i in range(len(models))]
    return [_entry(model, mine, models[base], samples[base]) for model, mine in zip(models, samples, strict=True)]


def _check_arguments(models: int, batch: int, rounds: int) -> None:
    for what, got, least in (("models", models, 1), ("batch", batch, 1), ("rounds", rounds, latency.MIN_ROUNDS)):
        if got < least:
            raise UsageProblem(f"bench needs {what} of at least {least}, got {got}")


class _Model:
    """An opened model with its inputs laid out."""

    def __init__(self, path: Path, provider: str, threads: int, batch: int, seed: int) -> None:
        self.path, self.file = path, model_file(path)
        self.session = open_session(self.file, provider=provider, threads=threads)
        feeds = random_feeds(self.session, batch, seed)
        self.inputs = [{"name": n, "shape": list(a.shape), "dtype": str(a.dtype)} for n, a in feeds.items()]
        fixed = [port.shape[0] for port in self.session.inputs[:1] if port.shape]
        self.batch = fixed[0] if fixed and isinstance(fixed[0], int) else batch
        self.warnings = _input_warnings(path, self.session, self.batch, batch)
        self.call = self.session.bind(feeds)


def model_file(path: str | Path) -> Path:
    """The ONNX file meant by a path: itself, or `model.onnx` in a folder. Raises FileProblem where there is none."""
    place = Path(path)
    if not place.is_dir():
        return place
    file = place / "model.onnx"
    if not file.exists():
        other = ", ".join(sorted(p.name for p in place.glob("*.onnx"))[:5])
        raise FileProblem(f"{place} holds no model.onnx" + (f"; name one of its files: {other}" if other else ""))
    return file


def random_feeds(session: Session, batch: int = 1, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Seeded inputs of the model's shapes and dtypes: a free first dimension is `batch`, any other free one 1.

    Floats are standard normal, uint8 is an image's 0 to 255, other integers are 0 or 1, so that they are valid indices.
    Raises ModelProblem for an input that is no numeric tensor.
    """
    rng = np.random.default_rng(seed)
    return {port.name: _random(port, _shape(port, batch), rng, session.label) for port in session.inputs}


def _shape(port: Port, batch: int) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else batch if axis == 0 else 1 for axis, d in enumerate(port.shape))


def _random(port: Port, shape: tuple[int, ...], rng: np.random.Generator, label: str) -> NDArray[Any]:
    try:
        dtype = np.dtype(port.dtype)
    except TypeError:
        raise ModelProblem(
            f"{label}: input {port.name!r} is a {port.dtype}; bench can fill only numeric tensors"
        ) from None
    try:
        if dtype.kind == "f":
            return rng.standard_normal(shape).astype(dtype)
        return rng.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)
    except (MemoryError, ValueError, OverflowError) as error:  # beyond this memory, or beyond any
        raise MachineProblem(
            f"{label}: an input {port.name!r} of shape {shape} does not fit into memory; take a smaller batch"
        ) from error


def _input_warnings(path: Path, session: Session, batch: int, asked: int) -> list[str]:
    warnings = []
    if batch != asked:
        warnings.append(f"{path} has a fixed batch of {batch}: measured with that, not with {asked}")
    for port in session.inputs:
        free = [d or f"dimension {axis}" for axis, d in enumerate(port.shape) if axis > 0 and not isinstance(d, int)]
        if free:
            warnings.append(f"{path}: input {port.name!r} leaves {', '.join(map(str, free))} open: measured with 1")
    return warnings


def _entry(
    model: _Model, samples: NDArray[np.float64], base: _Model, base_samples: NDArray[np.float64]
) -> dict[str, Any]:
    data = model.file.read_bytes()
    session = model.session
    return {
        "path": str(model.path),
        "file": str(model.file),
        "baseline": model is base,
        "sizes": {"bytes": len(data), "packed_bytes": len(zlib.compress(data, 9))},
        "inputs": model.inputs,
        "latency": latency.summarise(samples, provider=session.provider, threads=session.threads, batch=model.batch),
        "speedup": None if model is base else latency.speedup(base_samples, samples),
        "noise_floor": stats.noise_floor(samples),
        "samples": np.round(samples, 9).tolist(),
        "warnings": [*model.warnings, *_other_work(model, base)],
    }


def _other_work(model: _Model, base: _Model) -> list[str]:
    """Says when a model was not measured on what the baseline was."""
    mine, theirs = ([(i["shape"], i["dtype"]) for i in m.inputs] for m in (model, base))
    if mine == theirs:
        return []
    return [
        f"{model.path} takes {_inputs_text(model.inputs)}, the baseline {base.path} takes {_inputs_text(base.inputs)}: "
        "the speed-up compares different work"
    ]


def _inputs_text(inputs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{i['name']} {i['shape']} {i['dtype']}" for i in inputs)


def _with_baseline(paths: list[Path], baseline: Path | None) -> tuple[list[Path], int]:
    """The models to measure and which of them is the baseline."""
    if baseline is None:
        return paths, 0
    files = [model_file(path).resolve() for path in paths]
    wanted = model_file(baseline)
    if wanted.resolve() in files:
        return paths, files.index(wanted.resolve())
    if not wanted.exists():
        raise FileProblem(f"there is no baseline {baseline}{did_you_mean(str(baseline), map(str, paths))}")
    return [baseline, *paths], 0
