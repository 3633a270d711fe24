"""Task: data in three splits, and how a model's outputs are judged on it; tasks by name."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from compress.core.arguments import arguments_of, build, check_arguments
from compress.core.progress import Status, silent
from compress.core.registries import LOSSES, TASKS
from compress.core.sources import values_key
from compress.tasks.checks import as_inputs, as_targets, check_axes, check_labels, check_lengths, check_shares
from compress.tasks.datasets import class_names, dataset_splits
from compress.tasks.losses import Loss, loss_of
from compress.tasks.splits import LoaderSplit, Split, TensorSplit, split_indices
from evaluate.core.components import Component, Registry
from evaluate.core.errors import DataError, LeanfitError
from evaluate.metrics.base import METRICS, get_metric


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """What a model is trained on and judged by. Decisions read `validation`; `test` is read once, for the final table.

    classes : class names, () for regression.
    loss    : the name of a registered one ("cross_entropy", "mse", "package.module:name"), or a callable (outputs,
              targets) -> scalar tensor, in Python only.
    metric  : the name of a registered one: "accuracy" (per cent, higher is better), "mse" (lower is better), or
              "package.module:name"; or what was registered itself. Class ids of more axes than (n,), as of tokens or
              pixels, need one of those: "token_accuracy", "miou", "perplexity".
    output  : which output of a model is judged where it gives several, by name; those of a tuple are output0, output1.
    Raises DataError where a split is empty, not finite, or unlike the others.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = ()
    loss: Loss = "cross_entropy"
    metric: str = "accuracy"
    output: str | None = None

    def __post_init__(self) -> None:
        for field, registry in (("loss", LOSSES), ("metric", METRICS)):
            object.__setattr__(self, field, _address(getattr(self, field), registry, self.name))
        _check_classes(self)
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
        kind = f"{len(self.classes)} classes" if self.classes else "values"
        sizes = " / ".join(str(len(split)) for split in self.splits().values())
        return f"<Task {self.name}: {inputs} -> {kind}; {sizes} samples to train, validate, test; {self.metric}>"

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
        judged = (self._code(loss_of(self.loss), self.loss), self._code(METRICS.get(self.metric), self.metric))
        output = [self.output] if self.output is not None else []
        parts = [*judged, *output, *self.classes, *(split.fingerprint() for split in self.splits().values())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @staticmethod
    def _code(found: Component[Any], given: Any) -> str:
        """The name of one of leanfit's own, name and source of a registered one, source and values of a callable."""
        if not isinstance(given, str):
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
        metric: str | None = None,
        output: str | None = None,
        validation_fraction: float = 0.1,
        seed: int = 0,
    ) -> Task:
        """A task from (inputs, targets) pairs; inputs are a tensor, an array, or a dict of them by name.

        Integer targets (n,) are class ids (cross entropy, accuracy); float targets (n, ...) are regression (mse).
        Integer targets (n, ...) are class ids of tokens or pixels, -100 being none, where `metric` takes those.
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
        return _assemble(cls, name, (train_split, held, tested), classes, loss, metric, output)

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
        metric: str | None = None,
        output: str | None = None,
    ) -> Task:
        """A task from three re-iterable DataLoaders of (inputs, targets) batches; each is read through once here.

        Random augmentation belongs into the training loader only. Raises DataError.
        """
        loaders = {"train": train, "validation": validation, "test": test}
        splits = [LoaderSplit(loader, f"task {name!r}, {where} split") for where, loader in loaders.items()]
        return _assemble(cls, name, (splits[0], splits[1], splits[2]), classes, loss, metric, output)

    @classmethod
    def from_dataset(
        cls,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        input: str | Sequence[str] | None = None,
        target: str | None = None,
        name: str = "custom",
        classes: Sequence[str] | int | None = None,
        loss: Loss | None = None,
        metric: str | None = None,
        output: str | None = None,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.2,
        seed: int = 0,
    ) -> Task:
        """A task from map-style data sets of torch, torchvision or Hugging Face (a dict of splits too).

        Samples are dicts, of which `input` and `target` name the entries (by default all others, and the label), or
        tuples whose last is the target; numbers, arrays, tensors, or images of Pillow's, which become (c, h, w) in
        0..1. What is not given is held out of `train`, keeping the share of each class. Up to half a gigabyte a split
        is held in memory and read once; more is read batch by batch. Raises DataError.
        """
        fractions = validation_fraction, test_fraction
        splits = dataset_splits(train, validation, test, input, target, fractions, seed, name)
        names = classes if classes is not None else class_names(train, target)
        return _assemble(cls, name, splits, names, loss, metric, output)


def _pair(pair: Any, where: str) -> TensorSplit:
    if isinstance(pair, TensorSplit):
        return pair
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{where}: expected a pair (inputs, targets), got {type(pair).__name__}.")
    split = TensorSplit(as_inputs(pair[0], where), as_targets(pair[1], where))
    check_lengths(split.inputs, split.targets, where)
    return split


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
    metric: str | None,
    output: str | None,
) -> Task:
    for where, split in zip(("train", "validation", "test"), splits, strict=True):
        split.check(f"task {name!r}, {where} split")
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


def _check_classes(task: Task) -> None:
    if not isinstance(task.metric, str):
        raise DataError(f"task {task.name!r}: the metric {task.metric!r} is not registered: use @register_metric.")
    metric = get_metric(task.metric)
    if metric.labels and len(task.classes) < 2:
        raise DataError(
            f"task {task.name!r}: {metric.label} needs at least two classes, got {list(task.classes)}. For regression "
            f"give float targets, loss 'mse' and metric 'mse'."
        )
    if len(set(task.classes)) != len(task.classes):
        raise DataError(f"task {task.name!r}: class names repeat: {list(task.classes)}.")


def _check_targets(task: Task, split: Split, where: str) -> None:
    targets = split.all_targets()
    labelled = not targets.is_floating_point()
    loss, metric = loss_of(task.loss), get_metric(task.metric)
    wanted = (loss.facts["labels"], metric.labels)
    if labelled:
        check_axes(targets, metric.dense, where)
    asked = f"{where}: loss {task.loss!r} and metric {task.metric!r} need"
    if True in wanted and not labelled:
        raise DataError(f"{asked} integer class ids, got floats.")
    if False in wanted and labelled:
        raise DataError(f"{asked} float targets, got {targets.dtype}.")
    if labelled:
        check_labels(targets, len(task.classes), where)
    elif loss.facts["kind"] == "labels":
        check_shares(targets, where)


def _check_alike(first: dict[str, Tensor], example: dict[str, Tensor], where: str) -> None:
    wanted = {name: (tuple(t.shape[1:]), t.dtype) for name, t in first.items()}
    got = {name: (tuple(t.shape[1:]), t.dtype) for name, t in example.items()}
    if wanted != got:
        raise DataError(f"{where}: inputs {got} are unlike those of the train split, {wanted}.")


def register_task(name: str, *, takes: str = "") -> Callable[[Callable[..., Task]], Callable[..., Task]]:
    """Register a builder of a Task under the `name` a recipe calls it by; its annotated keyword arguments are settings.

    A parameter called `status` is not a setting: it receives the callback (message, done, total). `takes` is the
    argument that `name:TEXT` gives in short.
    """
    return TASKS.register(name, takes=takes)


def get_task(name: str, /, *, status: Status = silent, **kwargs: Any) -> Task:
    """The task `name` of these arguments. Raises RecipeError for wrong arguments, DataError for missing or bad data."""
    task: Task = build(TASKS.get(name), kwargs, status=status)[0]
    return task


def check_task(name: str, /, **kwargs: Any) -> dict[str, Any]:
    """The complete arguments of a task, defaults filled in, without reading any data. Raises RecipeError."""
    return check_arguments(TASKS.get(name), kwargs)


def task_args(name: str) -> type[BaseModel]:
    """The arguments of a task as a pydantic class, for validation elsewhere and for a JSON schema."""
    return arguments_of(TASKS.get(name))


def task_names() -> list[str]:
    """Names of all registered tasks."""
    return list(TASKS.all())


def tasks() -> dict[str, Component[Any]]:
    """All registered tasks by name; `summary` is one line for a list."""
    return TASKS.all()
