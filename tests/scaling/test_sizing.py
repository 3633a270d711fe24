"""The smallest model that keeps a target: chances, the envelope over families, the next model, and what is refused."""

from __future__ import annotations

import csv
import math
import pathlib

import numpy as np
import pytest

from evaluate.core.errors import DataError, UsageError
from evaluate.report.messages.sizing_messages import next_sentence, sizing_sentence, sizing_table
from evaluate.scaling.points.scale import PLAIN, Scale
from evaluate.scaling.query.sizing import Sizing, families_of, sizing

POINTS = pathlib.Path(__file__).parents[2] / "studies" / "points"
PER_CENT = Scale(True, 100.0, 100.0, 1.0)
WIDTHS = np.array([1e3, 3e3, 1e4, 3e4, 1e5])


def two_families(seeds: int = 3, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Dense models, and int8 ones of a quarter of the cost that miss a tenth more; `seeds` of each."""
    rng = np.random.default_rng(0)
    costs = np.repeat(WIDTHS, seeds)
    error = 0.02 + 20 * costs**-0.7
    costs, y = np.concatenate([costs, costs / 4]), np.concatenate([error, 1.1 * error])
    names = ["dense"] * len(error) + ["int8"] * len(error)
    return costs, y * np.exp(noise * rng.standard_normal(len(y))), names


def imp() -> tuple[np.ndarray, np.ndarray, list[str]]:
    with (POINTS / "imp_mnist1d_mlp.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["n_train"] == "2000"]
    names = [f"width {row['width']}" for row in rows]
    return (
        np.array([float(row["params_nonzero"]) for row in rows]),
        np.array([float(row["test_err"]) for row in rows]),
        names,
    )


@pytest.mark.parametrize("points", [two_families(), imp()], ids=["two families", "pruned"])
def test_the_answer_is_the_cheapest_with_that_chance_and_lies_where_points_keep_it(points):
    costs, y, names = points
    for target, confidence in zip(np.quantile(y, [0.1, 0.3, 0.5, 0.8]), (0.9, 0.5, 0.98, 0.9), strict=True):
        found = sizing(costs, y, names, float(target), confidence=confidence)
        best = found.best
        if best is None:
            assert found.elsewhere < confidence and all(one.chance < confidence for one in found.options)
            continue
        assert best.chance >= confidence > found.elsewhere
        assert all(one.chance < confidence for one in found.options if one.cost < best.cost)
        own = np.array([name == best.family for name in names])
        assert costs[own].min() <= best.cost <= costs[own].max()
        larger = own & (costs >= best.cost / 1.02)
        assert y[larger].min() <= target, "no point of that family and size, or a larger one, keeps it"


def test_chances_rise_with_the_target_and_the_envelope_only_rises():
    costs, y, names = imp()
    low, high = (sizing(costs, y, names, target) for target in (0.5, 0.55))
    chance = {(one.family, one.cost): one.chance for one in low.options if one.measured}
    assert all(one.chance >= chance[one.family, one.cost] for one in high.options if one.measured)
    enveloped = [one.chance for one in low.options if one.enveloped]
    assert enveloped == sorted(set(enveloped)) and [one.cost for one in low.options] == sorted(
        one.cost for one in low.options
    )


def test_the_cheaper_family_is_taken():
    found = sizing(*two_families(), 0.06)
    assert (
        found.best is not None
        and found.best.family == "int8"
        and {one.family for one in found.options} == {"int8", "dense"}
    )


@pytest.mark.parametrize("change", ["order", "unit of cost", "accuracy in per cent"])
def test_the_same_table_in_other_clothes_has_the_same_answer(change):
    costs, y, names = two_families()
    before = sizing(costs, y, names, 0.06)
    if change == "order":
        order = np.random.default_rng(3).permutation(len(y))
        after = sizing(costs[order], y[order], [names[i] for i in order], 0.06)
    elif change == "unit of cost":
        after = sizing(costs * 1000, y, names, 0.06)
    else:
        after = sizing(costs, 100 * (1 - y), names, 94.0, scale=PER_CENT)
    factor = 1000 if change == "unit of cost" else 1
    assert before.best is not None and after.best is not None
    assert after.best.family == before.best.family
    assert after.best.cost == pytest.approx(factor * before.best.cost, rel=1e-6)
    assert after.best.chance == pytest.approx(before.best.chance, abs=1e-6)


def test_seeds_of_nearly_one_size_are_one_model():
    costs, y, names = two_families()
    wobbly = costs * np.random.default_rng(1).uniform(0.996, 1.004, len(costs))
    found = sizing(wobbly, y, names, 0.06)
    assert {one.measured for one in found.options} <= {3, 0}
    assert sum(one.measured for one in found.options) == len(y)


def test_where_noise_is_greater_chances_are_nearer_to_even():
    rng = np.random.default_rng(5)
    costs = np.repeat(np.geomspace(1e3, 1e6, 12), 4)
    noise = np.where(costs < 3e4, 0.3, 0.01)
    y = 5 * costs**-0.4 * np.exp(noise * rng.standard_normal(len(costs)))
    (family,), _ = families_of(costs, y, ["one"] * len(y))
    assert family.noise[0][0] > 5 * family.noise[0][-1]
    for cost in (2e3, 5e5):
        goal = math.exp(float(family.curve(np.array([cost]))[0])) * 1.05
        chance = float(family.chance(np.array([cost]), goal)[0])
        assert (chance < 0.65) if cost < 3e4 else (chance > 0.95)


def test_without_repeats_the_noise_is_a_guess_and_that_is_said():
    costs, y, names = two_families(seeds=1)
    assert any("trained several times" in one for one in sizing(costs, y, names, 0.06).problems)
    few = sizing(costs[:3], y[:3], names[:3], 0.1)
    assert any("assumed" in one for one in few.problems)


def test_out_of_reach_tells_the_nearest_and_the_size_that_a_law_has_for_it():
    costs, y, names = two_families()
    found = sizing(costs, y, names, 0.0225)
    assert found.best is None and found.following is not None
    assert found.following.law and found.following.cost > costs.max() / 4
    told = sizing_sentence(found, "error", PLAIN)
    assert told.startswith("no model keeps") and "comes nearest" in told and next_sentence(found)
    never = sizing(costs, y, names, 0.001)
    assert never.best is None and any("no law" in one for one in never.problems) == (never.following is None)


def test_a_target_that_the_smallest_keeps_asks_for_a_smaller_one():
    costs, y, names = two_families()
    found = sizing(costs, y, names, 0.9)
    assert found.best is not None and found.best.cost == pytest.approx(costs.min())
    assert "none smaller was measured" in sizing_sentence(found, "error", PLAIN)
    assert found.following is not None and found.following.law and found.following.cost < costs.min()


def test_the_next_model_is_cheaper_than_the_best_and_worth_its_training():
    found = sizing(*imp(), 0.5)
    assert found.best is not None and found.following is not None
    assert found.following.cost < found.best.cost and found.following.chance > 0.05
    assert found.following.saves == pytest.approx(1 - found.following.cost / found.best.cost)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"confidence": 1.0}, UsageError, "confidence"),
        ({"target": -0.1}, UsageError, "cannot be reached"),
        ({"costs": np.array([1.0, 0.0, 3.0])}, DataError, "not positive"),
        ({"y": np.array([0.1, 0.0, 0.3])}, DataError, "best there can be"),
    ],
)
def test_what_cannot_be_is_refused(change, error, told):
    given = {"costs": np.array([1.0, 2.0, 3.0]), "y": np.array([0.3, 0.2, 0.1]), "target": 0.2, **change}
    with pytest.raises(error, match=told):
        sizing(given["costs"], given["y"], ["a"] * 3, given["target"], confidence=given.get("confidence", 0.9))


def test_the_table_fits_its_width_and_holds_the_answer():
    found: Sizing = sizing(*imp(), 0.5, cost="params")
    for width in (40, 80, 100):
        lines = sizing_table(found, "test_err", PLAIN, "keep 98% of the dense model", width).splitlines()
        assert max(map(len, lines)) <= width and "measure next" in "\n".join(lines)
