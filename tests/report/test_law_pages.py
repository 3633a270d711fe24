"""Laws and studies shown: tables, pictures, pages and files; what they claim and what they survive."""

from __future__ import annotations

import copy
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from law_page_cases import LAWS, fitted, stored, trials
from markup_reader import check_alone, check_headings, check_pictures, words_of
from records import sample_record

from evaluate.core.errors import DataError, MachineError, UsageError
from evaluate.core.records import as_record
from evaluate.report.charts.bars import candidates_picture
from evaluate.report.charts.law_charts import (
    Budget,
    frontier,
    plane_of,
    plane_picture,
    residuals_picture,
)
from evaluate.report.charts.law_curve import curve_picture
from evaluate.report.charts.study_charts import (
    Curve,
    Level,
    effective_levels,
    effective_picture,
    native_picture,
    study_curves,
    worth_picture,
)
from evaluate.report.charts.svg import save_picture
from evaluate.report.html.pages import write_page
from evaluate.report.html.study_page import (
    law_pictures,
    points_of,
    studies_of,
    study_line,
    study_section,
    write_law_page,
)
from evaluate.report.messages.law_messages import (
    in_words,
    interval_figure,
    law_table,
    number,
    number_interval,
    quantity,
)
from evaluate.report.messages.law_view import Candidate, view_of
from evaluate.report.text.run_table import lines_of
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.query.solve import solve

HOSTILE = "<script>alert('x')</script>\x1b[2J\n\"&$a_b$"
SOLVED = {"low": 9e3, "high": 14e3, "value": 11e3, "reachable": True, "reason": "", "beyond": 1.0, "given": {}}
LOST = {"low": None, "high": None, "value": None, "reachable": False, "reason": "the floor is 47 % (0 % to 53 %)"}


def typed(records):
    return [as_record(record) for record in records]


def report(tmp_path, *records):
    return write_page(list(records), tmp_path / "report.html").read_text(encoding="utf-8")


def sound(markup, least):
    check_alone(markup)
    check_pictures(markup, least)
    check_headings(markup)


# --- pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "least"), [("floor", 2), ("joint", 4), ("sparse", 4)])
def test_the_page_of_a_law_stands_alone_and_says_what_the_law_says(name, least, tmp_path):
    law, points = fitted(name)
    page = write_law_page(law, points, tmp_path / "law.html").read_text(encoding="utf-8")
    sound(page, least)
    words = words_of(page)
    for text in (law["formula"], *law["params"], *law["warnings"]):
        assert " ".join(text.split()) in words


def test_studies_laws_and_runs_stand_on_one_page(tmp_path):
    law = stored("floor", points={"columns": ["params"], "where": ["role=dense"]}, solve=[{**LOST, "target": 0.3}])
    records = [*trials(), law, sample_record("a"), sample_record("b")]
    page = report(tmp_path, *records)
    sound(page, 6)
    words = words_of(page)
    assert "1 study, 1 law and 2 runs" in words
    assert words.count("Study imp") == 1
    assert page.count('<details class="run">') == 2  # the runs; no trial is folded in by itself
    assert "out of reach, the floor is 47 % (0 % to 53 %)" in words
    assert len(lines_of(records)) == 4


def test_a_law_that_cannot_be_read_costs_its_pictures_alone(tmp_path):
    page = report(tmp_path, *trials(), stored("floor", draws="gone"), stored("joint"))
    sound(page, 3)
    assert "could not be drawn" in words_of(page)


def test_one_trial_is_a_study(tmp_path):
    assert "1 trial of 1 design, all finished" in words_of(report(tmp_path, trials()[0]))


def test_names_are_text_and_nothing_else(tmp_path):
    bad = copy.deepcopy(trials()[:12])
    for trial in bad:
        trial |= {"study": HOSTILE, "level": {"name": HOSTILE, "x": HOSTILE}, "size": {HOSTILE: HOSTILE}}
    bad[0] |= {"status": "failed", "reason": {"message": HOSTILE}}
    law = stored("floor", target=HOSTILE, warnings=[HOSTILE], solve=[{**LOST, "reason": HOSTILE, "target": 1.0}])
    law["holdout"] = {"error": 0.1, "rule": HOSTILE, "candidates": [{"name": HOSTILE, "error": 0.1}] * 2}
    page = report(tmp_path, *bad, law)
    sound(page, 1)
    assert "<script>alert" not in page
    assert "\x1b" not in page + law_table(law)


# --- studies -------------------------------------------------------------------------------------------------------


