"""What a model is fed: what the user says of shapes and values, the batch asked for, and seeded values for the rest.

A free dimension is bound by its name over all inputs. One that nothing binds is asked for: a time that was taken with
some size nobody chose says nothing of the model.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, MachineError, ModelError, UsageError, did_you_mean
from evaluate.core.text import a_few
from evaluate.runtime.session import Port, Session, Value, dtype_name, shape_text

Feeds = dict[str, Value]
Call = Mapping[str, Any]
MOST_CALLS = 32  # of an inputs file that are cycled through
_BATCH, _BATCH_FIRST = re.compile(r"batch", re.I), re.compile(r"n|b|bs|bsz|(num_?)?(samples?|examples?)", re.I)
# What exporters write where nobody gave a name: tf2onnx, torch's two exporters, Paddle's, Keras.
_MADE_UP = re.compile(r"unk__\d+|s\d+|dim_?\d+|(p2o\.)?dynamicdimension\.\d+|.*_dynamic_axes_\d+|.*_dim_\d+", re.I)
_NO_NAME = frozenset(("", "?", "None"))  # two of them are two dimensions


@dataclass(frozen=True)
class Wanted:
    """What was said of inputs.

    shapes : input -> its shape in one call.
    dims   : free dimension -> its size.
    calls  : values by input, one mapping for each call, or for several that are rows or a stack of them; the one array
             of an .npy file has the name "".
    source : the file that they come from, for messages.
    """

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    calls: Sequence[Call] = ()
    source: str = "inputs"

    def names(self) -> list[str]:
        """Every name that has to be one of a model's."""
        return [*self.shapes, *self.dims, *dict.fromkeys(name for call in self.calls for name in call if name)]


NOTHING = Wanted()


def wanted_of(
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: str | Path | Call | Sequence[Call] | None = None,
) -> Wanted:
    """What was said of inputs: values are a mapping, several, or a file of them. Raises DataError for the file."""
    source, calls = "inputs", list[Call]()
    if isinstance(inputs, (str, Path)):
        source, calls = str(inputs), list(read_values(inputs))
    elif inputs is not None:
        calls = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    return Wanted(dict(shapes or {}), dict(dims or {}), calls, source)


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`x=1,3,640,640`, several. Raises UsageError."""
    found = {}
    for given in texts:
        name, equals, sizes = given.rpartition("=")
        try:
            found[name] = tuple(int(size) for size in sizes.split(",")) if sizes else ()
        except ValueError:
            equals = ""
        if not name or not equals or min(found[name], default=0) < 0:
            raise UsageError(f"--shape takes an input and its sizes, as in x=1,3,224,224; got {given!r}")
    return found


def parse_dims(texts: Sequence[str]) -> dict[str, int]:
    """`sequence=128`, several. Raises UsageError."""
    found = {}
    for given in texts:
        name, equals, size = given.rpartition("=")
        if not name or not equals or not size.isdigit():
            raise UsageError(
                f"--dim takes the name of a free dimension and its size, as in sequence=128; got {given!r}"
            )
        found[name] = int(size)
    return found


def read_values(path: str | Path) -> list[dict[str, Any]]:
    """The calls in a file: .npz (arrays by input), .npy (one array) or .json (an object by input, or a list of them).

    Raises DataError.
    """
    file = Path(path)
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as stored:
                found: list[dict[str, Any]] = [{name: stored[name] for name in stored.files}]
        elif file.suffix == ".npy":
            found = [{"": np.load(file, allow_pickle=False)}]
        elif file.suffix == ".json":
            read = json.loads(file.read_text(encoding="utf-8"))
            found = read if isinstance(read, list) else [read]
        else:
            raise DataError(f"{file}: inputs are read from .npz, .npy or .json")
    except FileNotFoundError:
        near = did_you_mean(file.name, [p.name for p in file.parent.glob("*")] if file.parent.is_dir() else [])
        raise DataError(f"there is no file {file}{near}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        why = "it holds Python objects, which are not loaded" if "allow_pickle" in str(error) else str(error)[:200]
        raise DataError(f"{file} cannot be read as inputs: {why}") from error
    if not found or not all(isinstance(call, dict) and call for call in found):
        raise DataError(f'{file}: expected values by the names of inputs, as in {{"x": [[1, 2]]}}, or a list of such')
    return found


def write_values(calls: Sequence[Call]) -> tuple[bytes, list[dict[str, Any]]]:
    """Arrays as an .npz by place, for another process or a device, and where each lies in it, for `stored_calls`."""
    buffer, places = io.BytesIO(), list[dict[str, Any]]()
    with zipfile.ZipFile(buffer, "w") as archive:

        def put(value: Any) -> Any:
            if isinstance(value, (list, tuple)) and any(isinstance(item, np.ndarray) for item in value):
                return {"several": [put(item) for item in value]}
            if not isinstance(value, (np.ndarray, np.generic)):
                return {"value": value}
            if value.dtype.kind == "O":  # numpy's way to hold texts of any length
                value = np.asarray(value, dtype=str)
            place = f"{len(archive.filelist)}.npy"
            with archive.open(zipfile.ZipInfo(place), "w") as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
            return {"place": place.removesuffix(".npy")}

        places += [{name: put(value) for name, value in call.items()} for call in calls]
    return buffer.getvalue(), places


def stored_calls(file: str | Path, places: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What `write_values` wrote."""
    with np.load(file, allow_pickle=False) as stored:

        def got(put: Mapping[str, Any]) -> Any:
            if "several" in put:
                return [got(item) for item in put["several"]]
            return stored[put["place"]] if "place" in put else put["value"]

        return [{name: got(put) for name, put in call.items()} for call in places]


