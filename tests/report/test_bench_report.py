"""Tables and sentences of benchmarks: what they claim, what they may not claim, and what they survive."""

from __future__ import annotations

import ast
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench_records import (
    CRASH,
    HOSTILE,
    JUNK,
    RECORDS,
    bench_record,
    measure_record,
    places,
    small,
    spoiled,
)
from markup_reader import check_alone, words_of
from records import sample_record

from evaluate.core.records import as_record
from evaluate.report.html.pages import write_page
from evaluate.report.messages.bench_messages import (
    bench_headline,
    blocks,
    notes,
    percent,
    speed_cell,
    warnings_of,
)
from evaluate.report.text.bench_table import bench_table
from evaluate.report.text.run_table import lines_of

VERDICTS = ("faster", "slower", "not resolved")
ROOT = Path(__file__).parents[2]
# What the edge bundle carries of this room.
TEXT = ("text_columns", "profile_table", "bench_table")
CORE = tuple(f"core/{name}" for name in ("blocks", "records", "whole_files", "journal"))
ON_THE_DEVICE = (
    *(f"report/text/{name}" for name in TEXT),
    "report/messages/bench_messages",
    *CORE,
)


def judged(verdict):
    """A record whose only candidate got this verdict, whatever its numbers are."""
    record = bench_record({"fp32": 1.0, "other": 0.8})
    record["results"][1]["speedup"]["verdict"] = verdict
    record["results"][1]["drop"] = None
    return record


def page(tmp_path, *records):
    return write_page(list(records), tmp_path / "report.html").read_text(encoding="utf-8")


def lines_with(text, *words):
    return [line for line in text.splitlines() if all(word in line for word in words)]


# --- what is claimed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_is_the_one_of_the_record(verdict, tmp_path):
    record = judged(verdict)
    for said in (bench_table(record), bench_headline(as_record(record)), words_of(page(tmp_path, record, record))):
        for word in VERDICTS:
            assert (word in said) == (word == verdict)


def test_the_headline_counts_what_it_cannot_list():
    record = bench_record({"fp32": 1.0, "int8": 0.6}, batch=(1, 8, 32))
    assert bench_headline(as_record(record)) == "int8 faster than fp32 in all 3 conditions"
    record["results"][3]["speedup"]["verdict"] = "not resolved"
    assert bench_headline(as_record(record)) == "int8 faster in 2 and not resolved in 1 of 3 conditions"
    crowd = bench_record({f"m{i}": 1 - 0.1 * i for i in range(6)}, failed=[CRASH])
    assert bench_headline(as_record(crowd)) == "against m0, of 5 models: 5 faster; 1 candidate failed"
    assert bench_headline(as_record(RECORDS["nothing"])) == "nothing could be measured; 1 candidate failed"


def test_the_smallest_claim_stands_beside_each_condition():
    record = bench_record(batch=(1, 8))
    record["floors"][1].update(noise_floor=0.0213, low=0.9791, high=1.0187)
    told = lines_with(bench_table(record, width=100), "smallest difference this run can claim")
    assert "0.4 % (the baseline against itself: 0.999x to 1.004x)" in told[0]
    assert "2.1 % (the baseline against itself: 0.979x to 1.019x)" in told[1]
    assert "the model against itself" in bench_table(measure_record(), width=100)


@pytest.mark.parametrize(("share", "text"), [(0.004, "0.4 %"), (0.00034, "0.034 %"), (0.15, "15 %"), (1.2, "120 %")])
def test_shares_are_said_in_per_cent(share, text):
    assert percent(share) == text


def test_a_percentile_is_shown_where_the_samples_carry_it_and_else_what_is_missing():
    few, many = bench_record(shape=(8, 5, 5)), bench_record(shape=(8, 10, 10))
    assert few["results"][0]["latency"]["p99"] is None
    assert "P99 needs 462 more samples" in notes(as_record(few))
    assert "P99 " not in bench_table(few, 100).split("notes")[0]
    assert not any("P99" in note for note in notes(as_record(many)))
    assert lines_with(bench_table(many, 100), "latency", "P90", "P99", "speed-up")
    several = bench_record(batch=(1, 2))
    several["results"][0]["latency"]["needs"] = {"p99": 3}
    assert "P99 needs 3 to 462 more samples" in notes(as_record(several))


def test_what_is_not_readable_is_told_once_with_its_reason():
    record = bench_record()
    assert notes(as_record(record)).count("energy: not available: this machine has no RAPL counters") == 1
    record["results"][2]["energy"] = {"joules_per_call": 0.0041, "source": "RAPL", "why": None}
    assert "energy of fp32 and int8: not available: this machine has no RAPL counters" in notes(as_record(record))
    assert lines_with(bench_table(record, 100), "pruned", "4.1 mJ")
    record["results"][0]["latency"]["loops"] = 12
    assert any("fp32" in note and "mean of several calls" in note for note in notes(as_record(record)))


def test_drift_is_said_even_where_no_warning_was_written():
    record = bench_record()
    assert not any("drift" in text for text in warnings_of(as_record(record)))
    record["results"][1]["drift"] = {"ratio": 1.08, "low": 1.05, "high": 1.11, "drifts": True}
    (told,) = [text for text in warnings_of(as_record(record)) if "drift" in text]
    assert told.startswith("int8: ")
    assert "1.08x" in told
    record["results"][1]["warnings"] = ["int8 drifted: let the machine cool down"]
    assert [text for text in warnings_of(as_record(record)) if "drift" in text] == [
        "int8 drifted: let the machine cool down"
    ]