def test_a_study_gives_means_and_spread_over_seeds_and_names_what_failed():
    section = words_of(study_section("imp", studies_of(typed(trials()))["imp"], key="s"))
    dense = [100 * t["error"] for t in trials() if t["size"]["width"] == 128 and t["role"] == "dense"]
    assert f"{np.mean(dense):.2f} %" in section
    assert f"± {np.std(dense, ddof=1):.2g} ({min(dense):.4g} to {max(dense):.4g})" in section
    assert "1 trial failed width 16, depth 2" in section
    assert "MachineError: no space" in section
    assert "2, 1 failed" in section


def test_a_trial_that_was_run_again_counts_as_it_ended():
    again = [*trials(), {**trials()[5], "status": "finished", "error": 0.6}]
    (found,) = studies_of(typed(again)).values()
    assert "all finished" in study_line("imp", found)
    assert len(found) == len(trials())


def test_many_failures_are_folded_and_a_study_without_results_is_still_shown():
    failed = [{**t, "status": "failed", "reason": "", "error": None, "sizes": None} for t in trials()]
    section = study_section("imp", studies_of(typed(failed))["imp"], key="s")
    assert "<svg" not in section
    assert "no reason given" in words_of(section)
    assert "<details>" in section


def test_curves_of_a_study_begin_at_their_dense_model():
    from evaluate.scaling.points.point_files import from_records

    curves = study_curves(from_records(trials(), "trials"))
    assert [c.native for c in curves] == [True, False, False, False, False]
    assert [c.name for c in curves[1:]] == [f"width {w}, depth 2, prune" for w in (128, 64, 32, 16)]
    assert all(curve.x.max() in curves[0].x for curve in curves[1:])
    assert native_picture(curves).title == "Compressed against native, by params"
    assert native_picture([]) is None


def test_many_curves_are_all_drawn_the_larger_the_darker():
    x = np.array([1e3, 1e4])
    curves = [
        Curve(f"width {w}, {level}", w * x, 0.1 / x, size=f"width {w}", level=level)
        for w in (32, 16, 8, 4)
        for level in ("int8", "pruned", "pruned-int8")
    ]
    drawn = native_picture([Curve("native", x, 1 / x, native=True), *curves])
    assert drawn.title == "Compressed against native, by params"
    told = re.findall(r">([^<>]+)</text>", drawn.svg)
    assert all(name in told for name in ("native", "int8", "pruned-int8", "width 32", "width 4"))
    shades = [float(found) for found in re.findall(r"stroke-opacity: ([\d.]+)", drawn.svg)]
    assert len({round(shade, 3) for shade in shades if shade < 1}) >= 3
    assert "(24 of 30 curves)" in native_picture([*curves, *curves, *curves[:6]]).title


def test_points_of_a_law_are_trials_only_where_they_are_those_it_had():
    law = stored("floor", points={"columns": ["params"], "where": ["role=dense"]}, n=12)
    found = points_of(view_of(law), trials())
    assert sorted(found) == ["error", "params"]
    for changes in ({"n": 11}, {"points": {"columns": ["params"], "where": ["role=nobody"]}}, {"points": {}}):
        assert points_of(view_of({**law, **changes}), trials()) is None


def test_what_compressed_models_are_worth_is_read_from_the_law_of_the_dense_ones():
    from evaluate.scaling.points.point_files import from_records

    view, points = view_of(stored("floor")), from_records(trials(), "trials")
    size, levels = effective_levels(view, points.columns)
    assert size == "width 128, depth 2"
    mine = [t for t in trials() if t["size"]["width"] == 128]
    full = next(t["sizes"]["params"] for t in mine if t["role"] == "dense")
    sizes: dict[float, list[float]] = {}
    for trial in trials():
        if trial["role"] == "dense" and trial["error"]:
            sizes.setdefault(trial["sizes"]["params"], []).append(trial["error"])
    dense = [(params, float(np.mean(of_size))) for params, of_size in sorted(sizes.items())]
    between = 0
    for level in levels:
        errors = [t["error"] for t in mine if t["retained"]["bytes"] == pytest.approx(level.at) and t["error"]]
        error = float(np.mean(errors))
        assert level.value * full == pytest.approx(solve(view.law, error).value)
        passed = [(params, mean >= error) for params, mean in dense]
        below = max((params for params, above in passed if above), default=0)
        above = min((params for params, above in passed if not above), default=np.inf)
        if below < above < np.inf and below:  # measured sizes that the error lies between
            assert below <= level.value * full <= above
            between += 1
        assert level.low <= level.value <= level.high
    assert between
    assert worth_picture(view_of(stored("joint")), points) is None


