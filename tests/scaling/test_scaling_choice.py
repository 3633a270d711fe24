"""Choice by extrapolation, the averaged law, and prediction intervals, on real points."""

from __future__ import annotations

import csv
import gzip
import json
import pathlib
from functools import cache

import numpy as np
import pytest
from law_runs import called, write_table

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling import Average, Law, PowerLaw, PowerLawFloor, select_law
from evaluate.scaling.fit.fitted import Edges
from evaluate.scaling.forms.form import kind_of
from evaluate.scaling.law import law_class
from evaluate.scaling.law_files import plain, restored
from evaluate.scaling.points.scale import Scale
from evaluate.scaling.select.pooling import form_of_sisters
from evaluate.scaling.select.selection import _candidates
from evaluate.scaling.uncertainty.prediction_interval import errors_of, half_block

POINTS = pathlib.Path(__file__).parents[2] / "studies" / "points"
FAST = ["power-floor", "m3"]
KEY = ("LM", "val_loss", "1.34e+08")


@cache
def curve(domain: str, task: str, model: str) -> tuple[np.ndarray, ...]:
    """x, y of the fitted points and of those beyond."""
    with gzip.open(POINTS / "learning_curves_dev.csv.gz", "rt", newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if (row["domain"], row["task"], row["model"]) == (domain, task, model)
        ]
    table = np.array([[float(row["x"]), float(row["loss"]), float(row["is_train"])] for row in rows])
    fitted, beyond = table[table[:, 2] == 1], table[table[:, 2] == 0]
    return fitted[:, 0], fitted[:, 1], beyond[:, 0], beyond[:, 1]


@cache
def averaged() -> Law:
    x, y, *_ = curve(*KEY)
    return select_law(x, y, candidates=FAST, bootstrap=10)


