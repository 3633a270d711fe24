"""Sample Records for tests of tables, pictures and pages: plausible numbers, the same for the same arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WARNING = "This CPU has no VNNI: weights use 7 bits (reduce_range) so that the int8 kernels cannot saturate."


def sizes(params: int, macs: int, size: int, bits: float) -> dict[str, Any]:
    """The six sizes of a model."""
    return {
        "params": params,
        "nonzero": params - 37,
        "macs": macs,
        "bytes": size,
        "packed_bytes": int(0.92 * size),
        "bits": bits,
    }


def widths(stages: Sequence[int], blocks: int = 3) -> list[dict[str, Any]]:
    """Channels per layer of a CIFAR ResNet with these stage widths."""
    named = [("conv1", stages[0])]
    for stage, channels in enumerate(stages, start=1):
        named += [(f"layer{stage}.{b}.conv{c}", channels) for b in range(blocks) for c in (1, 2)]
    return [{"layer": name, "channels": channels} for name, channels in named]


def accuracy(correct: int, n: int, classes: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    """Accuracy in per cent with a Wilson-like interval, per class and macro."""
    value = 100 * correct / n
    half = 196 * float(np.sqrt(max(correct * (n - correct), 1) / n**3))
    per_class = [
        {"class": name, "n": n // len(classes), "precision": 0.9, "recall": round(r, 4), "f1": 0.9}
        for name, r in zip(classes, value / 100 + rng.uniform(-0.05, 0.05, len(classes)), strict=True)
    ]
    macro = {"precision": value / 100, "recall": value / 100, "f1": value / 100 - 0.0004}
    interval = {"low": value - half, "high": value + half}
    return {"metric": "accuracy", "value": value, **interval, "n": n, "per_class": per_class, "macro": macro}


def latency(samples: np.ndarray, threads: int = 1) -> dict[str, Any]:
    """The latency block of these samples (seconds)."""
    middle = float(np.median(samples)) * 1e3
    p90 = float(np.percentile(samples, 90)) * 1e3
    settings = {"provider": "cpu", "threads": threads, "batch": 1, "n": int(samples.size)}
    return {"median_ms": middle, "low": middle * 0.994, "high": middle * 1.007, "p90": p90, **settings}


def rounds(median_ms: float, rng: np.random.Generator, count: int = 40, calls: int = 8) -> np.ndarray:
    """Raw samples in seconds (count, calls): lognormal noise, a slow drift and a few disturbed rounds."""
    drift = 1 + 0.02 * np.sin(np.linspace(0, 4, count))[:, None]
    noise = rng.lognormal(0, 0.04, (count, calls)) * drift
    noise[rng.integers(0, count, 3)] *= 1.6
    return np.round(median_ms * 1e-3 * noise, 9)


def quantize_pass(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """An int8 pass as a Record keeps it."""
    changes = [{"layer": w["layer"], "what": "weight bits", "before": 32, "after": 8} for w in widths((16, 32, 64))]
    config = {"scheme": "u8s8", "reduce_range": True, "calibrate": {"method": "minmax", "samples": 512}}
    moved = {"sizes_before": before, "sizes_after": after, "changes": changes, "warnings": [WARNING]}
    checks = {"details": {"sqnr_db": 38.9}, "validation": {"metric": {"before": 92.1, "after": 92.08}}}
    return {"kind": "quantize", "config": config, "seconds": 6.4, **moved, **checks}


def prune_pass(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """A pruning pass with recovery as a Record keeps it."""
    pairs = zip(widths((16, 32, 64)), widths((8, 24, 48)), strict=True)
    changes = [
        {"layer": b["layer"], "what": "out_channels", "before": b["channels"], "after": a["channels"]} for b, a in pairs
    ]
    config = {"keep": {"macs": 0.5}, "importance": "group_norm", "recover": {"epochs": 3}}
    moved = {"sizes_before": before, "sizes_after": after, "changes": changes, "warnings": []}
    return {"kind": "prune", "config": config, "seconds": 541.0, **moved, "details": {"asked": 0.5, "achieved": 0.45}}


def environment(machine: str = "a1b2c3") -> dict[str, Any]:
    """A machine like those the reports name."""
    cpu = {"name": "Example CPU @ 2.50GHz", "cores": 2, "isa": ["avx", "avx2", "fma"], "governor": None}
    versions = {"python": "3.11.9", "onnxruntime": "1.31.0", "numpy": "2.4.6"}
    return {"machine_id": machine, "cpu": cpu, "int8_path": "avx2", "load": [0.4, 0.3, 0.2], "versions": versions}


def sample_record(
    name: str = "cifar10-resnet20-int8",
    *,
    pruned: bool = False,
    speed: float = 1.58,
    drop: float = -0.02,
    resolution: float = 0.13,
    classes: Sequence[str] = CIFAR,
    machine: str = "a1b2c3",
    seed: int = 0,
) -> dict[str, Any]:
    """A whole Record of an int8 (or pruned) CIFAR ResNet-20.

    speed      : the true ratio of the two latencies; 1 gives "not resolved".
    drop       : points of accuracy lost; resolution is half its paired interval.
    """
    rng = np.random.default_rng(seed)
    n = 1000 * len(classes)
    before = sizes(272_474, 40_813_184, 1_091_342, 32.0)
    after = sizes(131_000, 18_400_000, 530_100, 32.0) if pruned else sizes(272_474, 40_813_184, 346_100, 8.07)
    base_rounds, comp_rounds = rounds(1.484, rng), rounds(1.484 / speed, rng)
    value = float(np.median(base_rounds) / np.median(comp_rounds))
    low, high = value * 0.988, value * 1.012
    verdict = "faster" if low > 1 else "slower" if high < 1 else "not resolved"
    correct = round(0.9173 * n)
    stages = (8, 24, 48) if pruned else (16, 32, 64)
    digest = hashlib.sha256(f"{name}{seed}".encode()).hexdigest()
    one_pass = (prune_pass if pruned else quantize_pass)(before, after)
    goals = [("drop", 1.5, drop), ("bytes", 0.35, after["bytes"] / before["bytes"]), ("latency", 0.65, 1 / value)]
    model = {"name": "resnet", "depth": 20, "width": 16, "shortcut": "A", "weights": "resnet20_cifar10.pt"}
    changes = drop + rng.normal(0, 0.4, len(classes))
    return {
        "schema": 1,
        "kind": "compress",
        "id": digest[:32],
        "created": "2026-11-22T17:00:00Z",
        "name": name,
        "leanfit": "0.1.0",
        "recipe": {
            "version": 1,
            "name": name,
            "seed": seed,
            "model": model,
            "task": {"name": "cifar10", "normalize": "imagenet"},
            "passes": [{"kind": one_pass["kind"], **one_pass["config"]}],
            "goals": {"drop": 1.5, "bytes": 0.35, "latency": 0.65},
            "benchmark": {"provider": "cpu", "threads": 1, "batch": 1, "rounds": 40, "seconds": 20},
        },
        "recipe_hash": digest[:16],
        "task": {
            "name": "cifar10",
            "fingerprint": "f00d" * 16,
            "classes": list(classes),
            "splits": {"train": 45_000, "validation": 5_000, "test": n},
        },
        "artifact": f"runs/{name}",
        "hashes": {
            "model.onnx": digest,
            "weights.safetensors": digest[::-1],
            "baseline/model.onnx": hashlib.sha256(b"resnet20").hexdigest(),
        },
        "environment": environment(machine),
        "baseline": {
            "sizes": before,
            "accuracy": accuracy(correct, n, classes, rng),
            "latency": latency(base_rounds),
            "validation": {"metric": 92.1},
            "widths": widths((16, 32, 64)),
            "seconds": 41.0,
        },
        "compressed": {
            "sizes": after,
            "accuracy": accuracy(correct - round(drop * n / 100), n, classes, rng),
            "latency": latency(comp_rounds),
            "validation": {"metric": 92.08},
            "widths": widths(stages),
            "seconds": 38.0,
            "parity": {"max_abs": 2.1e-5, "agree": 1.0},
        },
        "passes": [one_pass],
        "drop": {
            "value": drop,
            "low": drop - resolution,
            "high": drop + resolution,
            "gained": 40,
            "lost": 40 + round(drop * n / 100),
            "p": 0.91 if abs(drop) < resolution else 0.0004,
        },
        "per_class_drop": [
            {"class": c, "n": 1000, "drop": round(float(d), 1)} for c, d in zip(classes, changes, strict=True)
        ],
        "speedup": {"value": value, "low": low, "high": high, "verdict": verdict},
        "samples": {"baseline": base_rounds.tolist(), "compressed": comp_rounds.tolist()},
        "goals": [
            {"goal": g, "limit": limit, "value": v, "status": "met" if v <= limit else "missed"}
            for g, limit, v in goals
        ],
        "warnings": [WARNING],
        "seconds": 131.2,
    }


def regression_record() -> dict[str, Any]:
    """A Record of a regression: mse, no classes, nothing gained or lost by the sample, one warning-free pass."""
    record = sample_record("tank-mlp-half", pruned=True, speed=1.0)
    for side, value in (("baseline", 0.01234), ("compressed", 0.01301)):
        measured = {"metric": "mse", "value": value, "low": value * 0.95, "high": value * 1.05, "n": 1200}
        record[side]["accuracy"] = {**measured, "per_class": [], "macro": None}
    drop = {"value": -0.00067, "low": -0.0009, "high": -0.0004, "gained": None, "lost": None, "p": None}
    record["task"] = {**record["task"], "name": "tank", "classes": []}
    return {**record, "drop": drop, "per_class_drop": [], "warnings": [], "goals": []}
