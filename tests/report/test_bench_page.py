"""Pages and pictures of benchmarks: kinds of records on one page, devices side by side, scenarios, profiles."""

from __future__ import annotations

import contextlib
import copy
import io
import random
import re

import numpy as np
import pytest
from bench_records import CRASH, HOSTILE, JUNK, RECORDS, bench_record, measure_record, places, small, spoiled
from markup_reader import check_alone, check_headings, check_pictures, words_of
from records import sample_record
from tiny_onnx import linear_onnx

from evaluate.core.bench_parts import Scenario
from evaluate.core.blocks import as_block
from evaluate.core.records import as_record
from evaluate.load_test.rate_search import highest_rate
from evaluate.load_test.scenarios import offline, server, single_stream
from evaluate.profiling.profile import Subject, profiles
from evaluate.report.charts.intervals import ratios_picture
from evaluate.report.charts.lines import rates_picture, throughput_picture
from evaluate.report.charts.sample_charts import distributions_picture, lanes_of, samples_picture
from evaluate.report.html.device_tables import devices_section
from evaluate.report.html.pages import write_page
from evaluate.report.messages.bench_messages import bench_headline, blocks, notes, speed_cell, warnings_of
from evaluate.report.text.bench_table import bench_table


def page(tmp_path, *records):
    return write_page(list(records), tmp_path / "report.html").read_text(encoding="utf-8")


# --- the page ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDS)
def test_a_page_stands_alone_and_is_sound(name, tmp_path):
    markup = page(tmp_path, RECORDS[name])
    check_alone(markup)
    check_headings(markup)


def test_kinds_of_records_share_a_page(tmp_path):
    records = [small("pi"), sample_record(), small("laptop"), sample_record("b", seed=1)]
    markup = page(tmp_path, *records)
    check_alone(markup)
    check_headings(markup)
    check_pictures(markup, 10)
    numbers = re.findall(r"<h2>(\d)\. ([\w-]+)", markup)
    assert [n for n, _ in numbers] == ["1", "2", "3", "4"]
    assert [name for _, name in numbers] == ["cifar10-resnet20-int8", "b", "fp32", "fp32"]
    words = words_of(markup)
    assert "2 runs and 2 benchmarks" in words
    assert "on Raspberry Pi 5" in words
    assert words_of(page(tmp_path, *records[1:2], sample_record("c"))).count("side by side") == 0


def test_the_same_records_give_the_same_bytes(tmp_path):
    record = small()
    assert page(tmp_path, record) == page(tmp_path, copy.deepcopy(record))


def test_the_page_says_what_the_record_says(tmp_path):
    record = bench_record(failed=[CRASH], shape=(8, 10, 10))
    words = words_of(page(tmp_path, record))
    told = [
        *notes(as_record(record)),
        *warnings_of(as_record(record)),
        CRASH["reason"],
        record["id"],
        "temperature c 51, 63.5",
    ]
    told += [f"model int8 runs/int8, sha256 {record['results'][1]['sha256']}", "199 of 200 as packed", "64.4 MB"]
    told += ["temperature c 51, 63.5"]
    for text in told:
        assert text[1:] in words


def test_a_large_record_makes_a_page_of_bounded_size(tmp_path):
    many = {f"model-{i}": 1 - 0.05 * i for i in range(8)}
    record = bench_record(many, shape=(20, 10, 5))
    markup = page(tmp_path, record)
    assert len(markup) < 300_000
    assert "One sample in" in markup
    conditions = bench_record({"a": 1.0}, threads=(1, 2, 4, 8), batch=(1, 2, 4), shape=(2, 2, 2))
    assert "Of 12 conditions, the raw samples of the first 6 are drawn" in words_of(page(tmp_path, conditions))


# --- pictures ----------------------------------------------------------------------------------------------------


def test_thinned_samples_say_so_and_count_what_is_clipped():
    record = bench_record(shape=(10, 10, 10))
    (block,) = blocks(as_record(record))
    full, told = samples_picture(block, key="k", dots=1000)
    assert told.startswith("Each dot is a sample")
    thin, told = samples_picture(block, key="k", dots=100)
    assert told.startswith("One sample in 10, chosen at random, is drawn")
    assert thin.svg.count("M ") < full.svg.count("M ") / 3
    assert thin.text == full.text
    lane = lanes_of(block)[0]
    slowest = float(lane.calls.max())
    assert slowest > 2 * lane.median
    beyond = int(re.search(r"^fp32: [\d.]+ ms; (\d+) beyond", full.text)[1])
    assert 0 < beyond < 0.1 * lane.calls.size


def test_the_baseline_is_drawn_twice_and_drift_is_named():
    record = bench_record()
    record["results"][1]["drift"] = {"ratio": 1.08, "low": 1.05, "high": 1.11, "drifts": True}
    (block,) = blocks(as_record(record))
    assert [lane.name for lane in lanes_of(block)] == ["fp32", "fp32 again", "int8", "pruned"]
    picture, _ = samples_picture(block, key="k")
    assert picture.svg.count("drifts 1.08x</text>") == 1