def gadre() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The five small runs of the paper and its two targets."""
    with (POINTS / "gadre2024_openlm_rpj.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    small = [
        "rpj-d=96_l=8_h=4-1.0", "rpj-d=512_l=8_h=4-1.0", "rpj-d=576_l=24_h=8-1.0", "rpj-d=1024_l=24_h=8-1.0",
        "rpj-d=96_l=8_h=4-16.0",
    ]  # fmt: skip
    targets = ["rpj-open_lm_1b-32.0", "rpj-open_lm_7b-1.0"]

    def columns(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        x = np.array([[float(rows[name]["N"]), float(rows[name]["D"])] for name in names])
        return x, np.array([float(rows[name]["loss_c4_val"]) for name in names])

    return (*columns(small), *columns(targets))


def test_five_small_runs_choose_the_tied_law_and_predict_the_large_ones() -> None:
    x, y, far_x, far_y = gadre()
    law = select_law(x, y, bootstrap=20, force=True)
    assert law.name == "chinchilla-tied"
    assert np.all(np.abs(law.predict(far_x) / far_y - 1) < 0.011)
    reasons = {entry["law"]: entry["why_not"] for entry in law.holdout_["candidates"]}
    assert "5 p" in reasons["chinchilla"]
    assert not reasons["chinchilla-tied"]


def test_a_curve_is_predicted_beyond_its_points() -> None:
    _, _, far_x, far_y = curve(*KEY)
    found, low, high = averaged().predict(far_x, interval=0.9)
    assert np.sqrt(np.mean(np.log(found / far_y) ** 2)) < 0.02
    assert np.all((low < found) & (found < high))
    assert np.mean((low <= far_y) & (far_y <= high)) > 0.8


def test_the_choice_tells_what_was_tried_and_why_not() -> None:
    found = averaged().holdout_
    assert {entry["law"] for entry in found["candidates"]} == set(FAST)
    assert all({"error", "weight", "aic", "bic", "why_not"} <= set(entry) for entry in found["candidates"])
    assert sum(entry["weight"] for entry in found["candidates"]) == pytest.approx(1)
    assert found["error"] > 0
    assert "held-out" in found["rule"] or "hold-out" in found["rule"]
    assert found["chosen"] == averaged().name


def test_the_choice_is_deterministic() -> None:
    x, y, far_x, _ = curve(*KEY)
    again = select_law(x, y, candidates=FAST, bootstrap=10)
    for one, other in zip(averaged().predict(far_x, interval=0.9), again.predict(far_x, interval=0.9), strict=True):
        assert np.array_equal(one, other)


def test_the_order_and_the_unit_of_points_change_nothing() -> None:
    x, y, far_x, _ = curve(*KEY)
    order = np.random.default_rng(1).permutation(len(x))
    other = select_law(x[order] * 1e-6, y[order], candidates=FAST, bootstrap=0)
    assert other.predict(far_x * 1e-6) == pytest.approx(averaged().predict(far_x), rel=2e-3)


def test_an_average_goes_through_json_and_comes_back() -> None:
    x, y, far_x, _ = curve(*KEY)
    law = Average(candidates=FAST, bootstrap=10).fit(x, y)
    back = Law.from_dict(json.loads(json.dumps(law.to_dict())))
    assert isinstance(back, Average)
    assert back.params_ == law.params_
    assert back.holdout_ == law.holdout_
    for one, other in zip(law.predict(far_x, interval=0.9), back.predict(far_x, interval=0.9), strict=True):
        assert other == pytest.approx(one, rel=1e-5)


def test_an_average_is_solved_for_a_target() -> None:
    x, y, *_ = curve(*KEY)
    law = Average(candidates=FAST, bootstrap=10).fit(x, y)
    target = float(law.predict([2 * x.max()])[0])
    assert law.solve(target).value == pytest.approx(2 * x.max(), rel=1e-6)


def test_shares_of_an_average_add_up_and_name_form_and_weighting() -> None:
    x, y, *_ = curve(*KEY)
    law = Average(candidates=FAST, bootstrap=0).fit(x, y)
    assert sum(law.params_.values()) == pytest.approx(1)
    assert all(name.split(", ")[0] in FAST for name in law.params_)
    assert all(low == high == law.params_[name] for name, (low, high) in law.intervals_.items())


def test_points_that_were_not_given_cannot_matter() -> None:
    """Weight 0 on the largest points is the same as leaving them out."""
    x, y, *_ = curve(*KEY)
    keep = x < np.sort(x)[-4]
    left_out = select_law(x[keep], y[keep], candidates=FAST, bootstrap=0)
    weighted = select_law(x, y, candidates=FAST, bootstrap=0, sample_weight=keep.astype(float))
    assert weighted.predict(x) == pytest.approx(left_out.predict(x), rel=1e-9)


def test_points_of_one_group_are_held_out_together() -> None:
    x, y, *_ = curve(*KEY)
    groups = np.arange(len(x)) // 4
    law = PowerLawFloor(bootstrap=0).fit(x, y, groups=groups)
    part = half_block(law.fitted_, 3)
    assert part is not None
    assert not set(law.data_.groups[part.held]) & set(law.data_.groups[part.kept])


def test_intervals_widen_with_the_share_and_the_distance() -> None:
    x, y, *_ = curve(*KEY)
    law = PowerLawFloor(bootstrap=20, force=True).fit(x, y)
    far = x.max() * np.array([1.0, 2.0, 8.0])
    widths = {share: np.subtract(*map(np.log, law.predict(far, interval=share)[:0:-1])) for share in (0.5, 0.9)}
    assert np.all(widths[0.9] > widths[0.5])
    assert np.all(np.diff(widths[0.9]) > 0)


def test_a_spread_goes_to_plain_data_and_back() -> None:
    law = averaged()
    assert restored(json.loads(json.dumps(plain(law.fitted_)))).errors == law.errors_


def test_few_points_take_the_law_with_fewest_parameters() -> None:
    x = np.array([1e3, 1e4, 1e5, 1e6])
    law = select_law(x, 2 * x**-0.3 * np.array([1.01, 0.99, 1.0, 1.01]), bootstrap=0, force=True)
    used = [entry["law"] for entry in law.holdout_["candidates"] if entry["weight"]]
    assert used == ["power"]
    assert "need 5 points" in next(e["why_not"] for e in law.holdout_["candidates"] if e["law"] == "m3")


@pytest.mark.parametrize(
    ("candidates", "told"),
    [(["m33"], "m3"), (["chinchilla"], "2 columns"), ([], "candidates"), ("m3", "candidates"), (["average"], "known")],
)
def test_candidates_that_do_not_suit_are_refused(candidates: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        select_law([1.0, 2.0, 4.0], [3.0, 2.0, 1.0], candidates=candidates)


def test_columns_whose_law_cannot_be_guessed_are_refused() -> None:
    with pytest.raises(UsageError, match="--law"):
        select_law(np.ones((9, 3)), np.ones(9))


def test_two_points_choose_nothing() -> None:
    with pytest.raises(DataError, match="2"):
        select_law([1.0, 2.0], [2.0, 1.0])


def test_a_law_says_how_it_predicts_its_largest_points() -> None:
    x, y, *_ = curve(*KEY)
    found = PowerLaw(bootstrap=0, force=True).fit(x, y).holdout_
    assert 0 < found["error"] < 0.1
    assert found["n"] == int(np.sum(x > x.max() / 2 * (1 + 1e-9)))


# Which end, which columns, and what goes on beyond the points.


def pruned(width: str, data: str) -> tuple[np.ndarray, np.ndarray]:
    """Density and test error of one network, pruned step by step, three seeds."""
    with (POINTS / "imp_mnist1d_mlp.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["width"], row["n_train"]) == (width, data)]
    table = np.array(sorted((float(row["density"]), float(row["test_err"])) for row in rows))
    return table[:, 0], table[:, 1]


@pytest.mark.parametrize("name", ["density", "sparsity"])
def test_a_density_brings_the_pruning_law_and_the_small_end_is_predicted_better_than_by_the_last_value(name):
    x, y = pruned("64", "4000")
    small = x < np.unique(x)[len(np.unique(x)) // 3]
    column = x if name == "density" else 1 - x
    law = select_law({name: column[~small]}, y[~small], end="low", bootstrap=2)
    entry = next(one for one in law.holdout_["candidates"] if one["law"] == "rosenfeld")
    assert entry["weight"] > 0 or "missed" in entry["why_not"]
    last = np.mean(y[x == x[~small].min()])
    found = law.predict({name: column[small]})
    assert np.mean(np.log(found / y[small]) ** 2) < np.mean(np.log(last / y[small]) ** 2)


@pytest.mark.parametrize(
    ("columns", "told"), [(("density", "depth"), "density and depth"), (("bits", "depth"), "bits and depth")]
)
def test_columns_that_no_law_is_known_for_are_refused_and_not_taken_for_size_and_data(columns, told):
    x = {name: np.geomspace(1, 9, 12) for name in columns}
    with pytest.raises(UsageError, match=f"{told} together.*--law"):
        select_law(x, np.linspace(1, 2, 12))


def test_density_and_width_bring_the_pruning_law_of_sizes_and_predict_a_width_left_out():
    with (POINTS / "imp_mnist1d_mlp.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["n_train"] == "2000"]
    density, width, y = (np.array([float(row[name]) for row in rows]) for name in ("density", "width", "test_err"))
    kept = width != 64
    law = select_law({"density": density[kept], "width": width[kept]}, y[kept], bootstrap=2)
    assert law.name == "rosenfeld" and "size^psi" in law.form_.formula
    found = law.predict({"density": density[~kept], "width": width[~kept]})
    assert float(np.sqrt(np.mean(np.log(found / y[~kept]) ** 2))) < 0.05
    sparse = select_law({"sparsity": 1 - density[kept], "width": width[kept]}, y[kept], bootstrap=2)
    np.testing.assert_allclose(
        sparse.predict({"sparsity": 1 - density[~kept], "width": width[~kept]}), found, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("columns", "law"),
    [
        (("sparsity", "N", "D"), "frantar"),
        (("N", "D", "bits"), "precision"),
        (("bits", "N", "D"), "capacity"),
        (("D", "N"), "chinchilla"),
    ],
)
def test_columns_bring_the_law_that_is_made_for_them(columns: tuple[str, ...], law: str) -> None:
    assert any(law in name for name in _candidates(columns, None))


def test_columns_that_say_what_they_are_may_come_in_any_order():
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(6, 9, 40), 10 ** rng.uniform(8, 11, 40)
    y = 1.7 + 400 / n**0.34 + 2000 / d**0.28
    straight, turned = (
        law_class("chinchilla")(bootstrap=0, force=True).fit(x, y) for x in ({"N": n, "D": d}, {"D": d, "N": n})
    )
    assert turned.variables == ("N", "D") and turned.params_ == straight.params_
    assert abs(turned.params_["alpha"] - 0.34) < 0.01
    unknown = law_class("chinchilla")(bootstrap=0, force=True).fit({"u": n, "v": d}, y)
    assert unknown.variables == ("u", "v")


def test_an_unseen_number_of_bits_is_predicted_by_what_it_resolves():
    n, d, bits = (a.ravel() for a in np.meshgrid([1e7, 1e8, 1e9], [1e9, 1e10], [1.0, 2, 3, 4, 8, 16]))
    law = law_class("capacity")(bootstrap=0, force=True)
    theta = np.array([1.7, 400.0, 2000.0, 0.34, 0.28, 0.06, 2.4])
    y = np.exp(kind_of("capacity").form.log_y(np.column_stack([n, d, bits]), theta))
    seen = bits != 3
    law.fit({"N": n[seen], "D": d[seen], "bits": bits[seen]}, y[seen])
    np.testing.assert_allclose(law.predict({"N": n[~seen], "D": d[~seen], "bits": bits[~seen]}), y[~seen], rtol=1e-3)


def test_a_law_stands_without_the_amount_of_data_and_says_so_where_it_never_varies():
    n, bits = (a.ravel() for a in np.meshgrid(np.geomspace(1e4, 1e8, 6), [2.0, 3, 4, 8]))
    theta = np.array([0.05, 30.0, 0.5, 0.06, 2.0])
    form = kind_of("capacity").form_for({"N": n, "bits": bits})
    assert form.formula.startswith("y = E + A / (N tanh(F r^C))^alpha, ") and form.variables == ("N", "bits")
    y = form.predict(np.column_stack([n, bits]), theta)
    law = select_law({"bits": bits, "N": n}, y, bootstrap=2)
    assert law.name == "capacity" and law.variables == ("N", "bits")
    np.testing.assert_allclose([law.params_[name] for name in form.names], theta, rtol=1e-3)
    with pytest.raises(DataError, match=r"D is 1e\+09 at all 24 points.*leave it out"):
        select_law({"N": n, "D": np.full_like(n, 1e9), "bits": bits}, y)
    with pytest.raises(UsageError, match="takes S, N, D, or S, N; x has 4 columns"):
        law_class("frantar")().fit(np.ones((9, 4)), np.arange(1.0, 10))


def test_what_is_large_in_both_columns_lies_beyond_though_it_is_in_the_range_of_each():
    n, d = np.array([1e6, 1e9, 1e6, 1e9]), np.array([1e8, 1e8, 1e11, 1e9])
    edges = Edges.of(np.column_stack([n, d]))
    assert edges.beyond(np.array([[1e9, 1e11]]))[0] == pytest.approx(np.log(1e4 / 1e2) / 2)
    assert edges.beyond(np.array([[1e6, 1e8], [1e7, 1e9]])).tolist() == [0.0, 0.0]
    assert Edges.of(n[:, None]).size == ()


def test_one_rehearsal_that_runs_off_does_not_widen_intervals_beyond_the_last_value():
    """Networks pruned step by step, of which one block of the smallest makes a steep fit."""
    x = np.geomspace(0.012, 0.21, 14)
    y = np.array([0.793, 0.774, 0.759, 0.732, 0.723, 0.684, 0.669, 0.653, 0.641, 0.618, 0.581, 0.547, 0.518, 0.488])
    law = select_law({"density": x}, y, end="high", bootstrap=20, force=True, scale=Scale(limit=1.0))
    model = errors_of(law.fitted_)
    assert model.drift < 0.4  # the last value misses some 0.3 an e-fold here


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize("end", ["high", "low"])
def test_what_fell_in_a_step_stays_at_its_level_and_its_file_knows_it(at, end):
    """No form passes near these points, so none goes on; nor is a run far too good by accident."""
    x, noise = np.geomspace(1e3, 1e5, 6), np.array([1.01, 0.99, 1.02, 1.0, 0.98, 1.01])
    y = np.where(np.arange(6) < at, 0.4, 0.1) * noise
    law = select_law({"params": x}, y, end=end, bootstrap=2)
    beyond, last = ([1e6, 1e7], y[-1]) if end == "high" else ([1e2, 3e2], y[0])
    assert law.predict({"params": beyond}) == pytest.approx([last, last], rel=0.05)
    everywhere = {"params": np.geomspace(1e2, 1e8, 13)}
    again = Law.from_dict(json.loads(json.dumps(law.to_dict())))
    np.testing.assert_array_equal(again.predict(everywhere), law.predict(everywhere))


def test_a_form_that_runs_off_beyond_a_cliff_stays_at_its_level():
    x, y = np.geomspace(1e4, 1e6, 8), np.array([0.4, 0.101, 0.102, 0.101, 0.1, 0.098, 0.1, 0.099])
    law = select_law({"params": x}, y, end="low", bootstrap=2)
    steep = next(member for member in law.form_.members if member.form.name == "power-floor")
    assert steep.stays == 1.0
    assert float(law.predict({"params": [1e3]})[0]) < 1.0
    lone = PowerLawFloor(bootstrap=0, force=True).fit({"params": x}, y)
    assert float(lone.predict({"params": [1e3]})[0]) > 1.0


def test_one_diverged_run_at_the_end_is_not_the_level():
    x = np.geomspace(1e3, 1e5, 8)
    y = 0.05 + 3 * x**-0.5
    y[-1] = 0.9
    law = select_law({"params": x}, y, bootstrap=2)
    assert float(law.predict({"params": [2e5]})[0]) == pytest.approx(0.05 + 3 * 2e5**-0.5, rel=0.1)


def test_downward_a_fit_may_go_on_half_as_steeply():
    """Networks pruned step by step (width 16): where held-out densities do not tell going on from staying."""
    with (POINTS / "imp_mnist1d_mlp.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["width"], row["n_train"]) == ("16", "2000")]
    density, error = (np.array([float(row[name]) for row in rows]) for name in ("density", "test_err"))
    law = select_law({"density": density}, error, end="low", bootstrap=2, force=True, scale=Scale(limit=1.0))
    assert any(0 < member.stays <= 0.5 for member in law.form_.members)
    assert float(law.predict({"density": [1e-4]})[0]) <= 1


def seeds_alike() -> tuple[np.ndarray, np.ndarray]:
    """Nine sizes of three seeds, with a noise of 20 %; the seeds of the largest have by chance the level below them."""
    x = np.repeat(np.geomspace(1e3, 1e6, 9), 3)
    y = (0.02 + 20 * x**-0.6) * np.exp(0.2 * np.random.default_rng(3).standard_normal(27))
    y[-3:] = np.exp(np.mean(np.log(y[-6:-3])))
    return x, y


def test_a_lucky_hold_out_of_noisy_seeds_does_not_take_all():
    law = select_law(*seeds_alike(), bootstrap=2)
    assert len({member.form.name for member in law.form_.members}) > 1
    assert max(member.weight for member in law.form_.members) < 0.5


# Curves of one study.


def sisters(exponents, seed: int = 0, noise: float = 0.03) -> list[tuple[np.ndarray, np.ndarray]]:
    """Curves of floors and heights of their own, with these exponents, over 7 sizes."""
    rng, x = np.random.default_rng(seed), np.geomspace(1e3, 1e5, 7)
    return [
        (x, (0.02 + 0.02 * i + (5 + i) * x**-c) * np.exp(noise * rng.standard_normal(7)))
        for i, c in enumerate(exponents)
    ]


def test_sisters_lend_their_exponent_to_a_curve_of_few_sizes():
    far = {"params": np.array([1e6, 1e7])}
    alone, helped = [], []
    for seed in range(6):
        curves = sisters([0.6, 0.61, 0.59, 0.6, 0.6], seed)
        x, y = curves[2][0][:4], curves[2][1][:4]
        truth = np.log(0.06 + 7 * far["params"] ** -0.59)
        others = [curve for i, curve in enumerate(curves) if i != 2]
        for errors, known in ((alone, ()), (helped, others)):
            law = select_law({"params": x}, y, bootstrap=2, sisters=known)
            errors.append(float(np.abs(np.log(law.predict(far)) - truth).mean()))
        assert any(member.form.given for member in law.form_.members)
    assert np.mean(helped) < 0.8 * np.mean(alone)


def test_the_exponent_is_shared_as_far_as_the_curves_are_alike():
    whole = (0.0, np.inf)
    curves = sisters([0.9, 0.6, 0.6, 0.6, 0.6], noise=0.03)
    own, shared = form_of_sisters(curves[:1] * 2, whole, "high"), form_of_sisters(curves, whole, "high")
    exact = form_of_sisters(sisters([0.9, 0.15, 0.3, 1.5, 0.5], noise=0.0), whole, "high")
    assert own is not None and shared is not None and exact is not None
    assert own.given["c"] < -1.0 and -0.7 < shared.given["c"] < -0.5  # badly told by its own points: the others decide
    assert exact.given["c"] == pytest.approx(-0.9, abs=0.03)  # well told, and unlike the others: its own
    assert form_of_sisters(curves[:1], whole, "high") is None


def test_an_average_with_a_shared_exponent_comes_back_from_its_file():
    curves = sisters([0.6, 0.6, 0.6])
    law = select_law({"params": curves[0][0][:4]}, curves[0][1][:4], bootstrap=4, sisters=curves[1:])
    again = Law.from_dict(json.loads(json.dumps(law.to_dict())))
    x = {"params": np.geomspace(1e2, 1e7, 9)}
    np.testing.assert_array_equal(again.predict(x), law.predict(x))
    assert [member.form.given for member in again.form_.members] == [m.form.given for m in law.form_.members]


def study(tmp_path) -> pathlib.Path:
    """A table of three levels, of which one has only four sizes."""
    curves = sisters([0.6, 0.6, 0.6])
    counts = (7, 7, 4)
    return write_table(
        tmp_path / "study.csv",
        {
            "params": np.concatenate([x[:count] for (x, _), count in zip(curves, counts, strict=True)]).tolist(),
            "error": np.concatenate([y[:count] for (_, y), count in zip(curves, counts, strict=True)]).tolist(),
            "level": np.repeat(["dense", "int8", "pruned"], counts).tolist(),
            "depth": list(range(1, 19)),
        },
    )


def test_the_other_curves_of_a_study_take_part_where_they_are_asked_to(tmp_path):
    path, asks = study(tmp_path), ("--x", "params", "--y", "error", "--bootstrap", "20", "--json")
    found, out, err = called("fit", path, *asks, "--where", "level=pruned", "--pool", "level")
    assert found == 0, err
    assert "the exponent of 2 other curves may take part (level dense, int8)" in err
    stored = json.loads(out)
    assert stored["points"]["pool"] == "level" and stored["n"] == 4
    assert any(one["law"] == "pooled" and one["error"] is not None for one in stored["holdout"]["candidates"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pool", "level"), 'add a condition, as --where "level=dense"'),
        (("--pool", "levle", "--where", "level=int8"), "level"),
        (("--pool", "level", "--where", "level=dense|int8|pruned"), "no other curve meets the conditions"),
        (("--pool", "level", "--where", "level=int8", "--law", "m3"), "it goes with --law auto"),
        (("--pool", "level", "--where", "level=int8", "--x", "depth"), "one variable"),
    ],
)
def test_what_cannot_be_pooled_is_said(tmp_path, options, said):
    found, _, err = called("fit", study(tmp_path), "--x", "params", "--y", "error", *options)
    assert found
    assert said in " ".join(err.split())


def test_no_points_are_refused_in_a_sentence():
    with pytest.raises(DataError, match="got 0 points"):
        select_law({"params": []}, [])


def test_two_sizes_tell_no_more_than_a_power_law():
    x, y = np.repeat([1e4, 1e6], 3), np.array([0.3, 0.31, 0.29, 0.1, 0.11, 0.102])
    law = select_law({"params": x}, y, bootstrap=2)
    assert law.name == "power"
    reasons = {one["law"]: one["why_not"] for one in law.holdout_["candidates"]}
    assert "need 3 sizes" in reasons["m3"]


def test_one_diverged_run_among_the_held_out_points_decides_nothing():
    x = np.geomspace(1e4, 1e7, 12)
    y = 0.05 + 2 * x**-0.35
    y[9] = 0.9
    law = select_law({"params": x}, y, bootstrap=2)
    np.testing.assert_allclose(law.predict({"params": [1e8]}), 0.05 + 2 * 1e8**-0.35, rtol=0.02)
