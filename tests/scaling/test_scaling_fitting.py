"""The fitter: minima as scipy finds them, bounds, weights, batches, and what it says when there is none to find."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from evaluate.scaling.fit.fitting import NotConverged, fit, jacobian, refit, residuals
from evaluate.scaling.forms.form import Form, Loss, Parameter, log_sum_exp


def log_y(x, theta):
    e, b, c = (theta[..., i, None] for i in range(3))
    return log_sum_exp(np.log(e) + 0 * x[:, 0], np.log(b) - c * np.log(x[:, 0]))


def starts(x, y):
    return np.array([[f * y.min(), y.max() * x[:, 0].min() ** c, c] for f in (0.2, 0.8) for c in (0.3, 0.8)])


FLOOR = Form(
    "floor", "power law with a floor", "E + b x^-c", "", ("x",),
    (Parameter("E", scale="linear", low=1e-12), Parameter("b"), Parameter("c", exponent=True)),
    log_y, starts, floor="E",
)  # fmt: skip
TRUE = np.array([0.05, 3.0, 0.5])
LOSSES = [Loss(kind, delta, space) for kind, delta in (("squares", 1.0), ("huber", 1e-3)) for space in ("log", "raw")]
LOSSES.append(Loss("huber", 1e-2, "relative"))


def points(noise=0.02, n=40, seed=0):
    x = np.geomspace(10, 1e5, n)[:, None]
    return x, FLOOR.predict(x, TRUE) * np.exp(noise * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.kind}-{loss.space}")
def test_scipy_finds_no_lower_minimum(loss):
    x, y = points()
    found = fit(FLOOR, x, y, loss=loss)

    def objective(u):
        theta = np.array([u[0], np.exp(u[1]), np.exp(u[2])])
        return float(loss.total(residuals(FLOOR, x, y, theta, loss=loss), np.ones(len(y)))) * 1e3

    about = np.array([found.theta[0], *np.log(found.theta[1:])])
    best = min(
        minimize(
            objective, about * f, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000}
        ).fun
        for f in (1.0, 0.9, 1.1)
    )
    assert found.objective * 1e3 <= best * (1 + 1e-6)
    assert found.agreed >= 2


def test_without_noise_the_truth_is_found_to_many_digits():
    x, y = points(noise=0)
    np.testing.assert_allclose(fit(FLOOR, x, y).theta, TRUE, rtol=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.kind}-{loss.space}")
def test_the_complex_step_is_the_derivative(loss):
    x, y = points()
    r, slopes, scale = jacobian(FLOOR, x, y, TRUE, loss=loss)
    for column in range(3):
        step = np.zeros(3)
        step[column] = 1e-6 * TRUE[column]
        up, down = (residuals(FLOOR, x, y, TRUE + sign * step, loss=loss) for sign in (1, -1))
        by_theta = (up - down) / (2 * step[column])
        np.testing.assert_allclose(slopes[:, column], by_theta * scale[column], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(r, residuals(FLOOR, x, y, TRUE, loss=loss), rtol=1e-12)


def test_a_floor_that_is_not_there_rests_on_its_bound():
    x = np.geomspace(10, 1e5, 30)[:, None]
    y = 3 * x[:, 0] ** -0.5 * np.exp(-0.02 * np.log(x[:, 0] / 1e3) ** 2)  # bends down: a floor can only hurt
    found = fit(FLOOR, x, y, loss=Loss("squares"))
    assert found.theta[0] == FLOOR.parameters[0].low


def test_a_fixed_parameter_keeps_its_value():
    x, y = points()
    found = fit(FLOOR, x, y, fixed={"E": 0.04})
    assert found.theta[0] == 0.04
    assert found.objective > fit(FLOOR, x, y).objective


def test_a_weight_of_two_is_the_point_twice():
    x, y = points()
    weights = np.ones(len(y))
    weights[5] = 2
    twice = fit(FLOOR, np.vstack([x, x[5:6]]), np.append(y, y[5]), loss=Loss("squares"))
    np.testing.assert_allclose(fit(FLOOR, x, y, weights=weights, loss=Loss("squares")).theta, twice.theta, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES[:3], ids=lambda loss: f"{loss.kind}-{loss.space}")
def test_a_batch_of_weightings_is_each_of_them_alone(loss):
    x, y = points()
    weights = np.random.default_rng(1).integers(0, 3, (6, len(y))).astype(float)
    best = fit(FLOOR, x, y, loss=loss)
    _, objective = refit(FLOOR, x, y, weights, best.theta, loss=loss)
    alone = [fit(FLOOR, x, y, weights=w, loss=loss).objective for w in weights]
    np.testing.assert_allclose(objective, alone, rtol=1e-5)


def test_each_of_a_batch_may_have_targets_of_its_own():
    x, y = points()
    targets = np.stack([points(seed=s)[1] for s in range(5)])
    loss = Loss("squares")
    theta, _ = refit(FLOOR, x, y, np.ones_like(targets), fit(FLOOR, x, y).theta, loss=loss, targets=targets)
    alone = [fit(FLOOR, x, target, loss=loss).theta for target in targets]
    np.testing.assert_allclose(theta, alone, rtol=1e-5)


def test_the_same_points_give_the_same_bytes():
    x, y = points()
    assert fit(FLOOR, x, y).theta.tobytes() == fit(FLOOR, x, y).theta.tobytes()


def test_starts_without_a_finite_prediction_are_refused_in_words():
    x, y = points()
    with pytest.raises(NotConverged, match="none of 1 starting points gave a finite prediction"):
        fit(FLOOR, x, y, starts=np.array([[np.nan, 1.0, 1.0]]))


def test_a_surface_with_no_common_end_is_refused_in_words():
    rough = Form(
        "rough", "a rough surface", "", "", ("x",), (Parameter("a", scale="linear", low=-1e9, high=1e9),),
        lambda x, theta: 200 + 100 * np.sin(theta * 1e3) + 1e-6 * theta**2 + 0 * x[:, 0],
        lambda x, y: np.linspace(1e5, 5e5, 7)[:, None],
    )  # fmt: skip
    x, _ = points(n=5)
    with pytest.raises(NotConverged, match="different ends"):
        fit(rough, x, np.full(5, 0.1))
