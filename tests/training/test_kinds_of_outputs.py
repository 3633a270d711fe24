"""Losses by what a model's outputs describe: classes, labels or values; and distillation that follows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_training import small
from torch import nn

from compress.core.errors import RecipeError
from compress.core.registries import LOSSES
from compress.tasks import Task
from compress.tasks.losses import register_loss, task_loss
from compress.training.distillation import check_distillation, distillation_loss
from compress.training.evaluation import evaluate_split
from compress.training.settings import AugmentConfig, DistillConfig, RecoverConfig, TrainConfig
from compress.training.train import check_training, train
from evaluate.core.errors import DataError, ModelError
from evaluate.metrics import score

T = 4.0


@pytest.fixture(autouse=True)
def drawn():
    torch.manual_seed(0)


def labelled_tokens(n=60, length=5):
    """Inputs (n, 2, length) of which each position's class follows from its sign, with padding at the end."""
    x = torch.randn(n, 2, length)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    y[torch.arange(length) >= torch.arange(n)[:, None] % length + 1] = -100
    return x, y


def token_net(seed=0, classes=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv1d(2, 16, 1), nn.ReLU(), nn.Conv1d(16, classes, 1))


@pytest.fixture
def token_task():
    return Task.from_tensors(labelled_tokens(), None, labelled_tokens(), metric="token_accuracy")


@pytest.fixture
def label_task():
    x = torch.randn(120, 2)
    y = torch.stack([x[:, 0] > 0, x[:, 1] > 0, x.sum(1) > 0], 1).float()
    return Task.from_tensors((x, y), None, (x, y), loss="binary_cross_entropy", metric="label_f1")


def test_cross_entropy_of_tokens_is_that_of_all_labels_in_a_row():
    outputs, (_, y) = torch.randn(60, 3, 5), labelled_tokens()
    flat, ids = outputs.transpose(1, 2).reshape(-1, 3), y.reshape(-1)
    expected = F.cross_entropy(flat[ids != -100], ids[ids != -100])
    torch.testing.assert_close(task_loss("cross_entropy", outputs, y), expected)
    weight = torch.tensor([0.2, 1.0, 3.0])
    expected = F.cross_entropy(flat[ids != -100], ids[ids != -100], weight=weight, label_smoothing=0.1)
    torch.testing.assert_close(task_loss("cross_entropy", outputs, y, weight=weight, smoothing=0.1), expected)


def test_cross_entropy_of_a_class_a_sample_is_torchs_digit_for_digit():
    outputs, y = torch.randn(50, 7), torch.randint(0, 7, (50,))
    assert torch.equal(task_loss("cross_entropy", outputs, y), F.cross_entropy(outputs, y))


def test_a_batch_without_any_label_costs_nothing_and_moves_nothing():
    outputs = torch.randn(4, 3, 5, requires_grad=True)
    loss = task_loss("cross_entropy", outputs, torch.full((4, 5), -100))
    loss.backward()
    assert loss == 0 and not outputs.grad.any()


@pytest.mark.parametrize(
    ("outputs", "targets", "words"),
    [
        ((4, 3), torch.eye(4, 3).long(), r"class ids of shape \(4, 3\).*argmax"),
        ((4, 3, 5), torch.zeros(4, 6).long(), r"\(4, 3, 5\) for class ids of shape \(4, 6\)"),
        ((4, 2, 5), torch.full((4, 5), 2), "at least 3 classes"),
        ((4, 2), torch.tensor([0, 1, 2, 0]), "as many classes as the task has"),
        ((4,), torch.tensor([0, 1, 1, 0]), r"expected \(n, classes\)"),
    ],
)
def test_outputs_that_do_not_fit_class_ids_are_refused(outputs, targets, words):
    with pytest.raises(ModelError, match=words):
        task_loss("cross_entropy", torch.zeros(outputs), targets)


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        ("mse", lambda x, y: ((x - y) ** 2).mean()),
        ("l1", lambda x, y: (x - y).abs().mean()),
        ("huber", lambda x, y: torch.where((x - y).abs() < 1, (x - y) ** 2 / 2, (x - y).abs() - 0.5).mean()),
        ("binary_cross_entropy", lambda x, y: -(y * x.sigmoid().log() + (1 - y) * (-x).sigmoid().log()).mean()),
    ],
)
def test_losses_of_floats_follow_their_definitions(loss, reference):
    outputs, targets = 2 * torch.randn(30, 4), (torch.randn(30, 4) > 0).float()
    torch.testing.assert_close(task_loss(loss, outputs, targets), reference(outputs, targets))
    torch.testing.assert_close(task_loss(loss, outputs[:, :1], targets[:, 0]), reference(outputs[:, 0], targets[:, 0]))
    assert torch.isfinite(LOSSES.get(loss).target(outputs.double(), targets))  # as a study asks for the loss of a file
    with pytest.raises(ModelError, match=r"\(30, 4\) for targets of shape \(30, 3\)"):
        task_loss(loss, outputs, targets[:, :3])


