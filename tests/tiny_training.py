"""Small networks and settings for tests of training, and a way to stop a training at a step."""

from __future__ import annotations

import torch

from compress.models import build_model
from compress.training.settings import AugmentConfig, ScheduleConfig


def net(seed=0, **kwargs):
    torch.manual_seed(seed)
    return build_model("resnet", **{"depth": 8, "width": 4, "in_channels": 1, **kwargs})


def small(seed=0, inputs=2, classes=3):
    torch.manual_seed(seed)
    return build_model("mlp", inputs=inputs, classes=classes, width=8, depth=1)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def plain(history):
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]


class Stop(Exception):
    pass


def stop_at(step):
    def status(message, done, total):
        if message.startswith("epoch") and done == step:
            raise Stop

    return status


EVERYTHING = {
    "epochs": 3,
    "batch_size": 32,
    "augment": AugmentConfig(flip=True, crop=1, cutout=2, mixup=0.2),
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "clip_norm": 1.0,
    "schedule": ScheduleConfig(kind="cosine", warmup_epochs=0.5),
}
