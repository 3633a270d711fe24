"""Trials: what a study comes down to, each an ordinary recipe with the place it has in the study."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from compress.core.files import file_hash, hash_of

FORMAT = 1  # of what an id is the hash of


@dataclass(frozen=True)
class Trial:
    """One model to be trained, compressed and judged.

    id       : the hash of the resolved inputs; trials of equal inputs are one trial.
    role     : "dense", "compressed" or "native".
    size     : the model's arguments that vary; level: its name, its values and its bits; data: what was changed there.
    recipe   : the resolved recipe, plain data.
    prefixes : a hash for each of its stages, the baseline first: equal ones are one stage, made once.
    epochs   : of training in each of those stages; samples: of the training split, where the recipe limits them.
    params   : of the uncompressed model; known from its shapes alone.
    target   : params expected after compression; None where only a run can tell, and for what is not smaller.
    rank     : smaller is more useful, see `order`.
    native   : the id of the dense model of equal size, where it is known.
    """

    id: str
    role: str
    size: dict[str, Any]
    level: dict[str, Any]
    data: dict[str, Any]
    seed: int
    recipe: dict[str, Any]
    prefixes: list[str]
    epochs: list[int]
    params: int
    samples: int | None = None
    target: int | None = None
    waits: bool = False
    rank: list[float] = field(default_factory=list)
    native: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data that `Trial(**data)` reads back."""
        return asdict(self)

    def named(self, **changes: Any) -> Trial:
        """The same trial with some fields changed."""
        return replace(self, **changes)

    @property
    def label(self) -> str:
        """A few words for progress: `width 8 depth 14, pruned density 0.5, seed 0`."""
        size = " ".join(f"{k} {v}" for k, v in self.size.items())
        values = (f"{k} {v}" for k, v in self.level.items() if k not in ("name", "bits"))
        level = " ".join([self.level["name"], *values])
        data = "".join(f", {k} {v}" for k, v in self.data.items())
        return f"{size}, {level}{data}, seed {self.seed}"


def identify(recipe: Mapping[str, Any], files: Mapping[str, str]) -> list[str]:
    """The prefixes of a resolved recipe: of its baseline, and then of each pass.

    Name, goals and benchmark are left out: they change nothing that a trial measures. `files` maps the files that
    decide a result beside the recipe (weights, a user's own modules) to their SHA-256.
    """
    parts = [recipe.get(key) for key in ("model", "task", "train", "seed", "export")]
    found = [hash_of("trial", FORMAT, parts, sorted(files.values()))]
    for step in recipe["passes"]:
        found.append(hash_of(found[-1], step))
    return found


def own_files(recipe: Any) -> dict[str, str]:
    """SHA-256, by path, of what decides a trial beside its recipe: weights, a user's own modules."""
    return {str(path): _hashed(str(path)) for path in sorted(set(_files(recipe)))}


@lru_cache(maxsize=1024)
def _hashed(path: str) -> str:
    return file_hash(Path(path))


def _files(recipe: Any) -> Iterator[Path]:
    from compress.models.weights import find_weights

    if recipe.model.weights is not None:
        yield find_weights(recipe.model.weights)
    for step in recipe.passes:
        yield from getattr(step.config, "files", list)()
    for named in (recipe.model, recipe.task):
        module = _module(named.name)
        if module is not None:
            yield module


def _module(address: str) -> Path | None:
    """The file of `package.module:name`."""
    name, colon, _ = address.partition(":")
    path = getattr(sys.modules.get(name), "__file__", None) if colon else None
    return Path(path) if path else None


def stage_epochs(recipe: Mapping[str, Any]) -> list[int]:
    """Epochs of training in the baseline and in each pass of a resolved recipe."""
    train = recipe.get("train")
    return [int(train["epochs"]) if train else 0, *(_epochs(step) for step in recipe["passes"])]


def _epochs(step: Mapping[str, Any]) -> int:
    inner = step.get("recover") or {}
    return int(step.get("epochs", 0)) + int(inner.get("epochs", 0))
