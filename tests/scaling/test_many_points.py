"""Of very many points a sample competes and is drawn again; what is found must be what all of them say."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.scaling import PowerLawFloor, select_law
from evaluate.scaling.fit.fitting import MANY
from evaluate.scaling.uncertainty.bootstrap import standard_errors


@pytest.fixture(scope="module")
def many() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(np.log(1e3), np.log(1e7), 3 * MANY))
    return x, (0.05 + 3 * x**-0.4) * np.exp(0.05 * rng.standard_normal(len(x)))


def test_the_fit_is_the_minimum_of_all_points(many):
    x, y = many
    law = PowerLawFloor(bootstrap=50).fit(x, y)
    best = law.objective_
    for name, value in law.params_.items():
        for factor in (0.999, 1.001):
            moved = {**law.params_, name: value * factor}
            away = law.form_.missed(law.data_.x, y, law.form_.vector(moved))
            assert float(law.loss.total(away, np.ones(len(y)))) >= best
    truth = {"e": 0.05, "b": 3.0, "c": -0.4}
    errors = standard_errors(law.fitted_)
    assert all(abs(law.params_[name] - true) < 4 * errors[name] for name, true in truth.items())


def test_draws_of_a_sample_have_the_error_of_all_points(many):
    x, y = many
    law = PowerLawFloor(bootstrap=200, loss="squares").fit(x, y)
    errors = standard_errors(law.fitted_)
    for place, name in enumerate(law.form_.names):
        spread = float(np.std(law.draws_[:, place]))
        assert 0.7 * errors[name] < spread < 1.4 * errors[name], name
        low, high = law.intervals_[name]
        assert low <= law.params_[name] <= high


def test_the_choice_among_many_points_says_how_many_it_used_and_solves_to_their_level(many):
    law = select_law({"params": many[0]}, many[1], bootstrap=5)
    assert any("points were used" in warning for warning in law.warnings_)
    ahead = np.array([1e8])
    np.testing.assert_allclose(law.predict({"params": ahead}), 0.05 + 3 * ahead**-0.4, rtol=0.05)
