"""Benchmarks of several Records side by side: a row a model, a column a device. No ratio is made across Records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from evaluate.core.bench_parts import Result
from evaluate.core.execution_providers import computes_on_host
from evaluate.core.records import BenchRecord
from evaluate.core.text import clean, size
from evaluate.hardware.machines import differences, same_machine
from evaluate.report.charts.intervals import Spot, devices_picture
from evaluate.report.html.markup import Verdict, rendered
from evaluate.report.messages import bench_messages as bench
from evaluate.report.messages.bench_messages import Block, Condition

Key = tuple[str, str]
APART = (
    "Records of different machines are never compared as one: each speed-up is against the baseline on the same device "
    "in the same run, and no ratio is made between devices."
)
ALONE = "These are single runs at different times: each speed-up is against the baseline of the same run."


@dataclass(frozen=True)
class _Column:
    """One condition of one Record, as a column of its batch's table."""

    device: str
    condition: Condition
    baseline: str
    block: Block

    @property
    def setting(self) -> str:
        """How the device was used."""
        threads = self.condition.threads
        return f"{self.condition.provider}, {threads} thread{'' if threads == 1 else 's'}"


def devices_section(records: Sequence[BenchRecord], *, key: str, level: int) -> Markup:
    """The tables and pictures of several bench Records beside each other, one table a batch; empty for fewer than two.

    Models are joined by the SHA-256 of their file, or by name where a Record does not hold it.
    """
    if len(records) < 2:
        return Markup("")
    names, keys = device_names(records), _Keys(records)
    by_batch: dict[Any, list[_Column]] = {}
    for record, name in zip(records, names, strict=True):
        for block in bench.blocks(record):
            column = _Column(name, block.condition, clean(record.baseline or "?", 40), block)
            by_batch.setdefault(block.condition.batch, []).append(column)
    batches = [
        _batch(columns, keys, f"batch {clean(batch, 20)}", f"{key}-batch{number}")
        for number, (batch, columns) in enumerate(by_batch.items(), start=1)
    ]
    facts = [_fact_row(record) for record in records]
    known = [fact for fact in facts[0] if any(row[fact] for row in facts)]
    return rendered(
        "devices.html",
        level=level,
        sentences=_sentences(records, names, keys),
        batches=batches,
        fact_head=["device", *known],
        facts=[[name, *(row[fact] or "-" for fact in known)] for name, row in zip(names, facts, strict=True)],
    )


def _batch(columns: Sequence[_Column], keys: _Keys, where: str, key: str) -> dict[str, Any]:
    """The table and the picture of one batch."""
    alike = len({column.setting for column in columns}) == 1
    where += f", {columns[0].setting}" if alike else ""
    titles = [c.device if alike else f"{c.device}: {c.setting}" for c in columns]
    rows, cells = _rows(columns, keys)
    body = [[clean(name, 60), *(_cell(mine.get(row)) for mine in cells)] for row, name in rows.items()]
    spots = [
        Spot(rows[row], title, latency)
        for title, mine in zip(titles, cells, strict=True)
        for row, entry in mine.items()
        if (latency := bench.triple(entry.latency, "median_ms"))
    ]
    drawn = devices_picture(spots, key=key, title=f"Latency by device, {where}")
    return {"where": where, "head": ["model", *titles], "body": body, "drawn": drawn or (None, "")}


def device_names(records: Sequence[BenchRecord]) -> list[str]:
    """What each Record's machine is called: its processor or GPU, with its id or the date where that is not enough."""
    names = [_device_name(record) for record in records]
    ids = [clean(record.environment.machine_id or "no id", 16) for record in records]
    both = list(zip(names, ids, strict=True))
    names = [f"{name} ({known})" if any(n == name and i != known for n, i in both) else name for name, known in both]
    for length in (10, 16):
        marks = [_moment(record, length) for record in records]
        if len({*zip(names, marks, strict=True)}) == len(names) or length == 16:
            names = [f"{name}, {marks[i]}" if names.count(name) > 1 else name for i, name in enumerate(names)]
            break
    return [f"{name} [{i}]" if names.count(name) > 1 else name for i, name in enumerate(names, start=1)]


def _moment(record: BenchRecord, length: int = 16) -> str:
    """When a Record was made: its date, and with 16 letters the minute."""
    return clean(record.created or "no date", 40)[:length].replace("T", " ")


