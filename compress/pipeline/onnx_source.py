"""An ONNX file that is compressed as it came: its graph, the calls to calibrate and to judge on, and by what."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compress.core.progress import Status
from compress.graph.onnx_graph import read_whole
from compress.pipeline.manifest import InputSpec
from compress.pipeline.record import Evaluation, JudgedOutput
from evaluate.benchmark.first_call import first_call
from evaluate.benchmark.model_inputs import Feeds, Wanted, batch_axes, batch_of, calls_for, require_known
from evaluate.core.errors import DataError, ModelError
from evaluate.core.text import a_few
from evaluate.metrics.base import get_metric
from evaluate.metrics.samples import Samples
from evaluate.runtime.session import Session, open_session

FEW = 16  # calls, below which calibration and judgement have to share them
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Calls:
    """Inputs of single calls, each of so many samples; labels of all of them, where some are known."""

    feeds: Sequence[Feeds]
    each: int
    labels: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.feeds) * self.each

    def first(self, samples: int) -> Calls:
        """As many of the calls as hold so many samples, or all."""
        return Calls(self.feeds[: max(1, -(-samples // self.each))], self.each)

    def batches(self, size: int) -> Iterator[tuple[int, Feeds]]:
        """The calls one by one, whatever the size asked for: a file's batch may be fixed."""
        return ((self.each, feeds) for feeds in self.feeds)


