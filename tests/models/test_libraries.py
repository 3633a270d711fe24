"""Networks of timm, torchvision and Transformers by name, all the way to a measured file and back."""

from __future__ import annotations

import json

import pytest
import torch
from prune_nets import FIXED
from torchvision_ops import declare

from compress import Task, compress, get_task, load_recipe
from compress.core.errors import RecipeError
from compress.graph.model_state import network_from, save_state
from compress.models import build_model, check_model
from compress.pipeline.artifact import verify
from compress.recipe.named_blocks import has_weights, read_model
from evaluate.core.errors import DataError, ModelError

DRAW = torch.Generator().manual_seed(0)
QUANTIZE = {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 16}}
PRUNE = {"kind": "prune", "keep": {"params": 0.8}, **FIXED, "round_to": 1}
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


def test_a_network_that_knows_versions_of_its_layout_comes_back(tmp_path):
    pytest.importorskip("torchvision")
    model = build_model("torchvision", arch="mnasnet0_5", classes=4).eval()
    (tmp_path / "w.safetensors").write_bytes(save_state(model))
    again = network_from(build_model("torchvision", arch="mnasnet0_5", classes=4), [], tmp_path / "w.safetensors")
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.eval()(x), model(x))


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


def test_a_library_that_cannot_load_its_own_parts_is_said_with_the_first_reason(monkeypatch):
    transformers = pytest.importorskip("transformers")

    def broken(*args, **settings):
        raise ModuleNotFoundError("Could not import module") from RuntimeError("operator torchvision::nms is missing")

    monkeypatch.setattr(transformers.AutoModelForSequenceClassification, "from_pretrained", broken)
    with pytest.raises(ModelError, match="cannot be built: RuntimeError: operator torchvision::nms is missing"):
        build_model("hf", path="somewhere")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "dull", "fine", "play"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    """A folder with a tokenizer of a dozen words."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def reviews(tmp_path) -> str:
    rows = [{"text": f"a {w} film", "other": f"a {w} play", "label": n % 2, "score": n / 40}
            for n, w in enumerate(["good", "bad", "fine", "dull"] * 10)]  # fmt: skip
    (tmp_path / "reviews.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return str(tmp_path / "reviews.jsonl")


def test_texts_are_tokenized_alone_together_and_apart(tokenizer, reviews):
    alone = get_task("text", path=reviews, tokenizer=tokenizer, length=8)
    assert list(alone.example()) == ["input_ids", "attention_mask"] and alone.classes == ("0", "1")
    assert alone.example()["input_ids"].shape == (1, 8)
    both = get_task("text", path=reviews, tokenizer=tokenizer, second="other", length=12)
    assert both.example()["token_type_ids"].sum() == 4  # a, the word, play and the end of the second text
    apart = get_task(
        "text", path=reviews, tokenizer=tokenizer, second="other", together=False, length=8, target="score",
        kind="values", metric="spearman",
    )  # fmt: skip
    names = ["input_ids", "attention_mask", "second_input_ids", "second_attention_mask"]
    assert list(apart.example()) == names and apart.metric == "spearman"
    with pytest.raises(DataError, match="tokenizer 'nowhere' cannot be used"):
        get_task("text", path=reviews, tokenizer="nowhere")


def test_pairs_are_scored_by_the_cosine_of_their_embeddings(tokenizer, reviews, tmp_path):
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "encoder")
    task = get_task(
        "text", path=reviews, tokenizer=tokenizer, second="other", together=False, length=8, target="score",
        kind="values", metric="spearman",
    )  # fmt: skip
    recipe = {**RECIPE, "model": {"name": "hf", "path": str(tmp_path / "encoder"), "head": "pair-score"}}
    artifact = compress(recipe={**recipe, "passes": [QUANTIZE]}, task=task, out=tmp_path / "run")
    assert artifact.figures["baseline"]["accuracy"]["metric"] == "spearman"
    scores = artifact.predict(task.test.first(4))
    assert scores.shape == (4,) and abs(scores).max() <= 1.001
    same = {**task.test.first(4)}
    for name in ("input_ids", "attention_mask"):
        same[f"second_{name}"] = same[name]
    torch.testing.assert_close(artifact.module()(**same).detach(), torch.ones(4))
