"""Tables, verdicts in words, pictures and pages: what they claim, what they may not claim, and what they survive."""

from __future__ import annotations

import copy
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markup_reader import check_alone, check_headings, check_pictures, read, words_of
from records import regression_record, sample_record, widths

from evaluate.core.blocks import as_block
from evaluate.core.errors import DataError, MachineError
from evaluate.core.record_parts import ClassDrop, Drop, Goal, Latency, Side, Width
from evaluate.core.records import as_record
from evaluate.core.text import count, duration, ratio_decimals, signed, size
from evaluate.core.units import size_labels
from evaluate.metrics.base import get_metric
from evaluate.report.charts.bars import classes_picture, widths_picture
from evaluate.report.charts.sample_charts import latency_picture
from evaluate.report.html.pages import write_page
from evaluate.report.html.run_page import tradeoffs, yaml_text
from evaluate.report.messages.run_messages import drop_verdict, goal_sentence, headline, latency_text, worst_class
from evaluate.report.text.run_table import rows, summary, text_table

HOSTILE = "<script>alert('x')</script>\x1b[2J\n\"&$a_b$"
SPEEDS = {"faster": 1.6, "slower": 0.8, "not resolved": 1.0}


def bare(**changes):
    """A record that holds as little as a record may."""
    record = sample_record()
    for key in ("drop", "speedup", "samples", "passes", "per_class_drop", "goals", "environment", "recipe", "hashes"):
        record[key] = None
    for side in ("baseline", "compressed"):
        record[side] = {"sizes": record[side]["sizes"], "accuracy": None, "latency": None}
    return {**record, **changes}