def test_a_kind_is_one_of_three_words():
    with pytest.raises(ValueError, match=r"classes, labels, values or None, got 'lables'"):
        register_loss("own_wrong", kind="lables")


def test_answers_of_yes_and_no_lie_between_0_and_1():
    x, y = torch.randn(8, 2), torch.randn(8, 2)
    with pytest.raises(DataError, match=r"train split: targets run from -.* expected 0 and 1"):
        Task.from_tensors((x, y), None, (x, y), loss="binary_cross_entropy", metric="mse")


def test_a_task_of_tokens_trains_and_is_judged_by_its_labels(token_task):
    assert token_task.classes == ("0", "1", "2")
    model = token_net()
    config = TrainConfig(epochs=12, batch_size=10, learning_rate=0.1, class_weights="balanced")
    history = train(model, token_task, config, seed=0).history
    assert history[-1]["validation_metric"] > 90 > history[0]["validation_metric"]
    with torch.no_grad():
        outputs = model(token_task.test.inputs["input"]).numpy()
    for size in (7, 1000):
        found = evaluate_split(model, token_task.test, "cross_entropy", "macro_f1", batch_size=size)
        assert found["metric"] == pytest.approx(score(outputs, token_task.test.targets.numpy(), "macro_f1")["value"])


def test_class_ids_of_more_axes_need_a_metric_of_those():
    x, y = labelled_tokens()
    with pytest.raises(
        DataError, match=r"'mine', train split targets: .*\(n,\), got \(54, 5\).*argmax.*token_accuracy"
    ):
        Task.from_tensors((x, y), None, (x, y), name="mine")
    with pytest.raises(DataError, match="need float targets"):
        Task.from_tensors((x, y), None, (x, y), loss="mse", metric="miou")
    with pytest.raises(DataError, match="class ids run from -1 to 2"):
        Task.from_tensors((x, y.clamp(min=-1)), None, (x, y), metric="miou")
    with pytest.raises(DataError, match="every target is -100"):
        Task.from_tensors((x, y), None, (x, y * 0 - 100), metric="miou", classes=3)


def test_augmentation_would_leave_the_labels_of_tokens_behind(token_task):
    with pytest.raises(RecipeError, match=r"not the \(5,\) targets of a sample"):
        check_training(TrainConfig(augment=AugmentConfig(mixup=0.2)), token_task)


def test_augmentation_would_leave_a_map_of_values_behind():
    images, maps = torch.randn(12, 3, 8, 8), torch.randn(12, 1, 8, 8)
    task = Task.from_tensors(*[(images, maps)] * 3)
    for moved in ({"flip": True}, {"crop": 1}, {"cutout": 2}):
        with pytest.raises(RecipeError, match=r"not the \(1, 8, 8\) targets of a sample"):
            check_training(TrainConfig(augment=moved), task)
    check_training(TrainConfig(augment={"mixup": 0.2}), task)


def test_the_loss_of_a_split_of_tokens_is_that_of_its_labels(token_task):
    model = nn.Conv1d(2, 3, 1)
    batched = evaluate_split(model, token_task.validation, "cross_entropy", "token_accuracy", batch_size=5)
    whole = evaluate_split(model, token_task.validation, "cross_entropy", "token_accuracy", batch_size=500)
    assert batched["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    counts = [int((y != -100).sum()) for _, y in token_task.validation.batches(5)]
    assert len(set(counts)) > 1, "batches have as many labels each: nothing is tested"


def test_labels_are_distilled_by_two_way_choices():
    student, teacher = 3 * torch.randn(6, 4), 3 * torch.randn(6, 4)
    p, q = (teacher / T).sigmoid(), (student / T).sigmoid()
    expected = T**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1).mean()
    torch.testing.assert_close(distillation_loss("binary_cross_entropy", student, teacher, T), expected)
    assert distillation_loss("binary_cross_entropy", student[:, :1], teacher[:, :1], T) > 0.1
    assert distillation_loss("binary_cross_entropy", teacher, teacher, T).abs() < 1e-6
    torch.testing.assert_close(
        distillation_loss("binary_cross_entropy", student[:, 0], teacher[:, 0], T),
        distillation_loss("cross_entropy", *(torch.stack([x[:, 0], 0 * x[:, 0]], 1) for x in (student, teacher)), T),
    )