def calls_for(
    session: Session,
    batch: int,
    seed: int,
    wanted: Wanted = NOTHING,
    *,
    zeros: bool = False,
    most: int | None = MOST_CALLS,
) -> list[Feeds]:
    """Inputs for the calls to make, in turn, at most so many; one call where no values were given.

    Rows of a value beyond the batch are further calls, and so is what stands along one dimension more than the input
    has. What was not given is filled by seeded values: floats standard normal, uint8 an image's 0 to 255, other
    integers 0 or 1, so that they are valid indices (zeros : all 0).
    Raises UsageError for a free dimension that nothing binds, or that is bound twice; DataError for values that do not
    fit; ModelError for an input that no seeded values can fill.
    """
    given = [values for call in wanted.calls or ({},) for values in _expanded(session, call, batch, wanted, most)]
    return [_feeds(session, values, batch, seed, wanted, zeros) for values in given[:most]]


def seeded_inputs(session: Session, wanted: Wanted) -> set[str]:
    """The inputs that `calls_for` fills with seeded values."""
    given = {name for call in wanted.calls for name in call}
    return set() if "" in given else {port.name for port in session.inputs} - given


def rows_for(session: Session, batch: int, real: Mapping[str, NDArray[Any]]) -> Feeds:
    """One call of the first `batch` of some samples (repeated where they are fewer), or of the model's fixed batch.

    Raises UsageError where the model takes other inputs.
    """
    wanted = {port.name for port in session.inputs}
    if wanted != set(real):
        raise UsageError(
            f"{session.label} takes {', '.join(sorted(wanted))}; the samples are for {', '.join(sorted(real))}"
        )
    size = fixed_batch(session) or batch
    return {name: np.resize(rows, (size, *rows.shape[1:])) for name, rows in real.items()}


def fixed_batch(session: Session) -> int | None:
    """The batch of a model whose first dimension is fixed; None where it is free."""
    shape = session.inputs[0].shape if session.inputs else ()
    return shape[0] if shape and isinstance(shape[0], int) else None


def batch_of(session: Session, feeds: Feeds) -> int:
    """The samples of one call: the size of the dimension that is the batch, else of the first where that is fixed."""
    batches = _batch_dims(session)
    for port in session.inputs:
        for axis, dim in enumerate(port.shape):
            if _key(port, axis, dim) in batches:
                return int(np.shape(feeds[port.name])[axis])
    return fixed_batch(session) or 1


def batch_axes(session: Session) -> dict[str, int]:
    """Where in each input the batch stands: the free dimension that is one, or the first of a fixed batch."""
    batches, fixed = _batch_dims(session), fixed_batch(session)
    found = {}
    for port in session.inputs:
        axis = next((a for a, dim in enumerate(port.shape) if _key(port, a, dim) in batches), None)
        if axis is not None or (not batches and port.shape and port.shape[0] == fixed):
            found[port.name] = axis or 0
    return found


def input_warnings(path: Path, session: Session, feeds: Feeds, asked: int) -> list[str]:
    """Says where a model is not measured with the batch asked for."""
    batch = batch_of(session, feeds)
    if batch == asked:
        return []
    if _batch_dims(session):
        return [f"{path}: measured with a batch of {batch}, as its inputs were given, not with {asked}"]
    if fixed_batch(session):
        return [f"{path} has a fixed batch of {batch}: measured with that, not with {asked}"]
    return [f"{path} has no dimension that is a batch: a call is one sample"]


def free_names(session: Session) -> list[str]:
    """Names that `Wanted` may use of a model: its inputs, and its free dimensions that have a name."""
    dims = (name for port in session.inputs for dim in port.shape if (name := _name(dim)))
    return list(dict.fromkeys([*(port.name for port in session.inputs), *dims]))


