"""Reading trained weights into a network: safetensors or torch state dicts, never arbitrary pickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compress.core.files import data_folder
from compress.core.forward import fill, not_finite
from evaluate.core.errors import ModelError, did_you_mean
from evaluate.core.text import a_few

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_OPTIONAL = "num_batches_tracked"  # a counter that old checkpoints lack and that inference never reads


def load_weights(model: nn.Module, path: str | Path) -> Path:
    """Fill `model` in place from a .safetensors, .pt, .pth or .pt2 file; returns the file that was read.

    A relative path is looked up from the current folder, then in $LEANFIT_DATA. Every weight and buffer must be there
    in the right shape, and nothing else. Raises ModelError, naming at most five keys of each kind.
    """
    found = find_weights(path)
    state = read_weights(found)
    problems = _mismatches(model.state_dict(), state)
    if problems:
        lines = "\n".join(f"  {line}" for line in problems)
        raise ModelError(
            f"{found}: these weights do not fit the model:\n{lines}\n"
            f"Check the model's arguments (width, depth, classes, ...) against those it was trained with."
        )
    fill(model, state, strict=False)  # what is missing, or too much, has been said
    return found


def find_weights(path: str | Path) -> Path:
    """The file itself, or the file of that name in $LEANFIT_DATA. Raises ModelError where neither is there."""
    given = Path(path).expanduser()
    places = [given] if given.is_absolute() else [given, data_folder() / given]
    for place in places:
        if place.is_file():
            return place
    near = {p.name for place in places if place.parent.is_dir() for p in place.parent.iterdir() if p.is_file()}
    looked = " and ".join(str(p) for p in places)
    raise ModelError(
        f"weights file {str(path)!r} not found: looked for {looked}{did_you_mean(given.name, near) or '.'} "
        f"Give a path, or put the file into the folder LEANFIT_DATA names."
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, unwrapped and without 'module.' prefixes. Raises ModelError where it is none."""
    try:
        content = _content(path)
    except Exception as error:  # a damaged pickle makes torch raise nearly any type
        reason = str(error).split("\n")[0][:300]
        raise ModelError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {reason}). Expected safetensors, or a state "
            f"dict of tensors written by torch.save(model.state_dict()); whole pickled models are not read."
        ) from error
    state = _unwrapped(content, path)
    bad = not_finite(state.items())
    if bad:
        raise ModelError(f"{path}: weights that are NaN or infinite: {a_few(bad)}. Train again or take another file.")
    return state


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".pt2":
        return dict(torch.export.load(path).state_dict)
    return torch.load(path, map_location="cpu", weights_only=True)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        got = f"keys {a_few([*map(str, content)])}" if isinstance(content, Mapping) else type(content).__name__
        raise ModelError(f"{path}: expected a state dict (name -> tensor), got {got}.")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _mismatches(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in wanted if name not in got and not name.endswith(_OPTIONAL)]
    unexpected = [name for name in got if name not in wanted]
    shapes = [
        f"{name} (model {tuple(wanted[name].shape)}, file {tuple(got[name].shape)})"
        for name in wanted
        if name in got and wanted[name].shape != got[name].shape
    ]
    kinds = {"missing in the file": missing, "unknown to the model": unexpected, "of another shape": shapes}
    return [f"{len(names)} {kind}: {a_few(names)}" for kind, names in kinds.items() if names]
