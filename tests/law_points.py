"""Points of known laws with noise, for the tests of how sure laws are and of what they answer."""

from __future__ import annotations

import numpy as np

from evaluate.scaling import Chinchilla

SPLIT = {"E": 1.2, "A": 400.0, "B": 1500.0, "alpha": 0.35, "beta": 0.38}


def noisy(y, noise, seed=0):
    return y * np.exp(noise * np.random.default_rng(seed).standard_normal(np.shape(y)))


def falling(n=30, noise=0.01, seed=0, floor=0.05, high=1e6, slope=-0.45):
    x = np.geomspace(1e3, high, n)
    return {"params": x}, noisy(floor + 8.0 * x**slope, noise, seed)


def table(n, d, noise=0.01, seed=0, truth=SPLIT):
    y = Chinchilla.form.predict(np.stack([n, d], axis=1), Chinchilla.form.vector(truth))
    return {"N": n, "D": d}, noisy(y, noise, seed)


def crossed(side=5):
    sizes = np.meshgrid(np.geomspace(1e6, 1e9, side), np.geomspace(1e8, 1e11, side))
    return tuple(part.ravel() for part in sizes)
