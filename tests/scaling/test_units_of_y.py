"""What people call their columns: accuracy and error, fractions and per cent, sparsity and density are one question."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from law_runs import called, write_table

from evaluate.core.errors import DataError, UsageError
from evaluate.scaling import PowerLaw, break_even
from evaluate.scaling.points.scale import PLAIN, Scale, y_scale

SIZES = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5]
CORRECT = [68.22, 74.06, 79.65, 83.04, 85.71, 88.16, 89.53, 90.73, 92.02]
WRONG = [round(100 - value, 2) for value in CORRECT]
SPARSITY = [0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98]
KEPT = [93.4, 93.5, 93.3, 92.9, 92.4, 90.8, 87.9, 80.1]


def asked(tmp_path, table, *options, code=0):
    path = write_table(tmp_path / "points.csv", table)
    found, out, err = called("fit", path, "--bootstrap", "20", "--json", *options)
    assert found == code, err
    return json.loads(out), err


@pytest.mark.parametrize("name", ["accuracy", "val_acc", "acc1", "mIoU", "r2", "test_auc", "top5", "f1", "mAP50"])
def test_a_metric_of_which_more_is_better_is_known_by_its_name(tmp_path, name):
    found, _ = asked(tmp_path, {"params": SIZES, name: CORRECT}, "--solve", "90")
    (answer,) = found["solve"]
    assert answer["reachable"] and 1e5 < answer["value"] < 2e5
    assert found["scale"] == {"higher": True, "top": 100.0, "unit": 100.0, "limit": 1.0}


def test_one_table_in_every_unit_has_one_answer(tmp_path):
    tables = {
        "per cent right": ({"params": SIZES, "acc": CORRECT}, "90"),
        "fraction right": ({"params": SIZES, "acc": [value / 100 for value in CORRECT]}, "0.9"),
        "per cent wrong": ({"params": SIZES, "error": WRONG}, "10"),
        "fraction wrong": ({"params": SIZES, "error": [value / 100 for value in WRONG]}, "0.1"),
        "by a formula": ({"params": SIZES, "acc1": CORRECT}, "0.1", "--y", "1 - acc1/100", "--x", "params"),
    }
    values = []
    for table, target, *options in tables.values():
        per_cent = {"90": "90%", "0.9": "90%"}.get(target, "10%")
        for asked_as in (target, target if options else per_cent):
            found, _ = asked(tmp_path, table, "--solve", asked_as, *options)
            values.append(found["solve"][0]["value"])
    assert values == pytest.approx([values[0]] * len(values), rel=1e-6)


def test_a_sparsity_keeps_its_dense_row_and_answers_as_the_density_does(tmp_path):
    sparse, _ = asked(tmp_path, {"sparsity": SPARSITY, "accuracy": KEPT}, "--solve", "92")
    per_cent, _ = asked(tmp_path, {"sparsity": [100 * value for value in SPARSITY], "accuracy": KEPT}, "--solve", "92%")
    dense, _ = asked(tmp_path, {"density": [1 - value for value in SPARSITY], "accuracy": KEPT}, "--solve", "92")
    assert sparse["n"] == dense["n"] == len(SPARSITY)
    value = sparse["solve"][0]["value"]
    assert 0.8 <= value <= 0.9
    assert 1 - dense["solve"][0]["value"] == pytest.approx(value, rel=1e-6)
    assert per_cent["solve"][0]["value"] == pytest.approx(100 * value, rel=1e-6)


def test_what_is_to_be_kept_is_of_the_dense_model(tmp_path):
    table = {"sparsity": SPARSITY, "accuracy": KEPT}
    found, err = asked(tmp_path, table, "--keep", "98%", "--keep", "0.98", "--drop", "1")
    assert "keep 98% of the dense model with accuracy 93.4: accuracy 91.53" in err
    first, second, drop = found["solve"]
    assert first["target"] == second["target"] == pytest.approx(0.98 * 93.4) and drop["target"] == pytest.approx(92.4)
    assert first["asked"] == "keep 98% of the dense model"
    assert drop["value"] == pytest.approx(0.8, abs=0.03)
    lost, _ = asked(tmp_path, {"sparsity": SPARSITY, "error": [100 - y for y in KEPT]}, "--keep", "98%", "--drop", "1")
    assert [one["value"] for one in lost["solve"]] == pytest.approx([first["value"], drop["value"]], rel=1e-6)


def test_a_y_without_a_known_name_that_rises_within_0_and_1_is_taken_as_better_and_said(tmp_path):
    table = {"params": SIZES, "score": [value / 100 for value in CORRECT]}
    found, _ = asked(tmp_path, table, "--solve", "0.9", "--y", "score")
    assert 1e5 < found["solve"][0]["value"] < 2e5
    assert any("so more of it is taken as better" in text for text in found["points"]["problems"])
    found, _ = asked(tmp_path, table, "--solve", "0.9", "--y", "score", "--lower-is-better", "--force")
    assert "scale" not in found


@pytest.mark.parametrize(
    ("name", "y", "higher", "expected"),
    [
        ("loss", [3, 2, 1.5, 1.2, 1.1], None, PLAIN),
        ("latency_ms", [0.1, 0.2, 0.4, 0.7, 0.9], False, PLAIN),
        ("top1_err", [0.5, 0.4, 0.3, 0.2, 0.1], None, Scale(False, 1, 1, 1)),
        ("error", [50, 20, 9, 2, 0.8], None, Scale(False, 100, 100, 1)),
        ("anything", [0.5, 0.6, 0.7, 0.8, 0.9], True, Scale(True, 1, 1, 1)),
    ],
)  # fmt: skip
def test_the_unit_of_y_by_name_and_values(name, y, higher, expected):
    assert y_scale(name, np.array(y, dtype=float), np.arange(1.0, len(y) + 1), higher) == (expected, "")


def test_fractions_and_per_cent_in_one_column_are_refused(tmp_path):
    table = {"params": SIZES[:6], "error": [0.3, 0.25, 0.2, 15, 12, 11]}
    _, err = asked(tmp_path, table, "--solve", "0.1", code=5)
    assert "at most 0.3 in 3 rows and at least 11 in 3: some are fractions and some per cent" in err
    with pytest.raises(DataError, match="some are fractions"):
        y_scale("acc", np.array([0.9, 91, 92]), None, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--solve", "92"), "below 1, got 92; 92 % is 0.92 here"),
        (("--solve", "92 apples"), "a target is a valid number"),
        (("--keep", "much"), "a valid number"),
        (("--solve", "-2e-1"), "--solve takes a positive value"),
        (("--keep", "120%"), "--keep takes a share such as 98%"),
        (("--drop", "-1"), "--drop takes how many points"),
        (("--y", "1 - acuracy", "--solve", "1"), "did you mean 'accuracy'"),
    ],
)
def test_a_target_that_cannot_be_is_one_error_with_the_way_out(tmp_path, options, words):
    table = {"params": SIZES, "accuracy": [value / 100 for value in CORRECT]}
    found, _ = asked(tmp_path, table, *options, code=2)
    assert words in found["error"]["message"]


@pytest.mark.parametrize("text", ["2e-1", "0.2", " 20% ", "2E1 %"])
def test_a_target_is_read_as_numbers_are(text):
    assert Scale(False, 1, 1, 1).read(text) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("params;error\n1000;0,30\n10000;0,20\n100000;0,15\n1000000;0,12\n", "'0,30' in column 'error'"),
        ('params,error\n"1,000",.3\n"10,000",.2\n"100,000",.15\n"1,000,000",.12\n', "write 1000"),
        ("params,error\n1.2M,0.1\n7M,0.08\n70M,0.07\n300M,0.065\n", "write 1200000"),
    ],
)
def test_numbers_in_another_notation_are_named_though_no_column_is(tmp_path, table, words):
    path = tmp_path / "points.csv"
    path.write_text(table)
    code, _, err = called("fit", path)
    assert code == 5 and words in err


def test_a_share_of_what_is_no_rate_is_refused():
    for ask in (lambda: PLAIN.kept(0.9, 2.0), lambda: PLAIN.read("90%")):
        with pytest.raises(UsageError, match="rate"):
            ask()
    assert PLAIN.dropped(0.5, 2.0) == 2.5


def test_a_perfect_score_is_left_out_and_said(tmp_path):
    found, _ = asked(tmp_path, {"params": [*SIZES, 1e6], "acc": [*CORRECT, 100]}, "--solve", "90")
    assert found["n"] == len(SIZES)
    assert any("acc is not between 0 and below 100 in line 11" in text for text in found["points"]["problems"])


def test_the_table_shows_per_cent_as_they_stand_and_says_what_is_fitted(tmp_path):
    path = write_table(tmp_path / "points.csv", {"params": SIZES, "val_acc": CORRECT})
    code, out, _ = called("fit", path, "--solve", "90", "--out", tmp_path / "law.json", "--bootstrap", "20")
    words = " ".join(out.split())
    assert code == 0 and "params for val_acc 90 %:" in words and "fitted as (100 - val_acc) / 100" in words
    code, out, _ = called("predict", tmp_path / "law.json", "--x", "params=1e5")
    assert code == 0 and re.search(r"val_acc, %.*100 k +89\.\d+ % +89\.\d+ % to 89\.\d+ %", out, re.S)
    code, out, _ = called("predict", tmp_path / "law.json", "--solve", "90%", "--json")
    assert code == 0 and 1e5 < json.loads(out)["solve"][0]["value"] < 2e5


def test_where_two_curves_of_accuracy_cross_is_told_in_accuracy():
    x = np.geomspace(1e3, 1e6, 12)
    laws = [
        (PowerLaw(bootstrap=20, force=True, scale=scale).fit({"params": x}, values(y)))
        for scale, values in ((Scale(), lambda y: y), (Scale(True, 100.0, 100.0, 1.0), lambda y: 100 * (1 - y)))
        for y in (2 * x**-0.3, 0.5 * x**-0.15)
    ]
    error, accuracy = break_even(laws[0], laws[1]), break_even(laws[2], laws[3])
    assert accuracy.value == pytest.approx(error.value, rel=1e-6)
    assert accuracy.y == pytest.approx(100 * (1 - error.y), rel=1e-6) and accuracy.below == error.below
