"""How much each layer alone disturbs the output when it computes in integers."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compress.graph.onnx_graph import serialise
from compress.passes.quantization.noise import decibel, noise_of, outputs_of
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import Quantizer, first_of

SAMPLES = 32  # that the outputs of each layer's file are compared on


@dataclass(frozen=True)
class LayerNoise:
    """One layer in integers, all others in fp32: the power of what that changes in the output, over the output's own.

    noise  : 0 where nothing changes; 0.01 is 20 dB.
    others : the same of all layers in integers but this one; None where that was not asked for, or is no layer at all.
    """

    layer: str
    noise: float
    others: float | None = None

    @property
    def decibel(self) -> float | None:
        """The signal-to-noise ratio in dB; None where nothing changes."""
        return decibel(self.noise)

    @property
    def others_decibel(self) -> float | None:
        """The same of all layers but this one; None where that is not known either."""
        return None if self.others is None else decibel(self.others)


def layer_noise(
    quantizer: Quantizer,
    config: QuantizeConfig,
    layers: Sequence[str],
    status: Callable[[str, float, float], None] = lambda message, done, total: None,
    *,
    others: bool = False,
) -> list[LayerNoise]:
    """The noise of each layer, the noisiest first, on at most 32 of the samples that ranges were found on.

    Of the output that is judged; what is not finite in fp32 is left out. Per-layer noise adds up to that of all layers
    as long as it is small (Zhou et al. 2018, "Adaptive quantization for deep neural network", arXiv 1712.01048).
    """
    calls = list(first_of(quantizer.samples, SAMPLES))
    floats = outputs_of(serialise(quantizer.graph), calls)

    def noise(**changed: object) -> float:
        own = config.model_copy(update=changed)
        return noise_of(outputs_of(serialise(quantizer.written(own)), calls), floats)

    found = []
    for number, layer in enumerate(layers):
        status("quantize: sensitivity", number, len(layers))
        pattern = glob.escape(layer)
        alone = noise(layers=(pattern,), operators="weighted")
        left = noise(exclude=(*config.exclude, pattern)) if others and len(layers) > 1 else None
        found.append(LayerNoise(layer, alone, left))
    return sorted(found, key=lambda one: -one.noise)
