"""The averaged law: forms that blocked hold-out cannot tell apart, averaged in the logarithm. A law like any other.

Each form is fitted three times, with weights that rise with size (what is small says little of what is large) as far as
that leaves enough points in effect, by a robust loss, and moved to the level of the largest points, as far as that is
more than noise. Then all are tried on the half of the range that was held out; those within a factor of the best are
averaged with equal weights, which errors of few held-out points cannot better (Bates and Granger 1969; Smith and Wallis
2009: the puzzle that equal weights win). benchmarks/learning_curves.py measures it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evaluate.core.errors import DataError
from evaluate.scaling.fit.fitting import Fitted, refit
from evaluate.scaling.fit.optimizer import Loss
from evaluate.scaling.forms.form import Array, Form, Parameter
from evaluate.scaling.law import Law
from evaluate.scaling.select.candidate_fit import Tried, compete, shifts
from evaluate.scaling.uncertainty.backtest import Block, relative_size

if TYPE_CHECKING:
    from typing_extensions import Self


MOST = 600  # points
FEWEST_GROUPS = 3
CANDIDATES = ("power-floor", "m3", "m4", "bnsl1", "power")
SOURCE = "equal shares: Bates and Granger 1969; Smith and Wallis 2009 (the forecast combination puzzle)"


@dataclass(frozen=True)
class Member:
    """One fit in the average: its form, the power of size in its weights, its share."""

    form: Form
    power: float
    weight: float

    @property
    def label(self) -> str:
        """As "m4, x^0.5"."""
        return f"{self.form.name}, x^{self.power:g}"


def averaged_form(members: Sequence[Member]) -> Form:
    """The form whose parameters are those of all members, each followed by its shift of log y."""
    parameters: list[Parameter] = []
    places = []
    for member in members:
        at = len(parameters)
        parameters += [replace(p, name=f"{member.label}: {p.name}", exponent=False) for p in member.form.parameters]
        parameters.append(Parameter(f"{member.label}: shift", -np.inf, scale="linear"))
        places.append(slice(at, at + len(member.form.parameters)))

    def log_y(x: Array, theta: Array) -> Array:
        parts = zip(members, places)
        return sum(m.weight * (m.form.log_y(x, theta[..., at]) - theta[..., at.stop, None]) for m, at in parts)  # type: ignore[return-value]

    return Form(
        name="average", title="average of laws", formula=f"log y = mean of log y of {_shares(members)}",
        source=SOURCE, variables=("x",), parameters=tuple(parameters), log_y=log_y,
        starts=lambda x, y: np.empty((0, len(parameters))),
    )  # fmt: skip


def _shares(members: Sequence[Member]) -> str:
    """As "40 % power-floor, 60 % m3"."""
    names = list(dict.fromkeys(member.form.name for member in members))
    shares = {name: sum(member.weight for member in members if member.form.name == name) for name in names}
    return ", ".join(f"{100 * share:.3g} % {name}" for name, share in shares.items()) or "several laws"


class Average(Law):
    """log y is the mean of log y of several laws of one variable; y and x positive.

    `params_` are the shares of the members, "m4, x^0.5" being M4 fitted with weights proportional to x^0.5; `theta_`
    and `draws_` hold the parameters of all of them, in the order of `form_.names`. The shares are given by a rule and
    not estimated, so their intervals are points; what is not sure is in `predict(x, interval=0.9)`.

    candidates : names of the laws that compete (registry.LAWS), of one variable. None takes all that have a floor,
    and the power law where points are too few.  The other settings as for every law; bootstrap counts resamples of
    all members together.  Of more than MOST points, as many are taken, evenly spread by size.
    """

    form = averaged_form(())
    default_loss: ClassVar[Loss] = Loss("huber", 1e-2)

    def __init__(self, *, candidates: Sequence[str] | None = None, bootstrap: int = 40, **settings: Any) -> None:
        super().__init__(bootstrap=bootstrap, **settings)
        self.candidates = tuple(CANDIDATES if candidates is None else candidates)

    def fit(self, x: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """As Law.fit. Raises DataError where none of the candidates can be fitted."""
        self._read(x, y, sample_weight, groups)
        self.left_out_ = max(len(self.data_.y) - MOST, 0)
        if self.left_out_:
            order = np.argsort(self.data_.x[:, 0], kind="stable")
            self.data_ = self.data_.part(np.sort(order[np.linspace(0, len(order) - 1, MOST).round().astype(int)]))
        self.tried_ = compete(self, self.candidates)
        chosen = [tried for tried in self.tried_ if tried.shares]
        if not chosen:
            told = "; ".join(f"{tried.name}: {tried.why_not}" for tried in self.tried_)
            raise DataError(f"no law can be fitted to these {len(self.data_.y)} points: {told}")
        self.members_ = [
            Member(tried.form, power, share) for tried in chosen for power, share in tried.shares.items() if share > 0
        ]
        self.form_ = averaged_form(self.members_)
        self._found(self._joined(chosen))
        self.params_ = {member.label: member.weight for member in self.members_}
        self.draws_ = self._drawn()
        self.intervals_ = {name: (share, share) for name, share in self.params_.items()}
        self.warnings_ = self._doubts(chosen)
        return self

    def _joined(self, chosen: Sequence[Tried]) -> Fitted:
        """All members as one fit."""
        by_name = {tried.name: tried for tried in chosen}
        thetas = [by_name[m.form.name].thetas[m.power] for m in self.members_]
        theta = self._with_shifts([one[None] for one in thetas], np.ones(len(self.data_.y), dtype=bool))[0]
        residuals = self.form_.missed(self.data_.x, self.data_.y, theta)
        objective = float(self.loss.total(residuals, self.data_.weights))
        agreed, tried = (sum(getattr(one, name) for one in chosen) for name in ("agreed", "starts"))
        return Fitted(theta, objective, agreed, tried, residuals)

    def _with_shifts(self, thetas: Sequence[Array], kept: Array) -> NDArray[np.float64]:
        """(b, all parameters) from each member's (b, p): every one is moved to the level of the largest kept points."""
        data = self.data_
        parts = []
        for member, theta in zip(self.members_, thetas):
            missed = member.form.missed(data.x, data.y, theta)
            shift = shifts(missed, data.x[:, 0], kept, data.weights)
            parts += [theta, shift[:, None]]
        return np.concatenate(parts, axis=1)

    def _refitted(self, weights: Array) -> list[NDArray[np.float64]]:
        """Each member's (b, p) under weights (b, n), from where it is."""
        data, at, thetas = self.data_, 0, []
        size = relative_size(self)
        for member in self.members_:
            p = len(member.form.parameters)
            thetas.append(
                refit(
                    member.form, data.x, data.y, weights * size**member.power, self.theta_[at : at + p], loss=self.loss
                )[0]
            )
            at += p + 1
        return thetas

    def _drawn(self) -> NDArray[np.float64]:
        """The Bayesian bootstrap (Rubin 1981): exponential weights, one a group; no resample loses a point."""
        data = self.data_
        codes = np.arange(len(data.y)) if self._groups() < FEWEST_GROUPS or data.groups is None else data.groups
        rng = np.random.default_rng(self.seed)
        weights = rng.exponential(size=(self.bootstrap, int(codes.max()) + 1))[:, codes] * data.weights
        if not self.bootstrap:
            return np.empty((0, len(self.theta_)))
        found = self._with_shifts(self._refitted(weights), np.ones(len(data.y), dtype=bool))
        return np.asarray(found[np.isfinite(found).all(axis=1)])

    def _groups(self) -> int:
        return 0 if self.data_.groups is None else len(np.unique(self.data_.groups))

    def rehearsed(self, parts: Sequence[Block]) -> list[NDArray[np.float64]]:
        """Prediction less point in log y, (n,) for each block, of the average fitted to its kept points."""
        data, found = self.data_, []
        thetas = self._refitted(np.array([part.kept * data.weights for part in parts]))
        for number, part in enumerate(parts):
            theta = self._with_shifts([one[number : number + 1] for one in thetas], part.kept)[0]
            found.append(self.form_.missed(data.x, data.y, theta))
        return found

    @property
    def holdout_(self) -> dict[str, Any]:
        """What the forms missed on the held-out half, and what each takes part with."""
        self._require_fit()
        if self._holdout is None:
            from evaluate.scaling.select.selection import told

            self._holdout = told(self)
        return self._holdout

    def _doubts(self, chosen: Sequence[Tried]) -> list[str]:
        from evaluate.scaling.diagnose.design import design_doubts
        from evaluate.scaling.diagnose.rules import flat, residual_trend

        told = []
        if self.left_out_:
            told.append(
                f"{self.n_} of {self.n_ + self.left_out_} points were used, evenly spread by size: more would take "
                "long and tell little; name one law (--law) to fit it to all"
            )
        if 0 < self._groups() < FEWEST_GROUPS:
            told.append("the groups are too few to draw again, so all points were taken as independent")
        if not any(np.isfinite(tried.error) for tried in chosen):
            told.append(f"{self.n_} points are too few to hold any out, so the forms share equally")
        return [*told, *flat(self), *design_doubts(self), *residual_trend(self)]

    # Writing and reading.

    def _more_settings(self) -> dict[str, Any]:
        members = [{"law": m.form.name, "power": m.power, "weight": m.weight} for m in self.members_]
        return {"candidates": list(self.candidates), "members": members, "theta": self.theta_.tolist()}

    def _restore_settings(self, settings: Mapping[str, Any]) -> None:
        self.candidates = tuple(map(str, settings["candidates"]))
        self.members_ = _members(settings)
        self.form_ = averaged_form(self.members_)

    @classmethod
    def _restored(cls, data: Mapping[str, Any]) -> Law:
        settings = data["settings"]
        whole = {**data, "params": dict(zip(averaged_form(_members(settings)).names, settings["theta"]))}
        law = super()._restored(whole)
        law.params_ = {str(name): float(value) for name, value in data["params"].items()}
        return law


def _members(settings: Mapping[str, Any]) -> list[Member]:
    """The members that `_more_settings` wrote."""
    from evaluate.scaling.forms.law_registry import law_class

    found = settings["members"]
    return [Member(law_class(str(m["law"])).form, float(m["power"]), float(m["weight"])) for m in found]
