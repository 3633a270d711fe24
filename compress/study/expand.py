"""From a study to its trials: sizes x levels x seeds, the further axes of data and training, and the native models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compress.study.compression_levels import passes_of, variants
from compress.study.grid import Point, expand, fits
from compress.study.load import apply_point
from compress.study.native import expected_params, nearest_width, params_of
from compress.study.spec import DENSE, Study, TrialRecipe
from compress.study.trial import Trial, identify, own_files, stage_epochs
from compress.study.trial_order import tiers

NATIVE = "native"
LABELS = {"train_limit": "samples"}  # what a Record calls it


class Expansion:
    """A study spelled out. `trials` holds each one once, the most useful first; `files` what they hang on, with hashes.

    Raises what building a model or finding its weights raises.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.data = study.model_dump(mode="json")
        self.files: dict[str, str] = {}
        self.found: dict[str, Trial] = {}
        for trial in self._all():
            self._add(trial)

    @property
    def trials(self) -> list[Trial]:
        """Every trial that is known by now, the most useful first."""
        return sorted(self.found.values(), key=lambda trial: trial.rank)

    def settle(self, trial: Trial, params: int) -> None:
        """Add the native models of a compressed trial that has `params`, now that it is known: one for each seed."""
        alike = [t for t in self.found.values() if t.waits and _place(t) == _place(trial)]
        for other in alike:
            self.found[other.id] = self._with_native(other.named(waits=False), params)

    def _all(self) -> Iterator[Trial]:
        sizes = list(expand(self.data["sizes"], ("sizes",)))
        weight = [params_of(self.data["model"]["name"], self._args(point)) for point in sizes]
        order = sorted(range(len(sizes)), key=lambda n: weight[n])
        early = dict(zip(order, tiers(len(sizes)), strict=True))
        for n, size in enumerate(sizes):
            for tier, data, level, values in self._settings(size):
                for place, seed in enumerate(self.study.seed_list):
                    rank: list[float] = [place, early[n] + tier, weight[n]]
                    yield self._trial(size.values, level, values, data, seed, rank)

    def _args(self, size: Point) -> dict[str, Any]:
        model = {**self.data["model"], **size.values}
        return {key: value for key, value in model.items() if key not in ("name", "weights")}

    def _settings(self, size: Point) -> Iterator[tuple[int, Point, str, dict[str, Any]]]:
        """(tier, changes of data, level, values) of every trial of one size and seed."""
        plain = Point({}, {})
        for level in (DENSE, *self.study.levels):
            for tier, values in self._variants(level):
                yield tier, plain, level, values
        for axis in self.study.data:
            if fits(size.values, axis.sizes):
                points = list(expand(axis.model_dump(mode="json")["set"]))
                for tier, point in zip(tiers(len(points)), points, strict=True):
                    for level in axis.levels:
                        for more, values in self._variants(level):
                            yield tier + more, point, level, values

    def _variants(self, level: str) -> Iterator[tuple[int, dict[str, Any]]]:
        found = [point.values for point in variants(self.data["levels"], level)]
        yield from zip(tiers(len(found)), found, strict=True)

    def _trial(
        self, size: dict[str, Any], level: str, values: dict[str, Any], data: Point, seed: int, rank: list[float]
    ) -> Trial:
        changed = apply_point(self.data, data)
        steps = [step for step, _ in passes_of(self.data["levels"], level, values)]
        recipe = self._recipe(size, changed, steps, seed)
        bits = min((getattr(step.config, "bits", 32) for step in recipe.passes), default=32)
        named = {LABELS.get(key.rpartition(".")[2], key.rpartition(".")[2]): v for key, v in data.values.items()}
        trial = self._made(recipe, size, {"name": level, **values, "bits": bits}, named, seed)
        target = expected_params(recipe.passes, trial.params)
        role = "compressed" if recipe.passes else "dense"
        waits = self.study.native and bool(recipe.passes) and target is None
        order = 1 if recipe.passes else 0
        return trial.named(role=role, target=target, waits=waits, rank=[*rank, order])

    def _recipe(self, size: Mapping[str, Any], changed: Mapping[str, Any], steps: list[Any], seed: int) -> TrialRecipe:
        data = {
            "version": 1,
            "name": self.study.name,
            "seed": seed,
            "model": {**self.data["model"], **size},
            "task": changed["task"],
            "train": changed["train"] if self.study.train is not None else None,
            "passes": steps,
            "export": self.data["export"],
        }
        return TrialRecipe.model_validate(data)

    def _made(
        self, recipe: TrialRecipe, size: dict[str, Any], level: dict[str, Any], data: dict[str, Any], seed: int
    ) -> Trial:
        files, plain = own_files(recipe), recipe.dump()
        self.files |= files
        prefixes = identify(plain, files)
        params = params_of(recipe.model.name, recipe.model.args)
        return Trial(
            id=prefixes[-1][:32], role="", size=dict(size), level=level, data=data, seed=seed, recipe=plain,
            prefixes=prefixes, epochs=stage_epochs(plain), params=params, samples=plain["task"].get("train_limit"),
        )  # fmt: skip

    def _add(self, trial: Trial) -> None:
        """Keep a trial unless its equal is there, with its native model where that is known already."""
        if trial.id in self.found:
            return
        self.found[trial.id] = trial
        if self.study.native and trial.role == "compressed" and trial.target is not None:
            self.found[trial.id] = self._with_native(trial, trial.target)

    def _with_native(self, trial: Trial, params: int) -> Trial:
        """The trial, with the id of its native model, which is added; unchanged where nothing was taken away."""
        if params >= trial.params:
            return trial
        native = self._native(trial, params)
        self.found.setdefault(native.id, native)
        return trial.named(native=native.id)

    def _native(self, trial: Trial, params: int) -> Trial:
        """Dense, of the nearest size, and trained for as many epochs as the compressed one has seen altogether."""
        recipe = trial.recipe
        model = recipe["model"]
        args = {key: value for key, value in model.items() if key not in ("name", "weights")}
        size = {**trial.size, "width": nearest_width(model["name"], args, params)}
        train = {**recipe["train"], "epochs": sum(trial.epochs)}
        changed = {"task": recipe["task"], "train": train}
        made = self._made(
            self._recipe(size, changed, [], trial.seed), size, {"name": NATIVE, "bits": 32}, trial.data, trial.seed
        )
        return made.named(role=NATIVE, rank=[*trial.rank[:-1], 2])


def _place(trial: Trial) -> tuple[Any, ...]:
    """What trials have in common that differ in nothing but the seed."""
    return trial.size, trial.level, trial.data
