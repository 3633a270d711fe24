"""The one place where a network is called on a batch: inputs by name, outputs by name, and what its modules give."""

from __future__ import annotations

import copy
import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from compress.core.errors import RecipeError
from evaluate.core.errors import ModelError, did_you_mean
from evaluate.core.text import a_few

JUDGED = "leanfit_output"  # the attribute of a network that names the output its task judges, or those of its heads
CLASSES_LAST = "leanfit_classes_last"  # the attribute of a network that gives (n, ..., classes), as Transformers' do
_USUAL = ("logits", "out")  # of Transformers, and of torchvision's segmentation networks
_OWN_LOSS = "loss"


def run_model(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The output (n, ...) that the task judges, those of several heads side by side. Raises ModelError as `call`.

    Classes of tokens or pixels are along axis 1, wherever the network has them (`Task.adopt` finds out).
    """
    outputs, wanted = call(model, inputs), getattr(model, JUDGED, None)
    if isinstance(wanted, tuple):
        return torch.cat([outputs[name].reshape(len(outputs[name]), -1) for name in wanted], 1)
    judged = next(iter(outputs.values()))
    return judged.movedim(-1, 1) if getattr(model, CLASSES_LAST, False) else judged


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every output (n, ...) of a model by its name, the judged one first; what it does to its inputs stays there.

    Inputs are bound by name where forward() has arguments of their names; a single one, and those of a loader's tuples
    (input0, input1, ...), in their order. A tensor is called `output`; the entries of a dict, a ModelOutput, a named
    tuple or a dataclass keep their names, those of a tuple are output0, output1, ... What has no row a sample (a loss
    of the model's own, a cache) is left out. Raises ModelError where the model cannot run or nothing is to be judged.
    """
    return _judged_first(model, _named(_ran(model, inputs)[0]), _count(inputs))


def _ran(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """What forward() gave for a copy of the inputs, and what it made of that copy. Raises ModelError."""
    own = {name: tensor.clone() for name, tensor in inputs.items()}
    try:
        return _bound(model, own), own
    except ModelError:
        raise
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the device has too little memory for a batch of {_count(inputs)}: lower batch_size."
        ) from error
    except Exception as error:  # any code of the user's may run here
        shapes = ", ".join(f"{name} {tuple(t.shape)} {str(t.dtype)[6:]}" for name, t in inputs.items())
        reason = str(error) or type(error).__name__
        raise ModelError(
            f"{type(model).__name__} cannot run on the task's inputs ({shapes}): {type(error).__name__}: {reason}"
        ) from error


def flattened(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[nn.Module, tuple[str, ...]]:
    """(a copy whose forward takes the inputs in their order, the names of the outputs that it gives in this order).

    For whoever traces: a plain network, which gives one tensor and leaves its inputs alone, is copied as it is.
    """
    copied = copy_model(model).cpu().eval().requires_grad_(False)
    with torch.no_grad():
        outputs, own = _ran(copied, inputs)
    untouched = all(torch.equal(own[name], tensor) for name, tensor in inputs.items())
    names = tuple(_judged_first(copied, _named(outputs), _count(inputs)))
    if isinstance(outputs, Tensor) and untouched and not _by_name(copied.forward, tuple(inputs), in_order=True):
        return copied, names
    kind = type(copied)

    def forward(self: nn.Module, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(inputs, (tensor.clone() for tensor in tensors), strict=True))
        found = _named(_bound(functools.partial(kind.forward, self), given))
        return tuple(found[name] for name in names)

    copied.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    return copied, names


def copy_model(model: nn.Module) -> nn.Module:
    """A copy of its own. Raises ModelError, with what to do, for a network that cannot be copied or has no weights yet.

    Tensors that hooks compute on the way (old-style weight norm, spectral norm) are copied without their history.
    """
    lazy = [name for name, p in model.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise ModelError(
            f"{type(model).__name__} has no weights yet in {a_few(lazy)} (lazy layers): run one batch through it first."
        )
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(model, cast(Any, computed))
    except Exception as error:  # whatever hangs on the user's module is copied along
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise ModelError(
            f"{type(model).__name__} cannot be copied ({reason}): take from it what no copy can have (open files, "
            "locks, loggers, data loaders) before handing it in."
        ) from error


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of those that hold NaN or infinity."""
    return [name for name, t in tensors if t.is_floating_point() and not torch.isfinite(t).all()]


def fill(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load tensors by name, as `load_state_dict` does, as of the version of each module's layout that this network has.

    A file of tensors knows no versions, and some modules (torchvision's MNASNet) refuse what has none.
    """
    versioned = OrderedDict(state)
    versioned._metadata = getattr(model.state_dict(), "_metadata", {})  # type: ignore[attr-defined]
    model.load_state_dict(versioned, strict=strict)


def _bound(model: Callable[..., Any], inputs: Mapping[str, Tensor]) -> Any:
    forward = model.forward if isinstance(model, nn.Module) else model
    if _by_name(forward, tuple(inputs)):
        return model(**inputs)
    return model(*inputs.values())


def _by_name(forward: Callable[..., Any], names: tuple[str, ...], in_order: bool = False) -> bool:
    """Whether inputs are bound by name, not in their order. Raises ModelError where names fit nothing.

    in_order : False also for names that are those of forward's arguments in the same order.
    """
    if names in (("input",), tuple(f"input{n}" for n in range(len(names)))):  # of a bare tensor, of a loader's tuples
        return False
    known, takes_any, takes_more = _arguments(getattr(forward, "__func__", getattr(forward, "func", forward)))
    fitting = [name for name in names if name in known]
    if len(fitting) == len(names):
        return not (in_order and names == known[: len(names)])
    if takes_any and not known:
        return True
    if not fitting and (len(names) == 1 or takes_more):
        return False
    strangers = [name for name in names if name not in known]
    near = did_you_mean(strangers[0], known) or "."
    raise ModelError(
        f"the model's forward() has no argument {', '.join(map(repr, strangers))}: it takes "
        f"{', '.join(known) or 'nothing'}{near} Give the task's inputs these names, or leave out what is not needed."
    )


@functools.lru_cache(maxsize=64)
def _arguments(forward: Any) -> tuple[tuple[str, ...], bool, bool]:
    """(names of forward's arguments, whether it takes any other by name, whether it takes more in order)."""
    try:
        found = [p for name, p in inspect.signature(forward).parameters.items() if name != "self"]
    except (TypeError, ValueError):  # of a compiled function, which does not say
        return (), False, True
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    kinds = {p.kind for p in found}
    names = tuple(p.name for p in found if p.kind in plain)
    return names, inspect.Parameter.VAR_KEYWORD in kinds, inspect.Parameter.VAR_POSITIONAL in kinds


def _named(outputs: Any) -> dict[str, Tensor]:
    """The tensors of what forward() gave, by name, those in tuples numbered; nothing of what holds none."""
    if isinstance(outputs, Tensor):
        return {"output": outputs}
    if isinstance(outputs, tuple | list) and not hasattr(outputs, "_fields"):
        entries = {f"output{n}": value for n, value in enumerate(outputs)}
    elif isinstance(outputs, Mapping):
        entries = {str(name): value for name, value in outputs.items()}
    elif hasattr(outputs, "_fields"):
        entries = outputs._asdict()
    elif is_dataclass(outputs) and not isinstance(outputs, type):
        entries = {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    else:
        return {}
    found: dict[str, Tensor] = {}
    for name, value in entries.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, tuple | list):
            found |= {f"{name}_{n}": item for n, item in enumerate(value) if isinstance(item, Tensor)}
    return found


def _judged_first(model: nn.Module, outputs: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The outputs with a row a sample, in the order in which they are exported. Raises ModelError."""
    rows = {n: t for n, t in outputs.items() if n != _OWN_LOSS and t.ndim > 0 and len(t) == count}
    if not rows:
        got = "; ".join(f"{name} {tuple(t.shape)}" for name, t in outputs.items()) or "no tensor"
        raise ModelError(f"{type(model).__name__} must return a tensor with a row a sample ({count} here), got {got}.")
    given = getattr(model, JUDGED, None)
    several = given if isinstance(given, tuple) else ()
    wanted = next((name for name in several if name not in rows), several[0]) if several else given
    if wanted is None:
        wanted = next(iter(rows)) if len(rows) == 1 else next((name for name in _USUAL if name in rows), None)
    if wanted is None or wanted not in rows:
        shown = ", ".join(f"{name} {tuple(t.shape)}" for name, t in rows.items())
        near = did_you_mean(wanted, rows) if wanted is not None else ""
        what = f"has no output {wanted!r}{near or '.'}" if wanted is not None else "has several outputs."
        raise ModelError(
            f"{type(model).__name__} {what} It gives {shown}. Say which one the task judges: Task(..., output=...)."
        )
    first = several or (wanted,)
    return {name: rows[name] for name in (*first, *(name for name in rows if name not in first))}


def _count(inputs: Mapping[str, Tensor]) -> int:
    return len(next(iter(inputs.values())))


@contextmanager
def features_of(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, the dict holds what each named module gave in the model's latest call. Raises RecipeError by name."""
    modules, found = dict(model.named_modules()), dict[str, Tensor]()
    for name in names:
        if name not in modules:
            near = did_you_mean(name, modules) or f". It has {', '.join(list(modules)[1:9])}, ..."
            raise RecipeError(f"features: {type(model).__name__} has no module {name!r}{near}")

    def keep(name: str) -> Any:
        return lambda module, inputs, output: found.__setitem__(name, output)

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(modules[name].register_forward_hook(keep(name)).remove)
        yield found