# --- claims --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAWS)
def test_the_floor_never_stands_without_its_interval(name):
    law, points = fitted(name)
    view = view_of(law)
    table = law_table(law)
    name, value, low, high = view.floor
    (line,) = [text for text in table.splitlines() if re.match(rf"{name} .*floor$", text)]
    assert number_interval(low, high, value) in line
    ends = interval_figure(law["target"], value, low, high)
    assert ends in curve_picture(law, points).caption
    without = copy.deepcopy(law)
    without["intervals"][view.floor[0]] = [None, None]
    assert "(no end to no end)" in curve_picture(without).caption


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("name", LAWS)
def test_the_table_fits_and_is_complete(name, width):
    law = stored(name, solve=[{**SOLVED, "variable": "N", "target": 0.4}, {**LOST, "variable": "N", "target": 0.1}])
    text = law_table(json.loads(json.dumps(law)), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    words = " ".join(text.split())
    for said in (*law["params"], "starts agreed", "out of reach", "11.0 k (9.00 k to 14.0 k)"):
        assert said in words
    for warning in law["warnings"]:
        assert warning.split(":")[0][:30] in words.replace("! ", "")


def test_answers_come_first_and_growing_is_told_in_words():
    law = stored("floor", solve=[{**SOLVED, "variable": "params", "target": 0.4}])
    text = law_table(law, width=100)
    places = [text.index(said) for said in ("for error", "Doubling the params", "However large", "starts agreed")]
    assert places == sorted(places)
    view = view_of(law)
    low = view.span("params")[0]
    first, second = (quantity("error", float(view.predict(np.array([[at]]))[0])) for at in (low, 2 * low))
    assert f"from {first} to {second} at the smallest ({quantity('params', low)})" in " ".join(text.split())
    drawn = curve_picture(law, fitted("floor")[1])
    assert re.search(r">\s*11.0 k</text>", drawn.svg)  # the answer stands on the axis
    assert "stays at least" in in_words(view)[-1]
    assert [words.split(",")[0] for words in in_words(view_of(stored("joint")))] == ["However large everything is"]


def test_candidates_are_shown_with_their_criteria_and_the_chosen_one_is_marked():
    entries = [
        {"name": "power", "error": 0.08, "aic": -9.0, "bic": -8.0},
        {"name": "power-floor", "error": 0.02, "aic": -7.0, "bic": -6.0},
        {"name": "bnsl2", "error": None, "reason": "no two starts agreed"},
    ]
    names = {entry["name"] for entry in entries}
    law = stored("floor", holdout={"rule": "largest fifth", "error": 0.02, "candidates": entries})
    text = law_table(law, width=100)
    order = [line.split()[0] for line in text.splitlines() if line.split()[:1] and line.split()[0] in names]
    assert order == ["power-floor", "power", "bnsl2"]
    assert re.search(r"power-floor +2 % +-7.0 +-6.0 +chosen", text)
    assert "no two starts agreed" in text
    assert "not obeyed" in text
    drawn = [p for p in law_pictures(law, fitted("floor")[1]) if "Candidates" in p.title]
    assert drawn[0].text.startswith("power-floor 2 % (chosen); power 8 %")
    assert "Not fitted: bnsl2" in drawn[0].caption
    assert candidates_picture([Candidate("power", 0.1)]) is None


def test_residuals_are_those_of_the_law():
    law, points = fitted("joint")
    off = 100 * np.array(law["residuals"])
    caption = residuals_picture(view_of(law), points, groups=points["N"]).caption
    assert f"Root mean square {np.sqrt(np.mean(off**2)):.2g} %" in caption
    assert f"{-off[np.argmax(np.abs(off))]:+.2g} %" in caption
    assert residuals_picture(view_of(law), None) is None


def test_the_path_of_best_splits_is_where_the_gains_are_equal():
    law, points = fitted("joint")
    view = view_of(law)
    budget = Budget(Formula("6*N*D", ("N", "D")), 1e20, "6*N*D")
    n, d = frontier(plane_of(view, ("N", "D"), None, budget), budget).T
    p = law["params"]
    gain = (p["alpha"] * p["A"] * n ** -p["alpha"]) / (p["beta"] * p["B"] * d ** -p["beta"])
    assert len(n) > 5
    assert np.abs(np.log(gain)).max() < 0.1
    assert "dotted box" in plane_picture(law, points, budget=budget).caption


def test_a_slice_draws_points_that_stand_on_it_or_says_that_it_moved_them():
    law, points = fitted("joint")
    there = points["D"] == points["D"][0]
    assert "moved along the law" in curve_picture(law, points, given={"D": 3e9 * 1.37}).caption
    one = {name: values[there | (points["N"] == points["N"][0])] for name, values in points.items()}
    picture = curve_picture(law, one, variable="D", given={"N": points["N"][0]})
    assert picture.title == f"Loss against D at N {quantity('N', points['N'][0])}"
    assert ("moved" in picture.caption) == (len(set(one["D"][one["N"] == points["N"][0]])) < 3)


def test_an_answer_is_drawn_where_it_was_asked():
    answer = {**SOLVED, "variable": "N", "target": 3.0, "given": {"D": 2e10}}
    assert "at D 20.0 G" in curve_picture(stored("joint", solve=[answer]), fitted("joint")[1]).title
    crossing = {**SOLVED, "variable": "params", "y": 0.5, "against": "role=native"}
    other = {"law": "power", "params": {"b": 3.2, "c": -0.25}}
    picture = curve_picture(stored("floor", break_even={**crossing, "other": other}), fitted("floor")[1])
    assert "Break-even against role=native (star): params 11.0 k (9.00 k to 14.0 k), error 50 %" in picture.caption
    assert "the other curve" in picture.svg


@pytest.mark.parametrize("variable", ["bits", "level"])
def test_effective_sizes_have_their_intervals(variable):
    at = {"bits": (1.0, 2.0, 4.0), "level": (np.nan,) * 3}[variable]
    levels = [
        Level(f"{n} bit", a, v, 0.8 * v, 1.2 * v) for n, a, v in zip((1, 2, 4), at, (0.02, 0.15, 0.69), strict=True)
    ]
    picture = effective_picture(levels, variable=variable, reference=lambda b: b / 16)
    assert "2 bit: 0.15 (0.12 to 0.18)" in picture.text
    assert ("Dashed" in picture.caption) == (variable == "bits")
    assert effective_picture([]) is None


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.34781, 0.317, 0.371, "0.348"),
        (2143.4, 1020.0, 6570.0, "2143"),
        (0.0, 0.0, 0.1, "0"),
        (1e21, 8e20, 2e21, "1.00e+21"),
    ],
)
def test_parameters_are_shown_with_the_digits_that_their_interval_resolves(value, low, high, text):
    shown = number(value, low, high)
    assert shown.startswith(text[:3])
    assert float(shown) == pytest.approx(value, rel=0.01)
    ends = [float(end) for end in number_interval(low, high, value).split(" to ")]
    assert ends == pytest.approx([low, high], rel=0.01)
    assert ends[0] < ends[1]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("params", 23_400, "23.4 k"), ("bytes", 1.09e6, "1.09 MB"), ("error", 0.082, "8.2 %"), ("loss", 2.318, "2.318"),
     ("D", 1.4e12, "1.40 T"), ("C", 5.76e23, "5.76e+23"), ("params", 532, "532"), ("params", None, "-")],
)  # fmt: skip
def test_quantities_have_their_units(name, value, text):
    assert quantity(name, value) == text


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_picture_is_saved_by_its_suffix_in_both_themes(tmp_path):
    import matplotlib.image

    law, points = fitted("floor")
    picture = curve_picture(law, points)
    png = [save_picture(picture, tmp_path / "new" / f"{dark}.png", dark=dark).read_bytes() for dark in (False, True)]
    assert all(data.startswith(b"\x89PNG") for data in png)
    assert png[0] != png[1]
    image = matplotlib.image.imread(tmp_path / "new" / "False.png")
    assert image[..., :3].max(axis=2).min() > 0.08  # the markers that stand for colors are nearly black
    assert picture == curve_picture(copy.deepcopy(law), points)
    assert png[0] == save_picture(curve_picture(law, points), tmp_path / "again.PNG").read_bytes()
    for dark in (False, True):
        svg = save_picture(picture, tmp_path / "a.svg", dark=dark).read_text(encoding="utf-8")
        assert "var(" not in svg
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert re.search(r'rect [^>]*fill="(#\w{6})"', svg)[1] == ("#12151b" if dark else "#ffffff")


