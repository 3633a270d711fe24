"""Weights in a few bits, each block of inputs with a scale and a zero point of its own: how they are rounded."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
DAMPING = 0.01  # of GPTQ's Hessian, of its mean diagonal, as in the paper


class Blocks(NamedTuple):
    """A weight (rows, inputs) in blocks of inputs; the last one is filled up with zeros.

    values : (rows, blocks, size) uint8, 0 to 2^bits - 1.
    scales : (rows, blocks) float32.
    zeros  : (rows, blocks) uint8, the step that stands for 0; float32 where it lies between two.
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8] | NDArray[np.float32]

    def floats(self, inputs: int) -> NDArray[np.float32]:
        """(rows, inputs) what the integers stand for."""
        steps = self.values.astype(np.float32) - self.zeros[:, :, None]
        whole: NDArray[np.float32] = (steps * self.scales[:, :, None]).reshape(len(steps), -1)[:, :inputs]
        return whole


def rtn(weight: Floats, bits: int, size: int, symmetric: bool) -> Blocks:
    """Round to nearest, over the whole range of each block of a weight (rows, inputs)."""
    split = _split(weight, size)
    scales, zeros = _ranges(split, bits, symmetric)
    return _rounded(split, scales, zeros, bits)


def hqq(weight: Floats, bits: int, size: int, steps: int = 20) -> Blocks:
    """Zero points that fit most weights well and few badly: a small sum of |error|^0.7, by half-quadratic steps.

    Badri and Shaji 2023, "Half-quadratic quantization of large machine learning models". Zero points are floats, of 32
    bits a block; a block whose sum does not fall stays as `rtn` has it.
    """
    split, start = _split(weight, size), rtn(weight, bits, size, symmetric=False)
    scales, zeros, beta = start.scales[:, :, None], start.zeros[:, :, None].astype(np.float32), 10.0
    best, cost = zeros, np.full(zeros.shape, np.inf, np.float32)
    for _ in range(steps):
        steps_of = np.clip(np.round(split / scales + zeros), 0, 2**bits - 1)
        apart = split - (steps_of - zeros) * scales
        size_of = np.abs(apart)
        found = (size_of**0.7).sum(axis=2, keepdims=True)
        best, cost = np.where(found < cost, zeros, best), np.minimum(found, cost)
        shrunk = np.sign(apart) * np.maximum(size_of - np.maximum(size_of, 1e-12) ** (0.7 - 1) / beta, 0)
        zeros = np.mean(steps_of - (split - shrunk) / scales, axis=2, keepdims=True)
        beta *= 1.01
    return _rounded(split, start.scales, best[:, :, 0].astype(np.float32), bits)


def gptq(weight: Floats, moments: Floats, bits: int, size: int, symmetric: bool) -> Blocks:
    """Input by input, where what rounding one changes in the outputs is made up for by the inputs not yet rounded.

    moments : (inputs, inputs), the mean of x x' over what the layer reads.

    Frantar et al. 2022, "GPTQ: accurate post-training quantization for generative pre-trained transformers",
    arXiv 2210.17323, algorithm 1.
    """
    inputs = weight.shape[1]
    hessian = np.array(moments, dtype=np.float64)
    diagonal = np.diagonal(hessian).copy()
    hessian[np.diag_indices(inputs)] += DAMPING * diagonal.mean() + np.where(diagonal == 0, 1.0, 0.0)
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T  # upper: how an error spreads to later inputs
    left = np.array(weight, dtype=np.float64)
    values, scales, zeros = [], [], []
    for start in range(0, inputs, size):
        end = min(start + size, inputs)
        block, errors = left[:, start:end].copy(), np.zeros((len(left), end - start))
        scale, zero = _ranges(_split(block, size), bits, symmetric)
        rounded = np.zeros((len(left), size), dtype=np.uint8)
        rounded[:, end - start :] = zero
        for column in range(end - start):
            place = start + column
            steps = np.clip(np.round(block[:, column] / scale[:, 0] + zero[:, 0]), 0, 2**bits - 1)
            rounded[:, column] = steps
            apart = block[:, column] - (steps - zero[:, 0]) * scale[:, 0]
            errors[:, column] = apart / factor[place, place]
            block[:, column:] -= np.outer(errors[:, column], factor[place, place:end])
        left[:, end:] -= errors @ factor[start:end, end:]
        values.append(rounded)
        scales.append(scale)
        zeros.append(zero)
    return Blocks(np.stack(values, axis=1), np.concatenate(scales, axis=1), np.concatenate(zeros, axis=1))


def packed(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The last axis in as few bytes as it takes, the first of a byte's values in its lower bits."""
    if bits == 8:
        return values
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    return np.asarray(values[..., ::2] | (values[..., 1::2] << 4), dtype=np.uint8)


def _split(weight: Floats, size: int) -> Floats:
    """(rows, blocks, size)"""
    short = -weight.shape[1] % size
    whole = np.pad(weight, ((0, 0), (0, short))) if short else weight
    return whole.reshape(len(weight), -1, size)


def _ranges(split: Floats, bits: int, symmetric: bool) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scales and zero points (rows, blocks) that hold every value of a block, and 0 exactly."""
    low, high = np.minimum(split.min(axis=2), 0), np.maximum(split.max(axis=2), 0)
    half = 2 ** (bits - 1)
    scales = np.maximum(-low / half, high / (half - 1)) if symmetric else (high - low) / (2**bits - 1)
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    zeros = np.full(scales.shape, half) if symmetric else np.clip(np.round(-low / scales), 0, 2**bits - 1)
    return scales, zeros.astype(np.uint8)


def _rounded(
    split: Floats, scales: NDArray[np.float32], zeros: NDArray[np.uint8] | NDArray[np.float32], bits: int
) -> Blocks:
    steps = np.round(split / scales[:, :, None] + zeros[:, :, None])
    return Blocks(np.clip(steps, 0, 2**bits - 1).astype(np.uint8), scales, zeros)
