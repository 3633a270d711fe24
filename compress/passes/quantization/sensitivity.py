"""How much each layer alone disturbs the output when it computes in integers."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.graph.onnx_graph import serialise
from compress.passes.quantization.quantize_settings import QuantizeConfig
from compress.passes.quantization.quantizer import Quantizer, first_of
from evaluate.runtime.session import Value, judged_place, open_session

SAMPLES = 32  # that the outputs of each layer's file are compared on


@dataclass(frozen=True)
class LayerNoise:
    """One layer in integers, all others in fp32: the power of what that changes in the output, over the output's own.

    noise : 0 where nothing changes; 0.01 is 20 dB.
    """

    layer: str
    noise: float

    @property
    def decibel(self) -> float | None:
        """The signal-to-noise ratio in dB; None where nothing changes."""
        return float(-10 * np.log10(self.noise)) if self.noise > 0 else None


def layer_noise(
    quantizer: Quantizer,
    config: QuantizeConfig,
    layers: Sequence[str],
    status: Callable[[str, float, float], None] = lambda message, done, total: None,
) -> list[LayerNoise]:
    """The noise of each layer, the noisiest first, on at most 32 of the samples that ranges were found on.

    Of the output that is judged; what is not finite in fp32 is left out. Per-layer noise adds up to that of all layers
    as long as it is small (Zhou et al. 2018, "Adaptive quantization for deep neural network", arXiv 1712.01048).
    """
    calls = list(first_of(quantizer.samples, SAMPLES))
    floats = _outputs(serialise(quantizer.graph), calls)
    finite = np.isfinite(floats)
    power = float(np.square(floats[finite]).sum())
    found = []
    for number, layer in enumerate(layers):
        status("quantize: sensitivity", number, len(layers))
        alone = config.model_copy(update={"layers": (glob.escape(layer),), "operators": "weighted"})
        outputs = _outputs(serialise(quantizer.written(alone)), calls)
        apart = float(np.square((outputs - floats)[finite]).sum())
        found.append(LayerNoise(layer, apart / power if power > 0 else apart))
    return sorted(found, key=lambda one: -one.noise)


def _outputs(data: bytes, calls: Sequence[Mapping[str, Value]]) -> NDArray[np.float64]:
    """The judged output of all calls, one after the other."""
    with open_session(data) as session:
        given = [session.run(feeds) for feeds in calls]
    return np.concatenate([np.asarray(one[judged_place(one)], dtype=np.float64).reshape(-1) for one in given])
