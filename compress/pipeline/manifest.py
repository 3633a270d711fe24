"""The manifest of an artifact: what it claims, checked when it is read, and how an artifact is written.

No pickle is written or read. A manifest is a stranger's document: every field of it is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from compress.core.files import hash_of, json_text
from compress.core.forward import call
from compress.graph.export import Parity, check_parity
from compress.graph.model_state import save_state
from evaluate.core.errors import ArtifactError
from evaluate.core.whole_files import write_together

MANIFEST = "manifest.json"
HASHED = ("model.onnx", "weights.safetensors", "recipe.yaml")
LARGEST_INPUT = 2**26

RANDOM_SAMPLES = 8

Figure = Annotated[int | float, Field(ge=0, le=1e18)]


class _Block(BaseModel):
    """A block of a manifest. Keys that a later leanfit added are kept and not understood."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False, validate_by_name=True)


class Closeness(_Block):
    """The difference between file and network, of `compress.graph.export.Parity`."""

    relative: Figure


class InputSpec(_Block):
    """One input: the word "batch" and the shape of a sample, its type, and the range of its values."""

    name: str = Field(min_length=1)
    shape: tuple[Literal["batch"] | Annotated[int, Field(ge=1, le=LARGEST_INPUT)], ...] = Field(min_length=1)
    dtype: str
    range: tuple[float, float]

    @model_validator(mode="after")
    def _can_be_made(self) -> InputSpec:
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"no type of torch's: {self.dtype[:40]!r}")
        if [n for n in self.shape if isinstance(n, str)] != [self.shape[0]] or math.prod(self.sample) > LARGEST_INPUT:
            raise ValueError(f"expected 'batch' and the shape of a sample of at most {LARGEST_INPUT} values")
        return self

    @property
    def sample(self) -> list[int]:
        """The shape of one sample."""
        return [n for n in self.shape if isinstance(n, int)]

    @classmethod
    def of(cls, name: str, values: Tensor) -> InputSpec:
        """The description of real inputs (batch, ...)."""
        shape, dtype = ("batch", *values.shape[1:]), str(values.dtype).removeprefix("torch.")
        return cls(name=name, shape=shape, dtype=dtype, range=(float(values.min()), float(values.max())))

    def random(self, generator: torch.Generator) -> Tensor:
        """Inputs (RANDOM_SAMPLES, ...) within the range, for where the data is not."""
        low, high = self.range
        uniform = torch.rand((RANDOM_SAMPLES, *self.sample), generator=generator)
        return torch.as_tensor(low + (high - low) * uniform, dtype=getattr(torch, self.dtype))


class ModelSpec(_Block):
    """A registered model and the complete arguments that it was built from."""

    name: str
    args: dict[str, Any]


class ModelOrigin(_Block):
    """Where the network comes from: what builds it again, None where it was brought as an object; and its class."""

    spec: ModelSpec | None
    class_name: str = Field(default="", alias="class")


class Manifest(_Block):
    """What an artifact claims of itself. Rewrites and constraints are read by their kinds, and only when needed."""

    format: Literal[1] = Field(default=1, alias="schema")
    name: str = ""
    stage: str
    recipe_hash: str
    quantized: bool
    rewrites: list[dict[str, Any]]
    constraints: list[dict[str, Any]] = []
    model: ModelOrigin
    inputs: list[InputSpec] = Field(min_length=1)
    outputs: list[str] = []  # the judged one first; older manifests do not say
    sizes: dict[str, Figure]
    hashes: dict[str, str]
    random_parity: Closeness

    @model_validator(mode="after")
    def _names_its_files(self) -> Manifest:
        lacking = sorted(set(HASHED) - set(self.hashes))
        if lacking:
            raise ValueError(f"no hash of {', '.join(lacking)}")
        return self

    def document(self) -> dict[str, Any]:
        """The manifest as it stands in its file, without its own hash."""
        return self.model_dump(mode="json", by_alias=True)

    def __getitem__(self, key: str) -> Any:
        return self.document()[key]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder. Raises ArtifactError for what is not one, and for one that was changed."""
    path = folder / MANIFEST
    if not path.is_file():
        what = "it has no manifest.json" if folder.is_dir() else "it is not a folder"
        what = what if folder.exists() else "there is no such folder"
        raise ArtifactError(f"{folder}: not an artifact: {what}. A folder made by `leanfit compress` is expected.")
    try:
        data = path.read_bytes()
        document = json.loads(data)
        claimed = document.pop("self")
        manifest = Manifest.model_validate_json(data)
        own = hash_of(document)
    except ValidationError as error:
        raise ArtifactError(f"{path}: damaged ({_problems(error)}); compress again") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged ({type(error).__name__}: {str(error)[:200]}); compress again") from error
    if claimed != own:
        raise ArtifactError(f"{path}: its content does not match its own hash: it was changed or damaged")
    return manifest


def _problems(error: ValidationError) -> str:
    """What is wrong with a manifest: the keys it lacks, or else the first values that are not what they should be."""
    found = [(".".join(map(str, e["loc"])) or "the whole", e["type"], e["msg"]) for e in error.errors()]
    lacking = sorted(where for where, kind, _ in found if kind == "missing")
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    return "; ".join(f"{where}: {message}" for where, _, message in found[:5])


def write_artifact(
    folder: Path,
    *,
    model: nn.Module,
    graph: bytes,
    example: Mapping[str, Tensor],
    recipe: str,
    claims: Mapping[str, Any],
) -> Manifest:
    """Write an artifact; the manifest, which makes it one, comes last. Returns the manifest.

    An earlier artifact in the folder is whole until all the new files are on the disk.

    `claims` holds what only the pipeline knows: name, recipe_hash, stage, quantized, rewrites, constraints, and the
    sizes and parities of the file.
    """
    inputs = [InputSpec.of(name, values) for name, values in example.items()]
    files = dict(zip(HASHED, (graph, save_state(model), recipe.encode()), strict=True))
    document: dict[str, Any] = {
        "schema": 1,
        **claims,
        "model": {
            "spec": getattr(model, "leanfit_spec", None),
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
        },
        "inputs": [spec.model_dump(mode="json") for spec in inputs],
        "outputs": list(call(model, example)),
        "shapes": {name: list(t.shape) for name, t in model.state_dict().items()},
        "hashes": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    document["random_parity"] = random_parity(model, graph, inputs).as_dict()
    document["self"] = hash_of(document)
    folder.mkdir(parents=True, exist_ok=True)
    write_together(folder, {**files, MANIFEST: json_text(document).encode()})
    return read_manifest(folder)


def random_inputs(inputs: Sequence[InputSpec]) -> dict[str, Tensor]:
    """The same random inputs (RANDOM_SAMPLES, ...) every time, by name."""
    generator = torch.Generator().manual_seed(0)
    return {spec.name: spec.random(generator) for spec in inputs}


def random_parity(model: nn.Module, graph: bytes, inputs: Sequence[InputSpec]) -> Parity:
    """Parity on random inputs within the range of real ones, so that it can be checked where the data is not."""
    return check_parity(model, graph, random_inputs(inputs))
