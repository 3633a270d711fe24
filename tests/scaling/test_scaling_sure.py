"""How sure a law is, and what it says of doubtful designs."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from data_sets import require_data
from law_points import SPLIT, crossed, falling, noisy, table

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling import Chinchilla, ChinchillaTied, Frantar, PowerLaw, PowerLawFloor
from evaluate.scaling.diagnose.design import beyond, extrapolation
from evaluate.scaling.diagnose.rules import Unidentified
from evaluate.scaling.uncertainty.bootstrap import standard_errors, way

POINTS = Path(__file__).parents[2] / "studies" / "points"
FLOOR = {"e": 0.05, "b": 8.0, "c": -0.45}


@pytest.fixture(scope="module")
def floor_law():
    return PowerLawFloor().fit(*falling())


@pytest.fixture(scope="module")
def joint_law():
    return Chinchilla(loss="squares", bootstrap=100).fit(*table(*crossed()))


def rows(place):
    with place.open(newline="") as file:
        return list(csv.DictReader(file))


def column(table_rows, name):
    return np.array([float(row[name]) for row in table_rows])


# How sure.


def test_the_same_seed_gives_the_same_draws_and_another_seed_others():
    first, again, other = (PowerLaw(seed=seed, bootstrap=50).fit(*falling(floor=0)) for seed in (1, 1, 2))
    assert np.array_equal(first.draws_, again.draws_)
    assert not np.array_equal(first.draws_, other.draws_)


@pytest.mark.parametrize("points", [6, 12, 40])
def test_every_interval_holds_the_fit_and_widens_with_confidence(points):
    near, far = (PowerLaw(confidence=share).fit(*falling(points, floor=0)) for share in (0.5, 0.99))
    for name, value in near.params_.items():
        assert far.intervals_[name][0] < near.intervals_[name][0] <= value
        assert value <= near.intervals_[name][1] < far.intervals_[name][1]


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    hits = []
    for seed in range(25):
        law = PowerLaw(loss="squares", bootstrap=99).fit(*falling(int(6 + seed % 20), 0.02, seed, floor=0))
        hits += [
            law.intervals_["b"][0] <= 8 <= law.intervals_["b"][1],
            law.intervals_["c"][0] <= -0.45 <= law.intervals_["c"][1],
        ]
    assert np.mean(hits) >= 0.85


def test_few_points_take_normal_errors_and_many_are_drawn_again():
    assert way(PowerLaw().fit(*falling(6, floor=0)).fitted_).kind == "parametric"
    assert way(PowerLaw().fit(*falling(12, floor=0)).fitted_).kind == "cases"


def test_without_a_spare_point_nothing_is_said_of_sureness():
    with pytest.raises(DataError, match="2 free parameters and got 2 points: none is left"):
        PowerLaw().fit([1e3, 1e4], [0.3, 0.2])


def test_groups_that_err_together_make_the_law_less_sure():
    """Eight runs of six checkpoints each, every run at a size of its own and off by 5 % as a whole."""
    runs = np.repeat(np.arange(8), 6)
    x = np.geomspace(1e3, 1e6, 8)[runs]
    y = noisy(5 * x**-0.3, 0.003) * noisy(np.ones(8), 0.05, 1)[runs]
    alone, together = PowerLaw(loss="squares").fit(x, y), PowerLaw(loss="squares").fit(x, y, groups=runs)
    widths = [law.intervals_["c"][1] - law.intervals_["c"][0] for law in (alone, together)]
    assert widths[1] > 1.3 * widths[0]


def test_two_groups_are_too_few_and_that_is_said():
    x, y = falling(20, floor=0)
    law = PowerLaw().fit(x, y, groups=["a", "b"] * 10)
    assert any("2 groups are too few" in text for text in law.warnings_)


def test_groups_that_each_hold_one_size_only_do_not_break_the_bootstrap():
    x = np.repeat([1e3, 1e5, 1e7], 6)
    law = PowerLawFloor(force=True).fit(x, noisy(0.05 + 8 * x**-0.45, 0.01), groups=np.repeat([0, 1, 2], 6))
    assert any("leave a parameter open" in text for text in law.warnings_)
    assert np.isfinite(law.draws_).all()


def test_points_of_no_weight_do_not_count_and_the_scale_of_weights_does_not():
    x, y = falling(20, floor=0)
    weights = np.r_[np.full(18, 2.0), 0.0, 0.0]
    cut = PowerLaw(loss="squares").fit({"params": x["params"][:18]}, y[:18])
    law = PowerLaw(loss="squares").fit(x, y, sample_weight=weights)
    assert law.intervals_["c"] == pytest.approx(cut.intervals_["c"], rel=1e-6)


def test_no_bootstrap_rests_on_standard_errors():
    quick, slow = (PowerLaw(loss="squares", bootstrap=count).fit(*falling(40, floor=0)) for count in (0, 400))
    assert quick.draws_.shape == (0, 2)
    for name in ("b", "c"):
        assert quick.intervals_[name] == pytest.approx(slow.intervals_[name], rel=0.03)


def test_a_fixed_parameter_is_sure():
    law = PowerLawFloor(fixed={"e": 0.05}).fit(*falling())
    assert law.intervals_["e"] == (0.05, 0.05)
    assert standard_errors(law.fitted_)["e"] == 0


def test_standard_errors_are_those_that_nist_certifies():
    """DanWood of the Statistical Reference Datasets: y = b1 x^b2, least squares of y itself."""
    x = [1.309, 1.471, 1.490, 1.565, 1.611, 1.680]
    law = PowerLaw(loss="squares", space="raw").fit(x, [2.138, 3.421, 3.597, 4.340, 4.882, 5.660])
    assert law.params_ == pytest.approx({"b": 7.6886226176e-01, "c": 3.8604055871}, rel=1e-6)
    assert standard_errors(law.fitted_) == pytest.approx({"b": 1.8281973860e-02, "c": 5.1726610913e-02}, rel=1e-4)


@pytest.mark.parametrize("settings", [{"bootstrap": -1}, {"bootstrap": 2.5}, {"bootstrap": True}, {"confidence": 95}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        PowerLaw(**settings).fit(*falling(floor=0))


def test_the_status_is_told_of_a_long_bootstrap():
    told = []
    law = PowerLaw(bootstrap=1100)
    law.status = told.append
    law.fit(*falling(floor=0))
    assert told == ["bootstrap: 500 of 1100", "bootstrap: 1000 of 1100", "bootstrap: 1100 of 1100"]


# What is doubtful.


@pytest.mark.parametrize("seed", range(4))
def test_sizes_that_move_together_are_refused(seed):
    n = np.geomspace(1e6, 10 ** (8 + seed % 3), 20 + 5 * seed)
    with pytest.raises(Unidentified, match=r"alpha.*beta.*D = 20 N at every point.*add points at one N") as caught:
        Chinchilla(bootstrap=50).fit(*table(n, 20 * n, 0.01, seed))
    assert caught.value.exit_code == 6


def test_force_takes_the_fit_and_says_first_what_is_open():
    n = np.geomspace(1e6, 1e10, 40)
    law = Chinchilla(bootstrap=50, force=True).fit(*table(n, 20 * n, 0.005, 0, {**SPLIT, "alpha": 0.5, "beta": 0.2}))
    assert "do not tell alpha" in law.warnings_[0]


def test_the_law_with_one_exponent_is_not_refused_on_the_same_points():
    n = np.geomspace(1e6, 1e10, 40)
    x, y = table(n, 20 * n, 0.005, truth={**SPLIT, "beta": 0.35})
    law = ChinchillaTied(bootstrap=50, loss="squares").fit(x, y)
    assert any("N and D move together" in text for text in law.warnings_)
    assert law.intervals_["alpha"][0] < 0.35 < law.intervals_["alpha"][1]


def test_sizes_that_nearly_move_together_are_named():
    n = np.geomspace(1e6, 1e9, 40)
    law = Chinchilla(bootstrap=50, force=True).fit(*table(n, noisy(20 * n, 0.3), 0.005))
    assert any("N and D move together (correlation of their logarithms 0.9" in text for text in law.warnings_)


def test_two_values_of_a_size_do_not_tell_its_exponent():
    n, d = np.repeat([1e7, 1e8], 8), np.tile(np.geomspace(1e8, 1e11, 8), 2)
    with pytest.raises(Unidentified, match=r"do not tell alpha .*one value of many.*at least three values of each"):
        Chinchilla(bootstrap=50).fit(*table(n, d))


def test_clean_points_raise_no_doubts(floor_law, joint_law):
    assert floor_law.warnings_ == []
    assert joint_law.warnings_ == []
    assert PowerLaw().fit(*falling(floor=0)).warnings_ == []


def test_no_false_alarm_on_the_points_of_chinchilla():
    place = require_data("Chinchilla's points", ["scaling/chinchilla_epoch_245.csv"]) / "scaling"
    kept = [row for row in rows(place / "chinchilla_epoch_245.csv") if row["used_in_240_fit"] == "True"]
    x = {name: column(kept, name) for name in ("N", "D")}
    assert Chinchilla(bootstrap=100).fit(x, column(kept, "loss")).warnings_ == []


def test_the_weak_floor_of_pruned_t5_is_flagged():
    read = rows(POINTS / "frantar2023_t5_c4_sparsity.csv")
    x = dict(zip(("S", "N", "D"), (column(read, name) for name in ("sparsity", "N_nonzero", "D")), strict=True))
    law = Frantar(bootstrap=60).fit(x, column(read, "val_loss"))
    assert any(text.startswith("the floor is weak: c is ") for text in law.warnings_)
    assert any("D spans 0.6 decades" in text for text in law.warnings_)
    assert any(text.startswith("b_D is hardly told") for text in law.warnings_)


def test_a_floor_at_its_bound_is_said():
    x = np.geomspace(1e3, 1e6, 24)
    law = PowerLawFloor().fit({"params": x}, noisy(8 * x**-0.45 * np.exp(-((np.log(x / 3e4) / 9) ** 2)), 0.01))
    assert law.params_["e"] == 0
    assert law.intervals_["e"][0] == 0 < law.intervals_["e"][1]
    assert "e is on its bound at 0: these points show no floor" in law.warnings_[0]


def test_a_floor_at_its_bound_and_sizes_that_move_together_are_both_said():
    """QuEST's points, all levels together: E at 0, N and D with a correlation of 0.91."""
    read = rows(POINTS / "quest_qat_scaling.csv")
    law = ChinchillaTied(bootstrap=60, fixed={"E": 0}).fit({n: column(read, n) for n in "ND"}, column(read, "loss"))
    free = Chinchilla(bootstrap=60, force=True).fit({n: column(read, n) for n in "ND"}, column(read, "loss"))
    assert free.params_["E"] == 0 and math.isnan(standard_errors(free.fitted_)["E"])
    assert any("E is on its bound at 0" in text for text in free.warnings_)
    for one in (law, free):
        assert any("N and D move together (correlation of their logarithms 0.91)" in text for text in one.warnings_)


