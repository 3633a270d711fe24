"""Task: data in three splits, and how a model's outputs are judged on it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from compress.core.forward import CLASSES_LAST, JUDGED, run_model
from compress.core.registries import LOSSES
from compress.core.sources import values_key
from compress.tasks.checks import as_inputs, as_targets, check_axes, check_labels, check_lengths, check_shares
from compress.tasks.datasets import class_names, dataset_splits, sample_targets
from compress.tasks.foreign_metric import whole_metric
from compress.tasks.heads import Columns, Head, HeadMetric, HeadsLoss, JudgedHead, columns_of, judged_heads, packed
from compress.tasks.losses import Loss, loss_of
from compress.tasks.splits import LoaderSplit, Split, TensorSplit, split_indices
from evaluate.core.components import Component, Registry
from evaluate.core.errors import DataError, LeanfitError, ModelError
from evaluate.core.text import a_few, html_rows
from evaluate.metrics.base import METRICS, Metric, get_metric


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """What a model is trained on and judged by. Decisions read `validation`; `test` is read once, for the final table.

    classes : class names, () for regression.
    loss    : the name of a registered one ("cross_entropy", "mse", "package.module:name"), or a callable (outputs,
              targets) -> scalar tensor, in Python only.
    metric  : the name of a registered one: "accuracy" (per cent, higher is better), "mse" (lower is better), or
              "package.module:name"; what was registered itself; or a torchmetrics object (`whole_metric`). Class ids of
              more axes than (n,), as of tokens or pixels, need one of "token_accuracy", "miou", "perplexity".
    output  : which output of a model is judged where it gives several, by name; those of a tuple are output0, output1.
    heads   : several outputs that are judged, each by targets of its own; loss, metric and classes are theirs then.
    Raises DataError where a split is empty, not finite, or unlike the others.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = ()
    loss: Loss = "cross_entropy"
    metric: str | Metric = "accuracy"
    output: str | None = None
    heads: tuple[JudgedHead, ...] = ()

    def __post_init__(self) -> None:
        for field, registry in (("loss", LOSSES), ("metric", METRICS)):
            object.__setattr__(self, field, _address(getattr(self, field), registry, self.name))
        if not isinstance(self.metric, str):
            object.__setattr__(self, "metric", whole_metric(self.metric))
        if isinstance(self.output, str) and self.heads:
            raise DataError(f"task {self.name!r}: output={self.output!r} beside heads, which say what is judged.")
        for name, _, metric, classes in self._judgements():
            _check_classes(name, metric, classes)
        first: dict[str, Tensor] | None = None
        for where, split in self.splits().items():
            place = f"task {self.name!r}, {where} split"
            split.check(place)
            _check_targets(self, split, place)
            example = split.first(1)
            first = first if first is not None else example
            _check_alike(first, example, place)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{n} {list(t.shape[1:])} {str(t.dtype)[6:]}" for n, t in self.example().items())
        several = (f"{h.name} ({len(h.classes) or h.width} {'classes' if h.classes else 'values'})" for h in self.heads)
        kind = ", ".join(several) or (f"{len(self.classes)} classes" if self.classes else "values")
        sizes = " / ".join(str(len(split)) for split in self.splits().values())
        measured = ", ".join(h.metric.name for h in self.heads) or self.metric_name
        return f"<Task {self.name}: {inputs} -> {kind}; {sizes} samples to train, validate, test; {measured}>"

    def _repr_html_(self) -> str:
        rows = [(f"input {n}", f"{list(t.shape[1:])} {str(t.dtype)[6:]}") for n, t in self.example().items()]
        for (_, loss, metric, classes), name in zip(
            self._judgements(), [h.name for h in self.heads] or [self.output or "output"], strict=True
        ):
            kind = f"{len(classes)} classes: {a_few(classes, 10)}" if classes else "values"
            said = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
            rows.append((f"output {name}", f"{kind}; loss {said}, metric {get_metric(metric).label}"))
        return html_rows(f"Task {self.name}", [*rows, *((w, f"{len(s)} samples") for w, s in self.splits().items())])

    @property
    def judged(self) -> str | tuple[str, ...] | None:
        """The output that is judged, those of all heads, or None where a model gives one only."""
        return tuple(head.name for head in self.heads) or self.output

    @property
    def metric_name(self) -> str:
        """What a Record calls the metric, or that of the first head."""
        return get_metric(self.metric).name

    def _judgements(self) -> list[tuple[str, Loss, str | Metric, tuple[str, ...]]]:
        """What is asked of each head, or of the one output: a name for messages, loss, metric and classes."""
        if not self.heads:
            return [(f"task {self.name!r}", self.loss, self.metric, self.classes)]
        return [(f"task {self.name!r}, head {h.name!r}", h.loss, h.metric, h.classes) for h in self.heads]

    def adopt(self, network: nn.Module) -> None:
        """Mark a network so that `run_model` gives what this task judges: which output, with classes along axis 1.

        Raises ModelError where the shapes do not tell which axis of (n, 16, 16) is that of the classes.
        """
        if self.judged is not None:
            setattr(network, JUDGED, self.judged)
        axes = tuple(self.validation.all_targets().shape[1:])
        if self.heads or not self.classes or not axes:
            return
        setattr(network, CLASSES_LAST, False)
        with torch.no_grad():
            shape = tuple(run_model(network, self.example(2)).shape[1:])
        first, last = (len(self.classes), *axes), (*axes, len(self.classes))
        if shape == first == last:
            raise ModelError(
                f"{type(network).__name__} gives outputs {(2, *shape)} for {len(self.classes)} classes and labels of "
                f"{axes} a sample: which axis is that of the classes cannot be told. Pad the samples to another length."
            )
        setattr(network, CLASSES_LAST, shape == last)

    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def example(self, n: int = 1) -> dict[str, Tensor]:
        """Inputs of the first `n` validation samples, as the model sees them, by name."""
        return self.validation.first(n)

    def calibration(self, samples: int, seed: int) -> TensorSplit:
        """A seeded subset of the training split, as the model sees it, without augmentation."""
        return self.train.take(samples, seed).materialize()

    @cached_property
    def _digest(self) -> str:
        metric = METRICS.get(self.metric) if isinstance(self.metric, str) else None
        judged = (self._code(loss_of(self.loss), self.loss), self._code(metric, self.metric))
        output = [self.output] if self.output is not None else []
        parts = [*judged, *output, *self.classes, *(split.fingerprint() for split in self.splits().values())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @staticmethod
    def _code(found: Component[Any] | None, given: Any) -> str:
        """The name of one of leanfit's own, name and source of a registered one, source and values of an object."""
        if not isinstance(given, str) or found is None:
            return values_key(given) or uuid.uuid4().hex  # one that cannot be told is never found again
        return found.name if found.built_in else f"{found.address} {found.source}"

    def fingerprint(self) -> str:
        """sha256 (hex) over the content of the three splits, the classes, the loss and the metric; computed once."""
        return self._digest

    @classmethod
    def from_tensors(
        cls,
        train: tuple[Any, Any],
        validation: tuple[Any, Any] | None = None,
        test: tuple[Any, Any] | None = None,
        *,
        name: str = "custom",
        classes: Sequence[str] | int | None = None,
        loss: Loss | None = None,
        metric: str | Metric | None = None,
        output: str | None = None,
        heads: Mapping[str, Head] | None = None,
        validation_fraction: float = 0.1,
        seed: int = 0,
    ) -> Task:
        """A task from (inputs, targets) pairs; inputs are a tensor, an array, or a dict of them by name.

        Integer targets (n,) are class ids (cross entropy, accuracy); float targets (n, ...) are regression (mse).
        Integer targets (n, ...) are class ids of tokens or pixels, -100 being none, where `metric` takes those.
        A dict of targets is judged head by head, each by the output of its name; `heads` says what does not follow from
        the targets, and the first of them is what goals read.
        Without `validation`, that share of `train` is split off, keeping the share of each class. Raises DataError.
        """
        if test is None:
            raise DataError(f"task {name!r}: a test split is needed; it is read once, for the final table.")
        train_split = _pair(train, f"task {name!r}, train split")
        if validation is None:
            train_split, held = _hold_out(train_split, validation_fraction, seed, name)
        else:
            held = _pair(validation, f"task {name!r}, validation split")
        tested = _pair(test, f"task {name!r}, test split")
        several = _heads_of([pair[1] for pair in (train, validation, test) if isinstance(pair, tuple | list)], name)
        return _assemble(cls, name, (train_split, held, tested), classes, loss, metric, output, heads, several)

    @classmethod
    def from_loaders(
        cls,
        train: Iterable[Any],
        validation: Iterable[Any],
        test: Iterable[Any],
        *,
        name: str = "custom",
        classes: Sequence[str] | int | None = None,
        loss: Loss | None = None,
        metric: str | Metric | None = None,
        output: str | None = None,
        heads: Mapping[str, Head] | None = None,
    ) -> Task:
        """A task from three re-iterable DataLoaders of (inputs, targets) batches; each is read through once here.

        Targets may be a dict of them, for several heads, as in `from_tensors`.
        Random augmentation belongs into the training loader only. Raises DataError.
        """
        loaders = {"train": train, "validation": validation, "test": test}
        splits = [LoaderSplit(loader, f"task {name!r}, {where} split") for where, loader in loaders.items()]
        several = _heads_of([split.first_targets() for split in splits], name)
        return _assemble(cls, name, (splits[0], splits[1], splits[2]), classes, loss, metric, output, heads, several)

    @classmethod
    def from_dataset(
        cls,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        input: str | Sequence[str] | None = None,
        target: str | Sequence[str] | None = None,
        name: str = "custom",
        classes: Sequence[str] | int | None = None,
        loss: Loss | None = None,
        metric: str | Metric | None = None,
        output: str | None = None,
        heads: Mapping[str, Head] | None = None,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.2,
        seed: int = 0,
    ) -> Task:
        """A task from map-style data sets of torch, torchvision or Hugging Face (a dict of splits too).

        Samples are dicts, of which `input` and `target` name the entries (by default all others, and the label; several
        targets are heads), or tuples whose last is the target; numbers, arrays, tensors, or images of Pillow's, which
        become (c, h, w) in 0..1. What is not given is held out of `train`, keeping the share of each class. Up to half
        a gigabyte a split is held in memory and read once; more is read batch by batch. Raises DataError.
        """
        fractions = validation_fraction, test_fraction
        splits = dataset_splits(train, validation, test, input, target, fractions, seed, name)
        several, names = None, classes
        if target is not None and not isinstance(target, str):
            parts = train, validation, test
            several = _heads_of([sample_targets(part, target, name) for part in parts if part is not None], name)
        elif names is None:
            names = class_names(train, target)
        return _assemble(cls, name, splits, names, loss, metric, output, heads, several)


def _pair(pair: Any, where: str) -> TensorSplit:
    if isinstance(pair, TensorSplit):
        return pair
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{where}: expected a pair (inputs, targets), got {type(pair).__name__}.")
    targets = packed(pair[1], where) if isinstance(pair[1], Mapping) else as_targets(pair[1], where)
    split = TensorSplit(as_inputs(pair[0], where), targets)
    check_lengths(split.inputs, split.targets, where)
    return split


def _heads_of(targets: Sequence[Any], name: str) -> dict[str, Columns] | None:
    """Where the targets of several heads lie; None where they are no dicts. Raises DataError where splits differ."""
    found = [columns_of(given, f"task {name!r}") if isinstance(given, Mapping) else None for given in targets]
    for other in found[1:]:
        if other != found[0]:
            shown = [", ".join(sorted(columns or ())) or "one target" for columns in (found[0], other)]
            raise DataError(
                f"task {name!r}: the splits have targets of different heads or shapes: {shown[0]}; {shown[1]}."
            )
    return found[0] if found else None


def _hold_out(split: TensorSplit, fraction: float, seed: int, name: str) -> tuple[TensorSplit, TensorSplit]:
    count = max(1, round(len(split) * fraction))
    if not 0 < fraction < 1 or count >= len(split):
        raise DataError(
            f"task {name!r}: cannot split {fraction} of {len(split)} training samples off for validation. Give "
            f"validation_fraction between 0 and 1, more samples, or `validation`."
        )
    rest, held = split_indices(split.targets, count, seed)
    return split.select(rest), split.select(held)


def _assemble(
    cls: type[Task],
    name: str,
    splits: tuple[Split, Split, Split],
    classes: Sequence[str] | int | None,
    loss: Loss | None,
    metric: str | Metric | None,
    output: str | None,
    heads: Mapping[str, Head] | None = None,
    columns: Mapping[str, Columns] | None = None,
) -> Task:
    for where, split in zip(("train", "validation", "test"), splits, strict=True):
        split.check(f"task {name!r}, {where} split")
    if columns is not None:
        if loss is not None or metric is not None or classes is not None:
            raise DataError(
                f"task {name!r}: the targets are a dict of {len(columns)} heads: give loss, metric and classes of each "
                f"as heads={{{next(iter(columns))!r}: Head(...)}}."
            )
        judged = judged_heads(columns, heads, [split.all_targets() for split in splits], f"task {name!r}")
        first = judged[0]
        return cls(name, *splits, first.classes, HeadsLoss(judged), HeadMetric.of(first), output, judged)
    if heads is not None:
        raise DataError(f"task {name!r}: heads are given, and the targets are no dict of them, by the heads' names.")
    labelled = not splits[0].all_targets().is_floating_point()
    names = _class_names(splits, classes) if labelled else ()
    return cls(
        name,
        *splits,
        classes=names,
        loss=loss or ("cross_entropy" if labelled else "mse"),
        metric=metric or ("accuracy" if labelled else "mse"),
        output=output,
    )


def _class_names(splits: Iterable[Split], classes: Sequence[str] | int | None) -> tuple[str, ...]:
    if classes is None:
        labels = [split.all_targets() for split in splits]
        classes = 1 + max(int(targets.max()) for targets in labels if not targets.is_floating_point())
    return tuple(str(c) for c in (range(classes) if isinstance(classes, int) else classes))


def _address(given: Any, registry: Registry[Any], task: str) -> Any:
    """The address of a component that is given by name or as itself; a callable that is not registered as it is."""
    try:
        if isinstance(given, str):
            return registry.get(given).address
        known = registry.all(installed=False).values()
        return next((found.address for found in known if found.target is given), given)
    except LeanfitError as error:
        raise DataError(f"task {task!r}: {error}") from None


def _check_classes(where: str, given: str | Metric, classes: tuple[str, ...]) -> None:
    metric = get_metric(given)
    if metric.labels and len(classes) < 2:
        raise DataError(
            f"{where}: {metric.label} needs at least two classes, got {list(classes)}. For regression "
            f"give float targets, loss 'mse' and metric 'mse'."
        )
    if len(set(classes)) != len(classes):
        raise DataError(f"{where}: class names repeat: {list(classes)}.")


def _check_targets(task: Task, split: Split, where: str) -> None:
    whole = split.all_targets()
    targets = [head.targets.of(whole) for head in task.heads] or [whole]
    for (_, loss, metric, classes), own in zip(task._judgements(), targets, strict=True):
        _check_own_targets(own, loss, metric, classes, where)


def _check_own_targets(
    targets: Tensor, given: Loss, judged: str | Metric, classes: tuple[str, ...], where: str
) -> None:
    labelled = not targets.is_floating_point()
    loss, metric = loss_of(given), get_metric(judged)
    wanted = (loss.facts["labels"], metric.labels)
    if labelled:
        check_axes(targets, metric.dense, where)
    asked = f"{where}: loss {given!r} and metric {metric.name!r} need"
    if True in wanted and not labelled:
        raise DataError(f"{asked} integer class ids, got floats.")
    if False in wanted and labelled:
        raise DataError(f"{asked} float targets, got {targets.dtype}.")
    if labelled:
        check_labels(targets, len(classes), where)
    elif loss.facts["kind"] == "labels":
        check_shares(targets, where)


def _check_alike(first: dict[str, Tensor], example: dict[str, Tensor], where: str) -> None:
    wanted = {name: (tuple(t.shape[1:]), t.dtype) for name, t in first.items()}
    got = {name: (tuple(t.shape[1:]), t.dtype) for name, t in example.items()}
    if wanted != got:
        raise DataError(f"{where}: inputs {got} are unlike those of the train split, {wanted}.")