def page(tmp_path, *records):
    return write_page(list(records), tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """name in PAGES -> its markup, written once."""
    folder = tmp_path_factory.mktemp("pages")
    return functools.cache(lambda name: page(folder, *PAGES[name]))


# --- what is claimed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdict", "speed"), SPEEDS.items())
def test_the_word_faster_appears_only_where_the_verdict_says_so(verdict, speed, tmp_path):
    record = sample_record(speed=speed)
    assert record["speedup"]["verdict"] == verdict
    for said in (text_table(record), page(tmp_path, record, record)):
        words = "\n".join(read(said).text) if said.startswith("<!") else said
        for word in ("faster", "slower"):
            assert (word in words) == (word == verdict)


def test_the_verdict_is_not_reread_from_the_value():
    record = sample_record(speed=1.6)
    record["speedup"]["verdict"] = "not resolved"
    assert "not resolved to differ" in headline(as_record(record))
    assert "faster" not in text_table(record) + headline(as_record(record))


@pytest.mark.parametrize(
    ("low", "high", "accuracy", "mse"),
    [(0.1, 0.5, "lost", "gained"), (-0.5, -0.1, "gained", "lost"), (-0.1, 0.1, "not resolved", "not resolved")],
)
def test_a_drop_is_judged_by_its_interval_and_by_what_is_better(low, high, accuracy, mse):
    drop = Drop(value=(low + high) / 2, low=low, high=high)
    assert drop_verdict(drop, get_metric("accuracy")) == accuracy
    assert drop_verdict(drop, get_metric("mse")) == mse
    assert drop_verdict(Drop(value=3.0), get_metric("mse")) == ""


def test_headline_of_a_loss_names_its_amount_and_interval():
    assert headline(as_record(sample_record(drop=1.2, resolution=0.4))).endswith(
        "accuracy lost 1.20 points (0.80 to 1.60)"
    )
    assert headline(as_record(sample_record(drop=-1.2, resolution=0.4))).endswith(
        "accuracy gained 1.20 points (0.80 to 1.60)"
    )
    assert headline(as_record(regression_record())).endswith("mse lost: up by 0.00067 (0.00040 to 0.00090)")


@pytest.mark.parametrize(
    ("before", "after", "words"), [(100, 25, "4.00x smaller"), (50, 100, "2.00x larger"), (7, 7, "same")]
)
def test_size_is_said_in_the_right_direction(before, after, words):
    record = sample_record()
    record["baseline"]["sizes"]["bytes"], record["compressed"]["sizes"]["bytes"] = before, after
    assert words in headline(as_record(record))


def test_the_class_that_lost_more_than_the_average_is_named():
    drops = {"cat": 1.2, "dog": -0.3, "owl": 0.0}
    record = {"per_class_drop": [{"class": c, "n": 1000, "drop": d} for c, d in drops.items()]}
    assert worst_class(as_record(record)).startswith("class 'cat' lost 1.2 points, the average class 0.3")
    assert "one sample of class 'cat' is 0.1" in worst_class(as_record(record))
    for even in ([1.0, 1.0], [-0.5, -0.1], []):
        assert worst_class(as_record({"per_class_drop": [{"class": "a", "n": 9, "drop": d} for d in even]})) == ""


def test_goals_are_shown_in_the_unit_they_were_asked_in():
    asked = {
        "latency at most 0.5ms: 250 us": {"goal": "latency", "limit": "0.5ms", "value": 0.00025},
        "bytes at most 2MB: 1.50 MB": {"goal": "bytes", "limit": "2MB", "value": 1.5e6},
        "params at most 300k: 272 k": {"goal": "params", "limit": "300k", "value": 272_474},
        "bytes at least 2.86x smaller: 2.50x smaller": {"goal": "bytes", "limit": 0.35, "value": 0.4},
        "params at least 2.00x smaller: 1.20x larger": {"goal": "params", "limit": 0.5, "value": 1.2},
        "latency at least 2.00x lower: 1.25x higher": {"goal": "latency", "limit": 0.5, "value": 1.25},
        "at most 1.50 points lost: 0.30 points": {"goal": "drop", "limit": 1.5, "value": 0.3},
    }
    assert [goal_sentence(as_block(Goal, goal), get_metric("accuracy")) for goal in asked.values()] == list(asked)
    small = goal_sentence(Goal(goal="drop", limit=0.001, value=0.0007), get_metric("mse"))
    assert small == "drop at most 0.001 of mse: 0.0007 of mse"


# --- numbers -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**12))
def test_sizes_and_counts_read_back_within_half_a_per_cent(n):
    for text, units in ((size(n), " B kB MB GB"), (count(n), "  k M G")):
        number, _, unit = text.partition(" ")
        scale = 1000 ** max(0, [u.rstrip("B") for u in units.split(" ")[1:]].index(unit.rstrip("B")) if unit else 0)
        assert float(number) * scale == pytest.approx(n, rel=0.006)
        assert len(number.replace(".", "")) <= 4


@given(st.floats(-10, 10), st.integers(0, 4))
def test_a_signed_number_never_reads_minus_zero(value, decimals):
    text = signed(value, decimals)
    assert float(text) == pytest.approx(value, abs=0.5 * 10**-decimals + 1e-9)
    assert not (float(text) == 0 and text.startswith(("-", "+")))


@given(st.floats(0.5, 2), st.floats(0.0011, 0.3))
def test_an_end_of_an_interval_that_is_not_one_is_not_shown_as_one(low, width):
    high = low + width
    decimals = ratio_decimals(low, high)
    assert round(low, decimals) < round(high, decimals)
    for end in (low, high):
        assert round(end, decimals) != 1 or abs(end - 1) < 0.0001


# --- the text table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("record", [sample_record(), sample_record(pruned=True, drop=1.2), regression_record(), bare()])
def test_the_table_fits_is_plain_and_is_complete(width, record):
    text = text_table(record, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii()
    assert "\x1b" not in text
    for row in rows(as_record(record)):
        assert row.label in text
    sizes = as_record(record).baseline.sizes.amounts(), as_record(record).compressed.sizes.amounts()
    changed = {label for key, label in size_labels(*sizes).items() if sizes[0].get(key) != sizes[1].get(key)}
    assert changed == {row.label for row in rows(as_record(record))} & set(size_labels(*sizes).values()) != set()


def test_the_table_has_columns_at_full_width_and_says_all_of_it():
    record = sample_record(drop=1.2, resolution=0.4)
    text = text_table(record, width=100)
    assert re.search(r"baseline +compressed +change +verdict", text)
    assert re.search(r"-1\.20 \(-1\.60 to -0\.80\) +lost", text)
    assert re.search(r"McNemar +40 gained, 160 lost +p < 0\.001", text)
    assert re.search(r"bytes +1\.09 MB +346 kB +3\.15x smaller", text)
    assert "1 quantize" in text
    assert "no VNNI" in text
    assert re.search(r"missed|met", text)
    assert text.count("no VNNI") == 1


def test_color_only_adds_codes():
    record = sample_record()
    assert re.sub(r"\x1b\[\d+m", "", text_table(record, 100, color=True)) == text_table(record, 100)
    assert "\x1b[32mfaster\x1b[0m" in text_table(record, 100, color=True)


def test_names_cannot_drive_the_terminal():
    record = sample_record(HOSTILE, classes=[HOSTILE, "b"])
    record["warnings"] = [HOSTILE]
    assert "\x1b" not in text_table(record)
    assert max(map(len, text_table(record, 80).splitlines())) <= 80


def test_the_summary_has_the_stable_names_and_is_json():
    record = sample_record()
    record["drop"]["p"] = float("nan")
    before = copy.deepcopy(record["baseline"])
    made = summary(record)
    assert list(made) == [
        "artifact",
        "baseline",
        "compressed",
        "passes",
        "drop",
        "speedup",
        "goals",
        "warnings",
        "heads",
    ]
    assert json.loads(json.dumps(made, allow_nan=False))["drop"]["p"] is None
    assert made["baseline"]["sizes"] == before["sizes"]
    made["baseline"]["sizes"]["params"] = 0
    assert record["baseline"] == before
    assert summary(bare())["passes"] == []


# --- the page ----------------------------------------------------------------------------------------------------

PAGES = {
    "int8": [sample_record()],
    "pruned": [sample_record(pruned=True, drop=1.2)],
    "regression": [regression_record()],
    "bare": [bare()],
    "hostile": [sample_record(HOSTILE, pruned=True, classes=[HOSTILE, "日本", "\ud800", "$x^2$"])],
    "several": [sample_record(), sample_record("b", pruned=True, seed=1), regression_record(), bare()],
    "twice": [sample_record(), sample_record()],
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_stands_alone_and_is_sound(name, drawn):
    markup = drawn(name)
    check_alone(markup)
    assert re.search(r"&lt;script&gt;", markup) or name != "hostile"


@pytest.mark.parametrize("name", ["pruned", "several"])
def test_pictures_are_named_and_take_their_colors_from_the_page(name, drawn):
    check_pictures(drawn(name), 4)


def test_headings_never_skip_a_level(drawn):
    for name in PAGES:
        check_headings(drawn(name))


def test_the_same_records_give_the_same_bytes(drawn, tmp_path):
    assert drawn("pruned") == page(tmp_path, *copy.deepcopy(PAGES["pruned"]))


def test_the_page_says_what_the_record_says(tmp_path):
    record = sample_record(pruned=True, drop=1.2, resolution=0.4)
    words = words_of(page(tmp_path, record))
    for told in (
        record["hashes"]["model.onnx"],
        "Example CPU",
        "importance: group_norm",
        "1.09 MB",
        "lost",
        worst_class(as_record(record)),
    ):
        assert told in words
    assert "leanfit verify runs/cifar10-resnet20-int8" in words


def test_machines_are_never_mixed_in_one_latency_picture():
    records = [sample_record(), sample_record(machine="other", seed=1), sample_record(seed=2)]
    drawn = tradeoffs([as_record(record) for record in records], "k")
    latencies = [(p, caption) for p, caption in drawn if p is not None and p.title.endswith("latency")]
    assert [p.text.count("compressed") for p, _ in latencies] == [2, 1]
    assert all("not drawn together" in caption for _, caption in latencies)
    records[2]["compressed"]["latency"]["threads"] = 4
    assert len(tradeoffs([as_record(record) for record in records], "k")) == 1 + 3


def test_several_tasks_have_a_table_each(tmp_path):
    other = {**sample_record("other data"), "task": {**sample_record()["task"], "fingerprint": "beef" * 16}}
    markup = page(tmp_path, sample_record(), sample_record("b"), other)
    assert markup.count("<h2>Task cifar10</h2>") == 2


def test_text_of_the_page_can_be_read_in_both_themes():
    css = Path(sys.modules["evaluate.report.html.pages"].__file__).with_name("page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{([^}]*--[^}]*)\}", css)
    )
    for theme in (light, {**light, **dark}):
        for name in ("ink", "muted", "accent", "base", "lost", "gained", "open"):
            for ground in ("paper", "surface"):
                assert contrast(theme[name], theme[ground]) >= 4.5, (name, ground)


def contrast(one, other):
    """WCAG 2.1 contrast ratio of two colors."""
    shares = []
    for color in (one, other):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        shares.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(shares) + 0.05) / (min(shares) + 0.05)


def test_refusals_are_clear_and_leave_nothing_behind(tmp_path):
    with pytest.raises(DataError, match="leanfit compress"):
        write_page([], tmp_path / "x.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write the page"):
        write_page([bare()], tmp_path / "file" / "x.html")
    (tmp_path / "taken").mkdir()
    with pytest.raises(MachineError, match="cannot write the page"):
        write_page([bare()], tmp_path / "taken")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken"]


def test_a_page_for_a_device_does_not_replace_it(tmp_path):
    (tmp_path / "out").symlink_to("/dev/null")
    write_page([bare()], tmp_path / "out")
    assert (tmp_path / "out").is_char_device()


def test_a_report_leaves_the_process_as_it_was(tmp_path):
    code = (
        "import sys, evaluate.report.html.pages, evaluate.report.text.run_table;"
        "assert 'matplotlib' not in sys.modules;"
        "import matplotlib; kept = [k for k in matplotlib.rcParams if k != 'backend'];"
        "before = [matplotlib.rcParams[k] for k in kept];"
        "sys.path.insert(0, sys.argv[1]); from records import sample_record;"
        "evaluate.report.html.pages.write_page([sample_record()], sys.argv[2]);"
        "assert before == [matplotlib.rcParams[k] for k in kept];"
        "print(*[m for m in ('matplotlib.pyplot', 'torch', 'onnxruntime', 'compress') if m in sys.modules])"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(tmp_path / "x.html")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == []


@pytest.mark.parametrize("samples", ["text", [1, 2], 3, {"baseline": "text"}, {"baseline": None}])
def test_samples_that_are_none_cost_their_picture_alone(samples, tmp_path):
    assert "<h1>" in page(tmp_path, {**sample_record(), "samples": samples})


# --- pictures ----------------------------------------------------------------------------------------------------


def test_widths_are_drawn_only_where_they_changed():
    old = [Width(layer=f"block{i}.conv", channels=64) for i in range(60)]
    new = [Width(layer=f"block{i}.conv", channels=64 - i % 3) for i in range(60)]
    assert widths_picture(old, old, key="a") is None
    assert widths_picture([], [], key="a") is None
    drawn = widths_picture(old, new, key="a")
    assert all(f">block{i}.conv</text>" in drawn.svg for i in range(60))
    many = widths_picture([Width(layer=f"l{i}", channels=2) for i in range(300)], [], key="a")
    assert "80 of 300" in many.title
    whole = widths((16, 32, 64))
    gone = widths_picture(*(as_block(Side, {"widths": many}).widths for many in (whole, whole[:-1])), key="a")
    assert gone.svg.count("→ -</text>") == 1


def test_classes_are_sorted_and_labelled():
    drawn = classes_picture(
        [ClassDrop(label=c, n=10, drop=d) for c, d in (("a", -1.0), ("b", 2.0), ("c", 0.0))], key="k"
    )
    labels = re.findall(r">([abc])</text>", drawn.svg)
    assert labels == ["b", "c", "a"]
    assert {">-2.0<", ">+1.0<", ">0.0<"} <= set(re.findall(r">[-+]?\d\.\d<", drawn.svg))
    crowd = [ClassDrop(label=f"class{i}", n=10, drop=i / 10) for i in range(100)]
    assert len(re.findall(r">class\d+</text>", classes_picture(crowd, key="k").svg)) == 30
    assert classes_picture([], key="k") is None


@pytest.mark.parametrize(
    "samples",
    [
        {"a": [0.001, 0.002], "b": [0.001, 0.001]},
        {"a": [[0.001]], "b": [[0.001]]},
        {"a": [[0.001, float("nan")], [], [0.5, 0.001, 0.002]], "b": [[0.0, 0.0]]},
        {"a": [[1e-7, 2e-7]], "b": [[3.0]]},
        {"a": np.full((300, 50), 0.001), "b": np.linspace(0.001, 0.002, 15000).reshape(300, 50)},
    ],
)
def test_any_samples_can_be_drawn_and_stay_small(samples):
    drawn = latency_picture(samples, key="k")
    assert "a: " in drawn.text
    assert len(drawn.svg) < 120_000
    assert latency_picture({"a": [[]], "b": []}, key="k") is None


# --- the recipe as text ------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126)) | st.sampled_from(
    ["1e-3", "no", "null", "a b", "~"]
)
VALUES = st.recursive(
    SCALARS | WORDS, lambda v: st.lists(v, max_size=4) | st.dictionaries(WORDS, v, max_size=4), max_leaves=12
)


@given(VALUES)
def test_a_recipe_shown_is_the_recipe_that_ran(value):
    assert yaml.safe_load(yaml_text(value)) == value


@pytest.mark.parametrize(("milliseconds", "text"), [(0.0005, "0.5 us"), (0.00125, "1.25 us"), (0, "0 us")])
def test_every_time_has_a_unit(milliseconds, text):
    assert duration(milliseconds) == text


@pytest.mark.parametrize("median", [0, -1.0])
def test_a_latency_that_is_none_is_not_shown(median):
    assert latency_text(as_block(Latency, {"median_ms": median, "low": median, "high": median})) == "-"


def test_a_folder_is_no_place_for_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MachineError, match="cannot write the page"):
        write_page([sample_record()], ".")
    assert not list(tmp_path.iterdir())
