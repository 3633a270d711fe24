"""Networks of timm, torchvision and Transformers by name, all the way to a measured file and back."""

from __future__ import annotations

import pytest
import torch
from torchvision_ops import declare

from compress import Task, compress, load_recipe
from compress.core.errors import RecipeError
from compress.models import build_model, check_model
from compress.pipeline.artifact import verify
from compress.recipe.named_blocks import has_weights, read_model
from evaluate.core.errors import ModelError

DRAW = torch.Generator().manual_seed(0)
QUANTIZE = {"kind": "quantize", "calibrate": {"samples": 16}}
PRUNE = {"kind": "prune", "keep": {"params": 0.8}, "round_to": 1}
RECIPE = {"version": 1, "name": "library", "benchmark": {"seconds": 0.4}}


@pytest.fixture(autouse=True, scope="module")
def operators():
    return declare()


def images(classes: int) -> Task:
    x, y = torch.rand(60, 3, 32, 32, generator=DRAW), torch.arange(60) % classes
    return Task.from_tensors((x[:40], y[:40]), (x[40:50], y[40:50]), (x[50:], y[50:]), classes=classes)


def tokens(names: tuple[str, ...]) -> Task:
    ids = torch.randint(5, 200, (60, 12), generator=DRAW)
    known = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": torch.ones_like(ids)}
    y = torch.arange(60) % 3

    def part(a, b):
        return {name: known[name][a:b] for name in names}, y[a:b]

    return Task.from_tensors(part(0, 40), part(40, 50), part(50, 60))


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    """A folder as save_pretrained writes it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, num_labels=3
    )
    folder = tmp_path_factory.mktemp("bert")
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def test_a_folder_of_transformers_is_pruned_and_quantized_with_its_inputs_in_a_tokenizers_order(bert, tmp_path):
    task = tokens(("input_ids", "token_type_ids", "attention_mask"))
    artifact = compress(f"hf:{bert}", {**RECIPE, "passes": [PRUNE, QUANTIZE]}, task=task, out=tmp_path / "run")
    sizes = [artifact.summary()[side]["sizes"]["params"] for side in ("baseline", "compressed")]
    assert sizes[1] < sizes[0]
    assert [check.detail for check in verify(tmp_path / "run") if not check.ok] == []


def test_a_recipe_names_the_folder_and_brings_its_weights(bert):
    recipe = load_recipe({**RECIPE, "model": {"name": f"hf:{bert}"}, "passes": [QUANTIZE]})
    assert recipe.model is not None
    assert (recipe.model.name, recipe.model.args["path"]) == ("hf", bert)
    again = load_recipe({**RECIPE, "model": recipe.model.dump(), "passes": [QUANTIZE]})
    assert again.hash == recipe.hash


@pytest.mark.parametrize(("name", "has"), [("hf:x", True), ("timm:resnet10t", False), ("resnet", False)])
def test_whether_a_network_comes_trained(name, has):
    assert has_weights({"name": name}) is has
    assert has_weights({"name": "timm", "arch": "resnet10t", "pretrained": True})
    recipe = {**RECIPE, "model": {"name": name}, "passes": [QUANTIZE]}
    if has:
        load_recipe(recipe)
    else:
        with pytest.raises(RecipeError, match="nothing to keep accurate"):
            load_recipe(recipe)


def test_timm_and_torchvision_are_built_by_name_with_the_tasks_classes(tmp_path):
    pytest.importorskip("timm")
    model = build_model("torchvision", arch="squeezenet1_1", classes=4)
    compress(model, {**RECIPE, "passes": [QUANTIZE]}, task=images(4), out=tmp_path / "run")
    assert [check.detail for check in verify(tmp_path / "run") if not check.ok] == []
    assert read_model({"name": "timm:resnet10t"}).args == check_model("timm", arch="resnet10t")
    assert build_model("timm", arch="resnet10t", classes=4)(torch.rand(2, 3, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "arch", "near"), [("timm", "resnet10tt", "resnet10t"), ("torchvision", "resnet81", "resnet")]
)
def test_a_misspelt_network_names_the_nearest(name, arch, near):
    pytest.importorskip(name)
    with pytest.raises(ModelError, match=f"did you mean .{near}"):
        build_model(name, arch=arch)


def test_a_folder_that_is_none_is_said(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ModelError, match=r"hf:.*cannot be built"):
        build_model("hf", path=str(tmp_path))
