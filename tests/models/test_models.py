"""Models: shapes, sizes, arguments, a user's own, and the published checkpoints."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from compress.core.errors import RecipeError
from compress.models import PadShortcut, build_model, check_model, load_weights, model_args, model_names, models
from compress.tasks import get_task
from compress.training.evaluation import evaluate_split
from evaluate.core.errors import ModelError

TINY = {
    "mlp": {"inputs": 64, "width": 8},
    "resnet": {"depth": 8, "width": 4, "in_channels": 1},
    "mobilenet": {"width": 0.25, "depth": 1, "in_channels": 1},
    "vit": {"image": 8, "patch": 2, "width": 8, "heads": 2, "depth": 1, "in_channels": 1},
}


def params(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_every_registered_model_has_a_tiny_case():
    built_in = {name for name, b in models().items() if b.module.startswith("compress.")}
    files = {name for name, found in models().items() if found.facts["file"]}  # these are no networks: test_onnx_run
    assert built_in - files - {"timm", "torchvision", "hf"} == set(TINY)  # these are in test_libraries


@pytest.mark.parametrize("name", TINY)
def test_runs_on_digits_and_learns_from_every_parameter(name):
    torch.manual_seed(0)
    model = build_model(name, classes=7, **TINY[name])
    outputs = model(torch.randn(5, 1, 8, 8))
    assert outputs.shape == (5, 7)
    F.cross_entropy(outputs, torch.arange(5)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim > 1)


@pytest.mark.parametrize("name", TINY)
def test_samples_of_a_batch_do_not_touch_each_other(name):
    torch.manual_seed(0)
    model = build_model(name, **TINY[name]).eval()
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_is_rebuilt_from_its_spec_after_a_copy(name):
    model = copy.deepcopy(build_model(name, **TINY[name]))
    spec = model.leanfit_spec
    again = build_model(spec["name"], **spec["args"])
    again.load_state_dict(model.state_dict())
    assert again.leanfit_spec == spec
    assert set(spec["args"]) == set(model_args(name).model_fields)


@pytest.mark.parametrize(
    ("name", "grown"),
    [
        ("mlp", {"width": 16}),
        ("mlp", {"depth": 3}),
        ("resnet", {"width": 8}),
        ("resnet", {"depth": 14}),
        ("mobilenet", {"width": 1.0}),
        ("mobilenet", {"depth": 2}),
        ("vit", {"width": 16}),
        ("vit", {"depth": 2}),
    ],
)
def test_width_and_depth_grow_the_model(name, grown):
    assert params(build_model(name, **{**TINY[name], **grown})) > params(build_model(name, **TINY[name]))


def test_init_follows_torchs_global_seed():
    torch.manual_seed(3)
    a = build_model("resnet", **TINY["resnet"])
    torch.manual_seed(3)
    b = build_model("resnet", **TINY["resnet"])
    c = build_model("resnet", **TINY["resnet"])
    assert torch.equal(a.conv1.weight, b.conv1.weight)
    assert not torch.equal(a.conv1.weight, c.conv1.weight)


@pytest.mark.parametrize("channels", [(16, 32), (15, 31), (4, 8)])
def test_pad_shortcut_is_a_strided_slice_between_zero_channels(channels):
    few, many = channels
    shortcut = PadShortcut(few, many, 2)
    x = torch.randn(2, few, 6, 6)
    out = shortcut(x)
    assert out.shape == (2, many, 3, 3)
    assert torch.equal(out[:, shortcut.before : shortcut.before + few], x[:, :, ::2, ::2])
    assert not out[:, : shortcut.before].any() and not out[:, shortcut.before + few :].any()
    assert list(shortcut.parameters()) == []
    if many == 2 * few and many % 4 == 0:
        assert shortcut.before == shortcut.after == many // 4


def test_shortcut_b_has_parameters_where_a_has_none():
    assert params(build_model("resnet", shortcut="B", **TINY["resnet"])) > params(
        build_model("resnet", **TINY["resnet"])
    )


def test_resnet20_has_the_published_number_of_parameters():
    assert params(build_model("resnet", depth=20)) == 269_722  # 0.27 M in He et al. 2016, table 6


def test_all_wrong_arguments_are_named_at_once():
    with pytest.raises(RecipeError) as caught:
        build_model("resnet", wdth=3, depth=21, classes=0, shortcut="C")
    message = str(caught.value)
    for part in ("'wdth'; did you mean 'width'?", "6n+2", "for instance 20", "got 21", "classes", "'A' or 'B'"):
        assert part in message


def test_missing_argument_and_unknown_model():
    with pytest.raises(RecipeError, match="inputs is required"):
        check_model("mlp")
    with pytest.raises(RecipeError, match="did you mean 'resnet'"):
        build_model("resnt")


def test_check_model_fills_defaults_in_without_building():
    assert check_model("mlp", inputs=4) == {"inputs": 4, "classes": 10, "width": 64, "depth": 2}


def test_vit_refuses_patches_and_heads_that_do_not_fit():
    with pytest.raises(ModelError) as caught:
        build_model("vit", image=8, patch=3, width=10, heads=4)
    assert "patches that fit: [1, 2, 4, 8]" in str(caught.value) and "multiple of heads" in str(caught.value)


USER_MODULE = '''
from typing import Annotated
from pydantic import Field
from torch import nn
from compress import register_model

@register_model("two_layers")
def two_layers(width: Annotated[int, Field(ge=2)] = 4) -> nn.Module:
    """Two layers."""
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))

def not_registered() -> nn.Module:
    return nn.Linear(1, 1)
'''


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "mypackage_models.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "mypackage_models"
    sys.modules.pop("mypackage_models", None)


def test_a_users_model_is_found_by_its_address_and_records_it(user_module):
    model = build_model(f"{user_module}:two_layers", width=5)
    assert model.leanfit_spec == {"name": f"{user_module}:two_layers", "args": {"width": 5}}
    assert "two_layers" in model_names()
    with pytest.raises(RecipeError, match="width"):
        build_model(f"{user_module}:two_layers", width=1)


@pytest.mark.parametrize("address", ["os:system", "os.path:join", "builtins:eval"])
def test_an_address_calls_no_function_that_is_not_registered(address):
    with pytest.raises(RecipeError, match="decorated with @register_model"):
        build_model(address)


def test_an_unregistered_function_of_a_users_module_is_refused(user_module):
    with pytest.raises(RecipeError, match="It registers two_layers"):
        build_model(f"{user_module}:not_registered")


def test_a_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecipeError, match=r"importing 'broken_module' failed: ZeroDivisionError"):
        build_model("broken_module:net")
    with pytest.raises(RecipeError, match="PYTHONPATH"):
        build_model("no_such_module_anywhere:net")


@pytest.fixture
def mlp():
    return build_model("mlp", inputs=4, width=4, classes=3)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".th"])
def test_weights_come_back_from_every_format(mlp, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(mlp.state_dict(), path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in mlp.state_dict().items()}, "epoch": 3}, path)
    other = build_model("mlp", inputs=4, width=4, classes=3)
    assert load_weights(other, path) == path
    assert all(torch.equal(a, b) for a, b in zip(mlp.parameters(), other.parameters(), strict=True))


def test_weights_are_looked_for_in_the_data_folder(mlp, tmp_path, monkeypatch):
    monkeypatch.setenv("LEANFIT_DATA", str(tmp_path))
    save_file(mlp.state_dict(), tmp_path / "net.safetensors")
    assert load_weights(mlp, "net.safetensors") == tmp_path / "net.safetensors"
    with pytest.raises(ModelError, match=r"did you mean 'net\.safetensors'"):
        load_weights(mlp, "nets.safetensor")


def test_mismatched_keys_are_listed_five_at_most(mlp, tmp_path):
    state = mlp.state_dict()
    state["head.weight"] = torch.zeros(9, 9)
    del state["head.bias"]
    state |= {f"extra.{i}": torch.zeros(1) for i in range(8)}
    save_file(state, tmp_path / "w.safetensors")
    before = mlp.head.weight.clone()
    with pytest.raises(ModelError) as caught:
        load_weights(mlp, tmp_path / "w.safetensors")
    message = str(caught.value)
    assert "1 missing in the file: head.bias" in message
    assert "extra.4 and 3 more" in message and "extra.5" not in message
    assert "head.weight (model (3, 4), file (9, 9))" in message
    assert torch.equal(before, mlp.head.weight)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("content", ["truncated", "pickle", "text", "list", "nan"])
def test_unusable_weight_files_are_refused(mlp, tmp_path, content, capsys):
    path = tmp_path / "w.pt"
    torch.save(mlp.state_dict(), path)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif content == "pickle":
        torch.save({"state_dict": Evil()}, path)
    elif content == "text":
        path.write_text("not weights")
    elif content == "list":
        torch.save([1, 2], path)
    else:
        state = mlp.state_dict()
        state["head.bias"] = torch.tensor([0.0, np.nan, 0.0])
        torch.save(state, path)
    with pytest.raises(ModelError) as caught:
        load_weights(mlp, path)
    assert str(path) in str(caught.value)
    assert ("head.bias" in str(caught.value)) == (content == "nan")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "depth",
    [
        pytest.param(depth, marks=pytest.mark.data(f"resnet{depth}_cifar10.pt", "cifar-10-batches-bin"))
        for depth in (20, 56)
    ],
)
def test_published_checkpoints_load_and_see(depth, needs_data):
    model = build_model("resnet", depth=depth)
    load_weights(model, f"resnet{depth}_cifar10.pt")
    task = get_task("cifar10", normalize="imagenet", test_limit=200, train_limit=10, validation_limit=10)
    assert evaluate_split(model, task.test)["metric"] > 85
