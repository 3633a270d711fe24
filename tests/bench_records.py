"""Sample Records of kind "bench" for tests of tables, pictures and pages: the same for the same arguments."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from records import environment

HOSTILE = "<script>alert('x')</script>\x1b[2J\n\"&$a_b$"
JUNK = (KeyError, None, "text", 0, -1.5, float("nan"), [], {}, [None], True)
MODELS = {"fp32": 1.0, "int8": 0.65, "pruned": 1.0}
DEVICES = {
    "laptop": ("Example CPU @ 2.50GHz", 1.0),
    "pi": ("Raspberry Pi 5 Model B Rev 1.0", 4.2),
    "jetson": ("ARM implementer 65 part 3394", 2.9),
}
CRASH = {
    "name": "broken",
    "path": "runs/broken.onnx",
    "kind": "crashed",
    "reason": "the process that ran it ended by signal 11 (segmentation fault) while it was probed",
}


def legs(cost: float, rng: np.random.Generator, shape: tuple[int, int, int], drift: float = 0.0) -> np.ndarray:
    """Samples in seconds (sittings, rounds, n) around `cost` milliseconds: placement, noise, slow calls, drift."""
    sittings, rounds, _ = shape
    placed = 1 + rng.normal(0, 0.004, (sittings, 1, 1))
    noise = rng.lognormal(0, 0.02, shape) * placed
    noise *= np.where(rng.random(shape) < 0.02, 1 + rng.exponential(1.5, shape), 1)
    slope = 1 + drift * np.linspace(0, 1, sittings * rounds).reshape(sittings, rounds, 1)
    return np.round(1e-3 * cost * noise * slope, 9)


def latency(samples: np.ndarray, provider: str, threads: int, batch: int) -> dict[str, Any]:
    """The latency block of these samples; a P99 below 662 samples is missing, and says by how many."""
    flat = 1e3 * samples.ravel()
    median = float(np.median(flat))
    p90, p95, p99 = (float(np.percentile(flat, q)) for q in (90, 95, 99))
    carried = flat.size >= 662
    return {
        "median_ms": median,
        "low": median * 0.996,
        "high": median * 1.005,
        "mad_ms": float(np.median(np.abs(flat - median))),
        "p90": p90,
        "p95": p95,
        "p99": p99 if carried else None,
        "needs": {} if carried else {"p99": 662 - flat.size},
        "provider": provider,
        "io": "device",
        "threads": threads,
        "batch": batch,
        "n": int(flat.size),
        "loops": 1,
        "sittings": int(samples.shape[0]),
    }


def ratio(base: np.ndarray, other: np.ndarray, width: float = 0.006) -> dict[str, Any]:
    """The speed-up block of two sets of samples."""
    value = float(np.median(base) / np.median(other))
    low, high = value * (1 - width), value * (1 + width)
    verdict = "faster" if low > 1.004 else "slower" if high < 0.996 else "not resolved"
    return {"value": value, "low": low, "high": high, "verdict": verdict}


def cost(relative: float, threads: int, batch: int) -> float:
    """Milliseconds of one call: a fixed part, a part by the sample, and threads that help less and less."""
    return 1.5 * relative * (0.15 + 0.85 * batch**0.93) / threads**0.7


def device_environment(device: str) -> dict[str, Any]:
    """The environment block of one of the DEVICES."""
    known = environment(hashlib.sha256(device.encode()).hexdigest()[:12])
    known["cpu"] = {**known["cpu"], "name": DEVICES[device][0], "usable_cores": 2, "governor": "performance"}
    return {**known, "gpu": [], "providers": ["CPUExecutionProvider"]}


def entry(name: str, samples: np.ndarray, base: np.ndarray, where: tuple[str, int, int]) -> dict[str, Any]:
    """One result of a bench Record; the baseline is the model whose samples are `base` themselves."""
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()
    size = 1_091_342 if name == "fp32" else 346_100
    value = 91.73 if name == "fp32" else 91.75
    first = samples is base
    drop = {"value": -0.02, "low": -0.19, "high": 0.15, "gained": 40, "lost": 38, "p": 0.91}
    return {
        "name": name,
        "path": f"runs/{name}",
        "file": f"runs/{name}/model.onnx",
        "sha256": digest,
        "baseline": first,
        "sizes": {"bytes": size, "packed_bytes": int(0.92 * size)},
        "inputs": [{"name": "input", "shape": [where[2], 3, 32, 32], "dtype": "float32"}],
        "latency": latency(samples, *where),
        "speedup": None if first else ratio(base, samples),
        "noise_floor": 0.004,
        "start": {"create_ms": 41.2, "first_call_ms": 3.1, "warm_up_calls": 15},
        "drift": {"first_ms": 1.5, "last_ms": 1.5, "ratio": 1.0, "low": 0.98, "high": 1.02, "drifts": False},
        "memory": {"peak_rss_mb": 61.4, "model_mb": 8.2, "gpu_mb": None, "why": None},
        "energy": {"joules_per_call": None, "source": None, "why": "this machine has no RAPL counters"},
        "accuracy": {"metric": "accuracy", "value": value, "low": value - 0.5, "high": value + 0.5, "n": 10_000},
        "drop": None if first else drop,
        "agreement": None if first else {"n": 200, "same": 199, "max_abs": 0.031},
        "samples": samples.tolist(),
        "warnings": [],
    }


def bench_record(
    models: Mapping[str, float] = MODELS,
    *,
    threads: Sequence[int] = (1,),
    batch: Sequence[int] = (1,),
    shape: tuple[int, int, int] = (8, 5, 5),
    device: str = "laptop",
    provider: str = "cpu",
    drift: float = 0.0,
    failed: Sequence[Mapping[str, Any]] = (),
    created: str = "2026-11-22T20:00:00Z",
    seed: int = 0,
) -> dict[str, Any]:
    """A whole bench Record: models are name -> cost relative to the first, which is the baseline."""
    rng = np.random.default_rng(seed)
    results, floors = [], []
    for count, size in itertools.product(threads, batch):
        where = (provider, count, size)
        scale = DEVICES[device][1] * cost(1.0, count, size)
        taken = {name: legs(scale * relative, rng, shape, drift) for name, relative in models.items()}
        base = next(iter(taken.values()))
        twin = legs(scale, rng, shape, drift)
        results += [entry(name, samples, base, where) for name, samples in taken.items()]
        interval = {"noise_floor": 0.004, "value": 1.001, "low": 0.999, "high": 1.004}
        floors.append({"provider": provider, "threads": count, "batch": size, **interval, "samples": twin.tolist()})
    settings = {"provider": provider, "io": "device", "threads": list(threads), "batch": list(batch), "seconds": 20.0}
    return {
        "schema": 1,
        "kind": "bench",
        "id": hashlib.sha256(f"{list(models)}{device}{seed}{created}".encode()).hexdigest()[:32],
        "created": created,
        "name": ", ".join(models),
        "leanfit": "0.1.0",
        "environment": device_environment(device),
        "machine": {"load": [0.4, 1.2], "temperature_c": [51.0, 63.5], "steal": 0.01},
        "settings": {**settings, "seed": seed, "inputs": "random", "scenario": None},
        "baseline": next(iter(models)),
        "results": results,
        "floors": floors,
        "failed": [dict(one) for one in failed],
        "warnings": ["another process used 0.8 of a core during 3 of 8 sittings"],
        "seconds": 20.1,
    }


def measure_record(**changes: Any) -> dict[str, Any]:
    """The Record of one model measured alone."""
    return bench_record({"fp32": 1.0}, **changes)


def places(value, at=()):
    """Every place in a record, the raw samples left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        if key != "samples":
            yield from places(item, (*at, key))


def spoiled(record, place, junk):
    """A copy with `junk` at one place; KeyError takes the place away."""
    changed = copy.deepcopy(record)
    target = changed
    for key in place[:-1]:
        target = target[key]
    if junk is KeyError:
        del target[place[-1]]
    else:
        target[place[-1]] = junk
    return changed


def small(device="laptop"):
    """A record of few samples, quick to draw."""
    return bench_record({"fp32": 1.0, "int8": 0.6}, shape=(2, 2, 2), failed=[CRASH], device=device)


RECORDS = {
    "one": bench_record(failed=[CRASH]),
    "sweep": bench_record(threads=(1, 2), batch=(1, 8), shape=(4, 4, 4)),
    "alone": measure_record(),
    "long": bench_record({"a-model-whose-name-is-long-indeed-x1": 1.0, "a-model-whose-name-is-long-indeed-x2": 0.9}),
    "nothing": bench_record({"fp32": 1.0}, threads=(), failed=[CRASH]),
}
