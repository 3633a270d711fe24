"""The HTML page of one run or of several: one file that needs nothing else, computed from Records only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluate.core.errors import DataError
from evaluate.core.records import BenchRecord, CompressRecord, Record, StageLine, as_record
from evaluate.core.text import clean
from evaluate.report.html.bench_page import bench_sections, bench_tiles
from evaluate.report.html.device_tables import device_names, devices_section
from evaluate.report.html.markup import capital, plural, rendered, write_document
from evaluate.report.html.run_page import overview, run_sections, run_tiles
from evaluate.report.html.study_page import study_parts
from evaluate.report.messages.bench_messages import bench_conditions, bench_headline
from evaluate.report.messages.run_messages import conditions, headline

Status = Callable[[str, float, float], None]


def silent(message: str, done: float, total: float) -> None:
    """The status callback that shows nothing."""


# Of more Records than these, only the newest have their own report on the page; all have a line in the overview.
MOST_WHOLE = 20


def write_page(records: Sequence[Mapping[str, Any] | Record], out: str | Path, status: Status = silent) -> Path:
    """Write one self-contained page about these records to `out` (parents are made); it appears by one rename.

    One record gives its report; several give an overview and each one folded in below it, of many only the newest.
    Records of kind "bench" may stand among those of compressed models, and so may the trials of studies, a section a
    study, and laws. `status` is called with (message, done, total).
    Raises DataError without records, MachineError where the file cannot be written.
    """
    typed = [record for record in map(as_record, records) if not isinstance(record, StageLine)]
    if not typed:
        raise DataError("there is no record to report on: run `leanfit compress RECIPE` first, or name its folder")
    one = typed[0]
    if len(typed) > 1 or not isinstance(one, (CompressRecord, BenchRecord)):
        return write_document(Path(out), *_several(typed, status))
    name, whole = _name(one), _whole(one, key="run", level=2)
    return write_document(Path(out), f"{name}: leanfit report", rendered("one.html", name=name, **whole))


def _several(records: Sequence[Record], status: Status) -> tuple[str, Markup]:
    """(title, body): studies and laws first, then compressed models and benchmarks beside their own kind."""
    words, studies = study_parts(records)
    runs = [record for record in records if isinstance(record, CompressRecord)]
    benches = [record for record in records if isinstance(record, BenchRecord)]
    both: list[CompressRecord | BenchRecord] = [*runs, *benches]
    counts = words + [plural(len(group), word) for group, word in ((runs, "run"), (benches, "benchmark")) if group]
    title = f"leanfit: {' and '.join(part for part in (', '.join(counts[:-1]), counts[-1]) if part)}"
    newest = sorted(both, key=lambda record: record.created or "", reverse=True)[:MOST_WHOLE]
    whole = {id(record) for record in newest}
    shown = [bench for bench in benches if id(bench) in whole]
    beside = devices_section(shown, key="devices", level=3)
    devices = dict(zip(map(id, shown), device_names(shown), strict=True))
    folded: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for number, record in enumerate(both, start=1):
        if id(record) in whole:
            status("drawing reports", sum(map(len, folded.values())), len(whole))
            one = _whole(record, key=f"run{number}", level=3, alone=False, share=len(shown))
            name = _name(record) + (f" on {devices[id(record)]}" if id(record) in devices else "")
            folded[isinstance(record, BenchRecord)].append({"number": number, "name": name, **one})
    older = [bench for bench in benches if id(bench) not in whole]
    return title, rendered(
        "several.html",
        title=title,
        studies=Markup("\n").join(studies),
        overview=overview(runs) if runs else "",
        beside=beside,
        older=[[_name(b), clean(b.created or "-", 20), bench_headline(b)] for b in older],
        shown=len(whole),
        total=len(both),
        runs=folded[False],
        benches=folded[True],
    )


def _name(record: CompressRecord | BenchRecord) -> str:
    return clean(record.name or ("benchmark" if isinstance(record, BenchRecord) else "run"), 120)


def _whole(
    record: CompressRecord | BenchRecord, *, key: str, level: int, alone: bool = True, share: int = 1
) -> dict[str, Any]:
    """What a page shows of one Record."""
    if isinstance(record, BenchRecord):
        return {
            "sentence": bench_headline(record),  # begins with a model's name
            "conditions": bench_conditions(record),
            "tiles": bench_tiles(record),
            "sections": bench_sections(record, key=key, level=level, share=share),
        }
    return {
        "sentence": capital(headline(record)),
        "conditions": conditions(record),
        "tiles": run_tiles(record),
        "sections": run_sections(record, key=key, level=level, alone=alone),
    }
