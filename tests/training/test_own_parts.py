"""What a user adds to training from outside: losses, optimizers, schedules, callbacks, terms, constraints."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from tiny_training import Stop, net, same, small, stop_at
from torch import nn

import compress.training.loop
import leanfit
from compress import load_recipe, plan
from compress.core.errors import RecipeError
from compress.core.registries import LOSSES, OPTIMIZERS, SCHEDULES, TRAINERS
from compress.core.sources import values_key
from compress.tasks import Task, get_task
from compress.tasks.losses import register_loss
from compress.training.callbacks import Callback, KeepConstraints, LossTerm
from compress.training.distillation import FeatureMatching
from compress.training.optimizers import register_optimizer
from compress.training.schedules import ScheduleConfig, register_schedule
from compress.training.settings import AugmentConfig, RecoverConfig, TrainConfig
from compress.training.train import check_training, train
from evaluate.core.errors import DataError, ModelError
from evaluate.metrics import register_metric
from evaluate.metrics.base import METRICS

HERE = __name__


@pytest.fixture(scope="module", autouse=True)
def own():
    """Components that exist while these tests run, and no longer."""

    @register_loss("own_focal", labels=True)
    def own_focal(outputs, targets):
        chances = outputs.softmax(1)[torch.arange(len(targets)), targets]
        return -((1 - chances) ** 2 * chances.log()).mean()

    @register_optimizer("own_sign", learning_rate=0.003, weight_decay=0.0)
    def own_sign(groups, learning_rate):
        return torch.optim.RMSprop(groups, lr=learning_rate)

    @register_schedule("own_steps", uses=("gamma",))
    def own_steps(config, at):
        return config.gamma ** (at.step // at.epoch_steps)

    @register_metric("own_second", unit="%", higher_is_better=True, labels=True)
    def own_second(outputs, targets):
        return 100.0 * (outputs.argsort(axis=1)[:, -2:] == targets[:, None]).any(axis=1)

    yield
    for registry, name in (
        (LOSSES, "own_focal"),
        (OPTIMIZERS, "own_sign"),
        (SCHEDULES, "own_steps"),
        (METRICS, "own_second"),
    ):
        registry.forget(name)


@pytest.fixture(scope="module")
def points():
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])[y] + 0.3 * torch.randn(90, 2, generator=draw)
    return (x, y)


@pytest.fixture(scope="module")
def task(points):
    return Task.from_tensors(points, None, points)


@pytest.fixture(scope="module")
def few_digits():
    return get_task("digits", train_limit=150, test_limit=60)


def test_a_loss_a_metric_an_optimizer_and_a_schedule_by_address(points):
    task = Task.from_tensors(points, None, points, loss=f"{HERE}:own_focal", metric=f"{HERE}:own_second")
    config = TrainConfig(
        epochs=6, batch_size=9, optimizer=f"{HERE}:own_sign", schedule={"kind": f"{HERE}:own_steps", "gamma": 0.5}
    )
    assert (config.learning_rate, config.weight_decay) == (0.003, 0.0)
    history = train(small(), task, config, seed=0).history
    assert history[-1]["loss"] < history[0]["loss"]
    assert [entry["learning_rate"] for entry in history] == pytest.approx([0.003 * 0.5**n for n in range(6)])
    assert history[-1]["validation_metric"] == pytest.approx(100)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_a_recipe_takes_them():
    train_block = {"optimizer": f"{HERE}:own_sign", "schedule": {"kind": f"{HERE}:own_steps", "gamma": 0.5}}
    recipe = load_recipe({"version": 1, "passes": [{"kind": "finetune", **train_block}]})
    assert recipe.passes[0].config.learning_rate == 0.003
    assert load_recipe(recipe.dump()) == recipe


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"optimizer": "own_sing"}, r"expected 'sgd' or 'adamw'; got 'own_sing'.*package\.module:name"),
        ({"optimizer": f"{HERE}:absent"}, "registers no optimizer named 'absent'"),
        ({"schedule": {"kind": "own_steps", "final": 0.5}}, "final has no effect on a .*own_steps schedule"),
    ],
)
def test_names_and_fields_that_do_not_fit_are_said(fields, words):
    with pytest.raises(ValidationError, match=words):
        TrainConfig(**fields)


def test_what_a_loss_does_not_say_of_itself_is_not_asked_of_it(points):
    task = Task.from_tensors(points, None, points, loss="own_focal")
    with pytest.raises(RecipeError, match="label_smoothing need loss cross_entropy"):
        train(small(), task, TrainConfig(label_smoothing=0.1), seed=0)
    with pytest.raises(RecipeError, match="blends=True"):
        train(small(), task, TrainConfig(augment=AugmentConfig(mixup=0.2)), seed=0)
    with pytest.raises(DataError, match="need integer class ids"):
        Task.from_tensors((points[0], points[0]), None, (points[0], points[0]), loss="own_focal")


def test_a_task_takes_what_was_registered_itself(points):
    by_object = Task.from_tensors(points, None, points, loss=LOSSES.get("own_focal").target)
    by_name = Task.from_tensors(points, None, points, loss="own_focal")
    assert by_object.loss == by_name.loss == f"{HERE}:own_focal"
    assert by_object.fingerprint() == by_name.fingerprint() != Task.from_tensors(points, None, points).fingerprint()
    with pytest.raises(DataError, match="register_metric"):
        Task.from_tensors(points, None, points, metric=lambda outputs, targets: targets)


def test_the_fingerprint_of_a_task_knows_what_its_loss_has_closed_over(points):
    def scaled(factor):
        return lambda outputs, targets: factor * F.cross_entropy(outputs, targets)

    made = [Task.from_tensors(points, None, points, loss=scaled(factor)) for factor in (1.0, 2.0, 2.0)]
    assert made[0].fingerprint() != made[1].fingerprint() == made[2].fingerprint()
    smooth = [Task.from_tensors(points, None, points, loss=nn.CrossEntropyLoss(label_smoothing=s)) for s in (0.1, 0.2)]
    assert smooth[0].fingerprint() != smooth[1].fingerprint()


class Watching(Callback):
    """Writes down what it is called for."""

    def __init__(self, stop_after=None):
        self.stop_after, self.calls = stop_after, []

    def on_start(self, state):
        self.calls.append(("start", len(state.history)))

    def on_step(self, state, step):
        self.calls.append(("step", step.number))

    def on_epoch(self, state):
        self.calls.append(("epoch", state.history[-1]["epoch"]))
        state.stopped = state.stopped or len(state.history) == self.stop_after

    def on_end(self, state):
        self.calls.append(("end", state.best_epoch))

    def key(self):
        return f"stop after {self.stop_after}"


def test_callbacks_are_called_in_order_and_may_stop_the_training(task):
    watching = Watching(stop_after=2)
    result = train(small(), task, TrainConfig(epochs=9, batch_size=50), seed=0, callbacks=[watching])
    steps = [("step", 0), ("step", 1), ("epoch", 1), ("step", 2), ("step", 3), ("epoch", 2)]
    assert watching.calls == [("start", 0), *steps, ("end", result.best_epoch)]
    assert result.stopped and len(result.history) == 2


def test_a_callback_that_only_watches_changes_no_bit(task):
    plain, watched = small(), small()
    train(plain, task, TrainConfig(epochs=3), seed=0)
    train(watched, task, TrainConfig(epochs=3), seed=0, callbacks=[Watching()])
    assert same(plain, watched)


class Average(Callback):
    """An average of the weights over epochs, which must outlive an interruption."""

    def __init__(self, decay=0.5):
        self.decay, self._mean = decay, {}

    def on_epoch(self, state):
        now = {name: tensor.detach().clone() for name, tensor in state.model.state_dict().items()}
        self._mean = {k: v.lerp(self._mean[k], self.decay) if self._mean else v for k, v in now.items()}

    def on_end(self, state):
        state.model.load_state_dict(self._mean)

    def tensors(self):
        return self._mean

    def load(self, tensors):
        self._mean = dict(tensors)


def test_a_callback_goes_on_after_an_interruption_where_it_was(task, tmp_path):
    config = TrainConfig(epochs=4, batch_size=50)
    whole, cut, again = small(), small(), small()
    train(whole, task, config, seed=0, callbacks=[Average()])
    with pytest.raises(Stop):
        train(cut, task, config, seed=0, callbacks=[Average()], folder=tmp_path, status=stop_at(5))
    assert train(again, task, config, seed=0, callbacks=[Average()], folder=tmp_path).resumed == 2
    assert same(whole, again)
    assert train(small(), task, config, seed=0, callbacks=[Average(0.9)], folder=tmp_path).resumed == 0


def test_a_part_that_cannot_be_told_keeps_no_checkpoint(task, tmp_path):
    class Open(Callback):
        def __init__(self):
            self.file = (line for line in ())

    for _ in range(2):
        assert train(small(), task, TrainConfig(epochs=1), seed=0, callbacks=[Open()], folder=tmp_path).resumed == 0
    assert not list(tmp_path.iterdir())


class Quiet(LossTerm):
    """Keeps what a module gives small."""

    def __call__(self, step):
        return step.features[self.needs[0]].square().mean()


def test_a_term_reads_named_features_and_its_weight_counts(few_digits):
    def feature_size(weight):
        model = net()
        terms = [Quiet(weight=weight, needs=["linear"])] if weight else []
        train(model, few_digits, TrainConfig(epochs=2, batch_size=50), seed=0, terms=terms)
        with torch.no_grad():
            return float(model(few_digits.test.inputs["image"]).square().mean())

    assert "linear" in dict(net().named_modules())
    assert feature_size(10.0) < feature_size(0.1) < feature_size(0.0) * 1.001
    with pytest.raises(RecipeError, match=r"no module 'linaer'; did you mean 'linear'"):
        train(net(), few_digits, TrainConfig(epochs=1), seed=0, terms=[Quiet(needs=["linaer"])])


def test_hooks_are_gone_after_a_training_and_after_one_that_failed(few_digits):
    model = net()
    train(model, few_digits, TrainConfig(epochs=1), seed=0, terms=[Quiet(needs=["linear"])])
    with pytest.raises(Stop):
        train(model, few_digits, TrainConfig(epochs=1), seed=0, terms=[Quiet(needs=["linear"])], status=stop_at(1))
    assert not any(module._forward_hooks for module in model.modules())


def test_features_follow_those_of_a_teacher(few_digits):
    teacher, student = net(seed=7), net()
    config = TrainConfig(epochs=3, batch_size=50, learning_rate=0.01)
    before = train(net(), few_digits, config, seed=0, terms=[FeatureMatching(teacher, ["linear"], weight=5.0)]).history
    assert before[-1]["loss"] < before[0]["loss"]
    with pytest.raises(ModelError, match="unlike the teacher's"):
        train(student, few_digits, config, seed=0, terms=[FeatureMatching(net(width=8), {"conv1": "conv1"})])
    with pytest.raises(RecipeError, match="no module 'nothing'"):
        train(student, few_digits, config, seed=0, terms=[FeatureMatching(teacher, {"linear": "nothing"})])


class Zeros:
    """A constraint: these weights stay zero."""

    def __init__(self, mask):
        self.mask = mask

    def apply(self, module):
        with torch.no_grad():
            next(p for p in module.parameters() if p.shape == self.mask.shape).mul_(self.mask)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_constraints_hold_through_training_and_an_interruption(task, tmp_path, keep):
    config = TrainConfig(epochs=3, batch_size=50, keep=keep)
    draw = torch.Generator().manual_seed(0)
    first = next(p for p in small().parameters() if p.ndim == 2)
    mask = (torch.rand(first.shape, generator=draw) > 0.5).float()

    def run(**kwargs):
        model = small()
        result = train(model, task, config, seed=0, constraints=[Zeros(mask)], **kwargs)
        return model, result

    model, _ = run()
    weight = next(p for p in model.parameters() if p.shape == mask.shape)
    assert torch.count_nonzero(weight) == torch.count_nonzero(mask) < mask.numel()
    with pytest.raises(Stop):
        run(folder=tmp_path, status=stop_at(3))
    again, result = run(folder=tmp_path)
    assert result.resumed == 1 and same(model, again)
    assert values_key(KeepConstraints([Zeros(mask)])) != values_key(KeepConstraints([Zeros(1 - mask)]))


def test_a_changed_component_starts_the_training_anew(task, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from compress.training.schedules import register_schedule\n@register_schedule('own_edited')\n\
def edited(config, at):\n    return {factor}\n"
    found = []
    for factor in (0.5, 0.5, 0.25):
        (tmp_path / "own_edited.py").write_text(source.format(factor=factor))
        SCHEDULES.forget("own_edited")
        sys.modules.pop("own_edited", None)
        importlib.invalidate_caches()
        clear = [getattr(importlib.import_module("evaluate.core.components"), n, None) for n in ("source_of_module",)]
        for cached in clear:
            getattr(cached, "cache_clear", lambda: None)()
        config = TrainConfig(epochs=1, schedule=ScheduleConfig(kind="own_edited:own_edited"))
        found.append(train(small(), task, config, seed=0, folder=tmp_path / "run").resumed)
    SCHEDULES.forget("own_edited")
    assert found == [0, 1, 0]


@pytest.mark.parametrize("word", ["teacher", "distill", "mask", "constraint", "tracker"])
def test_the_loop_knows_nothing_of(word):
    assert word not in Path(compress.training.loop.__file__).read_text().lower()


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"augment": {"crop": 1000}}, r"crop 1000 .* must fit the images, \(1, 8, 8\)"),
        ({"class_weights": [1.0, 2.0]}, "2 numbers"),
    ],
)
@pytest.mark.parametrize("where", ["train", "pass", "recover"])
def test_settings_that_do_not_fit_the_task_are_said_before_anything_runs(few_digits, block, words, where):
    steps = {
        "train": [{"kind": "finetune"}],
        "pass": [{"kind": "distill", **block}],
        "recover": [{"kind": "prune", "keep": {"params": 0.5}, "recover": block}],
    }
    recipe = {"version": 1, "passes": steps[where], **({"train": block} if where == "train" else {})}
    with pytest.raises(RecipeError, match=words):
        plan(net(), recipe, task=few_digits)


def test_a_value_that_holds_a_type_of_pythons_own_library_has_a_key_without_reading_that_library(monkeypatch):
    from collections import OrderedDict, deque

    from evaluate.core.components import files_of_module

    class Held:
        def __init__(self, *values):
            self.values = values

    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)  # as in a notebook
    assert files_of_module("collections") == {} == files_of_module("__main__")
    assert (
        values_key(Held(OrderedDict(a=1))) == values_key(Held(OrderedDict(a=1))) != values_key(Held(OrderedDict(a=2)))
    )
    assert values_key(Held(deque)) is None


# --- a training loop of one's own -----------------------------------------------------------------------------------


@pytest.fixture
def trainer():
    """Register a trainer for the time of a test; its address."""
    added = []

    def register(function):
        function.__module__ = __name__
        leanfit.register_trainer(f"own_{len(added)}")(function)
        added.append(f"own_{len(added)}")
        return f"{__name__}:{added[-1]}"

    yield register
    for name in added:
        TRAINERS.forget(name)


def steps_of(model, task, config, teacher=None):
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=0.9)
    for _ in range(config.epochs):
        for inputs, targets in task.train.batches(9):
            outputs = model(*inputs.values())
            loss = torch.nn.functional.cross_entropy(outputs, targets)
            if teacher is not None:
                with torch.no_grad():
                    wanted = teacher(*inputs.values()).softmax(1)
                loss = loss + torch.nn.functional.cross_entropy(outputs, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def test_a_loop_of_ones_own_trains_the_baseline_and_the_recovery(points, tmp_path, trainer):
    seen = []

    def loop(model, task, config, device, teacher, seed, status):
        seen.append((config.epochs, teacher is not None, device, torch.initial_seed()))
        status("my own loop", 1, 2)
        steps_of(model.train(), task, config, teacher)

    task = Task.from_tensors(points, points, points)
    name = trainer(loop)
    recipe = {
        "version": 1,
        "train": {"fn": name, "epochs": 30, "learning_rate": 0.1},
        "passes": [{"kind": "prune", "keep": {"params": 0.6}, "recover": {"fn": name, "epochs": 5, "distill": {}}}],
        "benchmark": {"seconds": 0.2},
    }
    said = []
    artifact = leanfit.compress(
        small(), recipe, task=task, out=tmp_path / "run", status=lambda *told: said.append(told[0])
    )
    assert [(epochs, taught, device) for epochs, taught, device, _ in seen] == [(30, False, "cpu"), (5, True, "cpu")]
    assert len({seed for *_, seed in seen}) == 2 and "my own loop" in said
    assert artifact.figures["compressed"]["accuracy"]["value"] > 90
    assert load_recipe(tmp_path / "run" / "recipe.yaml").train.fn == name
    leanfit.compress(small(), recipe, task=task, out=tmp_path / "run", progress=False)
    assert len(seen) == 2, "both stages were found again"


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        (lambda model: setattr(model, "more", nn.Linear(2, 2)), "changed the network itself.*more.weight"),
        (lambda model: [p.data.fill_(float("nan")) for p in model.parameters()], "NaN or infinite"),
        (lambda model: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_loop_of_ones_own_must_not_do_is_said(points, trainer, loop, said):
    config = TrainConfig(fn=trainer(loop))
    with pytest.raises(ModelError, match=said):
        train(small(), Task.from_tensors(points, points, points), config, seed=0)


def test_a_constraint_holds_after_a_loop_of_ones_own(points, trainer):
    model, task = small(), Task.from_tensors(points, points, points)
    mask = (torch.arange(next(model.parameters()).numel()) % 2).view_as(next(model.parameters())).float()
    train(model, task, TrainConfig(fn=trainer(steps_of), epochs=1), seed=0, constraints=[Zeros(mask)])
    assert torch.count_nonzero(next(model.parameters())) == torch.count_nonzero(mask)


def test_a_trainer_is_named_and_takes_what_there_is(points, trainer):
    with pytest.raises(ValueError, match="unknown parameter 'modle'; did you mean 'model'"):
        leanfit.register_trainer("wrong")(lambda modle: None)
    with pytest.raises(RecipeError, match=r"expected a trainer of your own, as package\.module:name; got 'mine'"):
        load_recipe({"version": 1, "train": {"fn": "mine"}, "passes": [{"kind": "quantize", "choose": "fixed"}]})
    config = RecoverConfig(fn=trainer(lambda model: None), distill={})
    with pytest.raises(RecipeError, match="needs a `teacher` among its parameters"):
        check_training(config, Task.from_tensors(points, points, points))
