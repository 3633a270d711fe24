"""Tables of points from what Python and JSON hold: rows, columns, frames, Records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluate.core.errors import DataError
from evaluate.scaling.cells import Column, column_of
from evaluate.scaling.points import Points
from evaluate.scaling.trial_points import is_record, rows_of_records


def from_rows(
    rows: Sequence[Mapping[str, Any]], source: str, labels: Sequence[str] = (), problems: list[str] | None = None
) -> Points:
    """Rows as mappings; Records among them become their points. Objects inside an object are "outer.inner".

    Raises DataError where there is no row.
    """
    if any(is_record(row) for row in rows):
        return from_records([dict(row) for row in rows if is_record(row)], source, problems)
    flat = [dict(_flat(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    if not names:
        raise DataError(f"{source} holds no rows with values; a column a variable and a row a point were expected")
    columns = {name: column_of([row.get(name) for row in flat]) for name in names}
    return Points(columns, source, list(problems or ()), list(labels))


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values; a list is no value of a point."""
    for key, value in row.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif not isinstance(value, (list, tuple)):
            yield name, value


def from_records(records: Sequence[Mapping[str, Any]], source: str, problems: Sequence[str] | None = None) -> Points:
    """A row a finished trial; two rows, dense and compressed, a Record of `leanfit compress`.

    Raises DataError where there is neither.
    """
    rows, labels, troubles = rows_of_records(records)
    said = [*(problems or ()), *troubles]
    if not rows:
        kinds = sorted({str(record.get("kind")) for record in records})
        if kinds == ["law"]:
            raise DataError(f"{source} is a law, not points to fit one to; `leanfit predict {source}` reads it")
        why = f": {troubles[0]}" if troubles else f"; it has Records of the kind {', '.join(kinds)}"
        raise DataError(
            f"{source} holds no finished trial and no finished run{why}. `leanfit study` and `leanfit compress` write "
            "them."
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: column_of([row.get(name) for row in rows]) for name in names}
    return Points(columns, source, said, labels, records=True)


def from_columns(columns: Mapping[Any, Any], source: str, labels: Sequence[str] = ()) -> Points:
    """name -> values (n,). Raises DataError for columns of different lengths, or of more than one dimension."""
    found: dict[str, Column] = {}
    for key, values in columns.items():
        values = list(values.values()) if isinstance(values, Mapping) else values
        array = np.asarray(values, dtype=object)
        if array.ndim != 1:
            raise DataError(
                f"{source}: column {str(key)!r} has shape {array.shape}; one value a row was expected, (n,)"
            )
        found[str(key)] = column_of(array.tolist())
    lengths = {name: len(column) for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{source}: columns of one length were expected, got {listed}")
    if not found or not next(iter(lengths.values())):
        raise DataError(f"{source} holds no rows; a column a variable and a row a point were expected")
    return Points(found, source, [], list(labels))


def from_frame(frame: Any) -> Points:
    """A pandas frame (or one that looks like it), whose index gives the rows their names."""
    names = [str(name) for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the frame has more than one column {twice[0]!r}; rename one of them")
    index = getattr(frame, "index", None)
    labels = [f"row {label}" for label in index] if index is not None and not callable(index) else []
    return from_columns({str(name): np.asarray(frame[name]) for name in frame.columns}, "the frame", labels)
