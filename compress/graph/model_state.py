"""What flows between passes: a network, its graph once there is one, what rebuilds it, and what must stay true of it.

A rewrite is a change of structure, a constraint a promise about weights. Both are frozen settings, which stand in the
manifest under the name of their kind and are read back in a fresh process. A kind is a registered class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import onnx
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from compress.core.config import Config
from compress.core.forward import copy_model, fill
from compress.core.registries import CONSTRAINTS, REWRITES
from compress.graph.surgery import resize_like
from evaluate.core.components import Registry
from evaluate.core.errors import ArtifactError, LeanfitError, ModelError, did_you_mean


class Rewrite(Config, ABC):
    """A change of structure that was made to `layer`; its fields are all that is needed to repeat it."""

    layer: str

    @classmethod
    @abstractmethod
    def apply(cls, model: nn.Module, example: Mapping[str, Tensor]) -> tuple[Rewrite, ...]:
        """Make, in place, every rewrite of this kind that fits the network; gives their records.

        `example` maps input names to tensors (batch, ...), of which the first sample may be used.
        """

    @abstractmethod
    def describe(self) -> str:
        """What was changed, in words."""

    @abstractmethod
    def rebuild(self, model: nn.Module) -> None:
        """Repeat the change, in place, without data. Weights come afterwards, cut to the shapes that are stored."""


class Bound(Protocol):
    """A constraint with what it found in one network, so that it can be imposed on it again and again."""

    def apply(self, module: nn.Module) -> None:
        """Make the constraint true of the network again, in place."""


class Constraint(Config, ABC):
    """A promise about weights that training, export, saving and later passes keep."""

    @abstractmethod
    def bind(self, module: nn.Module) -> Bound:
        """The constraint as it is true of this network now. Raises ModelError where it speaks of another network."""

    @abstractmethod
    def broken(self, before: nn.Module, after: nn.Module) -> str:
        """In words, how a pass that made `after` of `before` broke the promise; "" where it was kept."""


T = TypeVar("T", Rewrite, Constraint)


def register_rewrite(kind: str) -> Callable[[type[T]], type[T]]:
    """Register a `Rewrite` class under the kind that manifests name it by."""
    return REWRITES.register(kind)


def register_constraint(kind: str) -> Callable[[type[T]], type[T]]:
    """Register a `Constraint` class under the kind that manifests name it by."""
    return CONSTRAINTS.register(kind)


@dataclass(frozen=True)
class ModelState:
    """The model between two passes; a pass gives `dataclasses.replace(model, module=...)`.

    module      : the network in torch; never changed by a pass, which works on a copy.
    graph       : the deployed graph, once a pass wrote one. From then on it is the truth, and the network only what it
                  was made from.
    rewrites    : the changes of structure since the uncompressed network, in their order; channel counts apart, which
                  are read from the stored weights.
    constraints : what must stay true of the network's weights.
    """

    module: nn.Module
    graph: onnx.ModelProto | None = None
    rewrites: tuple[Rewrite, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    @property
    def truth(self) -> Literal["module", "graph"]:
        """Which of the two is deployed: a written graph, or else the network, which is exported."""
        return "module" if self.graph is None else "graph"

    def bound_constraints(self) -> list[Bound]:
        """The constraints as they are true of the network now."""
        return [constraint.bind(self.module) for constraint in self.constraints]

    def claims(self) -> dict[str, Any]:
        """What a manifest keeps of this state beside the weights; JSON-able."""
        return {
            "rewrites": [_record(REWRITES, rewrite) for rewrite in self.rewrites],
            "constraints": [_record(CONSTRAINTS, constraint) for constraint in self.constraints],
        }


@register_constraint("zeros")
class ZerosStay(Constraint):
    """Weights of the named parameters that are exactly zero stay zero. Their pattern is that of the stored weights."""

    parameters: tuple[str, ...] = Field(min_length=1)

    def bind(self, module: nn.Module) -> Bound:
        return _Zeros({name: _parameter(module, name).detach() == 0 for name in self.parameters})

    def broken(self, before: nn.Module, after: nn.Module) -> str:
        for name in self.parameters:
            old, new = _parameter(before, name).detach().cpu(), _parameter(after, name).detach().cpu()
            fewer = int(old.count_nonzero()) - int(new.count_nonzero())
            if fewer < 0 or (old.shape == new.shape and bool(new[old == 0].any())):
                return f"weights of {name} that were zero are not zero any more"
        return ""


@dataclass(frozen=True)
class _Zeros:
    zero: Mapping[str, Tensor]

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        for name, zero in self.zero.items():
            parameter = module.get_parameter(name)
            parameter.masked_fill_(zero.to(parameter.device), 0.0)


@register_constraint("few_values")
class FewValues(Constraint):
    """Weights of the named parameters have at most so many values. Which have one together is told by those stored."""

    parameters: tuple[str, ...] = Field(min_length=1)
    most: int = Field(ge=1, le=65_536)

    def bind(self, module: nn.Module) -> Bound:
        weights = {name: _parameter(module, name).detach() for name in self.parameters}
        return _Clusters({name: torch.unique(w, return_inverse=True)[1] for name, w in weights.items()})

    def broken(self, before: nn.Module, after: nn.Module) -> str:
        for name in self.parameters:
            if len(torch.unique(_parameter(after, name).detach())) > self.most:
                return f"weights of {name} have more than {self.most} values"
        return ""


@dataclass(frozen=True)
class _Clusters:
    """Which weights have a value together: by parameter the number of the value (its shape)."""

    index: Mapping[str, Tensor]

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        for name, index in self.index.items():
            parameter = module.get_parameter(name)
            flat, of = parameter.reshape(-1).double(), index.reshape(-1).to(parameter.device)
            sums = torch.zeros(int(of.max()) + 1, dtype=flat.dtype, device=flat.device).index_add_(0, of, flat)
            means = (sums / torch.bincount(of)).to(parameter.dtype)
            parameter.copy_(means[of].reshape(parameter.shape))


def read_rewrites(data: Iterable[Mapping[str, Any]]) -> tuple[Rewrite, ...]:
    """Rewrites from their records. Raises ModelError for an unknown kind, and for fields that are not those of it."""
    return tuple(_read(REWRITES, entry) for entry in data)


def read_constraints(data: Iterable[Mapping[str, Any]]) -> tuple[Constraint, ...]:
    """Constraints from their records. Raises ModelError as `read_rewrites`."""
    return tuple(_read(CONSTRAINTS, entry) for entry in data)


def rebuild(model: nn.Module, rewrites: Sequence[Rewrite]) -> None:
    """Repeat recorded rewrites in place, one after the other. Raises ModelError with the layer where one cannot be."""
    for rewrite in rewrites:
        names = dict(model.named_modules())
        if rewrite.layer not in names:
            raise _not_repeated(rewrite, f"no layer of that name{did_you_mean(rewrite.layer, names)}")
        try:
            rewrite.rebuild(model)
        except Exception as error:  # any code of the user's may run here
            raise _not_repeated(rewrite, f"{type(error).__name__}: {error}") from error


def save_state(model: nn.Module) -> bytes:
    """A network's parameters and buffers as safetensors bytes, tied ones once; the same weights give the same bytes."""
    seen: set[tuple[int, int, tuple[int, ...]]] = set()
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tensor.storage_offset(), tuple(tensor.shape))
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        state[name] = tensor.detach().cpu().contiguous()
    return save(state)


