"""The laws as scikit-learn has its estimators: `PowerLaw().fit(x, y).predict(x, interval=0.9)`, `.solve(y)`.

A face without sums of its own: what a law is lies in forms/, what a fit found in a FittedLaw, and functions over that
do the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evaluate.core.text import html_rows
from evaluate.scaling import law_files
from evaluate.scaling.fit.fitted import ErrorModel, FittedLaw, Settings, fitted_of, loss_of
from evaluate.scaling.forms.combined import CANDIDATES
from evaluate.scaling.forms.form import LAWS, Form, LawKind, Loss, kind_of
from evaluate.scaling.forms.joint import reference_in
from evaluate.scaling.points.scale import PLAIN, Scale, share_scale
from evaluate.scaling.query.solve import Solved, solve
from evaluate.scaling.select.selection import fit_named, holdout_of, select
from evaluate.scaling.uncertainty.prediction_interval import check_share, errors_of, forecast

if TYPE_CHECKING:
    from typing_extensions import Self

_FACES: dict[str, type[Law]] = {}
FITTED = {
    "form_": "form", "params_": "params", "intervals_": "intervals", "objective_": "objective", "agreed_": "agreed",
    "warnings_": "warnings", "draws_": "draws", "range_": "range", "residuals_": "residuals", "criteria_": "criteria",
    "n_": "n", "theta_": "theta", "data_": "data", "floor_": "floor", "goodness_": "goodness",
}  # fmt: skip


class Law:
    """A law: the base of those that follow, and, by its name, any other that is registered.

    law        : its name, as `--law` takes it; needed for one that has no class of its own.
    loss, delta, space : what is minimised (Loss); None takes the law's published way.
    confidence : of `intervals_`.  bootstrap : how many resamples they rest on.  seed : decides the resamples.
    fixed      : parameters that keep a given value, as {"E": 0}.
    force      : fit even where the points do not identify an exponent.
    scale      : the unit of y, as Scale(higher=True, top=100, unit=100, limit=1) of an accuracy in per cent.
    end        : "high" or "low": beyond which end of the points the law is to predict; that end is held out.
    sisters    : (x (n,), y (n,)) of other curves of the study, whose exponent an average of laws may take as well.
    options    : what the law takes besides, as `reference` of EffectiveParameters.

    After `fit`: `params_` (name -> float), `intervals_` (name -> (low, high)), `objective_` (the SUM of the loss),
    `agreed_` (how many initial guesses came to it, of how many), `warnings_` (plain sentences), `holdout_` (how it
    predicts larger points that were held out), `draws_` (b, p) bootstrap parameters, `residuals_` (n,) log prediction -
    log y, `range_` (variable -> (low, high)), `criteria_` (aic, bic), `n_`; `fitted_` holds them all as one FittedLaw.
    """

    name: ClassVar[str] = ""
    form: Form
    status: Callable[[str], None] | None = None
    """Called with a sentence during long work, where one is set."""

    def __init_subclass__(cls, *, law: str, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.name, cls.form, cls.__doc__ = law, kind_of(law).form, inspect.getdoc(LAWS.get(law).target) or ""
        _FACES[law] = cls

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
        scale: Scale = PLAIN,
        end: str = "high",
        sisters: Sequence[tuple[Any, Any]] = (),
        **options: Any,
    ) -> None:
        kind = self.kind
        strange = [name for name in options if name not in kind.options]
        if strange:
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {strange[0]!r}")
        chosen = {**kind.options, **options}
        self.settings = Settings(
            loss_of(kind.loss, loss, delta, space), confidence, bootstrap, seed, dict(fixed or {}), force, chosen,
            scale, end, tuple(sisters),
        )  # fmt: skip

    @property
    def kind(self) -> LawKind:
        """What is registered under the law's name."""
        return kind_of(self.name)

    @property
    def loss(self) -> Loss:
        """What is minimised."""
        return self.settings.loss

    def fit(self, x: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit to points.

        x : (n,), (n, k) in the order of `variables`, or name -> (n,).  y : (n,), positive, in its own unit.
        sample_weight : (n,) or None.  groups : (n,) labels of points that are not independent, as those of one run;
        they are resampled and held out together.
        Raises DataError, UsageError, NotConverged, and Unidentified where an exponent cannot be told (see force).
        """
        self.fitted_ = fit_named(self.name, x, y, sample_weight, groups, self.settings, self.status)
        return self

    def __getattr__(self, name: str) -> Any:
        """What the fit found, by scikit-learn's names."""
        if name not in FITTED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(fitted_of(self), FITTED[name])

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the columns of x, as the points had them."""
        return fitted_of(self).variables

    @property
    def errors_(self) -> ErrorModel:
        """How far predictions may be off, with the error of the form itself (prediction_interval.py)."""
        return errors_of(fitted_of(self))

    @property
    def holdout_(self) -> dict[str, Any]:
        """How the law predicts the largest points from the others: {rule, error, ...} (selection.py)."""
        return holdout_of(fitted_of(self))

    def names_of(self, variable: str) -> tuple[str, ...]:
        """The values of a variable that are names, as levels of compression; empty where they are numbers."""
        return fitted_of(self).names_of(variable)

    def predict(self, x: Any, interval: float | None = None) -> Any:
        """The prediction (n,) at x, as `fit` takes it; with `interval`, as 0.9, (y, low, high), each (n,).

        The interval is that of a new point: parameters, noise of the points, and the error of the form itself. A law
        that was chosen for one variable is fitted for one end: between the points it is moved towards their means, and
        beyond the other end it speaks as it is fitted for that (FittedLaw.toward).
        """
        law = fitted_of(self)
        if interval is not None:
            check_share(interval)
        y, *ends = forecast(law, law.numbers(x), interval)
        found = law.settings.scale.told(y)
        return found if interval is None else (found, *law.settings.scale.told_ends(*ends))

    def curves(self, x: Any) -> NDArray[np.float64]:
        """The prediction (b, n) at x by each of the bootstrap's parameters."""
        law = fitted_of(self)
        return np.asarray(law.settings.scale.told(law.curves(x)))

    def solve(
        self, y: float, variable: str | None = None, given: Mapping[str, Any] | None = None, interval: float = 0.9
    ) -> Solved:
        """Where the law reaches y: the value of `variable` (needed where there are several), the others as `given`.

        Gives a Solved: value, low, high, reachable, reason, beyond and more. Between the points it lies where they pass
        y; beyond them the law is fitted to predict that end. See query/solve.py.
        """
        return solve(self, y, variable, given, interval)

    def to_dict(self) -> dict[str, Any]:
        """Everything that is needed to predict again, as plain data: the JSON law. One that was chosen for one variable
        is fitted for its other end as well, where that was not done yet."""
        law = fitted_of(self)
        if law.again is not None and len(law.variables) == 1:
            law.toward(law.settings.opposite)
        return law_files.plain(law)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], allow: Sequence[str] = ()) -> Law:
        """The law that `to_dict` wrote, ready to predict. Raises ArtifactError where it is not one.

        allow : modules that a law of one's own may be imported from; those that are imported already need none.
        """
        return law_of(law_files.restored(data, allow))

    def __repr__(self) -> str:
        if "fitted_" not in vars(self):
            return f"{type(self).__name__}()"
        told = ", ".join(f"{name}={value:.4g}" for name, value in self.params_.items())
        return f"{type(self).__name__}({told})"

    def _repr_html_(self) -> str:
        if "fitted_" not in vars(self):
            return html_rows(repr(self), [("not fitted", "law.fit(x, y)")])
        rows = [("formula", self.kind.form.formula)]
        for name, value in self.params_.items():
            ends = [f"{end:.4g}" for end in self.intervals_.get(name, ())]
            rows.append((name, f"{value:.4g}{f' ({ends[0]} to {ends[1]})' if ends else ''}"))
        rows += [("warning", text) for text in self.warnings_]
        return html_rows(f"{self.kind.form.title}, of {', '.join(self.variables)}", rows)


