"""Questions answered backwards: the size for a target, the best split, where curves cross, effective sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from law_points import crossed, falling, noisy, table

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling import BNSL1, M3, Chinchilla, EffectiveParameters, Linear, PowerLaw, PowerLawFloor
from evaluate.scaling.query.budget import optimum
from evaluate.scaling.query.crossing import break_even, effective_size
from evaluate.scaling.query.solve import solve


@pytest.fixture(scope="module")
def floor_law():
    return PowerLawFloor().fit(*falling())


@pytest.fixture(scope="module")
def joint_law():
    return Chinchilla(loss="squares", bootstrap=100).fit(*table(*crossed()))


@pytest.mark.parametrize("y", [0.35, 0.2, 0.1, 0.07, 0.055])
def test_solve_then_predict_gives_the_target(floor_law, y):
    found = floor_law.solve(y)
    assert found.reachable and found.low <= found.value <= found.high
    assert floor_law.predict([found.value])[0] == pytest.approx(y, rel=1e-9)


def test_each_variable_of_a_joint_law_can_be_asked_for(joint_law):
    y = joint_law.predict({"N": [3e7], "D": [2e9]})[0]
    assert joint_law.solve(y, "N", {"D": 2e9}).value == pytest.approx(3e7, rel=1e-9)
    assert joint_law.solve(y, "D", {"N": 3e7}).value == pytest.approx(2e9, rel=1e-9)


def test_past_the_points_the_error_of_the_form_counts(floor_law):
    inside, past = floor_law.solve(0.08), floor_law.solve(0.052)
    assert inside.beyond == 1 and inside.high < 1.1 * inside.value
    assert past.beyond > 3 and past.low < past.value < past.high
    draws = floor_law.curves([past.low])[:, 0]
    assert np.mean(draws <= 0.052) < 0.05


def test_below_the_floor_is_out_of_reach_and_the_floor_is_given(floor_law):
    found = floor_law.solve(0.03)
    assert not found.reachable and math.isnan(found.value) and found.share == 0
    assert str(found).startswith("out of reach: floor 0.05")


def test_a_target_in_the_interval_of_the_floor_is_not_bounded_above(floor_law):
    value, low, high = floor_law.floor_
    assert low < value < high
    found = floor_law.solve(value * 1.0003)
    assert found.reachable and math.isinf(found.high) and 0 < found.share < 1
    assert "not bounded above" in found.reason and "times past the points" in found.reason and found.beyond > 10
    below = floor_law.solve((low + value) / 2)
    assert not below.reachable and "% of the resamples reach" in below.reason


def test_a_joint_law_says_what_the_given_variable_leaves(joint_law):
    found = joint_law.solve(1.3, "N", {"D": 1e9})
    assert not found.reachable and "at best at D = 1e+09" in found.reason


def test_the_interval_of_solve_covers_the_true_size():
    hits = []
    for seed in range(30):
        law = PowerLawFloor(loss="squares", bootstrap=99, force=True).fit(*falling(25, 0.02, seed))
        found = law.solve(0.05 + 8 * 2e4**-0.45, interval=0.95)
        hits.append(found.low <= 2e4 <= found.high)
    assert np.mean(hits) >= 0.83


def test_where_a_curve_dips_the_smallest_size_counts():
    x = np.geomspace(1e2, 1e8, 40)
    law = BNSL1(force=True, bootstrap=30).fit(x, noisy(0.3 * (x / 1e5) ** -0.4 + 0.3 * (x / 1e5) ** 0.25, 0.001))
    found = law.solve(0.7)
    assert found.value < 1e5
    assert law.predict([found.value])[0] == pytest.approx(0.7, rel=1e-9)


def test_of_what_is_removed_the_most_that_keeps_the_target_counts():
    x = np.linspace(0, 0.9, 30)
    law = Linear().fit({"sparsity": x}, 0.1 + 0.2 * x + 0.001 * np.random.default_rng(0).standard_normal(30))
    found = law.solve(0.2)
    assert found.value == pytest.approx(0.5, abs=0.01) and found.low < found.value < found.high


def test_nobody_keeps_more_than_all():
    x = np.geomspace(0.05, 1, 20)
    law = PowerLaw(bootstrap=50).fit({"density": x}, noisy(0.2 * x**-0.3, 0.005))
    assert law.solve(0.3).value == pytest.approx((0.3 / 0.2) ** (-1 / 0.3), rel=0.05)
    found = law.solve(0.1)
    assert not found.reachable and "at best at density = 1" in found.reason


def test_a_law_that_saturates_is_below_a_high_target_everywhere():
    x = np.geomspace(1e2, 1e6, 30)
    law = M3(bootstrap=50, force=True).fit(x, noisy(2 * (1 / x + 1e-5) ** 0.3, 0.002))
    assert law.solve(1e300).reachable and law.solve(1e300).value == 0
    assert "out of reach" in str(law.solve(0.01))


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"y": 0.1, "variable": "parms"}, "no variable 'parms'; did you mean 'params'"),
        ({"y": 0.1, "given": {"params": 1e4}}, "leave out the one to solve for"),
        ({"y": 0.1, "variable": "params", "given": {"params": 1e4}}, "is given and to be solved for"),
        ({"y": -1.0}, "positive number"),
        ({"y": math.nan}, "positive number"),
        ({"y": 0.1, "interval": 90}, "share between 0 and 1"),
    ],
)
def test_questions_that_cannot_be_asked(floor_law, question, said):
    with pytest.raises(UsageError, match=said):
        solve(floor_law, **question)


def test_a_joint_law_needs_the_other_variables(joint_law):
    with pytest.raises(UsageError, match="say which of N, D"):
        joint_law.solve(2.0)
    with pytest.raises(UsageError, match="to solve for N, give D"):
        joint_law.solve(2.0, "N")
    with pytest.raises(DataError, match="D must be positive"):
        joint_law.solve(2.0, "N", {"D": -1.0})


@pytest.mark.parametrize("budget", [1e16, 1e19, 1e22])
def test_the_best_split_is_hoffmanns_closed_form(joint_law, budget):
    p = joint_law.params_
    lead = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    best = lead * (budget / 6) ** (p["beta"] / (p["alpha"] + p["beta"]))
    found = optimum(joint_law, "6*N*D", budget)
    assert found.values["N"] == pytest.approx(best, rel=1e-6)
    assert 6 * found.values["N"] * found.values["D"] == pytest.approx(budget, rel=1e-9)
    for name, value in found.values.items():
        assert found.low[name] < value < found.high[name]
    assert found.y_low < found.y < found.y_high
    assert (found.beyond > 1) == bool(found.reason)


def test_a_cost_of_ones_own_splits_a_budget(joint_law):
    by_text = optimum(joint_law, "6*N*D + 2*N", 1e19)
    by_call = optimum(joint_law, lambda x: 6 * x["N"] * x["D"] + 2 * x["N"], 1e19)
    assert by_text == by_call


def test_no_neighbour_of_the_best_split_is_better(joint_law):
    found = optimum(joint_law, "6*N*D", 1e19)
    for share in (0.8, 0.99, 1.01, 1.25):
        n = found.values["N"] * share
        assert joint_law.predict({"N": [n], "D": [1e19 / 6 / n]})[0] > found.y


def test_budgets_that_cannot_be_split(joint_law, floor_law):
    with pytest.raises(UsageError, match="between two variables"):
        optimum(floor_law, "6*params", 1e9)
    with pytest.raises(UsageError, match="positive number"):
        optimum(joint_law, "6*N*D", -1e9)
    with pytest.raises(DataError, match="buys no split"):
        optimum(joint_law, "6*N*D", 1e-200)
    with pytest.raises(DataError, match="whole budget in"):
        optimum(Linear(bootstrap=20).fit(*table(*crossed())), "N + D", 1e9)


def test_what_is_no_size_takes_no_part_in_a_budget():
    n = np.geomspace(1e6, 1e9, 12)
    line = Linear(bootstrap=20).fit({"N": n, "shift": np.linspace(-3, 3, 12)}, 9 - 1e-9 * n)
    with pytest.raises(UsageError, match="two sizes, which are positive; shift goes from -3 to 3: give it"):
        optimum(line, "N + shift", 1e9)
    levels = np.resize(np.array(["dense", "int8"], dtype=object), 12)
    law = EffectiveParameters(bootstrap=5, force=True).fit({"N": n, "level": levels}, noisy(n**-0.3, 0.01))
    with pytest.raises(UsageError, match=r"level holds names \(dense, int8\)"):
        optimum(law, "N * level", 1e9)


def test_two_curves_cross_where_algebra_says():
    x = np.geomspace(1e3, 1e6, 30)
    large = PowerLaw(seed=1).fit({"params": x}, noisy(2 * x**-0.2, 0.01, 1))
    native = PowerLaw(seed=2).fit({"params": x}, noisy(20 * x**-0.45, 0.01, 2))
    found = break_even(large, native)
    exact = (native.params_["b"] / large.params_["b"]) ** (1 / (large.params_["c"] - native.params_["c"]))
    assert found.reachable and found.value == pytest.approx(exact, rel=1e-9)
    assert found.low < 1e4 < found.high and found.share == 1
    assert found.below == "first" and break_even(native, large).below == "second"
    assert large.predict([found.value])[0] == pytest.approx(native.predict([found.value])[0], rel=1e-9)


def test_curves_that_do_not_cross_say_so_and_where_they_would():
    x = np.geomspace(1e3, 1e6, 30)
    low, high, later = (
        PowerLaw().fit({"params": x}, noisy(b * x**c, 0.001)) for b, c in ((1, -0.3), (2, -0.3), (16, -0.48))
    )
    apart = break_even(low, high)
    assert not apart.reachable and math.isnan(apart.value)
    assert "do not cross between 1e+03 and 1e+06: the first law is lower throughout" in apart.reason
    assert "carried on they would cross at params = 4" in break_even(low, later).reason


def test_curves_that_may_not_cross_have_an_open_interval():
    x = np.geomspace(1e3, 1e6, 20)
    first = PowerLaw().fit({"params": x}, noisy(x**-0.3, 0.05, 1))
    second = PowerLaw().fit({"params": x}, noisy(1.02 * x**-0.3, 0.05, 2))
    found = break_even(first, second)
    assert not found.reachable or (found.share < 1 and "do not cross in" in found.reason)


def test_a_dense_model_is_worth_its_own_size(floor_law):
    sizes = np.array([2e3, 3e4, 5e5])
    found = effective_size(floor_law, floor_law.predict(sizes), params=sizes / 2)
    assert found.size == pytest.approx(sizes, rel=1e-9)
    assert found.efficiency == pytest.approx([2, 2, 2], rel=1e-9)
    assert np.all((found.low < sizes) & (sizes < found.high))


def test_no_dense_model_is_as_good_as_one_below_the_floor(floor_law):
    found = effective_size(floor_law, [0.1, 0.01])
    assert np.isnan(found.size[1]) and not found.answers[1].reachable and found.efficiency.size == 0
    with pytest.raises(DataError, match="2 values of y and 1 of params"):
        effective_size(floor_law, [0.1, 0.2], params=[1e4])
