"""Straight lines: several variables by ordinary least squares, and the figures that tell how well they fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluate.core.errors import UsageError
from evaluate.scaling.fit.fitting import Fitted
from evaluate.scaling.fit.optimizer import Loss
from evaluate.scaling.forms.form import Array, Form, Parameter
from evaluate.scaling.law import Law

ORDINARY = Loss("squares", space="raw")


def _same(x: Array) -> Array:
    return x


@dataclass(frozen=True)
class StraightForm(Form):
    """b0 + b1 t1 + b2 t2 ... with the terms t (n, k) of x; unlike the other forms it may come out negative."""

    terms: Callable[[Array], Array] = _same

    def predict(self, x: Array, theta: Array) -> Array:
        """The prediction (..., n) itself, of any sign."""
        return _value(self.terms(x), np.asarray(theta))


def _value(terms: Array, theta: Array) -> Array:
    return np.asarray(theta[..., :1] + theta[..., 1:] @ terms.T)


def straight_form(
    name: str, title: str, variables: tuple[str, ...], terms: Callable[[Array], Array] = _same, shown: str = "{}"
) -> StraightForm:
    """A form that is linear in its parameters; its one start is the closed solution of ordinary least squares."""

    def log_y(x: Array, theta: Array) -> Array:
        value = _value(terms(x), theta)
        return np.asarray(np.log(np.where(value.real > 0, value, np.nan)))

    parts = [f"b{i + 1} {shown.format(variable)}" for i, variable in enumerate(variables)]
    return StraightForm(
        name=name,
        title=title,
        formula=f"y = {' + '.join(['b0', *parts])}",
        source="textbook: ordinary least squares",
        variables=variables,
        parameters=tuple(Parameter(f"b{i}", -math.inf, scale="linear") for i in range(len(variables) + 1)),
        log_y=log_y,
        starts=lambda x, y: _ordinary(terms(x), y, np.ones(len(y)))[None],
        domains={} if shown != "{}" else dict.fromkeys(variables, (-math.inf, math.inf)),
        terms=terms,
    )


def _ordinary(terms: Array, y: Array, weights: Array) -> Array:
    """b0, b1, ... (k + 1,) of least squares, on centred terms, which keeps the digits of close columns."""
    root = np.sqrt(weights)
    centre = weights @ terms / weights.sum()
    size = np.maximum(np.sqrt(weights @ (terms - centre) ** 2), 1e-300)
    matrix = np.column_stack([np.ones(len(y)), (terms - centre) / size]) * root[:, None]
    found = np.linalg.lstsq(matrix, y * root, rcond=None)[0]
    slopes = found[1:] / size
    return np.concatenate([[found[0] - centre @ slopes], slopes])


def goodness(y: Array, predicted: Array, parameters: int, weights: Array | None = None) -> dict[str, float]:
    """How well a line with this many parameters fits y (n,), by the sums of squares of a regression.

    SSR: of the prediction about the mean of y. SSE: of the residuals. R2 = 1 - SSE / SST.
    MSE = SSE / (n - parameters), the residual mean square (0 where no degree of freedom is left); RMSE its root.
    """
    weights = np.ones(len(y)) if weights is None else weights
    mean = weights @ y / weights.sum()
    sse, ssr = float(weights @ (y - predicted) ** 2), float(weights @ (predicted - mean) ** 2)
    free = len(y) - parameters
    mse = sse / free if free > 0 else 0.0
    r2 = 1.0 - sse / float(weights @ (y - mean) ** 2)
    return {"SSR": ssr, "SSE": sse, "R2": r2, "MSE": mse, "RMSE": math.sqrt(mse)}


class Straight(Law):
    """Base of the laws that are straight lines: fitted in closed form, with `goodness_` (SSR, SSE, R2, MSE, RMSE)."""

    form: StraightForm
    default_loss = ORDINARY
    goodness_: dict[str, float]

    def _fit(self) -> Fitted:
        if self.fixed or self.loss != ORDINARY:
            return super()._fit()
        data = self.data_
        terms = self.form.terms(data.x)
        theta = _ordinary(terms, data.y, data.weights)
        residuals = _value(terms, theta) - data.y
        return Fitted(theta, float(data.weights @ residuals**2), 1, 1, residuals)

    def _found(self, fitted: Fitted) -> None:
        super()._found(fitted)
        data = self.data_
        free = len(fitted.theta) - len(self.fixed)
        self.goodness_ = goodness(data.y, self.form.predict(data.x, fitted.theta), free, data.weights)

    def _more_settings(self) -> dict[str, Any]:
        return {"goodness": self.goodness_}

    def _restore_settings(self, settings: Mapping[str, Any]) -> None:
        self.form_ = self.form
        self.goodness_ = {str(name): float(value) for name, value in settings["goodness"].items()}


class Linear(Straight):
    """y = b0 + b1 x1 + b2 x2 + ..., with as many variables as x has columns, by ordinary least squares.

    x of any sign, in its own units; b0 in units of y, b_i in units of y per unit of x_i, all of any sign.
    `goodness_` holds SSR, SSE, R2, MSE and RMSE (see `goodness`).
    Source: textbook; the least squares of Legendre, 1805.
    """

    form = straight_form("linear", "straight line", ("x",))

    def _read(self, x: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        self.form = _linear(_column_names(x))
        super()._read(x, y, sample_weight, groups)

    def _more_settings(self) -> dict[str, Any]:
        return {**super()._more_settings(), "columns": list(self.form.variables)}

    def _restore_settings(self, settings: Mapping[str, Any]) -> None:
        self.form = _linear(tuple(map(str, settings["columns"])))
        super()._restore_settings(settings)


def _linear(variables: tuple[str, ...]) -> StraightForm:
    return straight_form("linear", "straight line", variables)


def _column_names(x: Any) -> tuple[str, ...]:
    if isinstance(x, Mapping) or hasattr(x, "columns"):
        names = tuple(str(name) for name in (x.keys() if isinstance(x, Mapping) else x.columns))
    else:
        shape = np.shape(x)
        count = shape[1] if len(shape) == 2 else 1
        names = ("x",) if count == 1 else tuple(f"x{i + 1}" for i in range(count))
    if not names:
        raise UsageError("x has no columns; give at least one variable")
    return names
