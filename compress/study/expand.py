"""From a study to its trials: sizes x levels x seeds, the further axes of data and training, and the native models.

Which trial comes first? A law can be fitted as soon as the ends of every axis are known, and gets better by what lies
between. So the first seed of everything comes before the second seed of anything; within a seed the extremes come first
(smallest and largest size, dense and the strongest and mildest level, least and most data), then what halves the gaps
between them, and so on; of equally useful trials the cheaper one, and each native model right after the compressed
model it is compared with. Whenever a study is cut off, its Records span the whole range, and evenly.

A native model is the dense one of the same family whose params come nearest to those of a compressed model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from compress.core.files import canonical_json
from compress.core.registries import PASSES
from compress.study.spec import DENSE, Point, Study, TrialRecipe, expand, fits, passes_of, variants
from compress.study.study_checks import apply_point
from compress.study.trial import Trial, identify, own_files, stage_epochs

NATIVE = "native"
PARTS = 64  # a width that is a multiplier is searched in such parts of the large model's
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

    def resolve(self, trial: Trial, params: int) -> None:
        """Add the native models of a compressed trial that has `params`, now that it is known: one for each seed."""
        alike = [t for t in self.found.values() if t.pending and _place(t) == _place(trial)]
        for other in alike:
            self.found[other.id] = self._with_native(other.named(pending=False), params)

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
        pending = self.study.native and bool(recipe.passes) and target is None
        order = 1 if recipe.passes else 0
        return trial.named(role=role, target=target, pending=pending, rank=[*rank, order])

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


def tiers(count: int) -> list[int]:
    """For each of `count` places in a row, how early it is wanted: the ends 0, the middle 1, the quarters 2, ..."""
    found = [0] * count
    gaps: Sequence[tuple[int, int]] = [(0, count - 1)]
    tier = 1
    while gaps:
        halves = []
        for low, high in gaps:
            if high - low > 1:
                middle = (low + high) // 2
                found[middle] = tier
                halves += [(low, middle), (middle, high)]
        gaps, tier = halves, tier + 1
    return found


def params_of(name: str, args: Mapping[str, Any]) -> int:
    """Parameters of a registered model, counted on torch's meta device: nothing is allocated or initialised.

    Raises ModelError or RecipeError where the arguments do not go together.
    """
    return _params(name, canonical_json(dict(args)))


@lru_cache(maxsize=4096)
def _params(name: str, args: str) -> int:
    import torch

    from compress.graph.sizes import count_params
    from compress.models import build_model

    with torch.device("meta"):
        return count_params(build_model(name, **json.loads(args)))


def expected_params(passes: Sequence[Any], params: int) -> int | None:
    """Params after these passes (`PassStep`s) on a model of so many; None where only a run can tell.

    One that reshapes may say it by its target (`keep.params_of`); what a pass of the user's own does is seen in a run.
    """
    now = params
    for step in passes:
        component = PASSES.get(step.kind)
        if component.address == component.name and not component.facts["traits"].reshapes:
            continue
        target = getattr(getattr(step.config, "keep", None), "params_of", None)
        kept = target(params) if target is not None else None
        if kept is None:
            return None
        now = min(now, kept)
    return now


def nearest_width(name: str, args: Mapping[str, Any], target: int) -> int | float:
    """The width up to that of `args` at which the model's params come nearest to `target`, in ratio.

    Params grow with the width, so halving finds the two widths around the target.
    """
    width = args["width"]
    parts = width if isinstance(width, int) else PARTS

    def at(n: int) -> int | float:
        return n if isinstance(width, int) else round(width * n / PARTS, 6)

    low, high = 1, max(parts, 1)
    while high - low > 1:
        middle = (low + high) // 2
        inside = params_of(name, {**args, "width": at(middle)}) <= target
        low, high = (middle, high) if inside else (low, middle)
    return min((at(low), at(high)), key=lambda w: abs(params_of(name, {**args, "width": w}) / target - 1))
