"""Which int8 file of a handful pays on this device: timed in one interleaved run, beside fp32.

int8 is slower than fp32 for networks that are small, or made of depthwise convolutions, and one layer can cost what all
others gain. No rule says where, on which processor: so it is measured.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from compress.graph.onnx_graph import serialise
from compress.passes.base import Choice, GraphContext, GraphResult, Loss, Trials
from compress.passes.quantization.quantize_settings import Operators, QuantizeConfig
from compress.passes.quantization.quantizer import Quantizer, calls_of_layers, unweighted_nodes
from compress.passes.quantization.sensitivity import layer_noise
from compress.passes.timed_files import seconds_each, time_together
from evaluate.benchmark.bench_record import Speedup
from evaluate.core.errors import LeanfitError
from evaluate.core.text import a_few
from evaluate.profiling.profile import Subject, profiles

ALIKE = 0.98  # of fp32's speed: below, what cannot be told apart is more likely slower
RETURNED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # so many layers return to fp32
FEW = 3  # of them return while what has no weights stays in integers
WORTH = 0.01  # of a call, that a layer has to cost more for leaving it out to be tried
FLOATS = "fp32"


@dataclass(frozen=True)
class Candidate:
    """An int8 file, and the settings that give it with nothing timed."""

    name: str
    config: QuantizeConfig
    quantizer: Quantizer
    graph: onnx.ModelProto
    data: bytes


def choose(
    quantizer: Quantizer, config: QuantizeConfig, trials: Trials, context: GraphContext
) -> tuple[GraphResult, Candidate | None]:
    """The fastest int8 file of a handful on this device that keeps within what may be lost; fp32 where none pays.

    The candidates are: all layers; and all but those that a profile of both files shows to cost more in integers: the
    worst one, the two and the four worst, and every one; and, where there are none but matrix products, LSTMs and
    embeddings, all of them in the ranges of each call. They are timed in one interleaved run, with fp32. Of some
    that cannot be told apart the one that leaves out least is taken. Where each loses more than the limit, ranges are
    found by least error, and layers return to fp32, the noisiest first, until one does not. fp32 stays where the
    fastest one is slower and no goal of size forbids it, or where nothing keeps within the limit. Gives the candidate
    too, None for fp32.
    """
    choosing = _Choosing(quantizer, config, trials, context)
    usable = choosing.usable()
    chosen = choosing.best(usable)
    returned: list[str] = []
    if usable and chosen is None:
        chosen, returned = choosing.restored()
    return choosing.result(chosen, returned), chosen


class _Choosing:
    """One choice: what was tried, how fast each is and what it loses."""

    def __init__(self, quantizer: Quantizer, config: QuantizeConfig, trials: Trials, context: GraphContext) -> None:
        self.quantizer, self.config, self.trials, self.context = quantizer, config, trials, context
        self.floats = serialise(quantizer.as_given)
        self.everything = self.made("all layers" if not config.exclude else "all that are asked for", ())
        self.layers = [change.layer for change in quantizer.changes(self.everything.config, self.everything.graph)]
        several = self.costly()
        self.tried = [self.everything, *(self.made(f"without {a_few(left, 1)}", left) for left in several)]
        if self.config.mode == "static" and self.config.train is None and self.dynamic_takes_all():
            self.tried.append(self.made("dynamic", (), mode="dynamic"))
        self.lost = dict[str, Loss]()
        files = {FLOATS: self.floats, **{c.name: c.data for c in self.tried}}
        speedups, self.faster = _timed(files, trials, context)
        self.speedups = dict(speedups)
        # Where a goal of size forbids fp32, an int8 file is taken whatever it costs in time.
        self.fitting = [c for c in self.tried if trials.fits(c.data)]
        self.demanded = bool(self.fitting) and not trials.fits(self.floats)

    def made(self, name: str, left: Sequence[str], **changed: str) -> Candidate:
        """A candidate that leaves more in fp32 than is asked for, and differs in these settings."""
        exclude = (*self.config.exclude, *(glob.escape(layer) for layer in left))
        own = self.config.model_copy(update={"choose": "fixed", "exclude": exclude, **changed})
        graph = self.quantizer.written(own)
        return Candidate(name, own, self.quantizer, graph, serialise(graph))

    def dynamic_takes_all(self) -> bool:
        """Whether ranges of each call are possible for all that static int8 takes."""
        asked = self.config.model_copy(update={"mode": "dynamic"})
        return set(self.layers) <= set(calls_of_layers(self.quantizer.graph, asked))

    def costly(self) -> list[list[str]]:
        """Which layers candidates leave in fp32, each a list: those that a profile shows to cost more in integers."""
        self.context.status("quantize: profile", 0, 1)
        trials, files = self.trials, ((FLOATS, self.floats), ("int8", self.everything.data))
        subjects = [Subject(name, data, trials.feeds) for name, data in files]
        try:
            found = profiles(
                subjects,
                provider=trials.provider,
                threads=trials.threads,
                seconds=min(1.0, seconds_each(trials)),
            )
        except LeanfitError:  # a runtime without a profiler, or nowhere to write its trace
            return []
        floating, whole = ({row["layer"]: row["ms"] for row in one["layers"]} for one in found)
        calls = calls_of_layers(self.quantizer.graph, self.config)
        costs = {n: sum(whole.get(c, 0.0) - floating.get(c, 0.0) for c in calls[n]) for n in self.named()}
        worst = sorted((n for n in costs if costs[n] > WORTH * found[1]["call_ms"]), key=lambda name: -costs[name])
        counts = {count for count in (1, 2, 4, len(worst)) if 0 < count <= len(worst) and count < len(self.layers)}
        return [worst[:count] for count in sorted(counts)]

    def named(self) -> list[str]:
        """The layers that a recipe can name."""
        known = self.context.layers
        return [name for name in self.layers if known is None or name in known]

    def pays(self, candidate: Candidate) -> bool:
        """Whether it may be taken for its time: faster, or as fast as anybody can tell and by the value too."""
        found = self.speedups[candidate.name]
        return (
            self.demanded or found["verdict"] == "faster" or (found["verdict"] != "slower" and found["value"] > ALIKE)
        )

    def usable(self) -> list[Candidate]:
        """Those that pay, and keep within goals of size where any does."""
        return [c for c in self.fitting or self.tried if self.pays(c)]

    def allowed(self, candidate: Candidate) -> bool:
        """Whether it keeps within what may be lost: all of the interval does, or no loss can be seen at all."""
        if self.trials.limit is None:
            return True
        if candidate.name not in self.lost:
            self.context.status("quantize: validation", len(self.lost), len(self.tried))
            self.lost[candidate.name] = self.trials.lost(candidate.data)
        return self.within(self.lost[candidate.name])

    def within(self, lost: Loss) -> bool:
        """Whether that little may be lost."""
        limit = self.trials.limit
        return limit is None or lost.high <= limit or (lost.low <= 0 and lost.value <= limit)

    def best(self, usable: Sequence[Candidate]) -> Candidate | None:
        """The fastest that is allowed, or the first that cannot be told from it: it leaves out least."""
        fast = sorted(usable, key=lambda c: -self.speedups[c.name]["value"])
        best = next((c for c in fast if self.allowed(c)), None)
        if best is None:
            return None
        return next(c for c in usable if c is best or (not self.faster(best.name, c.name) and self.allowed(c)))

    def restored(self) -> tuple[Candidate | None, list[str]]:
        """The first that is allowed of candidates that lose less and less, and the layers that returned to fp32.

        First finer ranges, which cost no time; then up to three of the noisiest layers, then what has no weights of its
        own, then that and ever more layers, in the ranges that lost less.
        """
        static = self.config.mode == "static"
        if static and self.config.calibrate.method == "minmax":
            coarse = self.quantizer, self.config
            finer = self.config.calibrate.model_copy(update={"method": "mse"})
            self.config = self.config.model_copy(update={"calibrate": finer})
            once = self.config.model_copy(update={"equalize": False})  # the graph is after it, where it pays
            again = Quantizer.calibrated(self.quantizer.graph, once, self.context)
            self.quantizer = replace(again, given=self.quantizer.given, equalized=self.quantizer.equalized)
            candidate = self.made("all, ranges by least error", ())
            if self.tried_and_allowed(candidate):
                return self.timed(candidate), []
            if self.lost[candidate.name] > self.lost.get(self.everything.name, self.lost[candidate.name]):
                self.quantizer, self.config = coarse
        ranked = layer_noise(self.quantizer, self.everything.config, self.named(), self.context.status)
        most = min(len(ranked), len(self.layers) - 1)
        own, only = self.config.operators, bool(unweighted_nodes(self.quantizer.graph, self.config))
        steps: list[tuple[Operators, int]] = [(own, count) for count in RETURNED if count <= FEW or not static]
        if static:
            steps += [(own if only else "weighted", n) for n in (0, *RETURNED) if n > FEW or not only]
        for operators, count in steps:
            if count > most:
                continue
            left = [one.layer for one in ranked[:count]]
            shown = f"{a_few(left, 1)} in fp32" if left else ""
            name = f"{'only layers' if operators != own else 'all'}{', ' if shown else ''}{shown}"
            candidate = self.made(name, left, operators=operators)
            if self.tried_and_allowed(candidate):
                return self.timed(candidate), left
        return None, []

    def tried_and_allowed(self, candidate: Candidate) -> bool:
        """Whether one more candidate keeps within what may be lost."""
        self.tried.append(candidate)
        return self.allowed(candidate)

    def timed(self, candidate: Candidate) -> Candidate | None:
        """A candidate that is timed, beside fp32 alone, where it pays."""
        self.speedups |= _timed({FLOATS: self.floats, candidate.name: candidate.data}, self.trials, self.context)[0]
        return candidate if self.pays(candidate) else None

    def result(self, chosen: Candidate | None, returned: Sequence[str]) -> GraphResult:
        """What was chosen, with the table of all that was tried."""
        taken = FLOATS if chosen is None else chosen.name
        rows = [(FLOATS, self.floats), *((c.name, c.data) for c in self.tried)]
        told = tuple(
            {
                "name": name, "bytes": len(data), "speedup": self.speedups.get(name), "chosen": name == taken,
                "lost": self.lost[name]._asdict() if name in self.lost else None,
            }
            for name, data in rows
        )  # fmt: skip
        if chosen is None:
            kept = Choice(self.config.model_copy(update={"choose": "fp32"}), told, kept=True)
            return GraphResult(self.quantizer.as_given, warnings=(self.why_kept(),), choice=kept)
        found = chosen.quantizer.result(chosen.config, chosen.graph)
        said = list(found.warnings)
        if returned:
            said.append(f"To lose at most {self.trials.limit:g}, these stay in fp32: {a_few(returned, 12)}.")
        if self.speedups[taken]["verdict"] == "slower":
            said.append(f"The int8 file is {_slower(self.speedups[taken])} than fp32 here; a goal of size asks for it.")
        return replace(found, warnings=tuple(said), choice=Choice(chosen.config, told))

    def why_kept(self) -> str:
        """Why fp32 stayed."""
        limit = self.trials.limit
        within = [name for name, lost in self.lost.items() if self.within(lost)]
        if within:
            why = f"int8 that keeps within what may be lost is {_slower(self.speedups[within[0]])} here"
        elif self.lost:
            value, low, high = min(self.lost.values())
            why = f"int8 loses {value:.3g} ({low:.3g} to {high:.3g}) on validation, and {limit:g} may be"
        else:
            many = f"the fastest of {len(self.speedups)} int8 files" if len(self.speedups) > 1 else "the int8 file"
            found = max(self.speedups.values(), key=lambda one: one["value"])
            unsure = "" if found["verdict"] == "slower" else ", which is not resolved: the machine was busy"
            why = f"{many} is {_slower(found)} here{unsure}"
        return f"The model stays in fp32: {why}. choose: fixed gives int8 all the same, which is smaller."


def _slower(speedup: Speedup) -> str:
    return f"{1 / speedup['value']:.3g}x slower ({1 / speedup['high']:.3g} to {1 / speedup['low']:.3g})"


def _timed(
    files: Mapping[str, bytes], trials: Trials, context: GraphContext
) -> tuple[Mapping[str, Speedup], Callable[[str, str], bool]]:
    """Each file's speed-up over the first, and whether one of two is faster than the other."""

    def status(message: str, done: float, total: float) -> None:
        context.status("quantize: timing candidates", done, total)

    found = time_together(files, trials, status, seconds_each(trials))
    return found.speedups, found.faster
