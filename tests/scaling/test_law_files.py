"""Law files: what a stranger's may hold, what an older leanfit wrote, and laws of one's own, in a fresh process too."""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz import byte_mutants, deep, json_mutants, json_of
from law_points import crossed, falling, noisy, table

import evaluate.scaling
from evaluate.core.errors import ArtifactError, DataError, UsageError
from evaluate.scaling import (
    Average,
    Chinchilla,
    EffectiveParameters,
    Law,
    Linear,
    PowerLaw,
    load_law,
    read_law,
    register_law,
    select_law,
    write_law,
)
from evaluate.scaling.forms.form import LAWS, columns, kind_of
from evaluate.scaling.law import law_class

OLD = Path(__file__).parents[1] / "fixtures" / "bcf02c1" / "law.json"
OWN = '''
import numpy as np
from evaluate.scaling import columns, register_law

print("a module that prints")


@register_law("hyperbola", formula="y = e + b / (x + d)", floor="e", starts=[[0.01, 50.0, 10.0], [0.02, 100.0, 100.0]],
              parameters={"e": (0, np.inf), "b": (0, np.inf), "d": (0, np.inf)})
def hyperbola(x, theta):
    """y = e + b / (x + d): a law of a user's own."""
    e, b, d = columns(theta)
    return np.log(e + b / (x[:, 0] + d))
'''
SIZES = np.geomspace(10, 1e5, 24)


def laws():
    levels = np.resize(np.array(["dense", "int8", "int4"], dtype=object), 24)
    yield PowerLaw(bootstrap=4).fit(*falling(floor=0))
    yield Average(bootstrap=3, candidates=["power-floor", "m3"]).fit(*falling(14))
    yield Linear(bootstrap=3).fit({"u": SIZES, "v": SIZES[::-1]}, 1 + SIZES / 1e5)
    yield EffectiveParameters(bootstrap=3, force=True).fit({"N": SIZES, "level": levels}, noisy(SIZES**-0.3, 0.01))
    yield Chinchilla(bootstrap=3).fit(*table(*crossed()))


@pytest.fixture(scope="module")
def stored():
    return [json.loads(json.dumps(law.to_dict())) for law in laws()]


def ask(law):
    """What a command asks of a law from a file."""
    point = {name: [law.names_of(name)[0] if law.names_of(name) else law.range_[name][0]] for name in law.variables}
    law.predict(point, interval=0.9)
    law.solve(0.1, law.variables[0], {name: values[0] for name, values in list(point.items())[1:]})
    json.dumps(law.to_dict())


def test_mutants_of_a_law_are_refused_in_words_or_asked_without_a_fault(stored, tmp_path):
    before, read = set(sys.modules), 0
    for seed, whole in enumerate(stored):
        for mutant in json_mutants(whole, 120, seed):
            path = tmp_path / "law.json"
            path.write_text(json_of(mutant), encoding="utf-8")
            try:
                law = load_law(path)
            except ArtifactError as error:
                assert len(str(error)) < 1500
                continue
            read += 1
            with np.errstate(all="ignore"), contextlib.suppress(UsageError, DataError):
                ask(law)
    assert 20 < read < 590
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in ("stranger", "os")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["law.json"]


