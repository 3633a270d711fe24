"""Networks of other libraries by name: timm:resnet18, torchvision:resnet18, hf:FOLDER; imported only when named."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from compress.models.model_registry import register_model
from evaluate.core.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

Count = Annotated[int, Field(ge=1, le=1_000_000)] | None
HEADS = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "masked-lm": "AutoModelForMaskedLM",
    "causal-lm": "AutoModelForCausalLM",
    "image-classification": "AutoModelForImageClassification",
    "audio-classification": "AutoModelForAudioClassification",
    "embeddings": "AutoModel",
    "pair-score": "AutoModel",
}
Head = Literal[
    "sequence-classification", "token-classification", "masked-lm", "causal-lm", "image-classification",
    "audio-classification", "embeddings", "pair-score",
]  # fmt: skip


@register_model("timm", takes="arch", trained="pretrained")
def timm_model(arch: str, classes: Count = None, in_channels: Count = None, pretrained: bool = False) -> nn.Module:
    """A network of timm, timm:NAME; `pretrained` weights come from timm's cache or the hub."""
    timm = _library("timm", "timm")
    if arch.partition(".")[0] not in (known := timm.list_models()):
        raise ModelError(f"timm has no network {arch!r}{did_you_mean(arch, known) or '.'} timm.list_models() has all.")
    settings = {"num_classes": classes, "in_chans": in_channels}
    return _made(f"timm:{arch}", timm.create_model, arch, pretrained=pretrained, **_given(settings))


@register_model("torchvision", takes="arch", trained="pretrained")
def torchvision_model(arch: str, classes: Count = None, pretrained: bool = False) -> nn.Module:
    """A network of torchvision, torchvision:NAME; `pretrained` weights come from torch's cache or the web."""
    models = _library("torchvision.models", "torchvision")
    if arch not in (known := models.list_models()):
        raise ModelError(
            f"torchvision has no network {arch!r}{did_you_mean(arch, known) or '.'} torchvision.models.list_models() "
            "has all."
        )
    settings = {"num_classes": classes, "weights": "DEFAULT" if pretrained else None}
    return _made(f"torchvision:{arch}", models.get_model, arch, **_given(settings))


@register_model("hf", takes="path", trained=True)
def transformers_model(path: str, head: Head = "sequence-classification", classes: Count = None) -> nn.Module:
    """A network of Transformers with its weights, hf:FOLDER or hf:NAME; local files first, then the hub."""
    transformers = _library("transformers", "transformers")
    transformers.utils.logging.disable_progress_bar()
    load = getattr(transformers, HEADS[head]).from_pretrained
    settings = {**_given({"num_labels": classes}), "attn_implementation": "eager"}
    try:
        network: nn.Module = load(path, local_files_only=True, **settings)
    except (OSError, ValueError, ImportError):  # not here, or not a network, or a package that it needs is broken
        network = _made(f"hf:{path}", load, path, **settings)
    if head == "pair-score":
        from compress.models.pair_score import PairScore

        network = PairScore(network)
    return network.eval()


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f'{package} is not installed ({error}): pip install "leanfit[{package}]".') from error


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _made(what: str, build: Any, *args: Any, **settings: Any) -> nn.Module:
    """What another library builds. Raises ModelError with its reason."""
    try:
        network: nn.Module = build(*args, **settings)
    except Exception as error:  # whatever another library raises, offline for instance
        cause: BaseException = error
        while isinstance(cause, ImportError) and cause.__cause__ is not None:  # which package it is stands in the first
            cause = cause.__cause__
        reason = (str(cause).splitlines() or [type(cause).__name__])[0][:300]
        raise ModelError(f"{what} cannot be built: {type(cause).__name__}: {reason}") from error
    return network
