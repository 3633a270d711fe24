"""What a comparison measures, as types: a result and its floor, a profile, a load scenario; see `record_parts`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from evaluate.core.blocks import RAW, Block
from evaluate.core.record_parts import Accuracy, Drop, Latency, Sizes, Speedup


@dataclass(frozen=True)
class Drift(Block):
    """The medians of the first and of the last third of a run, and their ratio (last over first) with its interval."""

    first_ms: float | None = None
    last_ms: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    drifts: bool | None = None


@dataclass(frozen=True)
class Memory(Block):
    """Peak resident memory of a process, what the model added to it, and its share of a GPU (2**20 bytes)."""

    peak_rss_mb: float | None = None
    model_mb: float | None = None
    gpu_mb: float | None = None
    why: str | None = None


@dataclass(frozen=True)
class Energy(Block):
    """Joules of one call by a counter, or why there are none."""

    joules_per_call: float | None = None
    source: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class Agreement(Block):
    """How far outputs are from those expected of the same file."""

    n: float | None = None
    same: float | None = None
    max_abs: float | None = None
    sqnr_db: float | None = None


@dataclass(frozen=True)
class Machine(Block):
    """What the machine did while it was measured; a pair is first and last, or least and most."""

    seconds: float | None = None
    marks: float | None = None
    cores: float | None = None
    others_cores: dict[str, float] = field(default_factory=dict)
    steal_share: float | None = None
    load_1m: tuple[float, ...] = ()
    frequency_mhz: tuple[float, ...] = ()
    temperature_c: tuple[float, ...] = ()
    throttled: bool | None = None
    involuntary_switches: float | None = None
    governor: str | None = None
    clock_driver: str | None = None
    quota_cores: float | None = None
    quota_stopped_s: float | None = None
    why: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result(Block):
    """One candidate of a comparison under one condition (provider, threads, batch)."""

    name: str | None = None
    path: str | None = None
    file: str | None = None
    sha256: str | None = None
    sizes: Sizes = field(default_factory=Sizes)
    baseline: bool | None = None
    inputs: tuple[dict[str, Any], ...] = ()
    latency: Latency = field(default_factory=Latency)
    speedup: Speedup = field(default_factory=Speedup)
    noise_floor: float | None = None
    start: dict[str, float] = field(default_factory=dict)
    drift: Drift = field(default_factory=Drift)
    memory: Memory = field(default_factory=Memory)
    energy: Energy = field(default_factory=Energy)
    accuracy: Accuracy = field(default_factory=Accuracy)
    drop: Drop = field(default_factory=Drop)
    agreement: Agreement = field(default_factory=Agreement)
    samples: Any = field(default=None, metadata=RAW)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Floor(Block):
    """The baseline against itself under one condition: what the comparison cannot tell."""

    provider: str | None = None
    threads: float | None = None
    batch: float | None = None
    noise_floor: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    samples: Any = field(default=None, metadata=RAW)


@dataclass(frozen=True)
class Failure(Block):
    """A candidate that could not be measured, and why."""

    name: str | None = None
    path: str | None = None
    kind: str | None = None
    reason: str | None = None
    exit_code: float | None = None


@dataclass(frozen=True)
class OperatorTime(Block):
    """Milliseconds of a call in all nodes of one operator, and their share of all kernels."""

    op: str | None = None
    ms: float | None = None
    share: float | None = None
    count: float | None = None
    error_ms: float | None = None


@dataclass(frozen=True)
class NodeTime(Block):
    """One node as it runs: milliseconds of a call, the shape of its first output, the type of its first input."""

    node: str | None = None
    op: str | None = None
    layer: str | None = None
    ms: float | None = None
    share: float | None = None
    shape: tuple[float, ...] = ()
    provider: str | None = None
    dtype: str | None = None
    helper: bool | None = None
    count: float | None = None
    iqr_ms: float | None = None
    error_ms: float | None = None


@dataclass(frozen=True)
class LayerTime(Block):
    """Milliseconds of a call in one layer; `ops` are those of each operator, `weights` the shape of its weights."""

    layer: str | None = None
    ms: float | None = None
    share: float | None = None
    ops: dict[str, float] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    count: float | None = None
    error_ms: float | None = None


@dataclass(frozen=True)
class Profile(Block):
    """Where the time of one call goes; see `evaluate.profiling.profile.profiles`."""

    name: str | None = None
    provider: str | None = None
    threads: float | None = None
    batch: float | None = None
    run: str | None = None
    calls: float | None = None
    rounds: float | None = None
    call_ms: float | None = None
    call_error_ms: float | None = None
    profiled_ms: float | None = None
    overhead: float | None = None
    event_ms: float | None = None
    kernels_ms: float | None = None
    outside_ms: float | None = None
    operators: tuple[OperatorTime, ...] = ()
    nodes: tuple[NodeTime, ...] = ()
    layers: tuple[LayerTime, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Load(Block):
    """Queries served at one rate (a second); on a side of the rate found, of several probes together."""

    rate: float | None = None
    probes: float | None = None
    queries: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    tail_ms: float | None = None
    met: bool | None = None
    cut: bool | None = None
    highest: float | None = None


@dataclass(frozen=True)
class BatchRate(Block):
    """Samples a second at one batch; `of_best` is its ratio to the fastest, `samples` one figure a round."""

    batch: float | None = None
    samples_per_s: float | None = None
    low: float | None = None
    high: float | None = None
    call_ms: float | None = None
    of_best: Speedup = field(default_factory=Speedup)
    samples: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scenario(Block):
    """One model under a scenario of MLPerf Inference; each of the three fills its own part of the figures."""

    name: str | None = None
    provider: str | None = None
    threads: float | None = None
    batch: float | None = None
    scenario: str | None = None
    bound_ms: float | None = None
    percentile: float | None = None
    seed: float | None = None
    seconds: float | None = None
    queries: float | None = None
    qps: float | None = None
    median_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    needs: dict[str, float] = field(default_factory=dict)
    samples_per_s: float | None = None
    fastest: float | None = None
    rounds: float | None = None
    batches: tuple[BatchRate, ...] = ()
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    why: str | None = None
    utilisation: float | None = None
    capacity: float | None = None
    alone: Load = field(default_factory=Load)
    probes: tuple[Load, ...] = ()
    below: Load = field(default_factory=Load)
    above: Load = field(default_factory=Load)
    confirmed: bool | None = None
    mlperf_valid: bool | None = None
    issued: float | None = None
    completed: float | None = None
    lost: float | None = None
    counted_twice: float | None = None
    calls: float | None = None
    warnings: tuple[str, ...] = ()