def test_broken_bytes_are_no_law(stored, tmp_path):
    path = tmp_path / "law.json"
    for mutant in byte_mutants(json.dumps(stored[0]).encode(), 300, 7):
        path.write_bytes(mutant)
        with contextlib.suppress(ArtifactError, UsageError, DataError):
            ask(load_law(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"draws": [[1.0]]}, "draws: a list of 1, 2 were expected"),
        ({"params": {"b": 1.0}}, "params: c is missing"),
        ({"params": {"b": "1", "c": 1.0}}, "params.b: a str .*a number was expected"),
        ({"params": {"b": -1.0, "c": 1.0}}, "params: they give no number within the law's own range"),
        ({"intervals": {"b": [1], "c": [1, 2]}}, "intervals: a list of 1, 2 were expected"),
        ({"range": {}}, "range: params is missing"),
        ({"settings": {}}, "settings.kind is missing"),
        ({"variables": ["a", "b"]}, "variables: a list of 2, 1 were expected"),
        ({"warnings": 3}, "warnings: a int"),
        ({"spread": deep(300)}, "spread: a list .*an object was expected"),
        ({"schema": 99}, "has schema 99, and this leanfit reads 1"),
        ({"kind": "trial"}, "no law of leanfit"),
        ({"law": "strangers.module:thing"}, "LEANFIT_ALLOW=strangers.module"),
        ({"law": "power2"}, "holds a law 'power2', which this leanfit does not know"),
    ],
)
def test_what_is_wrong_with_a_law_is_named(stored, change, said):
    with pytest.raises(ArtifactError, match=said):
        Law.from_dict({**stored[0], **change})


def test_a_law_of_bcf02c1_is_read_and_predicts():
    law, data = read_law(OLD)
    x = {name: [pair[0], pair[1]] for name, pair in law.range_.items()}
    y, low, high = law.predict(x, interval=0.9)
    assert np.all((low < y) & (y < high))
    again = law.to_dict()
    assert {name: again[name] for name in again} == {name: data[name] for name in again if name != "solve"} | {
        "solve": []
    }


# Laws of one's own.