def test_percentiles_are_marked_where_they_are_carried():
    shapes = [(8, 5, 5), (8, 10, 10)]
    texts = [distributions_picture(blocks(as_record(bench_record(shape=s)))[0], key="k")[0].text for s in shapes]
    assert [text.count("P90") for text in texts] == [3, 3]
    assert [text.count("P99") for text in texts] == [0, 3]


def test_models_far_apart_are_drawn_against_their_own_medians():
    near, far = (blocks(as_record(bench_record({"a": 1.0, "b": b})))[0] for b in (0.5, 0.01))
    assert "own median" not in distributions_picture(near, key="k")[1]
    assert "own median" in distributions_picture(far, key="k")[1]


def test_every_speed_up_is_in_the_picture_of_ratios():
    record = bench_record({"fp32": 1.0, "int8": 0.6, "slow": 1.4}, batch=(1, 8))
    picture, _ = ratios_picture(blocks(as_record(record)), key="k")
    assert picture.text.count("int8: faster") == 2
    assert picture.text.count("slow: slower") == 2
    assert ">1 thread, batch 8</text>" in picture.svg
    assert ratios_picture(blocks(as_record(measure_record())), key="k") is None


@pytest.mark.parametrize(
    "seconds", [[], [[[]]], [[0.001]], [0.001, 0.002], [[[None, 0.001]], [[float("nan")]]], [[[5e-8]]]]
)
def test_samples_of_any_shape_are_drawn_or_left_out(seconds):
    record = measure_record()
    record["results"][0]["samples"], record["floors"][0]["samples"] = seconds, None
    (block,) = blocks(as_record(record))
    known = np.size(lanes_of(block)) > 0
    assert (samples_picture(block, key="k") is not None) == known
    assert (distributions_picture(block, key="k") is not None) == known


def test_sweeps_are_drawn_over_batch_and_over_threads(tmp_path):
    titles = re.findall(r"<h3>(Latency against [^<]+)</h3>", page(tmp_path, RECORDS["sweep"]).replace("\xa0", " "))
    assert titles == [
        *(f"Latency against batch: cpu, {n}" for n in ("1 thread", "2 threads")),
        *(f"Latency against threads: cpu, batch {n}" for n in (1, 8)),
    ]
    assert not re.search("Latency against", page(tmp_path, RECORDS["one"]))


# --- scenarios and profiles --------------------------------------------------------------------------------------


class Fake:
    """A clock, a sleep, and calls that take a given time with some noise."""

    def __init__(self):
        self.now, self.count = 0.0, 0

    def clock(self):
        self.now += 1e-7
        return self.now

    def sleep(self, seconds):
        self.now += max(0.0, seconds)

    def taking(self, milliseconds):
        def call():
            self.count += 1
            self.now += 1e-3 * milliseconds * (1 + 0.1 * (self.count * 7919 % 13) / 13)

        return call


@pytest.fixture(scope="module")
def scenarios():
    """What `evaluate.load_test.scenarios` gives, of a fake model."""
    fake = Fake()
    batches = {batch: fake.taking(0.5 + 0.5 * batch) for batch in (1, 4, 16)}
    goal = {"bound_ms": 10, "percentile": 90, "seconds": 6}
    found = [
        single_stream(fake.taking(1.0), seconds=2, clock=fake.clock),
        offline(batches, seconds=2, clock=fake.clock),
        highest_rate(fake.taking(1.0), **goal, clock=fake.clock, sleep=fake.sleep),
        server(fake.taking(1.0), rate=400, queries=700, clock=fake.clock, sleep=fake.sleep),
    ]
    return [{"name": "fp32", "provider": "cpu", "threads": 1, **result} for result in found]


@pytest.fixture(scope="module")
def profiled():
    """What `evaluate.profiling.profile` gives of two tiny models."""
    feeds = {"x": np.zeros((1, 12), np.float32)}
    models = [Subject(name, linear_onnx(seed=i, depth=3), feeds) for i, name in enumerate(("fp32", "int8"))]
    return profiles(models, seconds=0.2)


def served(scenarios):
    return {**bench_record({"fp32": 1.0}, threads=()), "scenarios": scenarios}


def test_scenarios_have_their_figures_in_table_headline_and_page(scenarios, tmp_path):
    record = served(scenarios)
    headline = bench_headline(as_record(record))
    assert "nothing could be measured" not in headline
    assert "server, P90 within 10.0 ms: fp32" in headline
    text = bench_table(record, 80)
    assert max(map(len, text.splitlines())) <= 80
    markup = page(tmp_path, record)
    check_alone(markup)
    check_headings(markup)
    check_pictures(markup, 2)
    words = words_of(markup)
    assert "carry no speed-up" in words
    rate = f"{scenarios[2]['rate']:.0f}"
    for said in (headline, text, words):
        assert rate in said


def typed(results):
    return [as_block(Scenario, one) for one in results]