def _device_name(record: BenchRecord) -> str:
    providers = {block.condition.provider for block in bench.blocks(record)}
    gpus = bench.gpu_names(record)
    if gpus and providers and not any(computes_on_host(provider) for provider in providers):
        return gpus[0]
    return clean(record.environment.cpu.name or record.environment.machine_id or "unknown machine", 40)


class _Keys:
    """Which rows the models of all Records belong to, and what the rows are called."""

    def __init__(self, records: Sequence[BenchRecord]) -> None:
        self._files: dict[str, list[str]] = {}
        for entry in (entry for record in records for entry in record.results):
            files = self._files.setdefault(bench.name_of(entry), [])
            if entry.sha256 and entry.sha256 not in files:
                files.append(entry.sha256)

    def of(self, entry: Result, label: str) -> Key:
        """The row of an entry: its file, or its name where the file is not known; and what its label adds (@cuda)."""
        name, files = bench.name_of(entry), self._files.get(bench.name_of(entry), [])
        extra = label.removeprefix(name)
        known = entry.sha256 or (files[0] if len(files) == 1 else "")
        return (known or f"name {name}", extra)

    def label(self, entry: Result, label: str) -> str:
        """The name of a row, with the first digits of its file's hash where files of that name differ."""
        files = self._files.get(bench.name_of(entry), [])
        return f"{label} ({clean(entry.sha256 or 'unknown')[:7]})" if len(files) > 1 else label

    def ambiguous(self) -> list[str]:
        """Names under which different files were measured."""
        return [name for name, files in self._files.items() if len(files) > 1]


def _rows(columns: Sequence[_Column], keys: _Keys) -> tuple[dict[Key, str], list[dict[Key, Result]]]:
    """The rows in the order of their first appearance, and for every column its entry of each row."""
    rows: dict[Key, str] = {}
    cells: list[dict[Key, Result]] = []
    for column in columns:
        mine: dict[Key, Result] = {}
        for label, entry in column.block.named():
            row = keys.of(entry, label)
            rows.setdefault(row, keys.label(entry, label))
            mine.setdefault(row, entry)
        cells.append(mine)
    return rows, cells


def _cell(entry: Result | None) -> list[Any] | None:
    """Latency, and below it the speed-up with its verdict; None where a model was not measured."""
    if entry is None:
        return None
    speed = bench.speed_cell(entry)
    return [bench.latency_cell(entry), *([(speed, Verdict(bench.verdict_of(entry)))] if speed != "-" else [])]


def _sentences(records: Sequence[BenchRecord], names: Sequence[str], keys: _Keys) -> list[str]:
    """What may and may not be read across the columns."""
    machines = [record.environment.to_json() for record in records]
    # Each Record against the first one of its machine: every pair would be thousands of sentences for a hundred runs.
    firsts = [
        next(i for i in range(j + 1) if i == j or same_machine(machines[i], machines[j])) for j in range(len(names))
    ]
    said = [APART if any(firsts) else ALONE]
    for j, i in enumerate(firsts):
        if i != j:
            found = "; ".join(differences(machines[i], machines[j])) or "no difference in set-up is recorded"
            said.append(f"One machine twice, {names[i]} and {names[j]}: {found}.")
    bases = list(dict.fromkeys(clean(record.baseline or "?", 40) for record in records))
    if len(bases) > 1:
        said.append(f"The baselines differ ({', '.join(bases)}): speed-ups of one column do not continue in the next.")
    if twice := keys.ambiguous():
        said.append(
            f"Different files have the name {', '.join(clean(n, 40) for n in twice)}: a row is one file, by its hash."
        )
    return said


def _fact_row(record: BenchRecord) -> dict[str, str]:
    """What is known of a device; empty texts where a fact is not."""
    environment, cpu = record.environment, record.environment.cpu
    runtimes = [f"{n} {v}" for n, v in environment.versions.items() if n.startswith(("onnxruntime", "ort-"))]
    memory = environment.memory_mb
    facts = {
        "runtime": ", ".join(runtimes),
        "cores": cpu.usable_cores,
        "governor": cpu.governor,
        "int8 path": environment.int8_path,
        "memory": None if memory is None else size(2**20 * memory),
        "system": environment.os,
        "measured": _moment(record),
    }
    return {name: clean(fact, 60) if fact not in (None, "") else "" for name, fact in facts.items()}
