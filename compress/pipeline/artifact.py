"""The folder a user deploys: model.onnx, weights.safetensors, recipe.yaml and a manifest that vouches for them.

No pickle is written or read. A network is rebuilt from its constructor (a registered model's name and arguments, or an
unpruned module the caller brings), the rewrites a pass made, and the shapes of the stored weights.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from compress.core.files import file_hash, hash_of, json_text, write_together
from compress.graph.export import Parity, check_parity, load_graph
from compress.graph.sizes import measure_sizes
from compress.graph.surgery import apply_rewrites, resize_like
from compress.models import build_model
from evaluate.core.errors import ArtifactError, LeanfitError, ModelError
from evaluate.core.journal import find_records
from evaluate.report.write import summary, text_table

MANIFEST = "manifest.json"
HASHED = ("model.onnx", "weights.safetensors", "recipe.yaml")
CLAIMS = {"stage", "recipe_hash", "quantized", "rewrites", "model", "inputs", "sizes", "hashes", "random_parity"}
RANDOM_SAMPLES = 8


@dataclass(frozen=True)
class Check:
    """One thing `verify` looked at. `ok` is None where it could not be checked, and `detail` says why."""

    name: str
    ok: bool | None
    detail: str

    @property
    def failed(self) -> bool:
        """Whether something is wrong; what could not be checked has not failed."""
        return self.ok is False


@dataclass(frozen=True)
class Artifact:
    """A compressed model on disk. `path` is its folder, `manifest` what it claims of itself."""

    path: Path
    manifest: Mapping[str, Any]
    base: nn.Module | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Artifact:
        """Open the artifact in a folder. Raises ArtifactError where there is none or its manifest is unreadable."""
        folder = Path(path)
        return cls(folder, read_manifest(folder))

    def module(self, base: nn.Module | None = None) -> nn.Module:
        """The compressed network in torch, fp32, in eval mode, rebuilt from the files.

        A model that was not built by a registered name needs `base`: the unpruned network, with any weights. Where the
        deployed graph is quantized this is the network the integers were made from. Raises ArtifactError.
        """
        base = base if base is not None else self.base
        if base is None:
            base = _build_base(self.manifest, self.path)
        network = network_from(base, self.manifest["rewrites"], self.path / "weights.safetensors")
        return network.eval()

    def record(self) -> dict[str, Any]:
        """The newest Record of this artifact and its recipe. Raises ArtifactError where the journal holds none."""
        wanted = self.manifest["hashes"]["model.onnx"], self.manifest["recipe_hash"]
        found = [
            r
            for r in find_records(self.path)
            if (r.get("hashes", {}).get("model.onnx"), r.get("recipe_hash")) == wanted
        ]
        if not found:
            raise ArtifactError(
                f"{self.path}: no Record of this model in records.jsonl; run `leanfit compress` again to measure it"
            )
        return dict(found[-1])

    def summary(self) -> dict[str, Any]:
        """The figures of this artifact: what `leanfit compress --json` prints."""
        return dict(summary(self.record()))

    def table(self) -> str:
        """The figures as text, for a terminal."""
        return text_table(self.record())


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


def network_from(base: nn.Module, rewrites: list[dict[str, Any]], weights: Path) -> nn.Module:
    """A copy of `base` with the rewrites made, the layers cut to the shapes of the weights file, and its weights."""
    state = load_state(weights)
    network = copy.deepcopy(base).cpu()
    try:
        apply_rewrites(network, rewrites)
        resize_like(network, {name: tuple(tensor.shape) for name, tensor in state.items()})
    except ModelError as error:
        raise ArtifactError(f"{weights}: these weights do not fit {type(base).__name__}: {error}") from error
    network.load_state_dict(state, strict=False)  # resize_like has seen to it that only tied names are missing
    return network


def write_artifact(
    folder: Path,
    *,
    model: nn.Module,
    graph: bytes,
    example: Mapping[str, Tensor],
    recipe: str,
    claims: Mapping[str, Any],
) -> dict[str, Any]:
    """Write an artifact; the manifest, which makes it one, comes last. Returns the manifest.

    An earlier artifact in the folder is whole until all the new files are on the disk.

    `claims` holds what only the pipeline knows: name, recipe_hash, stage, quantized, rewrites, and the sizes and
    parity of the file.
    """
    files = dict(zip(HASHED, (graph, save_state(model), recipe.encode()), strict=True))
    manifest: dict[str, Any] = {
        "schema": 1,
        **claims,
        "model": {"spec": getattr(model, "leanfit_spec", None), "class": _class_name(model)},
        "inputs": [
            {
                "name": name,
                "shape": ["batch", *t.shape[1:]],
                "dtype": str(t.dtype).removeprefix("torch."),
                "range": [float(t.min()), float(t.max())],
            }
            for name, t in example.items()
        ],
        "shapes": {name: list(t.shape) for name, t in model.state_dict().items()},
        "hashes": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    manifest["random_parity"] = _random_parity(model, graph, manifest["inputs"]).as_dict()
    manifest["self"] = hash_of(manifest)
    folder.mkdir(parents=True, exist_ok=True)
    write_together(folder, {**files, MANIFEST: json_text(manifest).encode()})
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artifact folder. Raises ArtifactError."""
    path = folder / MANIFEST
    if not path.is_file():
        what = "it has no manifest.json" if folder.is_dir() else "it is not a folder"
        what = what if folder.exists() else "there is no such folder"
        raise ArtifactError(f"{folder}: not an artifact: {what}. A folder made by `leanfit compress` is expected.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest.pop("self")
        lacking = [*(CLAIMS - set(manifest)), *(set(HASHED) - set(manifest.get("hashes", HASHED)))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged ({type(error).__name__}: {error}); compress again") from error
    if lacking:
        raise ArtifactError(f"{path}: damaged (it lacks {', '.join(sorted(lacking))}); compress again")
    if found != hash_of(manifest):
        raise ArtifactError(f"{path}: its content does not match its own hash: it was changed or damaged")
    return dict(manifest)


def verify(path: str | Path, base: nn.Module | None = None) -> list[Check]:
    """Check hashes, all claimed sizes, and parity of the file with the rebuilt network.

    Later checks are left out where an earlier one fails. `base` as in `Artifact.module`. Never raises for a damaged
    artifact: what is wrong is a failed Check.
    """
    folder = Path(path)
    try:
        artifact = Artifact(folder, read_manifest(folder), base)
    except ArtifactError as error:
        return [Check("manifest", False, str(error))]
    checks = [Check("manifest", True, "matches its own hash")]
    checks += [_check_hash(folder, name, artifact.manifest["hashes"][name]) for name in HASHED]
    if all(check.ok for check in checks):
        checks += [_guarded("sizes", _check_sizes, artifact), _guarded("parity", _check_parity, artifact)]
    return checks


def _check_hash(folder: Path, name: str, claimed: str) -> Check:
    if not (folder / name).is_file():
        return Check(name, False, "missing")
    try:
        found = file_hash(folder / name)
    except OSError as error:
        return Check(name, False, f"cannot be read: {error.strerror or error}")
    if found == claimed:
        return Check(name, True, f"sha256 {found[:12]}...")
    return Check(name, False, f"sha256 is {found[:12]}..., the manifest says {claimed[:12]}...: changed or damaged")


def _guarded(name: str, check: Callable[[Artifact], tuple[bool, str]], artifact: Artifact) -> Check:
    try:
        return Check(name, *check(artifact))
    except _NeedsBase as error:
        return Check(name, None, f"not checked: {error}")
    except (LeanfitError, RuntimeError, ValueError, KeyError, OSError) as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _check_sizes(artifact: Artifact) -> tuple[bool, str]:
    claimed: Mapping[str, float] = artifact.manifest["sizes"]
    data = (artifact.path / "model.onnx").read_bytes()
    inputs = _random_inputs(artifact.manifest["inputs"])
    found: dict[str, Any] = {**measure_sizes(artifact.module(), inputs, load_graph(data), data)}
    wrong = [
        f"{key}: {found[key]}, claimed {value}" for key, value in claimed.items() if _differs(key, found[key], value)
    ]
    said = ", ".join(f"{found[key]} {key}" for key in ("params", "nonzero", "macs", "bytes"))
    return not wrong, "; ".join(wrong) or said


def _differs(unit: str, found: float, claimed: float) -> bool:
    """Sizes are exact, but for packed bytes: another build of zlib packs a little better or worse."""
    return abs(found - claimed) > 0.05 * claimed if unit == "packed_bytes" else found != claimed


def _check_parity(artifact: Artifact) -> tuple[bool, str]:
    graph = (artifact.path / "model.onnx").read_bytes()
    found = _random_parity(artifact.module(), graph, artifact.manifest["inputs"]).relative
    claimed = artifact.manifest["random_parity"]["relative"]
    # Another CPU rounds differently; integer kernels by up to a step of the output.
    allowed = 2 * claimed + (0.05 if artifact.manifest["quantized"] else 1e-4)
    return found <= allowed, f"differs from torch by {found:.1e} of the output's range (claimed {claimed:.1e})"


def _random_parity(model: nn.Module, graph: bytes, inputs: Sequence[Mapping[str, Any]]) -> Parity:
    """Parity on random inputs within the range of real ones, so that it can be checked where the data is not."""
    return check_parity(model, graph, _random_inputs(inputs))


def _random_inputs(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {i["name"]: _random_input(i, generator) for i in inputs}


def _random_input(spec: Mapping[str, Any], generator: torch.Generator) -> Tensor:
    (low, high), dtype = spec["range"], vars(torch)[spec["dtype"]]
    uniform = torch.rand((RANDOM_SAMPLES, *spec["shape"][1:]), generator=generator)
    return torch.as_tensor(low + (high - low) * uniform, dtype=dtype)


class _NeedsBase(ArtifactError):
    pass


def _build_base(manifest: Mapping[str, Any], folder: Path) -> nn.Module:
    spec = manifest["model"]["spec"]
    if spec is None:
        raise _NeedsBase(
            f"{folder}: this network ({manifest['model']['class']}) was brought as an object, so its constructor "
            "is not known. Give the unpruned network: Artifact.load(folder).module(base=MyNet()), or register its "
            "builder with @register_model and build it by name."
        )
    try:
        return build_model(spec["name"], **spec["args"])
    except LeanfitError as error:
        raise ArtifactError(f"{folder}: its network cannot be built again: {error}") from error


def _class_name(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"
