"""Raw samples of latency: each model's in the order of time, and how they are distributed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.core.bench_parts import Result
from evaluate.core.text import clean, duration, numbers_in, ratio
from evaluate.report.charts.svg import (
    ACCENT,
    BASE,
    GAINED,
    INK,
    LINE,
    LOST,
    MUTED,
    TIMES,
    Picture,
    draw,
    one_unit,
    rows_axis,
    scaled_axis,
    strokes,
)
from evaluate.report.messages.bench_messages import Block

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


MOST_LANES = 12
LANE_HEIGHT = 74
ROW_HEIGHT = 44
BINS = 72
# Medians further apart than this are each drawn against themselves.
FAR_APART = 5.0
# Percentiles that are marked: a ring and a diamond.
MARKS = {"p90": "o", "p99": "d"}
COLORS = (BASE, ACCENT, GAINED, LOST)  # of the files of a run


@dataclass(frozen=True)
class Lane:
    """The samples of one model in one condition: milliseconds by sitting, in the order of time."""

    name: str
    sittings: list[Floats]
    baseline: bool
    result: Result

    @property
    def calls(self) -> Floats:
        """All samples, (n,) milliseconds."""
        return np.concatenate(self.sittings)

    @property
    def median(self) -> float:
        """The median of all samples, in milliseconds."""
        return float(np.median(self.calls))


def lanes_of(block: Block) -> list[Lane]:
    """The models of a condition that have samples, the baseline first and once more where it was timed twice."""
    found = [
        Lane(clean(label, 24), _sittings(result.samples), bool(result.baseline), result)
        for label, result in block.named()
    ]
    twin = _sittings(block.floor.samples)
    if found and twin:
        again = Lane(clean(f"{found[0].name} again", 30), twin, True, Result())
        found.insert(1, again)
    return [lane for lane in found if lane.sittings]


def _sittings(samples: Any) -> list[Floats]:
    """Samples of any nesting, in seconds, as one array of milliseconds a sitting; what is no time is left out."""
    if not isinstance(samples, (list, tuple, np.ndarray)):
        return []
    found = [np.array([1e3 * v for v in numbers_in(sitting) if v > 0], dtype=np.float64) for sitting in samples]
    return [sitting for sitting in found if sitting.size]


def samples_picture(block: Block, *, key: str, where: str = "", dots: int = 300) -> tuple[Picture, str] | None:
    """A lane a model: its calls in the order of time, each sitting's median, and a mark where a new sitting begins.

    where : is added to the title.
    dots  : at most so many calls a lane are drawn; the caption says so. Gives the picture and its caption.
    """
    every = lanes_of(block)
    lanes = every[:MOST_LANES]
    if not lanes:
        return None
    low, high = _window(lanes)
    step = max(math.ceil(lane.calls.size / dots) for lane in lanes)
    text = "; ".join(f"{lane.name}: {_said(lane, high)}" for lane in lanes)

    def paint(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(len(lanes), 1, sharex=True))
        for one, lane in zip(axes, lanes, strict=True):
            _paint_lane(one, lane, (low, high), step)
        count = max(len(lane.sittings) for lane in lanes)
        axes[-1].set_xlabel(f"{count} sitting{'' if count == 1 else 's'}, in the order of time")

    title = _title("Samples over time", where, len(lanes), len(every))
    picture = draw(paint, height=40 + LANE_HEIGHT * len(lanes), title=title, text=text, key=key)
    return picture, _caption(step)


def _title(name: str, where: str, shown: int, all_of: int) -> str:
    return name + (f": {where}" if where else "") + (f" (the first {shown} of {all_of})" if shown < all_of else "")


def _caption(step: int) -> str:
    drawn = "Each dot is a sample" if step == 1 else f"One sample in {step}, chosen at random, is drawn as a dot"
    return (
        f"{drawn}; lines are the medians of sittings, from all samples. All lanes span the same share of their own "
        "median, so noise and drift compare; samples that take longer than fits are counted at the right."
    )


def _said(lane: Lane, high: float) -> str:
    beyond = int(np.sum(lane.calls > high * lane.median))
    slow = f"; {beyond} beyond, to {duration(float(lane.calls.max()))}" if beyond else ""
    return f"{duration(lane.median)}{slow}"


def _window(lanes: Sequence[Lane]) -> tuple[float, float]:
    """The drawn range as shares of a median: the bulk of every lane with its noise, but at most the triple."""
    lows, highs = [0.98], [1.02]
    for lane in lanes:
        shares = lane.calls / lane.median
        low, high = np.percentile(shares, (0.5, 97))
        reach = 8 * float(np.median(np.abs(shares - 1)))
        lows.append(max(float(low), 1 - reach))
        highs.append(min(float(high), 1 + reach))
    low, high = max(0.0, min(lows)), min(3.0, max(highs))
    return low - 0.08 * (high - low), high + 0.12 * (high - low)


def _paint_lane(axes: Axes, lane: Lane, window: tuple[float, float], step: int) -> None:
    from matplotlib.ticker import MaxNLocator

    color, median = BASE if lane.baseline else ACCENT, lane.median
    low, high = (share * median for share in window)
    x = np.concatenate([number + (np.arange(s.size) + 0.5) / s.size for number, s in enumerate(lane.sittings)])
    # One call in `step`, chosen at random: even steps could always meet the same call of a round.
    kept = np.sort(np.random.default_rng(0).choice(lane.calls.size, -(-lane.calls.size // step), replace=False))
    kept = kept[lane.calls[kept] <= high]
    x, y = x[kept], lane.calls[kept]
    _plot(axes, strokes(x, y, x + 0.004 * len(lane.sittings), y), color, 1.7, alpha=0.55)
    number = np.arange(len(lane.sittings), dtype=np.float64)
    middles = np.minimum([float(np.median(s)) for s in lane.sittings], high)
    _plot(axes, strokes(number + 0.04, middles, number + 0.96, middles), INK, 1.5)
    _plot(
        axes, strokes(number[1:], np.full(len(number) - 1, low), number[1:], np.full(len(number) - 1, high)), LINE, 0.8
    )
    axes.set_xlim(0, len(lane.sittings))
    axes.set_ylim(low, high)
    axes.set_title(lane.name, loc="left", fontsize=11, color=color, pad=3)
    axes.set_title(_note(lane, window[1]), loc="right", fontsize=11, color=MUTED, pad=3)
    axes.grid(visible=False, axis="x")
    axes.set_xticks([])
    unit = one_unit(axes, "y", high, TIMES)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylabel(unit, fontsize=11)
    axes.tick_params(axis="y", labelsize=11)


def _plot(axes: Axes, path: tuple[Floats, ...], color: str, width: float, alpha: float = 1.0) -> None:
    """One path that keeps every stroke, however short."""
    (line,) = axes.plot(*path, color=color, linewidth=width, alpha=alpha)
    line.get_path().should_simplify = False


def _note(lane: Lane, high: float) -> str:
    drift = lane.result.drift
    return _said(lane, high) + (f"; drifts {ratio(drift.ratio)}" if drift.drifts and drift.ratio is not None else "")


def distributions_picture(block: Block, *, key: str, where: str = "") -> tuple[Picture, str] | None:
    """A row a model: how its calls are distributed, with the median and the percentiles that the samples carry."""
    every = lanes_of(block)
    lanes = every[:MOST_LANES]
    if not lanes:
        return None
    medians = [lane.median for lane in lanes]
    relative = max(medians) > FAR_APART * min(medians)
    text = "; ".join(f"{lane.name}: {_percentiles(lane)}" for lane in lanes)

    title = _title("Distributions", where, len(lanes), len(every))
    picture = draw(
        lambda figure: _paint_rows(figure.add_subplot(), lanes, relative),
        height=64 + ROW_HEIGHT * len(lanes), title=title, text=text, key=key,
    )  # fmt: skip
    own = " The models are too far apart for one axis of time: each is drawn against its own median."
    marks = "Line: median; ring: P90; diamond: P99, where the samples carry them."
    return picture, f"{marks}{_beyond(lanes, relative)}{own if relative else ''}"


def _marked(lane: Lane) -> dict[str, float]:
    """The percentiles that its samples carry."""
    known = {"p90": lane.result.latency.p90, "p99": lane.result.latency.p99}
    return {name: value for name, value in known.items() if value is not None and value > 0}


def _percentiles(lane: Lane) -> str:
    tails = [f"{name.upper()} {duration(value)}" for name, value in _marked(lane).items()]
    return ", ".join([f"median {duration(lane.median)}", *tails])


def _paint_rows(axes: Axes, lanes: Sequence[Lane], relative: bool) -> None:
    scales = [lane.median if relative else 1.0 for lane in lanes]
    low, high = _span(lanes, scales)
    edges = np.geomspace(low, high, BINS + 1)
    for row, (lane, scale) in enumerate(zip(lanes, scales, strict=True)):
        _paint_row(axes, lane, scale, row, edges)
    names = [clean(lane.name, 18) for lane in lanes]
    rows_axis(axes, names)
    axes.set_ylim(len(lanes) - 0.75, -1.0)
    if relative:
        scaled_axis(axes, "x", low, high, lambda value: f"{value:.3g}x")
        axes.set_xlabel("latency of one call over the model's own median")
    else:
        scaled_axis(axes, "x", low, high)
        axes.set_xlabel(f"latency of one call, {one_unit(axes, 'x', high, TIMES)}")


def _span(lanes: Sequence[Lane], scales: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: the bulk of every model's calls, and the percentiles that are marked."""
    ends = []
    for lane, scale in zip(lanes, scales, strict=True):
        marked = (*np.percentile(lane.calls, (0.2, 95)), *_marked(lane).values())
        ends.append([value / scale for value in marked])
    low, high = min(min(values) for values in ends), max(max(values) for values in ends)
    return low / 1.02, max(high * 1.04, low * 1.05)