def test_the_drift_of_one_model_hides_no_other_ones():
    record = bench_record()
    record["warnings"].append("the processor warmed from 40 to 60 degrees Celsius: look at the drift")
    for entry in record["results"]:
        entry["drift"] = {"ratio": 1.08, "low": 1.05, "high": 1.11, "drifts": True}
    told = [text.partition(":")[0] for text in warnings_of(as_record(record)) if "the last third" in text]
    assert told == ["fp32", "int8", "pruned"]


def test_models_stay_in_the_condition_they_were_measured_in():
    record = bench_record({"fp32": 1.0, "fixed": 0.9}, batch=(1, 8, 32))
    for entry in record["results"]:
        if entry["name"] == "fixed":
            entry["latency"].update(batch=4, provider="cuda")
    found = blocks(as_record(record))
    assert [[one.name for one in block.results] for block in found] == [["fp32", "fixed"]] * 3
    assert [block.condition.batch for block in found] == [1, 8, 32]
    assert found[0].labels == ["fp32 @cpu", "fixed @cuda"]
    by_model = {**record, "results": sorted(record["results"], key=lambda e: e["name"])}
    assert [block.condition for block in blocks(as_record(by_model))] == [block.condition for block in found]


# --- the text table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("name", [name for name in RECORDS if name != "long"])
def test_the_table_fits_is_plain_and_is_complete(name, width):
    record = RECORDS[name]
    text = bench_table(record, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii()
    assert "\x1b" not in text
    flat = " ".join(text.split())
    for result in as_record(record).results:
        assert flat.count(result.name) >= len(blocks(as_record(record)))
    for failed in record["failed"]:
        assert " ".join(f"{failed['name']}: {failed['kind']}: {failed['reason']}".split()) in flat


def test_a_sweep_reads_in_80_columns():
    record = RECORDS["sweep"]
    text = bench_table(record, width=80)
    for result in as_record(record).results:
        assert speed_cell(result) in text
    for name, verdict in (("int8", "faster"), ("pruned", "not resolved")):
        assert len([line for line in lines_with(text, verdict) if line.startswith(name)]) >= 4
    starts = [line.index("speed-up") for line in lines_with(text, "latency", "speed-up", "verdict")]
    assert len(starts) == 4
    assert len(set(starts)) == 1


def test_long_names_are_cut_rather_than_the_figures():
    text = bench_table(RECORDS["long"], width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert lines_with(text, "x2", "faster")


def test_a_model_alone_has_no_speed_up():
    text = bench_table(measure_record(), width=100)
    assert "speed-up" not in text
    assert "verdict" not in text
    assert bench_headline(as_record(measure_record())).startswith("fp32: latency ")


def test_any_record_is_told_in_one_line():
    assert lines_of([RECORDS["one"]])[0].startswith("fp32, int8, pruned: int8 1.5")
    assert lines_of([measure_record()])[0].startswith("fp32: latency ")
    assert lines_of([sample_record("run")])[0].startswith("run: 3.15x smaller")


def test_figures_that_differ_by_condition_say_which():
    record = bench_record({"fp32": 1.0}, batch=(1, 8))
    assert "fp32, batch 8" not in bench_table(record, 100)
    record["results"][1]["memory"]["peak_rss_mb"] = 99.0
    assert lines_with(bench_table(record, 100), "fp32, batch 8", "104 MB")


def test_color_only_adds_codes():
    record = RECORDS["sweep"]
    assert re.sub(r"\x1b\[\d+m", "", bench_table(record, 100, color=True)) == bench_table(record, 100)
    assert "\x1b[32mfaster\x1b[0m" in bench_table(record, 100, color=True)


# --- broken and hostile records -----------------------------------------------------------------------------------


def hostile():
    record = bench_record(
        {HOSTILE: 1.0, "日本\ud800": 0.5}, failed=[{"name": HOSTILE, "kind": HOSTILE, "reason": HOSTILE}]
    )
    record.update(name=HOSTILE, warnings=[HOSTILE], baseline=HOSTILE)
    record["environment"].update(machine_id=HOSTILE, os=HOSTILE)
    record["environment"]["cpu"]["name"] = HOSTILE
    record["results"][0].update(path=HOSTILE, sha256=HOSTILE, warnings=[HOSTILE])
    record["results"][1]["energy"]["why"] = HOSTILE
    return record


def test_names_drive_neither_a_terminal_nor_a_page(tmp_path):
    text = bench_table(hostile(), 80)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    markup = page(tmp_path, hostile(), bench_record(device="pi"), sample_record())
    check_alone(markup)
    assert "&lt;script&gt;" in markup


def test_no_missing_or_strange_value_stops_the_table():
    record = small()
    for number, place in enumerate(places(record)):
        for junk in JUNK:
            assert bench_table(spoiled(record, place, junk), 80), (number, place, junk)


@pytest.mark.parametrize("seed", range(6))
def test_no_missing_or_strange_values_stop_the_page(seed, tmp_path):
    rng = random.Random(seed)
    record = small()
    for _ in range(12):
        place, junk = rng.choice(list(places(record))), rng.choice(JUNK)
        record = spoiled(record, place, junk)
    if record.get("kind") == "bench":
        check_alone(page(tmp_path, record, bench_record(device="pi", shape=(2, 2, 2))))


def test_a_record_with_nothing_in_it_makes_a_page(tmp_path):
    check_alone(page(tmp_path, {"kind": "bench"}))
    check_alone(page(tmp_path, {"kind": "bench"}, {"kind": "bench"}))


# --- the device side ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_THE_DEVICE)
def test_what_the_bundle_carries_is_python_3_9(name):
    source = (ROOT / "evaluate" / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not any(keyword.arg == "strict" for call in calls for keyword in call.keywords)


def test_the_text_table_needs_nothing_but_numpy():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import evaluate.report.text.bench_table, evaluate.core.records;"
        "print(*[m for m in ('matplotlib', 'onnxruntime', 'torch', 'pydantic', 'rich', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
