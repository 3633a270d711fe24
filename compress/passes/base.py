"""What every pass has in common: its contract, its result, and the registry that finds it by kind."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from compress.core.config import Config
from compress.core.registries import PASSES
from compress.core.traits import Traits
from compress.training.settings import TrainConfig
from evaluate.core.components import Component

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray
    from torch import nn

    from compress.graph.model_state import ModelState
    from compress.passes.quantization.calibrate import Calibration
    from compress.tasks.task import Task
    from compress.training.train import TrainResult
    from evaluate.runtime.session import Value


@dataclass(frozen=True)
class Change:
    """One layer that a pass changed: what was changed, and its value before and after."""

    layer: str
    what: str  # "out_channels", "in_channels", "weight bits", ...
    before: int | float | str
    after: int | float | str


class Loss(NamedTuple):
    """Points of a metric that are lost, with their paired 95 % interval; below 0 where some are gained."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Trials:
    """What candidates are tried by where a pass chooses by measurement: this device, and what is lost.

    provider, threads, io, feeds : how one call is timed, as the run's own benchmark times it.
    seconds : how long that benchmark takes.
    lost  : of a file: what it loses against the uncompressed model, not on the test split.
    limit : how many may be lost; None where no goal says.
    fits  : of a file: whether its sizes keep within the goals.
    """

    provider: str
    threads: int
    feeds: Mapping[str, Value]
    lost: Callable[[bytes], Loss]
    limit: float | None
    fits: Callable[[bytes], bool]
    seconds: float
    io: str = "device"
    seed: int = 0


@dataclass(frozen=True)
class Choice:
    """What a pass chose by measurement.

    settings   : those that give the same again with nothing measured; they go into the recipe that is kept.
    candidates : what it was chosen among, JSON-able: name, bytes, speedup over what came in, lost (points), chosen.
    kept       : whether the model was left as it came, on purpose.
    """

    settings: Config
    candidates: tuple[Mapping[str, Any], ...] = ()
    kept: bool = False


@dataclass(frozen=True)
class PassResult:
    """What a pass hands on.

    model    : the state after the pass, `dataclasses.replace(model, module=...)` of the one that was handed in. Its
               network is a copy, where anything changed.
    changes  : layer by layer; empty for a pass that only trains. A pass that leaves the very same weights and brings no
               graph is refused by the pipeline.
    warnings : plain sentences for the report: what to know before shipping.
    details  : numbers of this pass (what was asked, what was achieved, history), JSON-able.
    choice   : what was chosen by measurement, where something was.
    """

    model: ModelState
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    choice: Choice | None = None


@dataclass(frozen=True)
class Context:
    """What a pass may use beside the model: the task, the seed, the reference, a place for checkpoints.

    original   : the uncompressed model (eval mode), the default teacher; not to be changed.
    folder     : a folder of this stage's own for checkpoints; it survives a kill and is gone once the stage is done.
    status     : called with (message, done, total) on long work; the command line draws the progress bar.
    device     : torch device on which training runs.
    opset      : ONNX operator set of the exported file.
    trials     : how a pass that writes a graph may choose by measurement; None in a study, which shares the machine.
    """

    task: Task
    seed: int
    original: nn.Module
    folder: Path | None = None
    device: str = "cpu"
    opset: int = 20
    status: Callable[[str, float, float], None] = lambda message, done, total: None
    trials: Trials | None = None

    def train(self, model: ModelState, config: TrainConfig, **how: Any) -> TrainResult:
        """Train the network of `model`, in place, on this task; its constraints stay true.

        `how` is what `compress.training.train.train` takes beside these: seed and folder, where they are not this
        stage's own, a teacher, callbacks, terms.
        """
        from compress.training.train import train

        kept: dict[str, Any] = {"seed": self.seed, "folder": self.folder, "constraints": model.bound_constraints()}
        return train(model.module, self.task, config, device=self.device, status=self.status, **(kept | how))


