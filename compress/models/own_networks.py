"""leanfit's own networks by name and arguments. Needs no torch until one is built, so that recipes load quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from compress.models.model_registry import register_model
from evaluate.core.errors import ModelError

if TYPE_CHECKING:
    from compress.models.mlp import MLP
    from compress.models.mobilenet import MobileNet
    from compress.models.resnet import ResNet
    from compress.models.vit import ViT


def _six_n_plus_two(depth: int) -> int:
    if depth < 8 or depth % 6 != 2:
        lower = max(8, depth - (depth - 2) % 6)
        raise ValueError(f"depth must be 6n+2 (8, 14, 20, 26, 32, 44, 56, 110, ...), for instance {lower}")
    return depth


@register_model("mlp")
def mlp(
    inputs: Annotated[int, Field(ge=1, le=65536)],
    classes: Annotated[int, Field(ge=1, le=65536)] = 10,
    width: Annotated[int, Field(ge=1, le=65536)] = 64,
    depth: Annotated[int, Field(ge=1, le=256)] = 2,
) -> MLP:
    """Multilayer perceptron: `depth` hidden layers of `width` units over `inputs` flattened values (8x8 digits: 64)."""
    from compress.models.mlp import MLP

    return MLP(inputs, classes, width, depth)


@register_model("resnet")
def resnet(
    depth: Annotated[int, Field(ge=8, le=2000), AfterValidator(_six_n_plus_two)] = 20,
    width: Annotated[int, Field(ge=1, le=4096)] = 16,
    classes: Annotated[int, Field(ge=1, le=65536)] = 10,
    in_channels: Annotated[int, Field(ge=1, le=65536)] = 3,
    shortcut: Literal["A", "B"] = "A",
) -> ResNet:
    """CIFAR-style ResNet: depth 6n+2, stages of 1x, 2x, 4x width, shortcut A (no parameters) or B (1x1 convolution)."""
    from compress.models.resnet import ResNet

    return ResNet(depth, width, classes, in_channels, shortcut)


@register_model("vit")
def vit(
    image: Annotated[int, Field(ge=1, le=65536)] = 32,
    patch: Annotated[int, Field(ge=1, le=65536)] = 4,
    width: Annotated[int, Field(ge=1, le=65536)] = 64,
    depth: Annotated[int, Field(ge=1, le=256)] = 4,
    heads: Annotated[int, Field(ge=1, le=65536)] = 4,
    ratio: Annotated[int, Field(ge=1, le=64)] = 2,
    classes: Annotated[int, Field(ge=1, le=65536)] = 10,
    in_channels: Annotated[int, Field(ge=1, le=65536)] = 3,
) -> ViT:
    """Small vision transformer for square images: `image` a multiple of `patch`, `width` a multiple of `heads`.

    Raises ModelError where they are not.
    """
    from compress.models.vit import ViT

    problems = []
    if image % patch:
        fits = [p for p in range(1, image + 1) if image % p == 0]
        problems.append(f"image {image} is not a multiple of patch {patch} (patches that fit: {fits})")
    if width % heads:
        problems.append(f"width {width} is not a multiple of heads {heads}")
    if problems:
        raise ModelError(f"model 'vit' cannot be built: {'; '.join(problems)}.")
    return ViT(image, patch, width, depth, heads, ratio, classes, in_channels)


@register_model("mobilenet")
def mobilenet(
    width: Annotated[float, Field(gt=0, le=64)] = 1.0,
    depth: Annotated[int, Field(ge=1, le=64)] = 2,
    classes: Annotated[int, Field(ge=1, le=65536)] = 10,
    in_channels: Annotated[int, Field(ge=1, le=65536)] = 3,
) -> MobileNet:
    """MobileNetV2-style network for small images: width multiplier, `depth` inverted residuals in each of 4 stages."""
    from compress.models.mobilenet import MobileNet

    return MobileNet(width, depth, classes, in_channels)