def test_refusals_are_clear_and_leave_nothing_behind(tmp_path):
    law, points = fitted("floor")
    picture = curve_picture(law, points)
    with pytest.raises(UsageError, match=r"no \.png or \.svg"):
        save_picture(picture, tmp_path / "a.jpg")
    (tmp_path / "file").write_text("x")
    with pytest.raises(MachineError, match="cannot write the picture"):
        save_picture(picture, tmp_path / "file" / "a.png")
    with pytest.raises(MachineError, match="cannot write the page"):
        write_law_page(law, points, tmp_path / "file" / "a.html")
    with pytest.raises(DataError, match="no column params"):
        curve_picture(law, {"x": [1.0], "error": [0.1]})
    with pytest.raises(DataError, match="this is no law"):
        write_law_page({"a": 1}, None, tmp_path / "a.html")
    with pytest.raises(UsageError, match="one variable, params"):
        plane_picture(law, points)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_law_is_drawn_without_points_and_with_points_that_cannot_be_used():
    law, points = fitted("joint")
    assert "Hatched and dashed: beyond the points" in curve_picture(law).caption
    odd = {name: np.append(values, [np.nan, -1.0, 0.0, np.inf]) for name, values in points.items()}
    assert curve_picture(law, odd).svg == curve_picture(law, points).svg
