"""Distillation inside the training loop: the loss, and how often the teacher is asked."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from tiny_training import Stop, net, same, stop_at
from torch import nn

from compress.tasks import get_task
from compress.training.distillation import distillation_loss
from compress.training.settings import AugmentConfig, DistillConfig, RecoverConfig, TrainConfig
from compress.training.train import train
from evaluate.core.errors import ModelError


@pytest.fixture(scope="module")
def few_digits():
    return get_task("digits", train_limit=150, test_limit=60)


def test_distillation_loss_follows_its_definition():
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    for t in (1.0, 4.0):
        p, q = (teacher / t).softmax(1), (student / t).softmax(1)
        expected = t**2 * (p * (p.log() - q.log())).sum(1).mean()
        torch.testing.assert_close(distillation_loss("cross_entropy", student, teacher, t), expected)
    assert distillation_loss("cross_entropy", teacher, teacher, 4.0).abs() < 1e-6
    with pytest.raises(ModelError, match="unlike"):
        distillation_loss("cross_entropy", student, teacher[:, :3], 1.0)


class Counting(nn.Module):
    """A teacher that counts the samples it is shown, and is confident of class 1."""

    shown = 0

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        type(self).shown += len(x)
        self.norm(x)
        return 10 * F.one_hot(torch.ones(len(x), dtype=torch.long), 10).float() + 0 * x.mean()


@pytest.mark.parametrize(
    ("augment", "epochs", "mode", "passes"),
    [
        (AugmentConfig(), 3, "computed once", 1),
        (AugmentConfig(), 1, "run each batch", 1),
        (AugmentConfig(flip=True), 3, "computed once", 2),
        (AugmentConfig(flip=True), 2, "run each batch", 2),
        (AugmentConfig(flip=True, crop=1), 3, "run each batch", 3),
    ],
)
def test_the_teacher_runs_as_seldom_as_it_can(few_digits, augment, epochs, mode, passes):
    teacher, student = Counting().train(), net()
    Counting.shown = 0
    kept = copy.deepcopy(teacher.state_dict())
    config = TrainConfig(epochs=epochs, batch_size=50, augment=augment)
    result = train(student, few_digits, config, seed=0, teacher=teacher, distill=DistillConfig(weight=1.0))
    assert (result.teacher, Counting.shown) == (mode, passes * len(few_digits.train))
    assert teacher.training and all(
        torch.equal(a, b) for a, b in zip(kept.values(), teacher.state_dict().values(), strict=True)
    )


def test_the_student_follows_the_teacher_not_the_labels(few_digits):
    student = net()
    train(
        student,
        few_digits,
        TrainConfig(epochs=3, batch_size=25, keep="last"),
        seed=0,
        teacher=Counting(),
        distill=DistillConfig(weight=1.0),
    )
    with torch.no_grad():
        assert (student(few_digits.test.inputs["image"]).argmax(1) == 1).float().mean() > 0.9


def test_cached_teacher_outputs_are_those_of_the_images_shown(few_digits):
    """Weight 1, the teacher being the student's own start: the loss of a model that agrees with itself is small."""

    class Still(nn.Module):
        """A network without batch statistics, so that training and eval mode agree."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))

        def forward(self, x):
            return self.body(x)

    config = TrainConfig(epochs=3, batch_size=16, augment=AugmentConfig(flip=True), learning_rate=1e-9)
    result = train(Still(), few_digits, config, seed=0, teacher=Still(), distill=DistillConfig(weight=1.0))
    assert result.teacher == "computed once"
    assert max(abs(entry["loss"]) for entry in result.history) < 1e-5


def test_distillation_goes_on_after_an_interruption_without_asking_the_teacher_again(few_digits, tmp_path):
    config, distill = RecoverConfig(epochs=3, batch_size=50), DistillConfig()
    whole, cut, again, teacher = net(), net(), net(), net(seed=7)
    train(whole, few_digits, config, seed=0, teacher=teacher, distill=distill)
    with pytest.raises(Stop):
        train(cut, few_digits, config, seed=0, teacher=teacher, distill=distill, folder=tmp_path, status=stop_at(5))
    messages = []
    train(
        again, few_digits, config, seed=0, teacher=teacher, distill=distill, folder=tmp_path,
        status=lambda message, done, total: messages.append(message),
    )  # fmt: skip
    assert same(whole, again)
    assert len(messages) == 6 and all(m.startswith("epoch") for m in messages)


def test_distillation_without_a_teacher_is_refused(few_digits):
    with pytest.raises(ModelError, match="needs a teacher"):
        train(net(), few_digits, TrainConfig(), seed=0, distill=DistillConfig())