class PowerLaw(Law, law="power"): ...


class PowerLawFloor(Law, law="power-floor"): ...


class M3(Law, law="m3"): ...


class M4(Law, law="m4"): ...


class BNSL1(Law, law="bnsl1"): ...


class BNSL2(Law, law="bnsl2"): ...


class LogLinear(Law, law="log-linear"): ...


class Linear(Law, law="linear"): ...


class Chinchilla(Law, law="chinchilla"): ...


class ChinchillaTied(Law, law="chinchilla-tied"): ...


class Precision(Law, law="precision"): ...


class Rosenfeld(Law, law="rosenfeld"): ...


class Frantar(Law, law="frantar"): ...


class Distillation(Law, law="distillation"): ...


class EffectiveParameters(Law, law="effective"):
    @property
    def levels_(self) -> tuple[str, ...]:
        """The names of the levels, by their codes."""
        return fitted_of(self).form.levels

    @property
    def reference_(self) -> str:
        """The level whose efficiency is 1."""
        return reference_in(fitted_of(self).form)


class Average(Law, law="average"):
    def __init__(self, *, candidates: Sequence[str] | None = None, bootstrap: int = 40, **settings: Any) -> None:
        chosen = tuple(CANDIDATES if candidates is None else candidates)
        super().__init__(bootstrap=bootstrap, candidates=chosen, **settings)


