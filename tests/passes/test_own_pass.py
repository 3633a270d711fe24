"""A pass of one's own, in one file without a preview: named as module:name, found through an entry point, planned."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from compress import compress, plan
from compress.core.registries import PASSES
from compress.recipe.load import load_recipe
from compress.recipe.positions import RecipeProblems
from evaluate.core import components

PASS = '''
import copy
import dataclasses
import torch
from pydantic import Field
from compress.core.config import Config
from compress.core.traits import Traits
from compress.passes.base import PassResult, register_pass

class NoiseConfig(Config):
    """How much."""

    scale: float = Field(default=0.01, gt=0, le=1, description="Standard deviation.")

@register_pass("own_noise", NoiseConfig, traits=Traits(TRAITS))
def own_noise(model, config, context):
    """Add noise to every weight."""
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(config.scale * torch.randn(p.shape, generator=torch.Generator().manual_seed(context.seed % 2**31)))
    return PassResult(dataclasses.replace(model, module=module))
'''
RECIPE = {
    "version": 1,
    "model": {"name": "mlp", "inputs": 64, "width": 8},
    "task": {"name": "digits", "train_limit": 100},
    "train": {"epochs": 1},
    "benchmark": {"seconds": 0.2},
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    def write(traits: str = "") -> str:
        (tmp_path / "mypkg_noise.py").write_text(PASS.replace("TRAITS", traits))
        return "mypkg_noise:own_noise"

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    PASSES.forget("own_noise")
    sys.modules.pop("mypkg_noise", None)


def test_a_recipe_names_a_pass_by_its_module(own, tmp_path):
    kind = own()
    recipe = load_recipe({**RECIPE, "passes": [{"kind": kind, "scale": 0.5}, {"kind": "quantize", "choose": "fixed"}]})
    assert [step.kind for step in recipe.passes] == [kind, "quantize"]
    assert load_recipe(recipe.dump()) == recipe
    artifact = compress(recipe=recipe, out=tmp_path / "run", force=True)
    assert [entry["kind"] for entry in artifact.record()["passes"]] == [kind, "quantize"]
    with pytest.raises(RecipeProblems, match="of at most 1"):
        load_recipe({**RECIPE, "passes": [{"kind": kind, "scale": 2}]})


@pytest.mark.parametrize(("traits", "said"), [("", "keeps the shapes"), ("reshapes=True", "not predicted")])
def test_a_pass_without_a_preview_is_planned_and_claims_nothing(own, traits, said):
    planned = plan(recipe={**RECIPE, "passes": [{"kind": own(traits)}]})
    assert said in planned.steps[-1].notes[0]


def test_an_installed_package_brings_its_pass_by_an_entry_point(own, monkeypatch):
    own()
    point = importlib.metadata.EntryPoint("noise", "mypkg_noise", components.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda: importlib.metadata.EntryPoints([point]))
    components._load_entry_points.cache_clear()
    monkeypatch.setattr(PASSES, "_whole", False)
    try:
        assert load_recipe({**RECIPE, "passes": [{"kind": "own_noise"}]}).passes[0].kind == "mypkg_noise:own_noise"
    finally:
        components._load_entry_points.cache_clear()