def _beyond(lanes: Sequence[Lane], relative: bool) -> str:
    """How many calls the axis leaves out."""
    scales = [lane.median if relative else 1.0 for lane in lanes]
    _, high = _span(lanes, scales)
    count = sum(int(np.sum(lane.calls > high * scale)) for lane, scale in zip(lanes, scales, strict=True))
    total = sum(lane.calls.size for lane in lanes)
    return f" {count:,} of {total:,} samples take longer than the axis reaches." if count else ""


def _paint_row(axes: Axes, lane: Lane, scale: float, row: int, edges: Floats) -> None:
    color, calls = BASE if lane.baseline else ACCENT, lane.calls / scale
    share = np.histogram(calls, edges)[0].astype(np.float64)
    smooth = np.convolve(share, (0.25, 0.5, 0.25), mode="same")
    height = 0.85 * smooth / max(float(smooth.max()), 1.0)
    centres = np.sqrt(edges[:-1] * edges[1:])
    axes.fill_between(centres, row - height, row, color=color, alpha=0.35, linewidth=0)
    axes.plot(centres, row - height, color=color, linewidth=1)
    middle = lane.median / scale
    axes.plot([middle, middle], [row, row - 0.9], color=INK, linewidth=1.4)
    for name, value in _marked(lane).items():
        face = "none" if name == "p90" else INK
        axes.plot(value / scale, row, MARKS[name], color=INK, markerfacecolor=face, markersize=6, markeredgewidth=1.2)