def test_a_short_range_is_said():
    law = PowerLaw().fit(*falling(12, 0.01, high=4e3, floor=0))
    assert any("params spans 0.6 decades (1e+03 to 4e+03)" in text for text in law.warnings_)


def test_few_points_are_said():
    law = PowerLawFloor(force=True).fit(*falling(5, 0.001))
    assert any("5 points are few for 3 parameters" in text for text in law.warnings_)


def test_the_wrong_form_is_said_and_the_right_one_is_not():
    x, y = falling(30, 0.005, floor=0.2)
    assert any("the residuals follow params" in text for text in PowerLaw().fit(x, y).warnings_)
    assert PowerLawFloor().fit(x, y).warnings_ == []


def test_a_point_that_decides_the_fit_is_named():
    x, y = falling(12, 0.005, floor=0)
    y[-1] *= 2.5
    law = PowerLaw(loss="squares").fit(x, y)
    said = [text for text in law.warnings_ if text.startswith("one point decides the fit")]
    assert said and said[0].endswith("look at params = 1e+06")
    assert not any("decides" in text for text in PowerLaw().fit(x, y).warnings_)


def test_points_beyond_the_range_are_counted_in_times(floor_law):
    x = np.array([[1e4], [1e8], [1e2]])
    assert beyond(floor_law, x) == pytest.approx([1, 100, 10])
    assert extrapolation(floor_law, x) == [
        "params = 1e+08 is 100 times past the points (1e+03 to 1e+06): nothing was measured there"
    ]
