"""What every law can do: be fitted, say how sure it is, predict, be solved for a target, be written and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError, UsageError, did_you_mean
from evaluate.scaling.fit.columns import as_columns, as_target, as_weights, encoded
from evaluate.scaling.fit.fitting import Fitted, NotConverged, fit
from evaluate.scaling.fit.optimizer import Loss
from evaluate.scaling.forms.form import Array, Form

if TYPE_CHECKING:
    from typing_extensions import Self

    from evaluate.scaling.query.solve import Solved
    from evaluate.scaling.uncertainty.prediction_interval import Spread


SCHEMA = 1


class NotFitted(UsageError):
    """A law was asked before it was fitted."""


@dataclass(frozen=True)
class Data:
    """The points of a fit: x (n, k), y (n,), weights (n,), and groups (n,) as codes or None."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    weights: NDArray[np.float64]
    groups: NDArray[np.intp] | None = None

    def part(self, chosen: Array) -> Data:
        """The points chosen by a mask or by indices."""
        groups = None if self.groups is None else self.groups[chosen]
        return Data(self.x[chosen], self.y[chosen], self.weights[chosen], groups)


class Law:
    """Base of the laws; a law of its own is a subclass with a `form`.

    loss, delta, space : what is minimised (searching.Loss); None takes the law's published way.
    confidence : of `intervals_`.  bootstrap : how many resamples they rest on.  seed : decides the resamples.
    fixed      : parameters that keep a given value, as {"E": 0}.
    force      : fit even where the points do not identify an exponent.

    After `fit`: `params_` (name -> float), `intervals_` (name -> (low, high)), `objective_` (the SUM of the loss),
    `agreed_` (how many starts came to it, of how many), `warnings_` (plain sentences), `holdout_` (how it predicts
    larger points that were held out), `draws_` (b, p) bootstrap parameters, `range_` (variable -> (low, high)),
    `residuals_` (n,) log prediction - log y, `criteria_` (aic, bic), `n_`.
    """

    form: Form
    default_loss: ClassVar[Loss] = Loss()
    status: Callable[[str], None] | None = None
    """Called with a sentence during long work, where one is set."""

    def __init__(
        self,
        *,
        loss: str | None = None,
        delta: float | None = None,
        space: str | None = None,
        confidence: float = 0.95,
        bootstrap: int = 200,
        seed: int = 0,
        fixed: Mapping[str, float] | None = None,
        force: bool = False,
    ) -> None:
        self.loss = _loss(self.default_loss, loss, delta, space)
        self.confidence, self.bootstrap, self.seed = confidence, bootstrap, seed
        self.fixed, self.force = dict(fixed or {}), force

    # What a form with columns of its own kind changes.

    def form_for(self, x: Array) -> Form:
        """The form for these columns x (n, k); one whose parameters depend on the data makes it here."""
        return self.form

    def encode(self, x: Array, *, fitting: bool) -> NDArray[np.float64]:
        """Columns x (n, k) as numbers; a law with a column of names maps them here."""
        try:
            return np.asarray(x, dtype=float)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.name}: x must be numbers in every column; {error}") from error

    # Fitting.

    @property
    def name(self) -> str:
        """The law's name, as `--law` takes it."""
        return self.form.name

    def fit(self, x: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit to points.

        x : (n,), (n, k) in the order of `variables`, or name -> (n,).  y : (n,), positive, in its own unit.
        sample_weight : (n,) or None.  groups : (n,) labels of points that are not independent, as those of one run;
        they are resampled and held out together.
        Raises DataError, UsageError, NotConverged, and Unidentified where an exponent cannot be told (see force).
        """
        from evaluate.scaling.diagnose.rules import diagnose, explained
        from evaluate.scaling.uncertainty.bootstrap import bootstrap, intervals

        self._read(x, y, sample_weight, groups)
        try:
            fitted = self._fit()
        except NotConverged as error:
            raise explained(self, error) from error
        self._found(fitted)
        self.draws_ = bootstrap(self)
        self.intervals_ = intervals(self)
        self.warnings_ = diagnose(self)
        return self

    def _read(self, x: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        raw, self.variables = as_columns(x, self.form.variables)
        numbers = self.encode(raw, fitting=True)
        self.form_ = self.form_for(numbers)
        self._check_domain(numbers)
        target = as_target(y, len(numbers))
        data = Data(numbers, target, as_weights(sample_weight, len(target)), encoded(groups, len(target)))
        self.data_ = data.part(data.weights > 0)
        unknown = [name for name in self.fixed if name not in self.form_.names]
        if unknown:
            near = did_you_mean(unknown[0], self.form_.names)
            raise UsageError(f"{self.name} has no parameter {unknown[0]!r}{near}; it has {', '.join(self.form_.names)}")
        free = len(self.form_.names) - len(self.fixed)
        if len(self.data_.y) < free:
            raise DataError(
                f"{self.name} has {free} free parameters and got {len(self.data_.y)} points; give at least "
                f"{free + 1}, or choose a law with fewer parameters"
            )
        self._refuse_constant()

    def _check_domain(self, x: Array) -> None:
        for column, (wanted, shown) in enumerate(zip(self.form.variables, self.variables)):
            low, high = self.form.domains.get(wanted, (0.0, math.inf))
            closed = wanted in self.form.domains
            values = x[:, column]
            good = np.isfinite(values) & ((values >= low) & (values <= high) if closed else values > 0)
            bad = np.flatnonzero(~good)
            if len(bad):
                expected = f"from {low:g} to {high:g}" if closed else "positive and finite"
                raise DataError(
                    f"{shown} must be {expected}; {len(bad)} of {len(values)} points are not, the first at {bad[0]} "
                    f"({values[bad[0]]:g})"
                )

    def _refuse_constant(self) -> None:
        for column, name in enumerate(self.variables):
            if len(self.data_.y) > 1 and np.ptp(self.data_.x[:, column]) == 0 and self.needs_variation(column):
                raise DataError(
                    f"{name} is {self.data_.x[0, column]:g} at all {len(self.data_.y)} points; give points at several "
                    f"values of {name}, or choose a law without it"
                )
        if len(self.data_.y) > 1 and np.ptp(self.data_.y) == 0:
            raise DataError(f"y is {self.data_.y[0]:g} at all {len(self.data_.y)} points: there is nothing to fit")

    def needs_variation(self, column: int) -> bool:
        """Whether the points must differ in this column of x."""
        return True

    def _fit(self) -> Fitted:
        data = self.data_
        return fit(self.form_, data.x, data.y, weights=data.weights, loss=self.loss, fixed=self.fixed)

    def _found(self, fitted: Fitted) -> None:
        data = self.data_
        self.theta_ = fitted.theta
        self.params_ = {name: float(value) for name, value in zip(self.form_.names, fitted.theta)}
        self.objective_ = fitted.objective
        self.agreed_ = (fitted.agreed, fitted.tried)
        self.n_ = len(data.y)
        with np.errstate(invalid="ignore", divide="ignore"):
            self.residuals_ = np.log(self.form_.predict(data.x, fitted.theta)) - np.log(data.y)
        columns = zip(self.variables, data.x.min(axis=0), data.x.max(axis=0))
        self.range_ = {name: (float(low), float(high)) for name, low, high in columns}
        self.criteria_ = criteria(self.residuals_, len(fitted.theta) - len(self.fixed))
        self._spread: Spread | None = None
        self._holdout: dict[str, Any] | None = None

    # What is learnt from holding out, when it is asked for.

    @property
    def spread_(self) -> Spread:
        """How far predictions may be off, with the error of the form itself (spread.py)."""
        self._require_fit()
        if self._spread is None:
            from evaluate.scaling.uncertainty.prediction_interval import calibrate

            self._spread = calibrate(self)
        return self._spread

    @property
    def holdout_(self) -> dict[str, Any]:
        """How the law predicts the largest points from the others: {rule, error, ...} (selection.py)."""
        self._require_fit()
        if self._holdout is None:
            from evaluate.scaling.select.selection import hold_out

            self._holdout = hold_out(self)
        return self._holdout

    # Asking.

    def names_of(self, variable: str) -> tuple[str, ...]:
        """The values of a variable that are names, as levels of compression; empty where they are numbers."""
        return ()

    def predict(self, x: Any, interval: float | None = None) -> Any:
        """The prediction (n,) at x, as `fit` takes it; with `interval`, as 0.9, (y, low, high), each (n,).

        The interval is that of a new point: parameters, noise of the points, and the error of the form itself.
        """
        numbers = self._numbers(x)
        found = self._predict(numbers)
        if interval is None:
            return found
        _check_share(interval)
        from evaluate.scaling.uncertainty.prediction_interval import interval_of

        low, high = interval_of(self, numbers, interval)
        return found, low, high

    def _predict(self, x: Array) -> NDArray[np.float64]:
        return self.form_.predict(x, self.theta_)

    def curves(self, x: Any) -> NDArray[np.float64]:
        """The prediction (b, n) at x by each of the bootstrap's parameters."""
        return self.form_.predict(self._numbers(x), self.draws_)

    def _numbers(self, x: Any) -> NDArray[np.float64]:
        self._require_fit()
        given, _ = as_columns(x, self.variables, named=True)
        numbers = self.encode(given, fitting=False)
        self._check_domain(numbers)
        return numbers

    def solve(
        self, y: float, variable: str | None = None, given: Mapping[str, Any] | None = None, interval: float = 0.9
    ) -> Solved:
        """Where the law reaches y: the value of `variable` (needed where there are several), the others as `given`.

        Gives a Solved: value, low, high, reachable, reason, beyond. See inverse.py.
        """
        self._require_fit()
        from evaluate.scaling.query.solve import solve

        return solve(self, y, variable, given, interval)

    @property
    def floor_(self) -> tuple[float, float, float] | None:
        """(value, low, high) of the limit that y tends to; None where the form has none."""
        name = self.form_.floor
        return None if name is None else (self.params_[name], *self.intervals_[name])

    # Writing and reading.

    def to_dict(self) -> dict[str, Any]:
        """Everything that is needed to predict again, as plain data: the JSON law."""
        self._require_fit()
        return {
            "schema": SCHEMA,
            "kind": "law",
            "law": self.name,
            "formula": self.form_.formula,
            "variables": list(self.variables),
            "params": self.params_,
            "intervals": {name: list(pair) for name, pair in self.intervals_.items()},
            "objective": self.objective_,
            "holdout": self.holdout_,
            "warnings": list(self.warnings_),
            "solve": [],
            "agreed": list(self.agreed_),
            "n": self.n_,
            "range": {name: list(self.names_of(name) or pair) for name, pair in self.range_.items()},
            "criteria": self.criteria_,
            "residuals": np.round(self.residuals_, 9).tolist(),
            "spread": self.spread_.to_dict(),
            "draws": [[float(f"{value:.8g}") for value in row] for row in self.draws_.tolist()],
            "settings": {
                **asdict(self.loss), "confidence": self.confidence, "bootstrap": self.bootstrap, "seed": self.seed,
                "fixed": self.fixed, "force": self.force, **self._more_settings(),
            },
        }  # fmt: skip

    def _more_settings(self) -> dict[str, Any]:
        """What a subclass must remember besides, for `from_dict`."""
        return {}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Law:
        """The law that `to_dict` wrote, ready to predict. Raises ArtifactError where it is not one."""
        from evaluate.scaling.law_files import restore

        return restore(data)

    @classmethod
    def _restored(cls, data: Mapping[str, Any]) -> Law:
        """A law of this class from checked data; a subclass whose form depends on the data restores that first."""
        from evaluate.scaling.law_files import fill

        settings = data["settings"]
        law = cls(
            loss=settings["kind"], delta=settings["delta"], space=settings["space"], seed=int(settings["seed"]),
            confidence=float(settings["confidence"]), bootstrap=int(settings["bootstrap"]),
            fixed=settings["fixed"], force=bool(settings["force"]),
        )  # fmt: skip
        law._restore_settings(settings)
        fill(law, data)
        return law

    def _restore_settings(self, settings: Mapping[str, Any]) -> None:
        """Take up what `_more_settings` wrote, and set `form_`."""
        self.form_ = self.form

    def _require_fit(self) -> None:
        if not hasattr(self, "theta_"):
            raise NotFitted(f"this {type(self).__name__} is not fitted yet; call fit(x, y) first")

    def __repr__(self) -> str:
        if not hasattr(self, "theta_"):
            return f"{type(self).__name__}()"
        told = ", ".join(f"{name}={value:.4g}" for name, value in self.params_.items())
        return f"{type(self).__name__}({told})"


def _loss(default: Loss, kind: str | None, delta: float | None, space: str | None) -> Loss:
    for value, known, name in ((kind, ("huber", "squares"), "loss"), (space, ("log", "raw", "relative"), "space")):
        if value is not None and value not in known:
            raise UsageError(f"{name} {value!r}{did_you_mean(value, known)}; expected one of {', '.join(known)}")
    if delta is not None and not (math.isfinite(delta) and delta > 0):
        raise UsageError(f"delta must be a positive number, got {delta!r}")
    changes = {"kind": kind, "delta": delta, "space": space}
    return replace(default, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


def criteria(residuals: Sequence[float] | Array, free: int) -> dict[str, float]:
    """Akaike's and Bayes' criteria of log residuals with normal errors; they are shown, and choose nothing."""
    n = len(residuals)
    spread = max(float(np.mean(np.square(residuals))), 1e-300)
    fit_term = n * math.log(spread)
    return {"aic": fit_term + 2 * (free + 1), "bic": fit_term + math.log(n) * (free + 1)}


def _check_share(value: float) -> None:
    if not (isinstance(value, (int, float)) and 0 < value < 1):
        raise UsageError(f"interval is a share between 0 and 1, as 0.9; got {value!r}")