def require_known(session: Session, wanted: Wanted) -> None:
    """Raise UsageError for a name that is none of the model's."""
    known = free_names(session)
    for name in wanted.names():
        if name not in known:
            raise UsageError(
                f"{session.label} has no input and no free dimension {name!r}{did_you_mean(name, known) or '.'} It has "
                f"{a_few(known)}"
            )


def _key(port: Port, axis: int, dim: int | str | None) -> str | tuple[str, int] | None:
    """What a free dimension is bound by: its name, or its place where it has none; None for a fixed one."""
    return None if isinstance(dim, int) else _name(dim) or (port.name, axis)


def _name(dim: int | str | None) -> str:
    """What a free dimension is called; "" for a fixed one, and where it has no name."""
    return dim if isinstance(dim, str) and dim not in _NO_NAME else ""


def _batch_dims(session: Session) -> set[Any]:
    """The free dimensions that are the batch: by their name; by their place where exporters gave none."""
    found: set[Any] = set()
    firsts = [port.shape[0] for port in session.inputs if port.shape]
    nameless_first = bool(firsts) and all(
        not isinstance(dim, int) and (not _name(dim) or bool(_MADE_UP.fullmatch(_name(dim)))) for dim in firsts
    )
    for port in session.inputs:
        for axis, dim in enumerate(port.shape):
            if isinstance(dim, int):
                continue
            name = "" if _MADE_UP.fullmatch(_name(dim)) else _name(dim)
            by_name = bool(_BATCH.search(name)) or (axis == 0 and bool(_BATCH_FIRST.fullmatch(name)))
            if by_name or (axis == 0 and nameless_first):
                found.add(_key(port, axis, dim))
    return found


def _expanded(session: Session, call: Call, batch: int, wanted: Wanted, most: int | None) -> list[dict[str, Value]]:
    """The calls that one mapping of values stands for."""
    parts = dict[str, list[Value]]()
    for name, value in _by_port(session, call, wanted.source).items():
        port = next(port for port in session.inputs if port.name == name)
        typed = _typed(port, value, session.label, wanted.source)
        whole = isinstance(typed, list) or name in session.without_shape
        parts[name] = [typed] if whole else _cut(session, port, np.asarray(typed), batch, wanted.source)
    counts = {name: len(values) for name, values in parts.items() if len(values) > 1}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(f"{session.label}: {wanted.source} holds unequally many calls: {told}")
    total = range(max([1, *counts.values()]))[:most]
    return [{name: values[n % len(values)] for name, values in parts.items()} for n in total]