def load_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ArtifactError where it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{path}: cannot be read as safetensors ({error}); compress again, or copy it anew"
        ) from error


def network_from(base: nn.Module, rewrites: Sequence[Rewrite], weights: Path) -> nn.Module:
    """A copy of `base` with the rewrites made, the layers cut to the shapes of the weights file, and its weights."""
    state = load_state(weights)
    network = copy_model(base).cpu()
    try:
        rebuild(network, rewrites)
        resize_like(network, {name: tuple(tensor.shape) for name, tensor in state.items()})
    except ModelError as error:
        raise ArtifactError(f"{weights}: these weights do not fit {type(base).__name__}: {error}") from error
    fill(network, state, strict=False)  # resize_like has seen to it that only tied names are missing
    return network


def _not_repeated(rewrite: Rewrite, reason: str) -> LeanfitError:
    return ModelError(
        f"cannot repeat the rewrite of {rewrite.layer!r} ({rewrite.describe()}): {reason}. Was it made for another "
        "network?"
    )


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    known = dict(module.named_parameters(remove_duplicate=False))
    if name not in known:
        raise ModelError(
            f"a constraint names {name!r}, which is no parameter of this network{did_you_mean(name, known)}"
        )
    return known[name]


def _record(registry: Registry[Any], item: Config) -> dict[str, Any]:
    """The fields of a record, and its kind as a fresh process can find it."""
    kinds = [known.address for known in registry.all().values() if known.target is type(item)]
    if not kinds:
        raise ModelError(
            f"{type(item).__name__} is not registered as a {registry.kind}, so that nothing could read it back: "
            f"decorate it with @register_{registry.kind}('...')"
        )
    return {"kind": kinds[0], **item.model_dump(mode="json")}


def _read(registry: Registry[Any], data: Mapping[str, Any]) -> Any:
    fields, kind = {key: value for key, value in data.items() if key != "kind"}, data.get("kind")
    if not isinstance(kind, str):
        raise ModelError(f"a record of a {registry.kind} cannot be read: it does not say its kind")
    try:
        return registry.get(kind).target.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors()[:5])
        raise ModelError(f"a record of a {registry.kind} cannot be read: {problems}") from error