@dataclass(frozen=True)
class Source:
    """An ONNX file and its data.

    data     : the bytes of the file, with the weights of other files taken in.
    judged   : the calls to judge on; none of `calibration` is among them, unless there are too few.
    example  : inputs of one call of the batch to time.
    unbound  : whether its outputs cannot be bound, so that it is timed by run().
    """

    path: Path
    data: bytes
    graph: onnx.ModelProto
    inputs: tuple[InputSpec, ...]
    calibration: Calls
    judged: Calls
    example: Feeds
    remarks: tuple[str, ...]
    fingerprint: str
    unbound: bool

    @classmethod
    def read(
        cls,
        path: Path,
        wanted: Wanted,
        labels: str | Path | NDArray[Any] | None,
        *,
        calibrate: int,
        timed: Wanted | None = None,
        batch: int,
        seed: int,
        status: Status,
    ) -> Source:
        """calibrate : samples that the passes ask for; they get half of what there is at most.
        timed     : what one call is timed on, where that is not the data.

        Raises ArtifactError and ModelError for a file that cannot be used, UsageError and DataError for the data.
        """
        session = open_session(path)
        if not wanted.calls:
            raise DataError(
                f"{path}: say what the model will see, values by input in an .npz, .npy or .json: --data FILE"
            )
        for said in (wanted, timed or wanted):
            require_known(session, said)
        status("trying the model", 0, 0)
        calls = calls_for(session, 1, seed, wanted, most=None)
        ran, each = first_call(session, lambda zeros: calls[:1], ()), batch_of(session, calls[0])
        order, few = np.random.default_rng(seed).permutation(len(calls)), len(calls) < FEW
        count = len(calls) if few else min(-(-calibrate // each), len(calls) // 2)
        fitted, judged = np.sort(order[:count]), np.sort(order if few else order[count:])
        remarks = list(ran.said)
        if few and calibrate:
            remarks.append(
                f"{len(calls)} calls are too few to be judged on others than were calibrated on: expect a little worse."
            )
        known = _labels(labels, len(calls) * each, each)

        def taken(places: NDArray[np.int64]) -> Calls:
            rows = (places[:, None] * each + np.arange(each)).reshape(-1)
            return Calls([calls[i] for i in places], each, None if known is None else known[rows])

        graph, data = read_whole(path)
        axes = batch_axes(session)
        return cls(
            path,
            data,
            graph,
            tuple(_described(name, value, axes.get(name) == 0) for name, value in calls[0].items()),
            taken(fitted),
            taken(judged),
            calls_for(session, batch, seed, timed or wanted)[0],
            tuple(remarks),
            _fingerprint(calls, known),
            ran.unbound,
        )


@dataclass(frozen=True)
class FileTask:
    """What a Record says of the data that judged an ONNX file, and what a bundle takes of them.

    targets : of the samples that are judged, for the metric.
    """

    name: str
    metric: str
    source: Source
    targets: NDArray[Any]
    classes: tuple[str, ...] = ()

    @classmethod
    def judging(cls, source: Source, metric: str | None, status: Status) -> FileTask:
        """The task of a file whose run is over. Raises as `judged_outputs`."""
        outputs = outputs_of(open_session(source.data), source.judged, status, "evaluate: baseline")
        asked, found, _ = judged_outputs(source.path, source.judged, outputs, outputs, metric)
        return cls(source.path.stem, asked, source, found.targets)

    def fingerprint(self) -> str:
        """The hash of all data and labels."""
        return self.source.fingerprint

    def splits(self) -> Mapping[str, Calls]:
        """What was calibrated on, and what was judged on."""
        return {"calibration": self.source.calibration, "test": self.source.judged}

    def samples(self, count: int, seed: int) -> Samples:
        """At most so many samples that were judged, drawn by the seed, in their order.

        Raises DataError where a call is not made of rows that are samples, or calls are of unlike length.
        """
        calls = self.source.judged
        names = {spec.name for spec in self.source.inputs if spec.shape[:1] == ("batch",)}
        arrays = [{name: np.asarray(value) for name, value in feeds.items()} for feeds in calls.feeds]
        if len(names) < len(self.source.inputs) or any(
            array.shape[1:] != arrays[0][name].shape[1:] for feeds in arrays for name, array in feeds.items()
        ):
            raise DataError(
                f"the data of {self.source.path} are not rows of one shape, so that no samples can go along: "
                "--samples 0, and --inputs FILE for what is to be measured"
            )
        whole = {name: np.concatenate([feeds[name] for feeds in arrays]) for name in arrays[0]}
        taken = np.sort(np.random.default_rng(seed).permutation(len(calls))[:count])
        return Samples({name: array[taken] for name, array in whole.items()}, self.targets[taken], self.metric)


def outputs_of(session: Session, calls: Calls, status: Status, what: str) -> dict[str, NDArray[Any]]:
    """Every output of floats by name, (n, ...): a row for each sample, or for each call where it has none for samples.

    Raises DataError where calls give outputs of unlike shapes.
    """
    found: dict[str, list[NDArray[Any]]] = {}
    for number, (_, feeds) in enumerate(calls.batches(1)):
        status(what, number, len(calls.feeds))
        for port, output in zip(session.outputs, session.run(feeds), strict=True):
            if isinstance(output, np.ndarray) and output.dtype.kind == "f":
                row = output if output.ndim and len(output) == calls.each else output[None]
                found.setdefault(port.name, []).append(row.astype(np.float64))
    for name, rows in found.items():
        shapes = {row.shape for row in rows}
        if len(shapes) > 1:
            raise DataError(
                f"output {name!r} has unlike shapes, {a_few(sorted(map(str, shapes)))}: give data of one length, so "
                "that outputs can be compared"
            )
    return {name: np.concatenate(rows) for name, rows in found.items()}


def judged_outputs(
    path: Path,
    calls: Calls,
    before: Mapping[str, NDArray[Any]],
    after: Mapping[str, NDArray[Any]],
    metric: str | None,
) -> tuple[str, Evaluation, list[JudgedOutput]]:
    """The metric, what it judges, and every output beside it.

    By labels where there are some; else by what the uncompressed file gives: the place of the largest output where it
    is one row of two classes or more for each sample, else the distance.
    Raises ModelError for a file that gives no finite floats, DataError and UsageError for labels that do not fit.
    """
    usable = [name for name, values in before.items() if np.isfinite(values).all() and np.isfinite(after[name]).all()]
    if not usable:
        raise ModelError(f"{path}: none of its outputs is made of finite floating-point numbers: nothing to judge")
    first = before[usable[0]]
    if calls.labels is not None:
        targets = calls.labels
        asked = metric or ("accuracy" if targets.dtype.kind in "iu" else "mse")
    elif first.ndim == 2 and first.shape[1] > 1 and len(first) == len(calls):
        asked, targets = metric or "agreement", first.argmax(axis=1)
    else:
        asked, targets = metric or "rel_error", first
    sides = before[usable[0]], after[usable[0]], targets
    several, judged = len(usable) > 1, get_metric(asked)
    outputs = [JudgedOutput(usable[0] if several else "", judged, (), *sides)]
    outputs += [
        JudgedOutput(name if several else "", "rel_error", (), before[name], after[name], before[name])
        for name in usable
        if name != usable[0] or targets is not first
    ]
    return asked, Evaluation(*sides), outputs if len(outputs) > 1 else []


def _labels(given: str | Path | NDArray[Any] | None, samples: int, each: int) -> NDArray[Any] | None:
    """Labels of all samples; samples that fill no call of a fixed batch, `each`, are left out. Raises DataError."""
    if given is None:
        return None
    name = "labels"
    if isinstance(given, (str, Path)):
        name, path = str(given), Path(given)
        try:
            if path.suffix not in ARRAYS:
                raise ValueError("expected an .npy file")
            read = np.load(path, allow_pickle=False)
            given = read if isinstance(read, np.ndarray) else read[read.files[0]]
        except (OSError, ValueError, EOFError, IndexError) as error:
            raise DataError(f"{name} cannot be read as labels: {str(error)[:200]}") from error
    values = np.asarray(given)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind in "iu" else values
    if values.dtype.kind not in "iuf" or not values.ndim or len(values) < samples:
        raise DataError(
            f"{name}: {samples} numbers are needed, one for each sample of the data; got {values.dtype} of shape "
            f"{list(values.shape)}"
        )
    if len(values) >= samples + each:
        raise DataError(f"{name}: {len(values)} labels for {samples} samples of the data")
    return values[:samples]


def _described(name: str, value: Any, batched: bool) -> InputSpec:
    if isinstance(value, list):
        return InputSpec(name=name, shape=(), dtype="sequence", range=(0.0, 0.0))
    shape = ("batch", *value.shape[1:]) if batched else value.shape
    numbers = value.dtype.kind in "fiub" and value.size
    ends = (float(value.min()), float(value.max())) if numbers else (0.0, 0.0)
    return InputSpec(name=name, shape=shape, dtype="str" if value.dtype.kind in "US" else str(value.dtype), range=ends)


def _fingerprint(calls: Sequence[Feeds], labels: NDArray[Any] | None) -> str:
    found = hashlib.sha256()
    for feeds in calls:
        for name, value in feeds.items():
            for part in value if isinstance(value, list) else [value]:
                found.update(f"{name} {part.shape} {part.dtype}".encode())
                found.update(np.ascontiguousarray(part).tobytes())
    if labels is not None:
        found.update(np.ascontiguousarray(labels).tobytes())
    return found.hexdigest()
