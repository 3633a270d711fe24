"""What a law must not claim, must not destroy and must not lose on its way through a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from law_cases import CASES, NAMES
from law_runs import PUBLISHED, QUICK, called, write_table

from compress.cli.console import _not_installed
from evaluate.core.errors import ArtifactError, DataError, UsageError
from evaluate.report.html.study_page import law_sections
from evaluate.report.messages.law_messages import law_table
from evaluate.report.messages.law_view import view_of
from evaluate.scaling import Average, Chinchilla, Law, PowerLaw, optimum, read_points, select_law
from evaluate.scaling.forms.combined import averaged_form
from evaluate.scaling.forms.form import Member, kind_of
from evaluate.scaling.law import load_law, write_law
from evaluate.scaling.points.trial_points import rows_of_records
from evaluate.scaling.select.candidate_fits import MOST

SIZES = np.geomspace(1e3, 1e7, 14)
CURVE = 0.05 + 8 * SIZES**-0.4


def noisy(y, noise, seed=0):
    return y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(y)))


@pytest.fixture(scope="module")
def plane():
    n, d = (side.ravel() for side in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 5)))
    return {"N": n, "D": d, "loss": noisy(1.7 + 400 * n**-0.33 + 1000 * d**-0.36, 0.005)}


@pytest.fixture(scope="module")
def joint(plane):
    return Chinchilla(bootstrap=20).fit({"N": plane["N"], "D": plane["D"]}, plane["loss"])


@pytest.fixture(scope="module")
def average():
    return Average(bootstrap=8).fit({"params": SIZES}, noisy(CURVE, 0.02))


def test_what_is_given_for_one_question_does_not_spoil_the_budget(plane, tmp_path):
    path = write_table(tmp_path / "plane.csv", plane)
    call = ("fit", path, "--x", "N", "--x", "D", "--y", "loss", "--law", "chinchilla", "--given", "D=1e10", *QUICK)
    budget = ("--compute", "6*N*D", "--budget", "1e18", "--json")
    code, out, _ = called(*call, "--solve", "2.2", "--solve-for", "N", *budget)
    found = json.loads(out)
    assert code == 0
    assert found["optimum"]["given"] == {}
    assert 6 * found["optimum"]["values"]["N"] * found["optimum"]["values"]["D"] == pytest.approx(1e18)
    code, _, err = called(*call, *budget)
    assert code == 2
    assert "--given holds D" in err


@pytest.mark.parametrize("cost", ["N*D*0", "N-D", "1e400*N*D"])
def test_a_cost_that_is_none_is_said(joint, cost):
    with pytest.raises(DataError, match="positive number was expected"):
        optimum(joint, cost, 1e18)


def test_a_cost_of_one_variable_is_said(joint):
    with pytest.raises(UsageError, match="does not depend on D"):
        optimum(joint, "6*N", 1e18)


def test_a_page_is_never_written_over_points(tmp_path):
    path = write_table(tmp_path / "points.csv", {"params": SIZES, "error": CURVE})
    before = path.read_bytes()
    code, _, err = called("fit", path, "--law", "power", "--page", path, *QUICK)
    assert (code, path.read_bytes()) == (2, before)
    assert "ends in .html" in err


def test_a_parameter_is_held_at_a_number_alone(tmp_path):
    path = write_table(tmp_path / "points.csv", {"params": SIZES, "error": CURVE})
    code, _, err = called("fit", path, "--law", "power", "--set-param", "c=x", *QUICK)
    assert code == 2
    assert "takes a number, got 'x'" in err


def test_a_column_with_one_word_is_found_and_its_row_named(tmp_path):
    path = write_table(tmp_path / "points.csv", {"params": [*SIZES, "abc"], "error": [*CURVE, 0.2]})
    code, out, _ = called("fit", path, "--law", "power", *QUICK)
    assert code == 0
    assert "params is not a number in line 16" in out


def test_ids_of_strangers_may_be_anything():
    records = [{"kind": "trial", "id": [1], "error": 0.1}, {"kind": "trial", "id": {"a": 1}, "error": 0.2}]
    assert len(rows_of_records(records)[0]) == 2


def test_an_average_shows_shares_by_form_and_no_interval(average):
    stored = average.to_dict() | {"target": "error"}
    for text in (law_table(stored, width=100), str(law_sections(view_of(stored)))):
        assert "fitted with weights" in text
        assert "0.3333" not in text
    assert sum(average.params_.values()) == pytest.approx(1)


def test_an_average_names_the_shares_of_several_forms_and_one_form_by_its_own_formula():
    forms = [kind_of(name).form for name in ("m3", "m4")]
    several = averaged_form([Member(form, power, 0.25) for form in forms for power in (0.5, 1.0)])
    shares = [float(part.split("%")[0]) for part in several.formula.split(" of ")[-1].split(",")]
    assert shares == [50, 50]
    alone = averaged_form([Member(forms[0], power, 0.5) for power in (0.5, 1.0)])
    assert alone.formula == forms[0].formula and forms[0].title in alone.title


def test_levels_are_told_by_name(tmp_path):
    table = read_points(PUBLISHED / "quest_qat_scaling.csv").where("w_quant!=NoQuantizer")
    path = write_table(tmp_path / "q.csv", {name: table.columns[name] for name in ("N", "D", "w_bits", "loss")})
    call = ("fit", path, *(part for name in ("N", "D", "w_bits") for part in ("--x", name)), "--y", "loss")
    page, law = tmp_path / "law.html", tmp_path / "law.json"
    asked = ("--solve", "3", "--solve-for", "N", "--given", "D=1e10", "--given", "w_bits=4")
    code, out, _ = called(*call, "--law", "effective", "--force", *asked, "--page", page, "--out", law, *QUICK)
    assert code == 0
    assert "w_bits 1, 2, 3, 4, 8, 16 (16 is uncompressed)" in " ".join(out.split())
    assert "w_bits 4:" in out
    assert "Loss against w_bits" not in page.read_text()
    assert json.loads(law.read_text())["range"]["w_bits"] == ["1", "2", "3", "4", "8", "16"]
    code, _, err = called("predict", law, "--solve", "3", "--solve-for", "w_bits", "--x", "N=1e8", "--x", "D=1e10")
    assert code == 2
    assert "nothing lies between them" in err


@pytest.mark.parametrize("case", [case for case in CASES if case.law in ("power", "effective", "linear", "m4")],
                         ids=[name for case, name in zip(CASES, NAMES, strict=True)
                              if case.law in ("power", "effective", "linear", "m4")])  # fmt: skip
def test_a_law_from_its_file_predicts_to_the_last_digit(case):
    x, y = case.points(noise=0.01)
    _same_from_file(case.new(bootstrap=8).fit(x, y), x)


def test_an_average_from_its_file_predicts_to_the_last_digit(average):
    _same_from_file(average, {"params": SIZES * 3})


def _same_from_file(law, x):
    again = Law.from_dict(json.loads(json.dumps(law.to_dict())))
    assert np.array_equal(law.predict(x), again.predict(x))
    for one, other in zip(law.predict(x, interval=0.8), again.predict(x, interval=0.8), strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    assert again.range_ == law.range_


@pytest.mark.parametrize(
    "change", [{"agreed": []}, {"settings": {"members": [{"law": "zzz"}]}}, {"theta": float("nan")}]
)
def test_a_damaged_average_is_refused(average, change):
    data = average.to_dict()
    if "theta" in change:
        change = {"settings": {**data["settings"], "theta": [float("nan")] * len(average.theta_)}}
    with pytest.raises(ArtifactError):
        Law.from_dict({**data, **change})


def test_noise_that_hides_the_size_is_said():
    y = noisy(np.full(14, 0.3), 0.6)
    for law in (PowerLaw(bootstrap=20, force=True).fit(SIZES, y), Average(bootstrap=8).fit(SIZES, y)):
        assert any("the mean of y explains" in text for text in law.warnings_)
    assert not any("the mean of y" in text for text in PowerLaw(bootstrap=20).fit(SIZES, 9 * SIZES**-0.3).warnings_)


def test_one_group_is_no_bootstrap_and_the_noise_is_that_of_several_points():
    y = noisy(CURVE, 0.2)
    law = Average(bootstrap=8, candidates=["power-floor"]).fit(SIZES, y, groups=np.ones(14))
    assert any("groups are too few" in text for text in law.warnings_)
    assert np.ptp(law.draws_[:, 0]) > 0
    _, low, high = law.predict(SIZES, interval=0.9)
    assert np.all(np.log(high / low) / 2 > 1.64 * 0.1)


def test_an_average_of_a_short_range_says_so():
    law = select_law(
        np.linspace(1000, 4000, 12), noisy(np.linspace(1000, 4000, 12) ** -0.3, 0.001), bootstrap=8, candidates=["m3"]
    )
    assert any("decades" in text for text in law.warnings_)


def test_of_very_many_points_some_are_taken_and_that_is_said():
    x = np.geomspace(1e3, 1e7, 3000)
    law = select_law(x, noisy(0.05 + 8 * x**-0.4, 0.05), bootstrap=2, candidates=["power-floor"])
    assert law.n_ == MOST
    assert law.range_["x"] == pytest.approx((1e3, 1e7))
    assert any(f"{MOST} of 3000 points were used" in text for text in law.warnings_)


def test_what_a_locked_design_cannot_tell_has_no_interval(tmp_path):
    n = np.geomspace(1e6, 1e9, 20)
    y = noisy(1.7 + 400 * n**-0.33 + 1000 * (20 * n) ** -0.36, 0.005)
    law = Chinchilla(bootstrap=20, force=True).fit({"N": n, "D": 20 * n}, y)
    assert law.intervals_["beta"] == (0.0, np.inf)
    assert np.isfinite(law.intervals_["E"]).all()
    write_law(tmp_path / "law.json", law)
    assert load_law(tmp_path).intervals_["beta"] == (0.0, np.inf)
    assert "not known" in law_table(json.loads((tmp_path / "law.json").read_text()))


def test_a_missing_module_of_our_own_is_not_blamed_on_others():
    assert "Hugging Face" not in _not_installed(ModuleNotFoundError("no", name="evaluate.none_such"))