def test_the_probes_are_drawn_against_the_bound(scenarios):
    other = {**scenarios[2], "name": "int8", "rate": None, "why": "out of reach"}
    picture, caption = rates_picture(typed([scenarios[2], other]), key="k")
    assert "bound, 10.0 ms" in caption
    assert "int8: no rate found" in picture.text
    assert rates_picture(typed([{**other, "probes": []}]), key="k") is None
    assert throughput_picture(typed([scenarios[1]]), key="k")[0].text.startswith("fp32: ")
    assert throughput_picture(typed([{**scenarios[1], "batches": scenarios[1]["batches"][:1]}]), key="k") is None


def test_profiles_have_sentences_pictures_and_figures(profiled, tmp_path):
    record = {**bench_record({"fp32": 1.0, "int8": 0.6}), "profiles": profiled}
    assert "where the time goes" in bench_table(record, 80)
    markup = page(tmp_path, record)
    check_alone(markup)
    check_headings(markup)
    words = words_of(markup)
    assert "Time by operator" in words
    assert "One call takes" in words
    assert "Where the time goes" not in words_of(page(tmp_path, RECORDS["one"]))


@pytest.mark.parametrize("seed", range(4))
def test_strange_scenarios_and_profiles_are_left_out_and_said(seed, scenarios, profiled, tmp_path):
    rng = random.Random(seed)
    record = {**small(), "scenarios": copy.deepcopy(scenarios), "profiles": copy.deepcopy(profiled)}
    extra = [place for place in places(record) if place[0] in ("scenarios", "profiles") and len(place) <= 4]
    for _ in range(10):
        place, junk = rng.choice(extra), rng.choice([*JUNK, HOSTILE])
        with contextlib.suppress(LookupError, TypeError):  # it is gone already
            record = spoiled(record, place, junk)
    text = bench_table(record, 80)
    assert "\x1b" not in text
    check_alone(page(tmp_path, record))
    for key in ("scenarios", "profiles"):
        assert "not as leanfit writes it" in bench_table({**small(), key: [{"name": HOSTILE}]}, 200)


# --- devices side by side ----------------------------------------------------------------------------------------


def beside(*records):
    """The part of the page that has the devices in it."""
    return devices_section([as_record(record) for record in records], key="k", level=3)


def test_no_ratio_crosses_two_records():
    records = [bench_record(device=device) for device in ("laptop", "pi", "jetson")]
    words = words_of(beside(*records))
    assert "never compared as one" in words
    known = {
        text for record in records for e in as_record(record).results for text in re.findall(r"[\d.]+x?", speed_cell(e))
    }
    assert set(re.findall(r"\d[\d.]*x", words)) <= known


def test_models_are_joined_by_their_file():
    renamed = bench_record(device="pi")
    renamed["results"][1]["name"] = "quantized"
    rows = re.findall(r'<th scope="row">([\w ()]+)</th><td', beside(bench_record(), renamed))
    assert rows[:3] == ["fp32", "int8", "pruned"]
    assert "quantized" not in rows
    other = bench_record(device="pi")
    other["results"][1]["sha256"] = "0" * 64
    markup = beside(bench_record(), other)
    assert len(re.findall(r'<th scope="row">int8 \(\w{7}\)</th>', markup)) == 2
    assert "Different files have the name int8" in words_of(markup)
    unknown = bench_record(device="pi")
    del unknown["results"][1]["sha256"]
    rows = re.findall(r'<th scope="row">([\w ()]+)</th><td', beside(bench_record(), unknown))
    assert rows[:3] == ["fp32", "int8", "pruned"]


def test_one_machine_twice_says_what_changed():
    later = bench_record(device="pi", created="2026-11-25T10:00:00Z")
    later["environment"]["cpu"]["governor"] = "powersave"
    later["environment"]["versions"]["onnxruntime"] = "1.32.0"
    words = words_of(beside(bench_record(device="pi"), later))
    assert "never compared as one" not in words
    assert "One machine twice" in words
    assert "governor performance against powersave" in words
    assert "onnxruntime 1.31.0 against onnxruntime 1.32.0" in words
    assert "2026-11-25" in words


def test_batches_have_a_table_each():
    words = words_of(beside(bench_record(batch=(1, 8)), bench_record(device="pi")))
    assert "Batch 1, cpu, 1 thread" in words
    assert "Batch 8, cpu, 1 thread" in words


def test_a_page_holds_all_letters_whatever_the_terminal_can_show(tmp_path, monkeypatch):
    served = {"scenario": "server", "name": "模型", "rate": 5.0, "p50_ms": 1.0, "p90_ms": None, "p99_ms": None}
    served.update(queries=5, completed=5, lost=0, utilisation=0.1, warnings=[])
    record = {**bench_record(), "scenarios": [served]}
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert words_of(page(tmp_path, record)).count("模型: server: P50 1.00 ms") == 1


def test_many_records_of_one_machine_are_told_against_its_first():
    records = [bench_record(seed=n, created=f"2026-11-22T20:{n:02d}:00Z", shape=(2, 2, 2)) for n in range(6)]
    assert (
        str(devices_section([as_record(record) for record in records], key="k", level=3)).count("One machine twice")
        == 5
    )
