"""Networks as people write them: recurrent, several inputs, dicts and tuples of outputs, shared layers, maps, speech.

Each gives (network, inputs by name, targets, settings of its task); benchmarks/architectures.py runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES, SAMPLES = 4, 48
Made = tuple[nn.Module, dict[str, Tensor], Tensor, dict[str, Any]]
NETS: dict[str, Callable[[], Made]] = {}


def net(build: Callable[[], tuple[Any, ...]]) -> Callable[[], Made]:
    """Register one; what it leaves out is class ids and no settings."""

    def made() -> Made:
        network, inputs, *rest = build()
        targets = rest[0] if rest else torch.arange(SAMPLES) % CLASSES
        return network, inputs, targets, rest[1] if len(rest) > 1 else {}

    NETS[build.__name__] = made
    return made


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], both: bool = False) -> None:
        super().__init__()
        self.rnn = kind(12, 32, num_layers=1, batch_first=True, bidirectional=both)
        self.body, self.head = nn.Linear(64 if both else 32, 48), nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.rnn(x)
        return self.head(F.relu(self.body(found[:, -1])))


@net
def lstm() -> Any:
    return Recurrent(nn.LSTM), {"x": torch.randn(SAMPLES, 10, 12)}


@net
def gru() -> Any:
    return Recurrent(nn.GRU), {"x": torch.randn(SAMPLES, 10, 12)}


@net
def bidirectional_lstm() -> Any:
    return Recurrent(nn.LSTM, both=True), {"x": torch.randn(SAMPLES, 10, 12)}


@net
def keyword_convolutions() -> Any:
    def block(a: int, b: int) -> nn.Sequential:
        depthwise = nn.Conv1d(a, a, 5, padding=2, groups=a)
        return nn.Sequential(depthwise, nn.BatchNorm1d(a), nn.ReLU(), nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU())

    body = nn.Sequential(nn.Conv1d(20, 32, 3), block(32, 48), block(48, 64), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    return nn.Sequential(body, nn.Linear(64, CLASSES)), {"x": torch.randn(SAMPLES, 20, 50)}


class ImageAndTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 16, 3, stride=2), nn.Linear(5, 16)
        self.mixed, self.head = nn.Linear(16 * 49 + 16, 64), nn.Linear(64, CLASSES)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        parts = torch.cat([F.relu(self.conv(image)).flatten(1), F.relu(self.table(table))], 1)
        return self.head(F.relu(self.mixed(parts)))


@net
def image_and_table() -> Any:
    return ImageAndTable(), {"table": torch.randn(SAMPLES, 5), "image": torch.rand(SAMPLES, 3, 16, 16)}


class Giving(nn.Module):
    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.wide, self.body, self.head, self.form = nn.Linear(16, 64), nn.Linear(64, 32), nn.Linear(32, CLASSES), form

    def forward(self, x: Tensor) -> Any:
        hidden = self.body(F.relu(self.wide(x)))
        return self.form(self.head(F.relu(hidden)), hidden)


@net
def dict_of_outputs() -> Any:
    return Giving(lambda logits, hidden: {"logits": logits, "features": hidden}), {"x": torch.randn(SAMPLES, 16)}


@net
def tuple_of_outputs() -> Any:
    network = Giving(lambda logits, hidden: (hidden, logits))
    return network, {"x": torch.randn(SAMPLES, 16)}, torch.arange(SAMPLES) % CLASSES, {"output": "output1"}


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.middle, self.up = nn.Conv2d(32, 32, 3, padding=1), nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.merge, self.head = nn.Conv2d(32, 16, 3, padding=1), nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.down1(x))
        low = F.relu(self.middle(F.relu(self.down2(first))))
        return self.head(F.relu(self.merge(torch.cat([first, self.up(low)], 1))))


@net
def unet() -> Any:
    return UNet(), {"x": torch.rand(SAMPLES, 1, 16, 16)}, torch.rand(SAMPLES, 1, 16, 16)


@net
def autoencoder() -> Any:
    x = torch.rand(SAMPLES, 40)
    return nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 40)), {"x": x}, x


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(64, CLASSES)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(torch.cat([self.trunk(left), self.trunk(right)], 1))


@net
def siamese() -> Any:
    return Siamese(), {"left": torch.randn(SAMPLES, 16), "right": torch.randn(SAMPLES, 16)}


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.body, self.head = nn.Embedding(50, 32), nn.Linear(32, 64), nn.Linear(64, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(F.relu(self.body(self.bag(ids).mean(1))))


@net
def words() -> Any:
    return Bag(), {"ids": torch.randint(0, 50, (SAMPLES, 9))}


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


@net
def transformer_encoder() -> Any:
    return Encoder(), {"x": torch.randn(SAMPLES, 8, 32)}


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.channels = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)), nn.Linear(32, 64)
        self.back, self.norm, self.head = nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm(x + self.back(F.gelu(self.channels(x)))).mean(1))


@net
def mixer() -> Any:
    return Mixer(), {"x": torch.randn(SAMPLES, 8, 32)}


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.body, self.head = nn.Linear(16, 128), nn.Linear(64, 48), nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.body(F.glu(self.wide(x)))))


@net
def gated() -> Any:
    return Gated(), {"x": torch.randn(SAMPLES, 16)}


class Squeezing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.squeeze, self.excite = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.last, self.head = nn.Conv2d(32, 48, 3, stride=2), nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(F.relu(self.last(x)).mean((2, 3)))


@net
def squeeze_and_excite() -> Any:
    return Squeezing(), {"x": torch.rand(SAMPLES, 3, 16, 16)}


@net
def group_norm() -> Any:
    body = (nn.Conv2d(3, 32, 3), nn.GroupNorm(8, 32), nn.ReLU(), nn.Conv2d(32, 48, 3), nn.GroupNorm(8, 48), nn.ReLU())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, CLASSES))
    return nn.Sequential(*body, *head), {"x": torch.rand(SAMPLES, 3, 16, 16)}


@net
def weight_norm() -> Any:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 32, 3))
    body = (conv, nn.ReLU(), nn.Conv2d(32, 48, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(48, CLASSES)), {"x": torch.rand(SAMPLES, 3, 16, 16)}


@net
def one_slope_prelu() -> Any:
    body = (nn.Conv2d(3, 32, 3), nn.PReLU(), nn.Conv2d(32, 48, 3), nn.PReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(48, CLASSES)), {"x": torch.rand(SAMPLES, 3, 16, 16)}


class Shuffling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 1, groups=4)
        self.body, self.head = nn.Conv2d(32, 48, 3), nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.grouped(F.relu(self.first(x))))
        x = x.unflatten(1, (4, 8)).transpose(1, 2).flatten(1, 2)
        return self.head(F.relu(self.body(x)).mean((2, 3)))


@net
def channel_shuffle() -> Any:
    return Shuffling(), {"x": torch.rand(SAMPLES, 3, 16, 16)}


@net
def one_logit() -> Any:
    x = torch.randn(SAMPLES, 16)
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1)), {"x": x}, (x[:, :1] > 0).float()