@dataclass(frozen=True)
class Preview:
    """What `--dry-run` can say of a pass without training: matched layers, and the predicted sizes after it.

    `module` is the network as the pass would leave it in shape (weights are not meaningful); bits is the predicted
    stored bits per weight after the pass (32 unless quantized).
    """

    module: nn.Module
    layers: tuple[str, ...]
    bits: float = 32.0
    notes: tuple[str, ...] = ()


class Learnt(NamedTuple):
    """A graph after training, and what a `PassResult` says of it."""

    graph: onnx.ModelProto
    details: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


Learn = Callable[["onnx.ModelProto", "Mapping[str, NDArray[Any]]", int], Learnt]
"""How a graph in integers is trained: of the graph, the weights it was rounded from, the largest step of a weight."""


@dataclass(frozen=True)
class GraphContext:
    """What a pass may use beside a graph.

    calibration : at most so many samples to find ranges by, the same ones every time.
    trials      : how to choose by measurement; None where nothing can be timed.
    layers      : the names that a recipe's patterns may match; None where they are the graph's own.
    learn       : how to train the graph; None where no network and task belong to it.
    """

    calibration: Callable[[int], Calibration]
    status: Callable[[str, float, float], None] = lambda message, done, total: None
    trials: Trials | None = None
    layers: frozenset[str] | None = None
    learn: Learn | None = None


@dataclass(frozen=True)
class GraphResult:
    """The graph that a pass wrote, and what a `PassResult` says beside its model."""

    graph: onnx.ModelProto
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    choice: Choice | None = None


@dataclass(frozen=True)
class GraphPreview:
    """What `--dry-run` can say of a pass on a graph: as a `Preview`, whose shapes stay as they are."""

    layers: tuple[str, ...]
    bits: float = 32.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphPass:
    """A technique on a graph in fp32, without torch: how an ONNX file is compressed that brings no network.

    samples : how many it asks of `GraphContext.calibration` at most.
    """

    apply: Callable[[onnx.ModelProto, Any, GraphContext], GraphResult]
    preview: Callable[[onnx.ModelProto, Any], GraphPreview]
    samples: Callable[[Any], int] = lambda config: 0


def fits_layer(name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern fits the layer's name or that of a module it is in."""
    parts = name.split(".")
    names = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns for n in names)


class Pass(Protocol):
    """A technique: a pure function of its arguments, which works on a copy and is deterministic under the seed."""

    def __call__(self, model: ModelState, config: Any, context: Context) -> PassResult: ...


@dataclass(frozen=True)
class Registered:
    """A registered technique: `apply` does it, `preview` predicts it, `traits` say what it does.

    kind    : what a recipe calls it: plain for a built-in one, `module:name` for one of the user's own.
    summary : its line in a list.
    on_graph : the same for an ONNX file that no network belongs to; None for a technique that needs one.
    """

    kind: str
    config: type[Config]
    apply: Pass
    preview: Callable[[nn.Module, Any, Context], Preview] | None
    summary: str
    traits: Traits
    on_graph: GraphPass | None = None


def register_pass(
    kind: str,
    config: type[Config],
    *,
    preview: Callable[[nn.Module, Any, Context], Preview] | None = None,
    traits: Traits | None = None,
    on_graph: GraphPass | None = None,
) -> Callable[[Pass], Pass]:
    """Register a pass function under the `kind` a recipe names it by.

    >>> @register_pass("noop", Config)
    ... def noop(model, config, context):
    ...     \"\"\"Change nothing.\"\"\"
    ...     return PassResult(model)
    >>> PASSES.forget("noop")
    """
    return PASSES.register(kind, config=config, preview=preview, traits=traits or Traits(), on_graph=on_graph)


def pass_kinds() -> dict[str, Registered]:
    """All registered passes by kind, in the order of registration."""
    return {kind: _registered(component) for kind, component in PASSES.all().items()}


def get_pass(kind: str) -> Registered:
    """The registered pass of this kind, or of `module:kind`. Raises RecipeError, naming the nearest kind."""
    return _registered(PASSES.get(kind))


def _registered(component: Component[Any]) -> Registered:
    return Registered(component.address, apply=component.target, summary=component.summary, **component.facts)
