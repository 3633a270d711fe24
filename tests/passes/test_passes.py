"""What every pass promises, whatever it does."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
from pass_cases import CASES
from prune_nets import FIXED
from torch import nn

import compress.passes  # noqa: F401  (registers the passes)
from compress.core.errors import RecipeError
from compress.core.registries import PASSES
from compress.graph.export import check_parity, export_onnx
from compress.graph.model_state import ModelState, save_state
from compress.graph.onnx_graph import serialise
from compress.passes.base import Context, PassResult, get_pass, pass_kinds, register_pass
from compress.recipe.load import load_recipe
from compress.tasks import Task
from evaluate.core.components import files_of_module

ROWS = [pytest.param(kind, config, id=f"{kind}-{n}") for kind, rows in CASES.items() for n, config in enumerate(rows)]


def apply(kind: str, config: dict[str, Any], model: nn.Module, task: Task, seed: int = 0) -> PassResult:
    registered = get_pass(kind)
    context = Context(task=task, seed=seed, original=model)
    return registered.apply(ModelState(model), registered.config(**config), context)


def test_every_pass_has_a_case():
    assert set(CASES) == set(pass_kinds())


@pytest.mark.parametrize(("kind", "config"), ROWS)
def test_a_pass_keeps_its_promises(kind: str, config: dict[str, Any], trained: nn.Module, digits: Task):
    before, mode = save_state(trained), trained.training
    first = apply(kind, config, copy.deepcopy(trained), digits)
    result = apply(kind, config, trained, digits)

    assert save_state(trained) == before, "the model that was handed in was changed"
    assert trained.training == mode
    assert save_state(result.model.module) == save_state(first.model.module), "twice the same seed gave two networks"
    assert result.model.graph is not None or save_state(result.model.module) != before, "nothing was done"
    if result.model.graph is not None:
        assert serialise(result.model.graph) == serialise(first.model.graph)
    assert result.changes or kind in ("finetune", "distill")

    example = digits.example(8)
    graph = result.model.graph if result.model.graph is not None else export_onnx(result.model.module, example)
    parity = check_parity(result.model.module, serialise(graph), example)
    if "train" in config:  # the graph learnt, and the network is what it was made from
        assert parity.agree >= 0.75
    else:
        assert parity.relative < (0.1 if result.model.graph is not None else 1e-5)


@pytest.mark.parametrize(("kind", "config"), ROWS)
def test_a_preview_shows_the_shapes_that_come_out(kind: str, config: dict[str, Any], trained: nn.Module, digits: Task):
    registered = get_pass(kind)
    if registered.preview is None:
        pytest.skip("this pass predicts nothing, which is allowed")
    if kind == "prune":
        config = {**FIXED, **config}  # which of several ways is best takes a look at the data
    preview = registered.preview(trained, registered.config(**config), Context(task=digits, seed=0, original=trained))
    result = apply(kind, config, trained, digits)
    shapes = [sorted(tuple(p.shape) for p in m.parameters()) for m in (preview.module, result.model.module)]
    assert shapes[0] == shapes[1]
    stored = 8 if kind == "share" and config["bits"] > 4 else config.get("bits", 8)
    assert preview.bits == (stored if result.model.graph is not None else 32)


@pytest.mark.parametrize(("kind", "config"), ROWS)
def test_a_config_survives_a_recipe(kind: str, config: dict[str, Any]):
    recipe = load_recipe({"version": 1, "passes": [{"kind": kind, **config}]})
    assert load_recipe(recipe.dump()) == recipe
    assert load_recipe({"version": 1, "passes": [recipe.dump()["passes"][0]]}).passes == recipe.passes


@pytest.mark.parametrize("kind", CASES)
def test_the_code_that_a_pass_runs_is_part_of_the_key_of_its_stage(kind: str):
    module = get_pass(kind).apply.__module__
    assert PASSES.get(kind).source
    place = Path(sys.modules[module].__file__)
    folder = place.parent if place.name == "__init__.py" else None
    work = {f"{module}.{file.stem}" for file in folder.glob("*.py") if file != place} if folder else {module}
    assert work <= set(files_of_module(module))


def test_an_unknown_pass_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'prune'"):
        get_pass("prun")


def test_a_kind_belongs_to_one_pass():
    with pytest.raises(ValueError, match="registered already"):
        register_pass("prune", get_pass("prune").config)(lambda model, config, context: PassResult(model))


def test_patterns_name_every_layer_setting(trained: nn.Module):
    for kind, rows in CASES.items():
        config = get_pass(kind).config
        for name in set(config.model_fields) & {"layers", "exclude", "per_layer"}:
            value = {"nowhere*": 0.5} if name == "per_layer" else ["nowhere*"]
            recipe = load_recipe({"version": 1, "passes": [{"kind": kind, **rows[0], name: value}]})
            with pytest.raises(RecipeError, match=r"nowhere\*"):
                recipe.check_layers(trained)
