"""What Records are made of, as types: sizes, metrics, latencies, passes, tasks, machines.

A field is a key of the JSON object; each is None or empty where a file does not hold it. Figures without a unit in
their name are counts, ratios or shares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from evaluate.core.blocks import Block
from evaluate.core.text import finite


@dataclass(frozen=True)
class Sizes(Block):
    """What a model takes: counts, bytes of the deployed file, the same after zlib level 9, stored bits a weight."""

    params: float | None = None
    nonzero: float | None = None
    macs: float | None = None
    bytes: float | None = None
    packed_bytes: float | None = None
    bits: float | None = None

    def amounts(self) -> dict[str, float]:
        """Every size that is known, by the name of its unit; those in units of one's own too."""
        return {name: value for name, value in self.to_json().items() if finite(value)}


@dataclass(frozen=True)
class ClassScore(Block):
    """Precision, recall and F1 (shares) of one class with `n` samples; or of their plain means, without a class."""

    label: str | None = field(default=None, metadata={"json": "class"})
    n: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class ClassDrop(Block):
    """Points of recall that a class lost."""

    label: str | None = field(default=None, metadata={"json": "class"})
    n: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class Accuracy(Block):
    """A metric with its 95 % interval on `n` samples, in the metric's own unit."""

    metric: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: float | None = None
    per_class: tuple[ClassScore, ...] = ()
    macro: ClassScore = field(default_factory=ClassScore)


@dataclass(frozen=True)
class Drop(Block):
    """Baseline minus compressed on the same samples, in points, with its paired interval and test."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    gained: float | None = None
    lost: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Latency(Block):
    """One call, in milliseconds: the median with its interval; a percentile that too few samples carry is None."""

    median_ms: float | None = None
    low: float | None = None
    high: float | None = None
    mad_ms: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    needs: dict[str, float] = field(default_factory=dict)
    provider: str | None = None
    io: str | None = None
    threads: float | None = None
    batch: float | None = None
    n: float | None = None
    loops: float | None = None
    sittings: float | None = None


@dataclass(frozen=True)
class Speedup(Block):
    """Baseline latency over compressed latency; the verdict is faster, slower or not resolved."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class HeadEntry(Block):
    """One of several outputs that a run judged: its score before and after, and its drop."""

    name: str | None = None
    baseline: Accuracy = field(default_factory=Accuracy)
    compressed: Accuracy = field(default_factory=Accuracy)
    drop: Drop = field(default_factory=Drop)


@dataclass(frozen=True)
class Width(Block):
    """Output channels of a layer."""

    layer: str | None = None
    channels: float | None = None


@dataclass(frozen=True)
class Side(Block):
    """One of the two models of a run."""

    sizes: Sizes = field(default_factory=Sizes)
    accuracy: Accuracy = field(default_factory=Accuracy)
    latency: Latency = field(default_factory=Latency)
    validation: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, float] = field(default_factory=dict)
    widths: tuple[Width, ...] = ()


@dataclass(frozen=True)
class Change(Block):
    """One layer that a pass changed."""

    layer: str | None = None
    what: str | None = None
    before: Any = None
    after: Any = None


@dataclass(frozen=True)
class Candidate(Block):
    """One of the files that a pass chose among by measurement: its speed-up over what came in, points that it loses."""

    name: str | None = None
    bytes: float | None = None
    speedup: Speedup = field(default_factory=Speedup)
    lost: Drop = field(default_factory=Drop)
    chosen: bool | None = None


@dataclass(frozen=True)
class PassEntry(Block):
    """One pass of a run: its settings, seconds, changes, and the sizes before and after it."""

    kind: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    sizes_before: Sizes = field(default_factory=Sizes)
    sizes_after: Sizes = field(default_factory=Sizes)
    validation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal(Block):
    """A goal of the recipe; the status is met, missed or not resolved."""

    goal: str | None = None
    limit: Any = None
    value: float | None = None
    status: str | None = None


@dataclass(frozen=True)
class TaskEntry(Block):
    """The task a model was judged on; `splits` are samples by name."""

    name: str | None = None
    fingerprint: str | None = None
    classes: tuple[str, ...] = ()
    splits: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cpu(Block):
    """A processor as `evaluate.hardware` describes it."""

    name: str | None = None
    architecture: str | None = None
    isa: tuple[str, ...] = ()
    cores: float | None = None
    usable_cores: float | None = None
    affinity_cores: float | None = None
    quota_cores: float | None = None
    smt: bool | None = None
    governor: str | None = None
    clock_driver: str | None = None
    frequency_mhz: dict[str, Any] = field(default_factory=dict)
    boost: bool | None = None
    temperature_c: float | None = None
    virtual: bool | None = None


@dataclass(frozen=True)
class Environment(Block):
    """The machine and its software; `why` says what could not be read."""

    machine_id: str | None = None
    cpu: Cpu = field(default_factory=Cpu)
    int8_path: str | None = None
    channel_block: float | None = None
    memory_mb: float | None = None
    memory_limit_mb: float | None = None
    transparent_hugepages: str | None = None
    container: str | None = None
    hypervisor: str | None = None
    load: tuple[float, ...] = ()
    gpu: tuple[dict[str, Any], ...] = ()
    os: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    onnxruntime_build: str | None = None
    why: dict[str, str] = field(default_factory=dict)
