"""The training loop: it learns, repeats bit for bit, survives an interruption, and says what is wrong."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tiny_training import EVERYTHING, Stop, net, plain, same, small, stop_at
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from compress.core.errors import RecipeError
from compress.tasks import Task, get_task
from compress.tasks.losses import task_loss
from compress.training.evaluation import evaluate_split
from compress.training.optimizers import make_optimizer
from compress.training.settings import AugmentConfig, ScheduleConfig, TrainConfig
from compress.training.train import train
from evaluate.core.errors import MachineError, ModelError


@pytest.fixture(scope="module")
def few_digits():
    return get_task("digits", train_limit=150, test_limit=60)


@pytest.fixture(scope="module")
def points():
    """Three clouds in the plane, easy to tell apart."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])[y] + 0.3 * torch.randn(90, 2, generator=draw)
    return Task.from_tensors((x, y), None, (x, y), classes=["a", "b", "c"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns(points, optimizer):
    model = small()
    before = evaluate_split(model, points.test)["metric"]
    result = train(model, points, TrainConfig(epochs=8, batch_size=9, optimizer=optimizer, learning_rate=0.02), seed=0)
    after = evaluate_split(model, points.test)
    assert result.module is model and not model.training
    assert after["metric"] > 95 > before and result.history[-1]["loss"] < result.history[0]["loss"]
    assert json.loads(json.dumps(result.history)) == result.history
    assert all(p.grad is None for p in model.parameters())


def test_same_seed_same_bits_and_another_seed_other_bits(few_digits):
    models = [net() for _ in range(3)]
    results = [train(m, few_digits, TrainConfig(**EVERYTHING), seed=s) for m, s in zip(models, (1, 1, 2), strict=True)]
    assert same(models[0], models[1]) and not same(models[0], models[2])
    assert plain(results[0].history) == plain(results[1].history)


def test_nothing_outside_can_change_the_result_and_nothing_outside_is_changed(few_digits):
    a, b = net(), net()
    config = TrainConfig(epochs=1, batch_size=64)
    train(a, few_digits, config, seed=1)
    torch.manual_seed(99)
    expected = torch.rand(1)
    torch.manual_seed(99)
    train(b, few_digits, config, seed=1)
    assert same(a, b)
    assert torch.equal(torch.rand(1), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert all(p.is_contiguous() for p in b.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_an_interrupted_training_goes_on_to_the_same_bits(few_digits, tmp_path, optimizer, keep):
    config = TrainConfig(**EVERYTHING, optimizer=optimizer, keep=keep)
    whole, cut, again = net(), net(), net()
    uninterrupted = train(whole, few_digits, config, seed=3)
    steps = math.ceil(len(few_digits.train) / 32)
    with pytest.raises(Stop):
        train(cut, few_digits, config, seed=3, folder=tmp_path, status=stop_at(2 * steps + 2))
    seen = []
    resumed = train(again, few_digits, config, seed=3, folder=tmp_path, status=lambda *args: seen.append(args))
    assert resumed.resumed == 2 and len(seen) == steps
    assert seen[0][1:] == (2 * steps + 1, 3 * steps)
    assert same(whole, again)
    assert plain(resumed.history) == plain(uninterrupted.history)
    assert resumed.best_epoch == uninterrupted.best_epoch


def test_a_finished_training_is_found_again_without_a_step(points, tmp_path):
    config = TrainConfig(epochs=2)
    first, second = small(), small()
    train(first, points, config, seed=0, folder=tmp_path)
    result = train(second, points, config, seed=0, folder=tmp_path, status=stop_at(1))
    assert same(first, second) and result.resumed == 2


def test_the_checkpoint_is_one_safetensors_file(points, tmp_path):
    train(small(), points, TrainConfig(epochs=1), seed=0, folder=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["training.safetensors"]
    with safe_open(tmp_path / "training.safetensors", framework="pt") as file:
        assert {name.split("/")[0] for name in file.keys()} == {"model", "best", "optimizer"}  # noqa: SIM118


@pytest.mark.parametrize("change", ["seed", "config", "weights", "task", "damage"])
def test_a_foreign_or_damaged_checkpoint_is_not_used(points, tmp_path, change):
    train(small(), points, TrainConfig(epochs=2), seed=0, folder=tmp_path)
    path = tmp_path / "training.safetensors"
    if change == "damage":
        path.write_bytes(path.read_bytes()[:-50])
    other = Task.from_tensors(
        (points.train.inputs, points.train.targets), None, (points.test.inputs, points.test.targets)
    )
    result = train(
        small(seed=int(change == "weights")),
        other if change == "task" else points,
        TrainConfig(epochs=2, momentum=0.5 if change == "config" else 0.9),
        seed=int(change == "seed"),
        folder=tmp_path,
    )
    assert result.resumed == 0 and len(result.history) == 2


def test_interruption_leaves_the_model_usable_and_the_settings_restored(few_digits):
    model = net()
    with pytest.raises(KeyboardInterrupt):
        train(
            model,
            few_digits,
            TrainConfig(epochs=1),
            seed=0,
            status=lambda *args: (_ for _ in ()).throw(KeyboardInterrupt),
        )
    assert not torch.are_deterministic_algorithms_enabled()
    assert all(p.is_contiguous() for p in model.parameters())


def test_keep_best_brings_the_best_epoch_back_and_patience_stops(points):
    config = {"epochs": 30, "learning_rate": 3.0, "momentum": 0.0, "batch_size": 9, "schedule": {"kind": "constant"}}
    best, last = small(), small()
    result = train(best, points, TrainConfig(**config, patience=3), seed=0)
    ended = train(last, points, TrainConfig(**{**config, "epochs": len(result.history)}, keep="last"), seed=0)
    assert result.stopped and len(result.history) == result.best_epoch + 3 < 30
    found = evaluate_split(best, points.validation)
    top = result.history[result.best_epoch - 1]
    assert found["loss"] == pytest.approx(top["validation_loss"])
    assert found["metric"] == max(entry["validation_metric"] for entry in result.history)
    assert evaluate_split(last, points.validation)["loss"] == pytest.approx(ended.history[-1]["validation_loss"])
    assert not same(best, last)


def test_a_diverging_loss_says_epoch_step_rate_and_advice(points):
    with pytest.raises(ModelError) as caught:
        config = TrainConfig(learning_rate=1e3, epochs=100, schedule=ScheduleConfig(kind="constant"))
        train(small(), points, config, seed=0)
    message = str(caught.value)
    assert all(
        part in message for part in ("epoch ", "learning rate 1e+03", "Lower learning_rate (try 1e+02)", "clip_norm")
    )


class Huge(nn.Module):
    """Its loss becomes NaN at once."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def forward(self, x):
        return (x @ self.weight) * float("inf")


def test_a_loss_that_is_nan_stops_before_the_weights_are_spoilt(points):
    model = Huge()
    with pytest.raises(ModelError, match=r"epoch 1, step 1 of 1"):
        train(model, points, TrainConfig(), seed=0)
    assert torch.equal(model.weight, torch.ones(2, 3))


def test_clipping_bounds_the_step(points):
    model, before = small(), small()
    config = TrainConfig(
        epochs=1, momentum=0, weight_decay=0, clip_norm=1e-3, learning_rate=1, schedule=ScheduleConfig(kind="constant")
    )
    train(model, points, config, seed=0)
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
    assert 0 < moved.norm() <= 1.01e-3


def test_weight_decay_leaves_biases_and_norms_alone():
    groups = make_optimizer(net(), TrainConfig(weight_decay=0.3)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert {p.ndim for p in groups[0]["params"]} == {2, 4} and {p.ndim for p in groups[1]["params"]} == {1}


def test_class_weights_move_the_decision(points):
    y = points.train.targets
    few = torch.cat([(y == 0).nonzero().flatten(), (y == 1).nonzero().flatten()[:2]])
    x = torch.randn(len(few), 2, generator=torch.Generator().manual_seed(0)) * 0.1
    task = Task.from_tensors((x, y[few]), (x, y[few]), (x, y[few]))
    said = {}
    for weights in (None, "balanced", (0.0, 1.0)):
        model = small(classes=2)
        train(model, task, TrainConfig(epochs=20, class_weights=weights, keep="last"), seed=0)
        with torch.no_grad():
            said[weights] = float(model(x).softmax(1)[:, 1].mean())
    assert said[None] < 0.25 < said["balanced"] < 0.75 < said[(0.0, 1.0)]


def test_label_smoothing_keeps_confidence_down(points):
    sure, unsure = small(), small()
    train(sure, points, TrainConfig(epochs=20, batch_size=16), seed=0)
    train(unsure, points, TrainConfig(epochs=20, batch_size=16, label_smoothing=0.3), seed=0)
    with torch.no_grad():
        x = points.test.inputs["input"]
        assert unsure(x).softmax(1).max(1).values.mean() < 0.9 < sure(x).softmax(1).max(1).values.mean()


@pytest.mark.parametrize(
    ("config", "words"),
    [({"class_weights": (1.0, 2.0)}, "2 numbers .* 3 classes"), ({"class_weights": (0.0,) * 3}, "all zero")],
)
def test_class_weights_that_do_not_fit_are_refused(points, config, words):
    with pytest.raises(RecipeError, match=words):
        train(small(), points, TrainConfig(**config), seed=0)


def test_regression_and_a_loss_of_ones_own():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=draw)
    y = x @ torch.tensor([2.0, -1.0])
    for loss in ("mse", lambda outputs, targets: (outputs.squeeze(1) - targets).abs().mean()):
        task = Task.from_tensors((x, y), None, (x, y), loss=loss)
        model = small(classes=1)
        before = evaluate_split(model, task.test, task.loss, task.metric)["metric"]
        result = train(model, task, TrainConfig(epochs=10, batch_size=8, learning_rate=0.02), seed=0)
        assert evaluate_split(model, task.test, task.loss, task.metric)["metric"] < before / 4
        best = min(entry["validation_metric"] for entry in result.history)
        assert result.history[result.best_epoch - 1]["validation_metric"] == best
        with pytest.raises(RecipeError, match="label_smoothing"):
            train(model, task, TrainConfig(label_smoothing=0.1), seed=0)


def test_loaders_train_repeatably(points):
    data = TensorDataset(points.train.inputs["input"], points.train.targets)

    def run(seed):
        loaders = [DataLoader(data, batch_size=16, shuffle=shuffle) for shuffle in (True, False, False)]
        model = small()
        train(model, Task.from_loaders(*loaders), TrainConfig(epochs=2), seed=seed)
        return model

    assert same(run(1), run(1)) and not same(run(1), run(2))


def test_a_single_left_over_sample_does_not_break_batch_norm(points):
    x, y = points.train.inputs["input"][:33], points.train.targets[:33]
    task = Task.from_tensors((x, y), (x, y), (x, y))
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    seen = []
    train(model, task, TrainConfig(epochs=2, batch_size=32), seed=0, status=lambda *args: seen.append(args[1:]))
    assert seen == [(1, 4), (3, 4)]
    train(small(), task, TrainConfig(epochs=1, batch_size=1), seed=0, status=lambda *args: seen.append(args))
    assert len(seen) == 2 + 33


def test_every_epoch_has_its_own_order_and_its_own_augmentation(few_digits):
    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.batches = nn.Linear(64, 10), []

        def forward(self, x):
            if self.training:
                self.batches.append(x)
            return self.head(x.flatten(1))

    plain_model, augmented = Watching(), Watching()
    config = {"epochs": 2, "batch_size": 150}
    train(plain_model, few_digits, TrainConfig(**config), seed=0)
    train(augmented, few_digits, TrainConfig(**config, augment=AugmentConfig(flip=True)), seed=0)
    first, second = plain_model.batches
    assert not torch.equal(first, second)
    assert torch.equal(first.flatten(1).sum(0).sort().values, second.flatten(1).sum(0).sort().values)
    flips = [(a != b).flatten(1).any(1) for a, b in zip(plain_model.batches, augmented.batches, strict=True)]
    assert 0.3 < flips[0].float().mean() < 0.7 and not torch.equal(flips[0], flips[1])


def test_models_that_do_not_fit_the_task_are_refused(points):
    with pytest.raises(ModelError, match=r"cannot run on the task.s inputs \(input \(81, 2\) float32\)"):
        train(small(inputs=5), points, TrainConfig(), seed=0)
    with pytest.raises(ModelError, match="as many classes as the task has"):
        train(small(classes=2), points, TrainConfig(), seed=0)
    with pytest.raises(ModelError, match="must return a tensor with a row a sample"):
        evaluate_split(nn.Flatten(0), points.test)
    with pytest.raises(ModelError, match="nothing to train"):
        train(small().requires_grad_(False), points, TrainConfig(), seed=0)


def test_precision_and_device_are_checked(points):
    with pytest.raises(MachineError, match="bf16 needs a CUDA device"):
        train(small(), points, TrainConfig(precision="bf16"), seed=0)
    with pytest.raises(MachineError, match="cannot be used"):
        train(small(), points, TrainConfig(), seed=0, device="nonsense")


def test_a_disk_that_cannot_be_written_is_named(points, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="checkpoint cannot be written"):
        train(small(), points, TrainConfig(), seed=0, folder=tmp_path / "file")


def test_evaluate_split_counts_exactly_and_leaves_the_model_alone(points):
    model = small().train()
    with torch.no_grad():
        outputs = model(points.test.inputs["input"])
    right = int((outputs.argmax(1) == points.test.targets).sum())
    for size in (7, 1000):
        found = evaluate_split(model, points.test, batch_size=size)
        assert found["metric"] == 100 * right / 90
        assert found["loss"] == pytest.approx(float(F.cross_entropy(outputs, points.test.targets)), rel=1e-5)
    assert model.training


def test_mixed_targets_reduce_to_class_ids():
    outputs, y = torch.randn(6, 3), torch.arange(6) % 3
    hard = task_loss("cross_entropy", outputs, y, smoothing=0.1)
    torch.testing.assert_close(task_loss("cross_entropy", outputs, F.one_hot(y, 3).float(), smoothing=0.1), hard)


def test_the_rate_moves_step_by_step(points):
    config = TrainConfig(epochs=2, batch_size=9, learning_rate=0.01, schedule=ScheduleConfig(kind="linear"))
    history = train(small(), points, config, seed=0).history
    assert [entry["learning_rate"] for entry in history] == pytest.approx([0.01 * (1 - 8 / 18), 0.01 * (1 - 17 / 18)])