def test_classes_are_distilled_along_axis_1_at_any_rank():
    student, teacher = torch.randn(6, 3, 5), torch.randn(6, 3, 5)
    flat = [x.transpose(1, 2).reshape(-1, 3) for x in (student, teacher)]
    expected = distillation_loss("cross_entropy", *flat, T)
    torch.testing.assert_close(distillation_loss("cross_entropy", student, teacher, T), expected)
    with pytest.raises(ModelError, match="no two classes"):
        distillation_loss("cross_entropy", student[:, :1], teacher[:, :1], T)


def test_two_axes_of_classes_are_distilled_digit_for_digit_as_ever():
    student, teacher = torch.randn(9, 4), torch.randn(9, 4)
    logs = [F.log_softmax(x / T, dim=-1) for x in (student, teacher)]
    before = T**2 * F.kl_div(*logs, reduction="batchmean", log_target=True)
    assert torch.equal(distillation_loss("cross_entropy", student, teacher, T), before)


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_values_are_distilled_by_their_squared_difference(loss):
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    assert torch.equal(distillation_loss(loss, student, teacher, T), F.mse_loss(student, teacher))


def test_a_student_learns_labels_from_its_teacher_alone(label_task):
    teacher, student = small(seed=1), small()
    train(teacher, label_task, TrainConfig(epochs=20, batch_size=10, learning_rate=0.1), seed=0)
    config = TrainConfig(epochs=20, batch_size=10, learning_rate=0.1)
    train(student, label_task, config, seed=0, teacher=teacher, distill=DistillConfig(weight=1.0))
    x = label_task.test.inputs["input"]
    with torch.no_grad():
        assert ((student(x) > 0) == (teacher(x) > 0)).float().mean() > 0.95
    assert evaluate_split(student, label_task.test, label_task.loss, label_task.metric)["metric"] > 90


def own(outputs, targets):
    return F.mse_loss(outputs, targets)


def own_of_classes(outputs, targets):
    return F.cross_entropy(outputs, targets)


def distilled(task, teacher, student):
    return train(student, task, TrainConfig(epochs=1, batch_size=20), seed=0, teacher=teacher, distill=DistillConfig())


def test_a_loss_that_says_nothing_is_taken_for_classes_only_where_there_are_some(token_task):
    x, y = torch.randn(60, 2), torch.arange(60) % 3
    task = Task.from_tensors((x, y), None, (x, y), loss=own_of_classes)
    check_distillation(task)
    named = Task.from_tensors((x, y), None, (x, y))
    ours, theirs = (distilled(t, small(seed=1), small()).history[0]["loss"] for t in (task, named))
    assert ours == theirs
    tokens = Task.from_tensors(labelled_tokens(), None, labelled_tokens(), loss=own_of_classes, metric="miou")
    with pytest.raises(RecipeError, match=r'own_of_classes.*register_loss\("name", kind="labels"\)'):
        distilled(tokens, token_net(1), token_net())


def test_a_loss_that_says_nothing_is_refused_before_anything_is_trained():
    x, y = torch.randn(60, 2), torch.randn(60, 3)
    task = Task.from_tensors((x, y), None, (x, y), loss=own)
    with pytest.raises(RecipeError, match=r'loss \'own\' does not say it.*register_loss\("name", kind="labels"\)'):
        check_training(RecoverConfig(distill=DistillConfig()), task)
    check_training(RecoverConfig(), task)
    with pytest.raises(RecipeError, match="does not say it"):
        distilled(task, small(seed=1), small())
    with pytest.raises(RecipeError, match="does not say it"):
        distillation_loss(own, torch.zeros(2, 3), torch.zeros(2, 3), T)


def test_a_loss_of_ones_own_declares_its_kind():
    @register_loss("own_focal_labels", labels=False, kind="labels")
    def focal(outputs, targets):
        chance = torch.where(targets > 0.5, outputs, -outputs).sigmoid()
        return -((1 - chance) ** 2 * chance.log()).mean()

    try:
        student, teacher = torch.randn(6, 4), torch.randn(6, 4)
        expected = distillation_loss("binary_cross_entropy", student, teacher, T)
        assert torch.equal(distillation_loss("own_focal_labels", student, teacher, T), expected)
    finally:
        LOSSES.forget("own_focal_labels")


@pytest.mark.parametrize("metric", ["rmse", "r2", "spearman"])
def test_validation_takes_metrics_that_are_no_means(metric):
    x = torch.randn(90, 2)
    y = x @ torch.tensor([2.0, -1.0])
    task = Task.from_tensors((x, y), None, (x, y), metric=metric)
    model = small(classes=1)
    train(model, task, TrainConfig(epochs=3, batch_size=10, learning_rate=0.02), seed=0)
    with torch.no_grad():
        outputs = model(x).numpy().astype(np.float64)
    wanted = score(outputs, y.numpy(), metric)["value"]
    assert evaluate_split(model, task.test, "mse", metric, batch_size=7)["metric"] == pytest.approx(wanted, rel=1e-5)
