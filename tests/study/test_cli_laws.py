"""`leanfit fit` and `leanfit predict`: from points to a law, its file, and back; and what is said when that fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from law_runs import PUBLISHED, QUICK, called, write_table

from evaluate.core.errors import ArtifactError
from evaluate.scaling import Chinchilla
from evaluate.scaling.law import load_law, read_law, write_law

STABLE = ["law", "variables", "params", "intervals", "objective", "holdout", "warnings", "solve"]


@pytest.fixture(scope="module")
def curve(tmp_path_factory) -> Path:
    """error = 0.05 + 9 params^-0.5 with 1 % noise, twelve sizes and two seeds of role dense; native is worse."""
    rng = np.random.default_rng(0)
    params = np.repeat(np.geomspace(1e3, 1e6, 12), 2).round()
    error = (0.05 + 9 * params**-0.5) * np.exp(0.01 * rng.standard_normal(24))
    native = (0.05 + 5 * params**-0.42) * np.exp(0.01 * rng.standard_normal(24))
    columns = {
        "params": [*params, *params], "error": [*error, *native], "seed": [0, 1] * 24,
        "role": ["dense"] * 24 + ["native"] * 24,
    }  # fmt: skip
    return write_table(tmp_path_factory.mktemp("curve") / "points.csv", columns)


@pytest.fixture(scope="module")
def plane(tmp_path_factory) -> Path:
    """Chinchilla's law on a grid of sizes and data, with 0.5 % noise."""
    rng = np.random.default_rng(1)
    n, d = (side.ravel() for side in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)))
    loss = (1.8 + 480 * n**-0.35 + 2100 * d**-0.37) * np.exp(0.005 * rng.standard_normal(36))
    return write_table(tmp_path_factory.mktemp("plane") / "points.csv", {"N": n, "D": d, "loss": loss})


@pytest.fixture(scope="module")
def fitted(curve) -> tuple[Path, dict, str]:
    """A law's file, what --json printed, and stderr."""
    out = curve.with_name("law.json")
    arguments = ("--x", "params", "--y", "error", "--law", "power-floor", "--where", "role=dense", "--solve", "0.08")
    code, printed, err = called("fit", curve, *arguments, *QUICK, "--out", out, "--json")
    assert code == 0, err
    return out, json.loads(printed), err