def in_a_fresh_process(folder, text, **environment):
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=folder, timeout=120,
        env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{folder}", "PATH": "/usr/bin", **environment},
    )  # fmt: skip


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's module with a law, imported here."""
    (tmp_path / "own_laws.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("own_laws", None)
    LAWS._known.pop("hyperbola", None)


def test_a_law_of_ones_own_fits_saves_and_loads_in_a_fresh_process(own):
    law = law_class("own_laws:hyperbola")(bootstrap=10).fit(SIZES, noisy(0.05 + 60 / (SIZES + 40), 0.002))
    assert law.params_["d"] == pytest.approx(40, rel=0.1)
    assert law.to_dict()["law"] == "own_laws:hyperbola"
    write_law(own / "law.json", law)
    program = "from evaluate.scaling import load_law; law = load_law('law.json'); print(repr(law.predict([77.0])[0]))"
    refused = in_a_fresh_process(own, program)
    assert "ArtifactError" in refused.stderr and "--allow own_laws" in refused.stderr and "prints" not in refused.stderr
    allowed = in_a_fresh_process(own, program, LEANFIT_ALLOW="own_laws")
    assert allowed.stdout.strip() == repr(law.predict([77.0])[0]), allowed.stderr
    by_name = in_a_fresh_process(own, program.replace("'law.json'", "'law.json', allow=['own_laws']"))
    assert by_name.stdout == allowed.stdout


def test_a_law_of_ones_own_is_asked_and_competes_like_any_other(own):
    y = noisy(0.05 + 60 / (SIZES + 40), 0.002)
    law = law_class("own_laws:hyperbola")(bootstrap=10).fit(SIZES, y)
    assert law.predict([law.solve(0.3).value])[0] == pytest.approx(0.3, rel=1e-9)
    assert Law.from_dict(json.loads(json.dumps(law.to_dict()))).predict([50.0])[0] == law.predict([50.0])[0]
    chosen = select_law(SIZES, y, candidates=["own_laws:hyperbola", "power"], bootstrap=4)
    back = Law.from_dict(json.loads(json.dumps(chosen.to_dict())))
    assert chosen.name in ("hyperbola", "average") and back.predict([50.0])[0] == chosen.predict([50.0])[0]


def wrong(log_y, starts=((1.0, -0.3),)):
    try:
        register_law("wrong", formula="y = b x^c", parameters={"b": (0, np.inf), "c": (-9, 9)}, starts=starts)(log_y)
        return law_class("wrong")(bootstrap=2).fit(SIZES, SIZES**-0.3)
    finally:
        LAWS._known.pop("wrong", None)


def right(x, theta):
    b, c = columns(theta)
    return np.log(b) + c * np.log(x[:, 0])


@pytest.mark.parametrize(
    ("log_y", "starts", "said"),
    [
        (lambda x, theta: np.log(theta[..., 0]), ((1.0, -0.3),), r"x \(24, 1\), theta \(2,\)\) must give .* \(\) came"),
        (lambda x, theta: right(x, theta).sum(axis=-1), ((1.0, -0.3),), r"\(24,\) was expected and \(\) came"),
        (lambda x, theta: np.log(theta[0]) + theta[1] * np.log(x[:, 0]), ((1.0, -0.3),), r"theta \(2, 2\)\) must give"),
        (lambda x, theta: np.log(theta[..., 0]) + theta[..., 1] * np.log(x), ((1.0, -0.3),), "must give the log"),
        (lambda x, theta: x[:, 3] * theta[..., :1], ((1.0, -0.3),), "must give the log .*index 3"),
        (right, (1.0, -0.3), r"starts\(x, y\) gave the shape \(2,\); expected \(s, 2\), a column for each of b, c"),
        (right, ((1.0,),), r"gave the shape \(1, 1\); expected \(s, 2\)"),
    ],
)  # fmt: skip
def test_a_form_of_the_wrong_shape_is_one_clear_error(log_y, starts, said):
    with pytest.raises(UsageError, match=said):
        wrong(log_y, starts)


def test_a_law_with_one_initial_guess_and_no_title_is_enough():
    assert wrong(right).params_ == pytest.approx({"b": 1, "c": -0.3}, rel=1e-6)


def test_a_name_is_given_once_and_the_nearest_is_offered():
    with pytest.raises(ValueError, match="registered already"):
        register_law("power", formula="", parameters={"b": (0, 1)}, starts=[[1.0]])(right)
    with pytest.raises(UsageError, match="did you mean 'chinchilla'"):
        kind_of("chinchila")


def test_every_public_name_is_there_and_no_module_takes_its_place():
    for module in pkgutil.walk_packages(evaluate.scaling.__path__, "evaluate.scaling."):
        importlib.import_module(module.name)
    assert all(callable(getattr(evaluate.scaling, name)) for name in evaluate.scaling.__all__)
    with pytest.raises(AttributeError, match="no attribute 'breakeven'"):
        evaluate.scaling.breakeven  # noqa: B018


def test_a_law_that_is_not_fitted_has_no_params_and_says_so():
    law = PowerLaw()
    assert not hasattr(law, "params_") and not hasattr(law, "no_such_name")
    with pytest.raises(UsageError, match="this PowerLaw is not fitted yet; call fit"):
        law.predict([1.0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'referense'"):
        EffectiveParameters(referense="dense")
    law.fit(*falling(floor=0))
    assert copy.deepcopy(law).params_ == law.params_ and repr(law).startswith("PowerLaw(b=")
    shown = law._repr_html_()
    assert f"<td style='text-align:left'>{law.params_['b']:.4g} (" in shown and "power law, of params" in shown
    assert "not fitted" in PowerLaw()._repr_html_()


def test_a_law_whose_intervals_have_no_end_comes_back_from_its_own_data():
    x = np.geomspace(1e3, 1e6, 6)
    law = law_class("power-floor")(bootstrap=0).fit(x, 0.05 + 9 * x**-0.5)
    fitted = law.fitted_
    fitted.intervals = {**fitted.intervals, "b": (0.1, np.inf), "c": (-np.inf, np.nan)}
    data = law.to_dict()
    assert data["intervals"]["b"] == [0.1, None]
    json.dumps(data, allow_nan=False)
    assert Law.from_dict(data).intervals_["b"] == (0.1, np.inf)
