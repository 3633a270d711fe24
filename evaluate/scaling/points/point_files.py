"""Files of points: CSV, JSON, JSON lines, each plain or gzipped, and folders of Records."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.core.errors import ArtifactError, DataError, UsageError
from evaluate.scaling.points.cells import Column, column_of, number
from evaluate.scaling.points.points import Points
from evaluate.scaling.points.trial_points import is_record, rows_of_records

_FORMATS = {
    b"PK": "an Excel or zip file", b"PAR1": "a Parquet file", b"\x89HDF": "an HDF5 file", b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz", b"\x28\xb5\x2f\xfd": "packed by zstd", b"\x80": "a pickle, which is never read",
    b"%PDF": "a PDF", b"\x93NUMPY": "a numpy file", b"SQLite": "a database",
}  # fmt: skip
_SHAPES = 'rows [{"params": 1e5, "error": 0.1}, ...], columns {"params": [...], "error": [...]}, or one object a line'


def read_points(source: str | Path | Points | Any, *, where: str | Iterable[str] = ()) -> Points:
    """Points from a file, a folder of Records, a frame, a mapping, or a list of rows.

    source : path of a CSV file (commas, semicolons or tabs; a header; may be gzipped), of JSON (rows, or columns), of
             JSON lines, or of a folder with Records of trials; a pandas frame; name -> values (n,); a list of mappings.
    where  : only rows that meet these conditions, "role=dense,density<=0.5".
    Raises ArtifactError for files that are missing or damaged, DataError for tables without rows or with one name
    twice, UsageError for what is neither.
    """
    points = _read(source)
    return points.where(where) if where else points


def _read(source: Any) -> Points:
    if isinstance(source, Points):
        return source
    if isinstance(source, (str, Path)):
        return read_file(Path(source))
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        return from_frame(source)
    if isinstance(source, Mapping):
        return from_columns(source, "the mapping")
    if isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        return from_rows(list(source), "the list of rows")
    raise UsageError(
        f"points were expected as a path, a pandas frame, a mapping of columns or a list of rows, not as "
        f"{type(source).__name__}"
    )


def read_file(path: Path) -> Points:
    """The points in a file or a folder. Raises ArtifactError, DataError (`points.read_points`)."""
    if path.is_dir():
        return _folder(path)
    text = _text(path)
    if not text.strip():
        raise DataError(f"{path} is empty; a header with the names of columns, and a row a point, were expected")
    return _json(text, str(path)) if text.lstrip()[0] in "[{" else _csv(text, str(path))


def _folder(path: Path) -> Points:
    from evaluate.core.journal import find_records

    problems: list[str] = []
    try:
        records = find_records(path, on_problem=problems.append)
    except ArtifactError as error:
        tables = sorted(file.name for file in path.iterdir() if re.search(r"\.(csv|tsv|jsonl|json)(\.gz)?$", file.name))
        if tables:
            raise ArtifactError(
                f"{path} is a folder without Records; name a file in it: {', '.join(tables[:8])}"
            ) from error
        raise
    return from_records(records, str(path), problems)


def _text(path: Path) -> str:
    """The file as text. Raises ArtifactError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        near = [file.name for file in path.parent.glob("*.csv*")] if path.parent.is_dir() else []
        there = f" (that folder has {', '.join(sorted(near)[:5])})" if near else ""
        raise ArtifactError(
            f"there is no {path}{there}; give a CSV, JSON or JSONL file, or a folder of Records"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ArtifactError(f"{path} is damaged or was cut off: gzip says {error}; copy it again") from error
    for start, what in _FORMATS.items():
        if data.startswith(start):
            raise ArtifactError(f"{path} is {what}; save the table as CSV, JSON or JSONL (gzip is read)")
    code = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(code)
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is no text in UTF-8 (byte {error.start}); save it as CSV in UTF-8") from error


def _csv(text: str, source: str) -> Points:
    lines = _uncommented(_lines(text))
    header = next(line for line in lines if line.strip())
    bare = re.sub(r'"[^"]*"', "", header)  # the delimiter is what occurs most often outside quotes
    reader = csv.reader(lines, delimiter=max("\t;,", key=bare.count), skipinitialspace=True)
    try:
        numbered = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ArtifactError(f"{source}: line {reader.line_num} cannot be read as CSV: {error}") from error
    if not numbered:
        raise DataError(f"{source}: a header with the names of columns was expected, its first line is {header[:40]!r}")
    names = _names(numbered[0][1], source)
    whole = [(line, row) for line, row in numbered[1:] if len(row) == len(names)]
    torn = [(line, row) for line, row in numbered[1:] if len(row) != len(names)]
    problems = [_ragged(torn, len(names), len(numbered) - 1)] if torn else []
    if not whole:
        raise DataError(f"{source} has a header and no rows{f': {problems[0]}' if problems else ''}")
    columns = {name: column_of([row[place] for _, row in whole]) for place, name in enumerate(names)}
    return Points(columns, source, problems, [f"line {line}" for line, _ in whole])


def _lines(text: str) -> list[str]:
    """Not str.splitlines, which splits at signs that stand inside of values."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _uncommented(lines: list[str]) -> list[str]:
    """Without the comments (#) at the top; the last of them is the header where numbers follow."""
    top = next((place for place, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    comments = [place for place in range(top) if lines[place].startswith("#")]
    found = ["" if place < top else line for place, line in enumerate(lines)]
    if comments and any(number(cell) is not None for cell in re.split(r"[\t;,]", lines[top])):
        found[comments[-1]] = lines[comments[-1]].lstrip("# ")
    return found


def _names(cells: list[str], source: str) -> list[str]:
    """Names of columns; one without a name, as the index of a frame, gets its place. Raises DataError."""
    names = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, start=1)]
    if all(number(cell) is not None for cell in cells):
        raise DataError(f"{source}: a header with the names of columns was expected, its first line is {cells[:4]}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        places = " and ".join(str(place) for place, name in enumerate(names, start=1) if name == twice)
        raise DataError(f"{source}: the header has {twice!r} more than once, as columns {places}; rename one of them")
    return names


def _ragged(torn: list[tuple[int, list[str]]], expected: int, rows: int) -> str:
    """What is wrong with rows that have too many or too few cells."""
    line, row = torn[0]
    why = "is a number written with a comma (1,000)?" if len(row) > expected else "was it cut off?"
    return f"{len(torn)} of {rows} rows were skipped: line {line} has {len(row)} cells, {expected} were expected; {why}"


def _json(text: str, source: str) -> Points:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _json_lines(text, source, error)
    if isinstance(value, dict) and value and all(isinstance(item, (list, dict)) for item in value.values()):
        return _json_columns(value, source)
    rows = [value] if isinstance(value, dict) else value
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{source}: item {place} is no JSON object but {str(row)[:40]!r}; expected {_SHAPES}")
    return from_rows(rows, source)


def _json_columns(value: dict[str, Any], source: str) -> Points:
    """Columns as lists, or as pandas writes them, {"params": {"0": 1e5, ...}}."""
    if all(isinstance(item, dict) for item in value.values()):
        keys = list(dict.fromkeys(key for column in value.values() for key in column))
        return from_columns({name: [column.get(key) for key in keys] for name, column in value.items()}, source)
    return from_columns(value, source)


def _json_lines(text: str, source: str, whole: Exception) -> Points:
    """JSON lines; lines that cannot be read are problems, and so is a last one that was cut off."""
    rows: list[dict[str, Any]] = []
    labels: list[str] = []
    problems: list[str] = []
    lines = _lines(text)
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
            labels.append(f"line {place}")
        else:
            cut = place == len(lines) and not text.endswith("\n")
            problems.append(f"line {place} {'was cut off' if cut else 'is no JSON object'}; it was skipped")
    if not rows:
        raise ArtifactError(f"{source} is no whole JSON ({whole}); expected {_SHAPES}")
    return from_rows(rows, source, labels, problems)


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