@pytest.mark.parametrize("columns", [("params", "level"), ("level", "params")])
def test_sizes_with_levels_bring_the_worth_of_each_level_in_either_order(columns, tmp_path):
    n, level = (side.ravel() for side in np.meshgrid(np.geomspace(1e3, 1e7, 8), [0, 1, 2]))
    worth = np.array([1.0, 0.8, 0.3])[level.astype(int)]
    error = 0.02 + 9 * (n * worth) ** -0.5
    names = np.array(["dense", "int8", "int4"])[level.astype(int)]
    table = write_table(tmp_path / "points.csv", {"level": names, "params": n, "error": error})
    given = [text for name in columns for text in ("--x", name)]
    code, printed, err = called("fit", table, *given, "--y", "error", *QUICK, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert (found["law"], found["variables"]) == ("effective", ["params", "level"])
    np.testing.assert_allclose([found["params"][f"eff({name})"] for name in ("int8", "int4")], [0.8, 0.3], rtol=0.01)


def test_json_is_one_object_with_stable_names(fitted):
    _, found, _ = fitted
    assert [name for name in STABLE if name not in found] == []
    assert (found["law"], found["variables"], found["target"]) == ("power-floor", ["params"], "error")
    assert set(found["intervals"]) == set(found["params"])
    (answer,) = found["solve"]
    np.testing.assert_allclose(answer["value"], (9 / 0.03) ** 2, rtol=0.2)
    assert answer["low"] <= answer["value"] <= answer["high"]
    assert found["points"]["n"] == 24


def test_the_law_file_is_what_was_printed_and_predicts(fitted):
    path, found, _ = fitted
    law, stored = read_law(path)
    assert stored == found
    assert law.params_ == found["params"]
    again = path.with_name("again.json")
    write_law(again, law)
    np.testing.assert_array_equal(load_law(again).predict([1e4, 1e5]), law.predict([1e4, 1e5]))


def test_predict_gives_the_law_its_interval_and_how_far_beyond(fitted):
    path, _, _ = fitted
    code, printed, err = called("predict", path, "--x", "params=1e4,1e5,1e8", "--json")
    assert code == 0, err
    rows = json.loads(printed)["predictions"]
    law = load_law(path)
    np.testing.assert_allclose([row["y"] for row in rows], law.predict([1e4, 1e5, 1e8]), rtol=1e-12)
    assert all(row["low"] < row["y"] < row["high"] for row in rows)
    assert [row["beyond"] for row in rows] == [1, 1, pytest.approx(100)]
    assert any(text.startswith("params") and "past the points" in text for text in json.loads(printed)["warnings"])
    wide = json.loads(called("predict", path, "--x", "params=1e5", "--interval", "0.99", "--json")[1])["predictions"][0]
    assert wide["low"] <= rows[1]["low"] and rows[1]["high"] <= wide["high"]


def test_predict_prints_a_table(fitted):
    code, printed, err = called("predict", fitted[0], "--x", "params=1e5,1e8")
    assert code == 0, err
    head, inside, outside = printed.splitlines()
    assert head.split() == ["params", "error", "90", "%", "interval"]
    assert "beyond" not in inside
    assert "100 times beyond the points" in outside


def test_predict_along_a_file_names_its_rows(fitted, tmp_path):
    file = write_table(tmp_path / "new.csv", {"params": [1e4, 0, 1e5], "note": ["a", "b", "c"]})
    code, printed, err = called("predict", fitted[0], "--points", file, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert [row["row"] for row in found["predictions"]] == ["line 2", "line 4"]
    assert "1 of 3 rows were left out: params is not positive in line 3" in found["warnings"]


def test_solve_and_predict_are_inverse(fitted):
    path = fitted[0]
    code, printed, err = called("predict", path, "--solve", "0.08", "--solve", "0.1", "--json")
    assert code == 0, err
    answers = json.loads(printed)["solve"]
    sizes = ",".join(repr(answer["value"]) for answer in answers)
    rows = json.loads(called("predict", path, "--x", f"params={sizes}", "--json")[1])["predictions"]
    np.testing.assert_allclose([row["y"] for row in rows], [0.08, 0.1], rtol=1e-6)


def test_below_the_floor_is_out_of_reach(fitted):
    code, printed, err = called("predict", fitted[0], "--solve", "0.02")
    assert code == 0, err
    assert "out of reach" in printed
    assert "floor" in printed


def test_fit_prints_the_law_and_the_answers(curve):
    arguments = ("--where", "role=dense", "--law", "power-floor", "--solve", "0.08", "--solve", "0.01")
    code, printed, err = called("fit", curve, *arguments, *QUICK)
    assert code == 0, err
    assert "fitting error along params (--x and --y name others)" in err
    assert "power-floor" in printed
    assert "params for error 8 %" in printed
    assert "out of reach" in printed


def test_auto_says_what_it_chose(curve):
    code, printed, err = called("fit", curve, "--where", "role=dense,seed=0", *QUICK, "--json")
    assert code == 0, err
    found = json.loads(printed)
    law = load_law_of(found)
    truth = 0.05 + 9 * np.geomspace(2e3, 5e5, 5) ** -0.5
    np.testing.assert_allclose(law.predict(np.geomspace(2e3, 5e5, 5)), truth, rtol=0.03)
    assert found["holdout"]


def load_law_of(found: dict):
    from evaluate.scaling import Law

    return Law.from_dict(found)


def test_two_curves_have_a_break_even(curve):
    arguments = ("--where", "role=dense", "--against", "role=native", "--law", "power-floor")
    code, printed, err = called("fit", curve, *arguments, *QUICK, "--json")
    assert code == 0, err
    found = json.loads(printed)["break_even"]
    assert found["against"] == "role=native"
    assert found["variable"] == "params"
    np.testing.assert_allclose(found["value"], (9 / 5) ** (1 / 0.08), rtol=0.4)
    assert found["low"] <= found["value"] <= found["high"]


def test_the_best_split_of_a_budget(plane):
    arguments = ("--x", "N", "--x", "D", "--y", "loss", "--law", "chinchilla", "--compute", "6*N*D", "--budget", "1e21")
    code, printed, err = called("fit", plane, *arguments, *QUICK, "--json")
    assert code == 0, err
    found = json.loads(printed)
    params, split = found["params"], found["optimum"]
    assert split["compute"] == "6*N*D"
    a, b = params["alpha"], params["beta"]
    best = (a * params["A"] / (b * params["B"])) ** (1 / (a + b)) * (1e21 / 6) ** (b / (a + b))
    np.testing.assert_allclose(split["values"]["N"], best, rtol=1e-3)
    np.testing.assert_allclose(6 * split["values"]["N"] * split["values"]["D"], 1e21, rtol=1e-6)
    assert split["low"]["N"] <= best <= split["high"]["N"]


def test_variables_take_columns_of_other_names_and_values(plane):
    text = plane.read_text().replace("N,D,loss", "size,tokens,loss")
    other = plane.with_name("other.csv")
    other.write_text(text)
    arguments = ("--x", "N=size", "--x", "D=tokens", "--y", "loss", "--law", "chinchilla")
    out = plane.with_name("law.json")
    code, printed, err = called("fit", other, *arguments, *QUICK, "--out", out, "--set-param", "E=1.8", "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert found["variables"] == ["N", "D"]
    assert found["params"]["E"] == 1.8
    code, printed, err = called("predict", out, "--solve", "2.5", "--x", "D=1e11", "--json")
    assert code == 0, err
    (answer,) = json.loads(printed)["solve"]
    assert (answer["variable"], answer["given"]) == ("N", {"D": 1e11})


def test_files_and_pictures_are_written(curve, tmp_path):
    places = {name: tmp_path / name for name in ("law.json", "law.html", "law.svg", "law.png")}
    arguments = ("--where", "role=dense", "--law", "power-floor")
    written = ("--out", places["law.json"], "--page", places["law.html"], "--picture", places["law.svg"])
    code, _, err = called("fit", curve, *arguments, *QUICK, *written)
    assert code == 0, err
    assert places["law.svg"].read_text().lstrip().startswith("<")
    assert "<svg" in places["law.html"].read_text()
    assert not set(tmp_path.iterdir()) - set(places.values())


def test_the_laws_are_listed():
    code, printed, _ = called("fit", "--law", "list")
    assert code == 0
    lines = printed.splitlines()
    assert any(line.startswith("chinchilla ") and "E + A / N^alpha + B / D^beta" in line for line in lines)
    code, printed, _ = called("fit", "--law", "list", "--json")
    names = [law["name"] for law in json.loads(printed)["laws"]]
    assert {"power", "power-floor", "chinchilla", "rosenfeld", "frantar", "average"} <= set(names)


def test_a_sparsity_of_zero_is_a_point(tmp_path):
    names = ("--x", "S=sparsity", "--x", "N=N_nonzero", "--x", "D", "--y", "val_loss", "--law", "frantar", "--force")
    code, printed, err = called("fit", PUBLISHED / "frantar2023_t5_c4_sparsity.csv", *names, *QUICK, "--json")
    assert code == 0, err
    assert json.loads(printed)["points"]["n"] == 48


def test_levels_are_names_with_an_efficiency_each(tmp_path):
    path, out = PUBLISHED / "quest_qat_scaling.csv", tmp_path / "law.json"
    names = ("--x", "N", "--x", "D", "--x", "level=grp", "--y", "loss", "--law", "effective")
    code, printed, err = called(
        "fit",
        path,
        *names,
        "--reference",
        "16",
        "--where",
        "grp=16|4|2|2NOH",
        *QUICK,
        "--force",
        "--out",
        out,
        "--json",
    )
    assert code == 0, err
    found = json.loads(printed)
    assert found["points"]["n"] == 36
    assert 1 > found["params"]["eff(4)"] > found["params"]["eff(2)"] > found["params"]["eff(2NOH)"]
    arguments = ("--x", "N=1e8", "--x", "D=1e10", "--x", "level=16,4,2NOH")
    code, printed, err = called("predict", out, *arguments, "--json")
    assert code == 0, err
    rows = json.loads(printed)["predictions"]
    assert [row["x"]["level"] for row in rows] == ["16", "4", "2NOH"]
    assert rows[0]["y"] < rows[2]["y"]
    code, printed, err = called("predict", out, "--points", path, "--where", "grp=4|2", "--json")
    assert code == 0, err
    score = json.loads(printed)["score"]
    assert (score["n"], score["rmsle"] < 0.1) == (26, True)
    assert "no column 'level'" in called("predict", out, "--points", PUBLISHED / "gadre2024_openlm_rpj.csv")[2]
    code, printed, err = called("predict", out, "--solve", "3.2", "--x", "D=1e10", "--x", "level=4")
    assert code == 0, err
    assert "N for loss 3.2" in printed


def test_an_exponent_that_cannot_be_told_is_6_unless_forced(tmp_path):
    n = np.geomspace(1e6, 1e9, 20)
    noise = np.exp(0.01 * np.random.default_rng(2).standard_normal(20))
    loss = (1.8 + 400 * n**-0.34 + 410 * (20 * n) ** -0.28) * noise
    path = write_table(tmp_path / "ray.csv", {"N": n, "D": 20 * n, "loss": loss})
    arguments = ("--x", "N,D", "--y", "loss", "--law", "chinchilla", *QUICK, "--json")
    code, printed, err = called("fit", path, *arguments)
    assert code == 6
    assert json.loads(printed)["error"]["exit_code"] == 6
    assert "--force" in err or "force" in err
    code, printed, err = called("fit", path, *arguments, "--force")
    assert code == 0, err
    assert json.loads(printed)["warnings"]


WRONG = {
    "no points": ([], 2, "give the points"),
    "no such law": (["P", "--law", "powr"], 2, "unknown law 'powr'; did you mean 'power'"),
    "no such column": (["P", "--x", "parms", "--y", "error"], 2, "no column 'parms'; did you mean 'params'"),
    "no such y": (["P", "--y", "eror"], 2, "no column 'eror'; did you mean 'error'"),
    "x is y": (["P", "--x", "error", "--y", "error"], 2, "'error' is named twice"),
    "x twice": (["P", "--x", "params,params", "--y", "error"], 2, "--x names 'params' twice"),
    "too few x": (["P", "--x", "params", "--y", "error", "--law", "chinchilla"], 2, "takes --x N --x D, in this order"),
    "condition": (["P", "--where", "role"], 2, "expected NAME=VALUE"),
    "nothing left": (["P", "--where", "role=teacher"], 5, "role holds dense, native"),
    "budget alone": (["P", "--budget", "1e21"], 2, "add --compute"),
    "compute alone": (["P", "--compute", "6*N*D"], 2, "add --budget"),
    "given alone": (["P", "--given", "D=1e9"], 2, "go with --solve"),
    "reference of auto": (["P", "--reference", "16"], 2, "--reference names a level of the law effective"),
    "param of auto": (["P", "--set-param", "E=0"], 2, "name it by --law"),
    "picture": (["P", "--picture", "law.gif"], 2, "ends in .png or .svg"),
    "same file": (["P", "--out", "a.svg", "--picture", "a.svg"], 2, "name the same file"),
    "no folder": (["P", "--out", "/no/such/folder/law.json"], 8, "there is no folder"),
    "no file": (["nothing.csv"], 7, "there is no nothing.csv"),
    "no number": (["P", "--solve", "much"], 2, "valid number"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_is_one_error_before_anything_is_fitted(curve, what):
    given, expected, words = WRONG[what]
    code, printed, err = called("fit", *(curve if part == "P" else part for part in given), "--json", "--quiet")
    assert code == expected, err
    error = json.loads(printed)["error"]
    assert error["exit_code"] == expected
    assert words in " ".join(err.split()) or words in error["message"]
    assert "Traceback" not in err


LATER = {
    "formula": (["--compute", "6*N*D", "--budget", "1e21"], "unknown name 'N'; known: params"),
    "parameter": (["--set-param", "floor=0"], "no parameter 'floor'"),
    "two values": (["--set-param", "e=0,1"], "takes one value"),
    "solve for": (["--solve", "0.1", "--solve-for", "N"], "no variable 'N'; it has params"),
    "all given": (["--solve", "0.1", "--given", "params=1e4"], "every variable is given"),
    "notation": (["--solve", "0.1", "--given", "params=10k"], "write 10000"),
    "against": (["--against", "native"], "--against takes a condition such as role=native"),
}


@pytest.mark.parametrize("what", LATER)
def test_a_wrong_question_is_one_error(curve, what):
    given, words = LATER[what]
    code, _, err = called("fit", curve, "--law", "power-floor", "--where", "role=dense", *given, *QUICK)
    assert code == 2, err
    assert words in err


PREDICT = {
    "no x": ([], 2, "params not given; add --x params=VALUE, or --points FILE"),
    "unknown": (["--x", "parms=1"], 2, "no variable 'parms'; did you mean 'params'"),
    "no value": (["--x", "params"], 2, "--x takes NAME=VALUE"),
    "twice": (["--x", "params=1", "--x", "params=2"], 2, "--x has params twice"),
    "percent": (["--x", "params=50%"], 2, "no plain number"),
    "negative": (["--x", "params=-5"], 5, "must be positive"),
    "word": (["--x", "params=many"], 5, "numbers"),
    "both": (["--x", "params=1", "--points", "a.csv"], 2, "not by both"),
    "no points": (["--points", "a.csv"], 7, "there is no a.csv"),
    "solve many": (["--solve", "0.1", "--x", "params=1,2"], 2, "--solve takes one value of params"),
}


@pytest.mark.parametrize("what", PREDICT)
def test_a_wrong_prediction_is_one_error(fitted, what):
    given, expected, words = PREDICT[what]
    code, _, err = called("predict", fitted[0], *given)
    assert code == expected, err
    assert words in err
    assert "Traceback" not in err


FILES = {
    "empty": (b"", "is empty"),
    "torn": (b'{"schema": 1, "kind": "law", "par', "is no whole JSON"),
    "list": (b"[1]", "holds a list"),
    "foreign": (b'{"a": 1}', "no law of leanfit"),
    "other": (b'{"schema": 1, "kind": "bench"}', "no law of leanfit"),
    "newer": (b'{"schema": 2, "kind": "law", "law": "power"}', "has schema 2"),
    "unknown": (b'{"schema": 1, "kind": "law", "law": "magic"}', "does not know"),
    "damaged": (b'{"schema": 1, "kind": "law", "law": "power"}', "is damaged"),
    "failed": (b'{"error": {"kind": "DataError", "message": "no row"}}', "of a fit that failed (no row)"),
    "binary": (b"\xff\xfe\x00", "is no whole JSON"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_no_law_is_one_error(tmp_path, what):
    content, words = FILES[what]
    path = tmp_path / "law.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_law(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(ArtifactError, match="there is no"):
        read_law(path.with_name("gone.json"))


@pytest.mark.parametrize("name", ["params", "intervals", "settings", "draws", "range", "spread", "variables", "n"])
@pytest.mark.parametrize("value", [None, "x", [], {}, {"a": "b"}, [[1, 2]]])
def test_a_damaged_law_is_one_error_or_still_a_law(fitted, tmp_path, name, value):
    stored = dict(fitted[1])
    stored[name] = value
    path = tmp_path / "law.json"
    path.write_text(json.dumps(stored))
    code, _, err = called("predict", path, "--x", "params=1e5")
    assert code in (0, 2, 7), err
    assert "Traceback" not in err


def test_help_loads_nothing_heavy():
    code = "import sys; sys.argv = ['leanfit', 'fit', '--help']; from compress.cli.commands import main\n"
    code += "heavy = {'torch', 'scipy', 'pandas', 'numpy', 'matplotlib'}\n"
    code += "try: main()\nfinally: print(sorted(heavy & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--solve" in done.stdout


def test_fitting_loads_no_torch(curve):
    code = "import sys; from compress.study.law_fit import FitRequest, run_fit; from pathlib import Path\n"
    code += f"run_fit(FitRequest(Path({str(curve)!r}), ['params'], 'error', law='power', bootstrap=20), print, print)\n"
    code += "print(sorted({'torch', 'pandas', 'matplotlib', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_law_in_python_goes_to_a_file_and_back(plane, tmp_path):
    from evaluate.scaling import read_points

    x, y, _ = read_points(plane).select(["N", "D"], "loss")
    law = Chinchilla(bootstrap=20).fit(x, y)
    write_law(tmp_path / "law.json", law)
    again = load_law(tmp_path / "law.json")
    assert again.params_ == law.params_
    np.testing.assert_array_equal(again.predict(x), law.predict(x))