def law_class(name: str) -> type[Law]:
    """The class of a law by its name, or by `module:name`. Raises UsageError."""
    own = LAWS.get(name).name
    if own not in _FACES:
        type(f"Law_{own}", (Law,), {}, law=own)
    return _FACES[own]


def law_of(fitted: FittedLaw) -> Law:
    """A fitted law under the face of its name."""
    kind = law_class(fitted.name)
    law = kind.__new__(kind)
    law.settings, law.fitted_ = fitted.settings, fitted
    return law


def select_law(
    x: Any,
    y: Any,
    *,
    candidates: Sequence[str] | None = None,
    sample_weight: Any = None,
    groups: Any = None,
    higher_is_better: bool = False,
    **settings: Any,
) -> Law:
    """The law that predicts the largest points best from the smaller ones, fitted to all of them.

    x (n,), (n, k) or name -> (n,); y (n,) positive; candidates : names of laws, None takes those that suit the columns;
    sample_weight (n,); groups (n,) labels, held out and resampled together; higher_is_better : y is a fraction, or per
    cent, of which more is better; settings go to the law (seed, bootstrap, confidence, force, end).
    `holdout_` of the result says what was tried and why the others were not taken. Deterministic.
    Raises UsageError for unsuitable candidates, DataError where none can be fitted.
    """
    if higher_is_better:
        settings["scale"] = share_scale(np.asarray(y, dtype=float))
    return law_of(select(x, y, candidates, sample_weight, groups, partial(_settings, settings)))


def _settings(given: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> Settings:
    return law_class(name)(**given, **options).settings


def write_law(path: str | Path, law: Law | Mapping[str, Any]) -> None:
    """Write a law, or its JSON with more keys, as one file. Raises MachineError where it cannot be written."""
    law_files.write_plain(path, law if isinstance(law, Mapping) else law.to_dict())


def read_law(path: str | Path, allow: Sequence[str] = ()) -> tuple[Law, dict[str, Any]]:
    """(law, its JSON). Raises ArtifactError for a file that is missing, damaged, of another kind or version.

    allow : modules that a law of one's own may be imported from.
    """
    fitted, data = law_files.read_stored(path, allow)
    return law_of(fitted), data


def load_law(path: str | Path, allow: Sequence[str] = ()) -> Law:
    """The law of a file, ready to predict and to be solved. Raises ArtifactError."""
    return read_law(path, allow)[0]