def _cut(session: Session, port: Port, value: NDArray[Any], batch: int, source: str) -> list[Value]:
    """A value as the inputs of one or several calls of `batch` samples. Raises DataError."""
    if value.ndim == len(port.shape) + 1 and len(value):
        return list(value)
    if value.ndim != len(port.shape):
        raise DataError(
            f"{session.label}: input {port.name!r} is {shape_text(port.shape)}, and {source} gives one of shape "
            f"{list(value.shape)}"
        )
    batches = _batch_dims(session)
    axis = next((a for a, dim in enumerate(port.shape) if _key(port, a, dim) in batches), None)
    if axis is None and port.shape and isinstance(port.shape[0], int):
        axis, batch = 0, port.shape[0]
    if axis is None or batch < 1:
        return [value]
    rows = value.shape[axis]
    if rows == 0:
        raise DataError(
            f"{session.label}: {source} gives no sample for input {port.name!r}: its shape is {list(value.shape)}"
        )
    if rows < batch:
        return [np.take(value, np.arange(batch) % rows, axis)]
    return list(np.split(np.take(value, range(rows // batch * batch), axis), rows // batch, axis))


def _by_port(session: Session, call: Call, source: str) -> dict[str, Any]:
    """Values by the model's own names; what is meant for another model of the run is left out."""
    names = [port.name for port in session.inputs]
    if "" in call:
        if len(names) != 1:
            raise DataError(
                f"{source} holds one array, and {session.label} takes {a_few(names)}: name them in an .npz or .json"
            )
        return {names[0]: call[""]}
    return {name: value for name, value in call.items() if name in names}


def _typed(port: Port, value: Any, label: str, source: str) -> Value:
    """A value in the type of its input. Raises DataError."""
    try:
        if port.dtype.startswith("optional("):
            inner = Port(port.name, port.shape, dtype_name(port.dtype.removeprefix("optional(").removesuffix(")")))
            return _typed(inner, value, label, source)
        if port.dtype.startswith("seq("):
            inner = Port(port.name, (), dtype_name(port.dtype.removeprefix("seq(").removesuffix(")")))
            return [_typed(inner, item, label, source) for item in value]
        if port.dtype == "tensor(string)":
            return np.asarray(value, dtype=str)
        made, dtype = np.asarray(value), np.dtype(port.dtype)
        if made.dtype == dtype:
            return made
        if made.dtype.kind not in "fiub" or (dtype.kind in "iu" and made.dtype.kind == "f"):
            raise TypeError(f"it is {made.dtype}")
        return made.astype(dtype)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{label}: input {port.name!r} is {port.dtype}, and what {source} gives does not fit: {str(error)[:120]}"
        ) from error


def _feeds(session: Session, given: Mapping[str, Value], batch: int, seed: int, wanted: Wanted, zeros: bool) -> Feeds:
    sizes, rng = _sizes(session, given, batch, wanted), np.random.default_rng(seed)
    feeds: Feeds = {}
    for port in session.inputs:
        if port.name in given:
            feeds[port.name] = given[port.name]
            continue
        shape = tuple(wanted.shapes.get(port.name, ())) or tuple(
            dim if isinstance(dim, int) else sizes[_key(port, axis, dim)] for axis, dim in enumerate(port.shape)
        )
        feeds[port.name] = _random(port, shape, rng, session.label, zeros)
    return feeds


def _sizes(session: Session, given: Mapping[str, Value], batch: int, wanted: Wanted) -> dict[Any, int]:
    """The size of every free dimension. Raises UsageError for one that nothing binds, or that is bound twice."""
    sizes: dict[Any, int] = {}

    def bind(key: Any, size: int, why: str) -> None:
        if sizes.setdefault(key, size) != size:
            name = key if isinstance(key, str) else f"dimension {key[1]} of input {key[0]!r}"
            raise UsageError(f"{session.label}: {name} is {sizes[key]} and {size}, {why}: it is one dimension")

    for name, size in wanted.dims.items():
        sizes[name] = size
    for port in session.inputs:
        value = given.get(port.name)
        if isinstance(value, list) or port.name in session.without_shape:
            continue
        shape = wanted.shapes.get(port.name) if value is None else value.shape
        if shape is None:
            continue
        fits = len(shape) == len(port.shape) and all(
            not isinstance(dim, int) or dim == size for dim, size in zip(port.shape, shape)
        )
        if not fits and value is None:
            raise UsageError(f"{session.label}: input {port.name!r} is {shape_text(port.shape)}, not {list(shape)}")
        for axis, (dim, size) in enumerate(zip(port.shape, shape)):
            if not isinstance(dim, int):
                bind(_key(port, axis, dim), int(size), f"by the shape of {port.name}")
    for key in _batch_dims(session):
        sizes.setdefault(key, batch)
    _require_bound(session, given, sizes, wanted)
    return sizes


def _require_bound(session: Session, given: Mapping[str, Value], sizes: Mapping[Any, int], wanted: Wanted) -> None:
    for port in session.inputs:
        if port.name in given or port.name in wanted.shapes:
            continue
        if port.name in session.without_shape:
            raise UsageError(
                f"{session.label} does not say what shape its input {port.name!r} has: say it, as in --shape "
                f"{port.name}=1,3,224,224, or give values by --inputs FILE"
            )
        open_dims = [(axis, dim) for axis, dim in enumerate(port.shape) if _key(port, axis, dim) not in (None, *sizes)]
        if not open_dims:
            continue
        names = [f"{dim!r}" if _name(dim) else f"dimension {axis}" for axis, dim in open_dims]
        dims = " ".join(f"--dim {dim}=128" for _, dim in open_dims if _name(dim))
        full = ",".join(
            str(d if isinstance(d, int) else sizes.get(_key(port, a, d), 128)) for a, d in enumerate(port.shape)
        )
        by_dim = f"{dims} or " if all(_name(dim) for _, dim in open_dims) else ""
        raise UsageError(
            f"{session.label} leaves {' and '.join(names)} of its input {port.name!r} {shape_text(port.shape)} open, "
            f"and a time says nothing without: say the size it will see, as in {by_dim}--shape {port.name}={full}, or "
            "give values by --inputs FILE"
        )


def _random(port: Port, shape: tuple[int, ...], rng: np.random.Generator, label: str, zeros: bool) -> NDArray[Any]:
    try:
        dtype = np.dtype(port.dtype)
    except TypeError:
        raise ModelError(
            f"{label}: input {port.name!r} is a {port.dtype}, which no seeded values can fill: give values by "
            "--inputs FILE.json"
        ) from None
    try:
        if dtype.kind == "f":
            return rng.standard_normal(shape).astype(dtype)
        return rng.integers(0, 1 if zeros else 256 if dtype == np.uint8 else 2, shape).astype(dtype)
    except (MemoryError, ValueError, OverflowError) as error:  # beyond this memory, or beyond any
        raise MachineError(
            f"{label}: an input {port.name!r} of shape {shape} does not fit into memory; take a smaller batch"
        ) from error
