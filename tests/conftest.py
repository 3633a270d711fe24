"""What the tests share: small real tasks, a small trained network, and the rule about missing data sets."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from data_sets import require_data

from compress.models import build_model
from compress.tasks import Task, get_task
from compress.training.settings import TrainConfig
from compress.training.train import train

torch.set_num_threads(1)
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a name that is nowhere would be asked for over and over, for a minute

# Behind `&` or nohup these are ignored, and what is ignored stays so in the commands that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def digits() -> Task:
    """scikit-learn's 1,797 digits in their three splits."""
    return get_task("digits")


@pytest.fixture(scope="session")
def trained(digits: Task) -> torch.nn.Module:
    """A ResNet-8 of width 8, trained on the digits for four epochs; not to be changed."""
    torch.manual_seed(0)
    model = build_model("resnet", depth=8, width=8, in_channels=1)
    config = TrainConfig(epochs=4, batch_size=64, learning_rate=0.1)
    return train(model, digits, config, seed=0).module.eval()


@pytest.fixture
def needs_data(request: pytest.FixtureRequest) -> Path:
    """The folder of the data sets; skips where a file that a `data` mark names is not there."""
    wanted = [name for mark in request.node.iter_markers("data") for name in mark.args]
    return require_data(request.node.name, wanted)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: two workers share files, and the last one would be waited for."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/house/test_docs.py"))