# Both files of a run.


def latency_picture(samples: Mapping[str, Sequence[Any]], *, key: str) -> Picture | None:
    """Raw latency samples of both candidates: each sitting's median with its middle 80 %, and all calls together.

    samples : name -> sittings of seconds, each a number or a nested list of numbers. None where there are no samples.
    """
    found = [(name, _sittings(values)) for name, values in samples.items()]
    known = [(name, values, np.concatenate(values)) for name, values in found if values]
    both = [(*one, COLORS[position % len(COLORS)]) for position, one in enumerate(known)]
    if not both:
        return None

    def paint(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, height_ratios=(3, 2))
        highest = 0.0
        for name, sittings, _, color in both:
            at = np.arange(1, len(sittings) + 1)
            low, middle, high = np.array([np.percentile(v, (10, 50, 90)) for v in sittings]).T
            above.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)
            above.plot(at, middle, color=color, linewidth=1.4, marker="o", markersize=2.6, label=clean(name, 20))
            highest = max(highest, float(high.max()))
        # All medians of sittings, but not beyond three times the slowest candidate's median.
        top = min(highest * 1.06, 3 * max(float(np.median(calls)) for _, _, calls, _ in both)) or 1.0
        above.set_ylim(0, top)
        above.set_ylabel(f"latency, {one_unit(above, 'y', top, TIMES)}")
        above.set_xlabel("sitting (line: median, band: middle 80 %)")
        above.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(both), borderaxespad=0, handlelength=1.4)
        _paint_histograms(below, [calls for _, _, calls, _ in both], [color for *_, color in both])

    told = [
        f"{clean(name, 40)}: {len(sittings)} sittings, {calls.size} calls, median {duration(float(np.median(calls)))}"
        for name, sittings, calls, _ in both
    ]
    return draw(paint, height=360, title="Latency samples", text="; ".join(told), key=key)


def _paint_histograms(axes: Axes, every: Sequence[Floats], colors: Sequence[str]) -> None:
    low, high = min(float(calls.min()) for calls in every), max(float(np.percentile(calls, 98)) for calls in every)
    edges = np.linspace(low, high if high > low else low + 1e-3, 49)
    for calls, color in zip(every, colors, strict=True):
        share = 100 * np.histogram(calls, edges)[0] / calls.size
        axes.stairs(share, edges, fill=True, color=color, alpha=0.35)
        axes.stairs(share, edges, color=color, linewidth=1.2)
        axes.axvline(float(np.median(calls)), color=color, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("% of calls")
    axes.set_xlabel(f"latency of one call, {one_unit(axes, 'x', high, TIMES)} (dashed: median)")
    axes.grid(visible=False, axis="x")
