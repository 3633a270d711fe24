"""Study files: what they mean, and what is said of wrong ones."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from prune_nets import FIXED
from torch import nn
from typer.testing import CliRunner

from compress.cli.commands import app
from compress.core.errors import RecipeError
from compress.models import register_model
from compress.study.expand import nearest_width, params_of, tiers
from compress.study.run_study import plan_study
from compress.study.study_checks import load_study
from compress.study.study_report import grid_of
from compress.study.study_source import StudyProblems, shipped_studies
from compress.study.training_time import seconds_of_training

ROOT = Path(__file__).parents[2]


@register_model("flat")
def flat(inputs: int = 64) -> nn.Module:
    """A family without a width."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 10))


STUDY = {
    "version": 1,
    "task": {"name": "digits"},
    "model": {"name": "mlp", "inputs": 64, "depth": 1},
    "sizes": {"width": [4, 8, 16]},
    "train": {"epochs": 2},
    "levels": {
        "int8": {"passes": [{"kind": "quantize"}]},
        "pruned": {
            "values": {"density": [0.5, 0.3]},
            "passes": [{"kind": "prune", "keep": {"params": "$density"}, **FIXED}],
        },
        "pruned-int8": {"after": "pruned", "passes": [{"kind": "quantize"}]},
    },
    "data": [{"set": {"task.train_limit": [100, 200]}, "sizes": {"width": 8}}],
    "seeds": 2,
}


def changed(**parts) -> dict:
    return {**copy.deepcopy(STUDY), **parts}


@pytest.fixture(scope="module")
def trials():
    return plan_study(STUDY).trials


def test_a_study_is_sizes_by_levels_by_seeds_and_each_trial_an_ordinary_recipe(trials):
    roles = Counter(t.role for t in trials)
    assert roles["compressed"] == 3 * 5 * 2
    assert roles["dense"] == 3 * 2 + 2 * 2
    assert len({t.id for t in trials}) == len(trials)
    assert all(t.recipe["seed"] == t.seed and t.recipe["model"]["width"] == t.size["width"] for t in trials)
    chain = next(t for t in trials if t.level["name"] == "pruned-int8")
    assert [step["kind"] for step in chain.recipe["passes"]] == ["prune", "quantize"]
    assert chain.recipe["passes"][0]["keep"]["params"] == chain.level["density"] and chain.level["bits"] == 8


def test_stages_are_shared_by_what_they_depend_on(trials):
    by = {(t.level["name"], t.level.get("density")): t for t in trials if t.size == {"width": 8} and not t.data}
    dense, pruned, both = by["dense", None], by["pruned", 0.5], by["pruned-int8", 0.5]
    assert both.prefixes[:2] == pruned.prefixes and pruned.prefixes[:1] == dense.prefixes
    assert by["pruned", 0.3].prefixes[1] != pruned.prefixes[1]


def test_ids_are_of_the_resolved_inputs_alone(trials):
    renamed = plan_study(changed(name="other", levels={**STUDY["levels"], "more": {"passes": [{"kind": "finetune"}]}}))
    assert {t.id for t in trials} < {t.id for t in renamed.trials}
    longer = plan_study(changed(train={"epochs": 3}))
    assert not {t.id for t in trials} & {t.id for t in longer.trials}


def test_the_first_seed_and_the_ends_of_every_axis_come_first(trials):
    assert tiers(5) == [0, 2, 1, 2, 0] or tiers(5) == [0, 2, 1, 2, 0][::-1]
    seeds = [t.seed for t in trials]
    assert seeds == sorted(seeds)
    first = [t.size["width"] for t in trials if t.role == "dense" and not t.data and t.seed == 0]
    assert first[-1] == 8, "the middle size comes after both ends"


