"""Every law over one table of tiny cases, then what only some of them do: levels, columns, straight lines, NIST."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from law_cases import CASES, LEVELS, NAMES, crossed, read

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling import (
    ChinchillaTied,
    EffectiveParameters,
    Frantar,
    Law,
    Linear,
    LogLinear,
    Precision,
    Rosenfeld,
)
from evaluate.scaling.fit.fitted import fitted, minimum
from evaluate.scaling.fit.fitting import _Space, fit, jacobian
from evaluate.scaling.forms.form import LAWS
from evaluate.scaling.forms.joint import reference_in

ROOT = Path(__file__).parents[2]
POINTS = ROOT / "studies" / "points"
UNITS = {"bits": 1.0, "group": 1.0, "rho": 1.0, "e_np": 7.0, "L_0": 7.0, "L_T": 7.0, "L_S": 7.0, "S": 1.0, "level": 1.0}
every_law = pytest.mark.parametrize("case", CASES, ids=NAMES)


def best(law, x, y, **options):
    return fit(law.form, x, y, loss=law.loss, **options)


def test_every_law_is_in_the_table():
    assert {case.law for case in CASES} == set(LAWS.all()) - {"average"}


@every_law
def test_the_truth_is_found(case):
    law, x, y = case.read()
    found = best(law, x, y)
    np.testing.assert_allclose(found.theta, law.form.vector(case.true), rtol=case.tolerance)
    assert found.agreed >= 2 or law.form.name == "linear"


@every_law
def test_noise_of_one_per_cent_moves_the_prediction_little(case):
    law, x, y = case.read()
    np.testing.assert_allclose(law.form.predict(x, case.noisy_fit().theta), y, rtol=case.noisy)


@every_law
def test_the_gradient_is_that_of_finite_differences(case):
    law, x, y = case.read()
    theta = law.form.vector(case.true)
    slopes = jacobian(law.form, x, y, theta, loss=law.loss)[1]
    space = _Space(law.form, x, y, law.loss, {})
    u = space.to_search(theta)
    for column in range(len(u)):
        step = 1e-5 * max(1.0, abs(u[column])) * np.eye(len(u))[column]
        if u[column] - step[column] < space.low[column]:
            step *= 1e-6
        if not space.logs[column]:
            step = step / step.sum() * 1e-4 * max(abs(u[column]), 1e-12)
        near = (space.residuals((u + step)[None]) - space.residuals((u - step)[None]))[0] / (2 * step.sum())
        np.testing.assert_allclose(slopes[:, column], near, rtol=1e-4, atol=1e-5 * np.abs(near).max() + 1e-12)


@every_law
def test_units_and_the_order_of_the_points_do_not_matter(case):
    law, x, _ = case.read()
    noisy, order = case.points(noise=0.01)[1], np.random.default_rng(1).permutation(len(x))
    units = np.array([UNITS.get(name, 30.0) for name in law.form.variables])
    other = best(law, (x * units)[order], 7.0 * noisy[order])
    before, after = law.form.predict(x, case.noisy_fit().theta), law.form.predict(x * units, other.theta)
    np.testing.assert_allclose(after, 7.0 * before, rtol=2e-4)


@every_law
def test_a_weight_of_two_is_the_point_given_twice(case):
    law, x, y = case.read()
    noisy, twice = case.points(noise=0.01)[1], np.arange(len(y)) % 3 == 0
    start = case.noisy_fit().theta * np.array([[1.0], [1.01]])
    one = best(law, x, noisy, weights=1.0 + twice, starts=start)
    other = best(law, np.concatenate([x, x[twice]]), np.concatenate([noisy, noisy[twice]]), starts=start)
    assert other.objective == pytest.approx(one.objective, rel=1e-6)
    np.testing.assert_allclose(law.form.predict(x, one.theta), law.form.predict(x, other.theta), rtol=1e-4)


@every_law
def test_it_comes_back_from_json(case):
    design, y = case.points(noise=0.01)
    law = case.new(bootstrap=2).fit(design, y)
    text = json.dumps(law.to_dict(), allow_nan=False)
    back = Law.from_dict(json.loads(text))
    assert type(back) is type(law)
    np.testing.assert_array_equal(back.predict(design), law.predict(design))
    assert back.form_.formula == law.form_.formula
    assert back.params_ == law.params_


@pytest.mark.parametrize("name", ["power-floor", "rosenfeld", "linear"])
def test_the_same_points_give_the_same_law(name):
    case = next(case for case in CASES if case.law == name)
    one, other = (case.new(bootstrap=10).fit(*case.points(noise=0.01)).to_dict() for _ in range(2))
    assert one == other


@every_law
def test_the_docstring_tells_formula_source_and_every_parameter(case):
    law, _, _ = case.read()
    text = " ".join((type(case.new()).__doc__ or "").split())
    assert "Source" in text or "As BNSL1" in text
    told = text if case.law != "bnsl2" else text + " a b c0 c1 d1 f1"
    missing = [name for name in law.form.names if name.rstrip("0123456789") not in told and "eff(" not in name]
    assert not missing


# Levels of compression.


def effective(levels, **options):
    columns = {"N": np.geomspace(1e5, 1e9, len(levels)), "level": np.array(levels, dtype=object)}
    return read(EffectiveParameters(**options), columns).form


def test_the_dense_level_is_the_reference():
    assert reference_in(effective(["dense", "int8", "dense", "prune", "int8", "prune"])) == "dense"
    assert reference_in(effective([4, 16, 4, 16, 8, 8])) == "16"
    assert effective(["4", "16.0", 4, 16, "4.0", 16]).levels == ("4", "16")
    assert reference_in(effective(["a", "b", "a", "b", "a", "b"], reference="b")) == "b"


def test_levels_that_cannot_be_used_are_named():
    with pytest.raises(UsageError, match=r"which of the levels int4, int8 is the uncompressed one"):
        effective(["int8", "int4", "int8", "int4", "int8", "int4"])
    with pytest.raises(UsageError, match="reference level 'fp31' is not among the points"):
        effective(["fp32", "int4", "fp32", "int4", "fp32", "int4"], reference="fp31")
    with pytest.raises(DataError, match="all points are of level 'int8'"):
        effective(["int8"] * 6)


def test_a_level_the_law_does_not_know_is_named():
    case = next(case for case in CASES if case.id == "effective-sizes")
    law = case.new(bootstrap=5).fit(*case.points())
    with pytest.raises(DataError, match=r"level 'int3' is not one the law was fitted to.*dense, int4, int8"):
        law.predict({"N": [1e6], "level": ["int3"]})
    same = law.predict({"N": [4e5, 1e6], "level": ["dense", "int4"]})
    assert same[0] == pytest.approx(same[1], rel=1e-6)


def test_a_frame_or_an_array_of_objects_has_levels_too():
    case = next(case for case in CASES if case.id == "effective-sizes")
    design, y = case.points()
    table = np.empty((len(y), 2), dtype=object)
    table[:, 0], table[:, 1] = design["N"], design["level"]
    law = EffectiveParameters(bootstrap=5).fit(table, y)
    assert law.params_["eff(int4)"] == pytest.approx(0.4, rel=1e-5)
    assert set(law.levels_) == set(LEVELS)


# Columns.


def test_columns_that_do_not_fit_are_told():
    with pytest.raises(
        UsageError, match=r"rosenfeld takes density alone, density and a size .*, or density, width, depth"
    ):
        Rosenfeld().fit(np.ones((9, 3)), np.ones(9))
    with pytest.raises(UsageError, match="precision takes N, D, up to 3 precisions"):
        Precision().fit(np.ones((9, 2)), np.ones(9))
    with pytest.raises(DataError, match="S must be from 0 to 1"):
        Frantar().fit(np.full((9, 3), 2.0), np.arange(1.0, 10))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_law_of_precision_takes_several_precisions(count):
    bits = {name: np.array([3.0, 4, 8]) for name in ("P", "P_a", "P_kv")[:count]}
    design = crossed(N=np.geomspace(1e6, 1e9, 3), D=np.geomspace(1e8, 1e11, 3), **bits)
    law = read(Precision(), design)
    true = {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.33, "beta": 0.3}
    theta = law.form.vector({**true, **dict(zip(law.form.names[5:], (2.0, 1.5, 1.2), strict=False))})
    y = law.form.predict(law.data.x, theta)
    np.testing.assert_allclose(best(law, law.data.x, y).theta, theta, rtol=1e-4)


def test_a_pruned_network_lies_between_its_plateaus():
    law, _, y = next(case for case in CASES if case.law == "rosenfeld").read()
    ends = law.form.predict(
        np.array([[1e-9], [1e6]]), law.form.vector({"e_np": 0.3, "e_up": 0.75, "p": 0.05, "gamma": 0.6})
    )
    np.testing.assert_allclose(ends, [0.75, 0.3], rtol=1e-4)
    assert np.all(np.diff(y) < 0)


def test_m4_solves_its_own_equation():
    law, x, _ = next(case for case in CASES if case.law == "m4").read()
    for a in (0.01, 0.3, 1.0, 7.0, 100.0):
        e, e0, b, c = 0.05, 0.9, 20.0, -0.4
        y = law.form.predict(x, np.array([e, e0, a, b, c]))
        inside = (y > e * (1 + 1e-6)) & (y < e0 * (1 - 1e-6))
        told = np.log(y[inside] - e) - a * np.log(e0 - y[inside])
        np.testing.assert_allclose(told, np.log(b) + c * np.log(x[inside, 0]), atol=1e-6 * a + 1e-6)


# Straight lines.


def test_longley_comes_out_as_certified():
    longley = nist().NIST["Longley"]
    columns = {name: np.array(v, dtype=float) for name, v in longley["x"].items()}
    problem = read(Linear(bootstrap=5), columns, np.array(longley["y"]))
    law = fitted(problem, minimum(problem))
    np.testing.assert_allclose(law.theta, longley["certified"], rtol=1e-9)
    certified = {"RMSE": longley["rmse"], "R2": longley["r2"], "SSR": longley["ssr"], "SSE": longley["sse"]}
    for name, value in certified.items():
        assert law.goodness[name] == pytest.approx(value, rel=1e-9)
    assert law.goodness["MSE"] == pytest.approx(longley["rmse"] ** 2, rel=1e-9)


def test_a_straight_line_may_fall_below_zero():
    x = np.geomspace(1, 1e3, 12)
    law = LogLinear(bootstrap=5).fit(x, 0.7 - 0.1 * np.log(x))
    assert law.predict([1e6])[0] == pytest.approx(0.7 - 0.1 * np.log(1e6))
    assert law.goodness_["R2"] == pytest.approx(1.0)


def test_a_straight_line_keeps_the_names_of_its_columns_and_its_figures():
    rng = np.random.default_rng(0)
    design = {"width": rng.uniform(1, 9, 30), "depth": rng.uniform(-1, 1, 30)}
    law = Linear(bootstrap=5).fit(design, 5 + design["width"] - 2 * design["depth"] + 0.1 * rng.standard_normal(30))
    assert law.form_.formula == "y = b0 + b1 width + b2 depth"
    back = Law.from_dict(json.loads(json.dumps(law.to_dict())))
    assert back.goodness_ == law.goodness_
    assert back.variables == ("width", "depth")


# Certified and published points.


def nist():
    if "nist" not in sys.modules:
        told = importlib.util.spec_from_file_location("nist", ROOT / "benchmarks" / "nist.py")
        sys.modules["nist"] = importlib.util.module_from_spec(told)
        told.loader.exec_module(sys.modules["nist"])
    return sys.modules["nist"]


@pytest.mark.parametrize("name", ["DanWood", "Misra1d", "Rat42"])
@pytest.mark.parametrize("start", [0, 1])
def test_nist_certifies_parameters_and_errors(name, start):
    parameters, errors = next(p for p in nist().PROBLEMS if p.name == name).digits(start)
    assert parameters >= 6
    assert errors >= 4


def test_small_runs_tell_the_large_ones():
    table = np.genfromtxt(POINTS / "gadre2024_openlm_rpj.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    small = [f"rpj-d=96_l=8_h=4-{m}" for m in ("1.0", "16.0")]
    small += [f"rpj-d={shape}_h={heads}-1.0" for shape, heads in (("512_l=8", 4), ("576_l=24", 8), ("1024_l=24", 8))]
    x, y = np.stack([table["N"], table["D"]], axis=1), table["loss_c4_val"]
    law = ChinchillaTied(bootstrap=5, force=True).fit(
        x[np.isin(table["name"], small)], y[np.isin(table["name"], small)]
    )
    large = np.isin(table["name"], ["rpj-open_lm_1b-32.0", "rpj-open_lm_7b-1.0"])
    np.testing.assert_allclose(law.predict(x[large]), y[large], rtol=0.011)