def test_native_models_have_the_nearest_params_and_the_same_epochs(trials):
    natives = {t.id: t for t in trials if t.role == "native"}
    pruned = [t for t in trials if t.level["name"] == "pruned"]
    assert natives
    for trial in pruned:
        native = next(t for t in trials if t.id == trial.native)
        args = {"inputs": 64, "depth": 1}
        gaps = {w: abs(params_of("mlp", {**args, "width": w}) / trial.target - 1) for w in range(1, 17)}
        assert native.size["width"] == min(gaps, key=gaps.__getitem__)
        assert sum(native.epochs) == sum(trial.epochs) and native.recipe["passes"] == []
    assert all(t.native is None for t in trials if t.level["name"] == "int8")
    assert not [t for t in plan_study(changed(native=False)).trials if t.role == "native"]


def test_a_native_model_equal_to_a_dense_one_is_the_same_trial():
    study = changed(sizes={"width": [2, 4, 8, 16]}, seeds=1, data=[])
    found = plan_study(study).trials
    natives = {t.native for t in found} - {None}
    assert natives & {t.id for t in found if t.role == "dense"}
    assert len({t.id for t in found}) == len(found)


def test_widths_that_are_multipliers_are_searched_too():
    args = {"width": 2.0, "depth": 1, "classes": 10, "in_channels": 1}
    large = params_of("mobilenet", args)
    width = nearest_width("mobilenet", args, large // 3)
    assert isinstance(width, float) and 0.8 < params_of("mobilenet", {**args, "width": width}) / (large / 3) < 1.25


def test_targets_in_macs_leave_the_native_model_open():
    level = {"pruned": {"passes": [{"kind": "prune", "keep": {"macs": 0.5}, **FIXED}]}}
    plan = plan_study(changed(levels=level, data=[]))
    assert len(plan.pending) == 6 and not [t for t in plan.trials if t.role == "native"]


MINE = """
from compress.core.config import Config
from compress.passes.base import PassResult, register_pass
from beside import AMOUNT


@register_pass("noise", Config)
def noise(model, config, context):
    return PassResult(model)
"""


def test_a_trial_is_another_one_once_the_code_of_its_own_pass_changes(tmp_path: Path):
    """The pass's module and what that imports from the same place; nothing of leanfit's own."""
    (tmp_path / "my_noise.py").write_text(MINE)
    levels = {"noisy": {"passes": [{"kind": "my_noise:noise"}]}}
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(changed(levels=levels, data=[], seeds=1, native=False)))
    found = []
    for amount in (1, 2, 1):
        (tmp_path / "beside.py").write_text(f"AMOUNT = {amount}\n")
        command = [sys.executable, "-m", "compress", "study", str(path), "--dry-run", "--json"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append({t["label"]: t["id"] for t in json.loads(done.stdout)["trials"]})
    first, second, third = found
    assert first == third and len(first) == 6
    assert {label for label in first if first[label] != second[label]} == {k for k in first if "noisy" in k}


BAD = {
    "unknown key": ({"sedes": 1}, "unknown key 'sedes'; did you mean 'seeds'"),
    "size": ({"sizes": {"widht": [2]}}, r"sizes\.widht\.0: unknown key 'widht'; did you mean 'width'"),
    "size's value": ({"sizes": {"width": [4, 0]}}, r"sizes\.width\.1: .*at least 1"),
    "family": ({"sizes": {"name": ["resnet"]}}, "give the name in `model`"),
    "no sizes": ({"sizes": []}, "sizes"),
    "no size": ({"sizes": {}}, "sizes: .*got an empty block"),
    "no width to try": ({"sizes": {"width": []}}, r"sizes\.width: expected .*got an empty list"),
    "no change": ({"data": [{"set": {"train.epochs": []}}]}, r"data\.0\.set\.train\.epochs: .*got an empty list"),
    "axis of no size": ({"data": [{"set": {"train.epochs": 1}, "sizes": {"width": 5}}]}, "none of these sizes; it has"),
    "axis size": ({"data": [{"set": {"train.epochs": 1}, "sizes": {"widht": 4}}]}, "did you mean 'width'"),
    "law": ({"laws": [{"x": "params", "law": "powr"}]}, r"laws\.0\.law: there is no law 'powr'; did you mean 'power'"),
    "law's x": ({"laws": [{"x": ["N=parms"]}]}, r"laws\.0\.x\.0: .*no trial .*'parms'; did you mean 'params'"),
    "law's y": ({"laws": [{"x": "density", "y": "eror"}]}, "did you mean 'error'"),
    "law's rows": ({"laws": [{"x": "params", "where": ["rolle=dense"]}]}, r"laws\.0\.where\.0: .*did you mean 'role'"),
    "law's level": (
        {"laws": [{"x": "params", "where": ["level=prnued"]}]},
        r"laws\.0\.where\.0: no trial .* level 'prnued'",
    ),
    "law's role": ({"laws": [{"x": "params", "where": ["role!=dnse"]}]}, r"role 'dnse'; did you mean 'dense'"),
    "against what": ({"laws": [{"x": "params", "against": "role=natve"}]}, r"role 'natve'; did you mean 'native'"),
    "law's names": ({"laws": [{"x": "run"}]}, r"laws\.0\.x: the column 'run' holds names, and a law needs numbers"),
    "law's y names": ({"laws": [{"x": "params", "y": "role"}]}, r"laws\.0\.y: the column 'role' holds names"),
    "condition": ({"laws": [{"x": "params", "where": ["role"]}]}, "cannot be read; expected NAME=VALUE"),
    "break-even": ({"laws": [{"x": "width", "against": "rol=native"}]}, r"laws\.0\.against: .*did you mean 'role'"),
    "level": ({"levels": {"a": {"passes": [{"kind": "quantise"}]}}}, "did you mean 'quantize'"),
    "no passes": ({"levels": {"a": {"passes": []}}}, "levels.a.passes"),
    "after": ({"levels": {"a": {"after": "b", "passes": [{"kind": "quantize"}]}}}, "unknown level 'b'"),
    "circle": (
        {"levels": {n: {"after": m, "passes": [{"kind": "finetune"}]} for n, m in ("ab", "ba")}},
        "comes after itself",
    ),
    "order": (
        {"levels": {**STUDY["levels"], "x": {"after": "int8", "passes": [{"kind": "quantize"}]}}},
        "quantize may not follow quantize",
    ),
    "dense": ({"levels": {"dense": {"passes": [{"kind": "quantize"}]}}}, "cannot be called 'dense'"),
    "no value": ({"levels": {"a": {"passes": [{"kind": "prune", "keep": {"params": "$d"}}]}}}, "stands for no value"),
    "unused value": ({"levels": {"a": {"values": {"d": 1}, "passes": [{"kind": "quantize"}]}}}, "no pass of this"),
    "value": (
        {"levels": {"a": {"values": {"d": [0.5, 1.5]}, "passes": [{"kind": "prune", "keep": {"params": "$d"}}]}}},
        r"levels\.a\.values\.d\.1: expected a ratio .*got 1\.5 \(for \$d in levels\.a\.passes\.0\.keep\.params\)",
    ),
    "axis": ({"data": [{"set": {"seed": [1]}}]}, "expected a key of the task or of train"),
    "axis key": ({"data": [{"set": {"task.train_limt": [10]}}]}, "did you mean 'train_limit'"),
    "axis key's key": ({"data": [{"set": {"task.x.y.z": 1}}]}, r"data\.0\.set\.task\.x\.y\.z: unknown key 'x'"),
    "key of a text": ({"data": [{"set": {"task.name.y": 1}}]}, r"data\.0\.set\.task\.name\.y: expected the name"),
    "key of a number": ({"data": [{"set": {"train.epochs.q": 1}}]}, r"train\.epochs\.q: expected a whole number"),
    "two keys of one": ({"data": [{"set": {"train.epochs": 1, "train.epochs.q": 1}}]}, "expected a whole number"),
    "far too large": ({"laws": [{"x": "params", "solve": [1e40]}]}, r"laws\.0\.solve\.0: expected a number above 0"),
    "axis value": ({"data": [{"set": {"train.epochs": [1, 0]}}]}, r"data\.0\.set\.train\.epochs\.1"),
    "axis level": ({"data": [{"set": {"train.epochs": 1}, "levels": ["int9"]}]}, "did you mean 'int8'"),
    "seeds": ({"seeds": 0}, "seeds"),
    "task": ({"task": {"name": "digit"}}, "did you mean 'digits'"),
    "no training": ({"train": None}, "no 'train' block"),
    "no width": ({"model": {"name": "flat"}, "sizes": {"inputs": [64]}}, "set native: false"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_a_wrong_study_is_refused_with_the_place(case):
    change, message = case
    with pytest.raises(StudyProblems, match=message):
        load_study(changed(**change))


def test_all_problems_of_a_file_at_once_with_line_and_column(tmp_path: Path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "version: 1\ntask: {name: digits}\nmodel: {name: mlp, inputs: 64}\nsizes:\n  widht: [2, 4]\nsedes: 3\n"
    )
    result = CliRunner().invoke(app, ["study", str(path), "--dry-run"])
    assert result.exit_code == 3
    assert f"{path}:5:11: unknown key 'widht'" in result.output and f"{path}:6:1: unknown key 'sedes'" in result.output
    assert "the study has" in result.output


def test_a_study_that_is_not_there_is_said(tmp_path: Path):
    (tmp_path / "right.yaml").write_text("version: 1")
    with pytest.raises(RecipeError, match=r"no such study; did you mean '.*right\.yaml'"):
        load_study(tmp_path / "rihgt.yaml")
    with pytest.raises(RecipeError, match="expected a mapping"):
        (tmp_path / "list.yaml").write_text("- 1")
        load_study(tmp_path / "list.yaml")


def test_overrides_are_those_of_recipes():
    study = load_study("digits-resnet", ["seeds=1", "sizes.width=[2, 4]", "train.epochs=3"])
    assert study.seed_list == [0] and study.train.epochs == 3
    with pytest.raises(StudyProblems, match=r"--set train\.epochs=0"):
        load_study("digits-resnet", ["train.epochs=0"])


@pytest.mark.parametrize("name", ["digits-resnet", "fashion-cnn", "cifar10-resnet"])
def test_the_studies_that_ship_are_sound(name: str):
    study = load_study(shipped_studies()[name], ["seeds=1"])
    assert study.native and study.laws and study.data
    assert any(level.passes[0]["kind"] == "quantize" for level in study.levels.values())


def test_the_time_of_a_study_that_never_ran_goes_with_its_work_and_with_what_is_left():
    def seconds(plan, left=None) -> float:
        found = seconds_of_training(plan.trials, plan.trials if left is None else left)
        assert found is not None
        return found

    once = plan_study(changed(data=[], seeds=1))
    longer = plan_study(changed(data=[], seeds=1, train={"epochs": 1000, "batch_size": 64}))
    assert seconds(longer) > 20 * seconds(once) > 0  # a noisy machine changes the pace by less
    assert seconds(once, once.trials[:1]) < seconds(once)
    assert seconds_of_training([], []) is None


def test_a_dry_run_is_a_grid_that_accounts_for_every_trial_and_knows_what_is_done(tmp_path: Path):
    plan = plan_study("digits-resnet")
    head, body = grid_of(plan.trials)
    assert sum(int(row[head.index("trials")]) for row in body) == len(plan.trials)
    told = CliRunner().invoke(app, ["study", "digits-resnet", "--dry-run", "--out", str(tmp_path)]).output
    assert len(told.splitlines()) <= 22 and f"{len(plan.trials)} trials" in told and not list(tmp_path.iterdir())
    assert "of work for one worker is left (of training alone, by a few steps of" in told
    shutil.copytree(ROOT / "studies" / "records" / "digits-resnet", tmp_path / "known")
    known = ["study", "digits-resnet", "--dry-run", "--out", str(tmp_path / "known")]
    assert "of them are done" in CliRunner().invoke(app, known).output
    listed = CliRunner().invoke(app, ["study", "digits-resnet", "--dry-run", "--every"]).output
    assert all(trial.label in listed for trial in plan.trials)
