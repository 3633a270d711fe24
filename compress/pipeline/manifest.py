"""The manifest of an artifact: what it claims, checked when it is read, and how an artifact is written.

No pickle is written or read. A manifest is a stranger's document: every field of it is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compress.core.files import hash_of, json_text
from evaluate.core.errors import ArtifactError
from evaluate.core.whole_files import write_together

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from compress.graph.export import Parity

MANIFEST = "manifest.json"
HASHED = ("model.onnx", "weights.safetensors", "recipe.yaml")
NO_NETWORK = "an ONNX file"  # the class of what was compressed without a network
LARGEST_INPUT = 2**26
# Of torch's types those that ONNX Runtime takes, and texts.
TYPES = frozenset((
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "str", "sequence",
))  # fmt: skip

RANDOM_SAMPLES = 8

Figure = Annotated[int | float, Field(ge=0, le=1e18)]


class _Block(BaseModel):
    """A block of a manifest. Keys that a later leanfit added are kept and not understood."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False, validate_by_name=True)


class Closeness(_Block):
    """The difference between file and network, of `compress.graph.export.Parity`."""

    relative: Figure


class InputSpec(_Block):
    """One input: the word "batch" and the shape of a sample, its type, and the range of its values.

    Inputs of an ONNX file that no network belongs to may lack the word.
    """

    name: str = Field(min_length=1)
    shape: tuple[Literal["batch"] | Annotated[int, Field(ge=1, le=LARGEST_INPUT)], ...]
    dtype: str
    range: tuple[float, float]

    @model_validator(mode="after")
    def _can_be_made(self) -> InputSpec:
        if self.dtype not in TYPES:
            raise ValueError(f"no type of an input: {self.dtype[:40]!r}")
        if "batch" in self.shape[1:] or math.prod(self.sample) > LARGEST_INPUT:
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
        import torch

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
    random_parity: Closeness | None = None

    @property
    def has_network(self) -> bool:
        """Whether a network can be built from it; else an ONNX file was compressed as it came."""
        return self.model.class_name != NO_NETWORK

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the artifact beside the manifest."""
        return HASHED if self.has_network else tuple(name for name in HASHED if name != "weights.safetensors")

    @model_validator(mode="after")
    def _names_its_files(self) -> Manifest:
        lacking = sorted(set(self.files) - set(self.hashes))
        if lacking:
            raise ValueError(f"no hash of {', '.join(lacking)}")
        if self.has_network and (
            self.random_parity is None or any(spec.shape[:1] != ("batch",) for spec in self.inputs)
        ):
            raise ValueError("a network's inputs are batches, and its parity was measured")
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
    from compress.core.forward import call
    from compress.graph.model_state import save_state

    inputs = [InputSpec.of(name, values) for name, values in example.items()]
    document = {
        **claims,
        "model": {
            "spec": getattr(model, "leanfit_spec", None),
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
        },
        "outputs": list(call(model, example)),
        "shapes": {name: list(t.shape) for name, t in model.state_dict().items()},
        "random_parity": random_parity(model, graph, inputs).as_dict(),
    }
    files = dict(zip(HASHED, (graph, save_state(model), recipe.encode()), strict=True))
    return _write(folder, document, inputs, files)


def write_file_artifact(
    folder: Path, *, graph: bytes, inputs: Sequence[InputSpec], recipe: str, claims: Mapping[str, Any]
) -> Manifest:
    """Write the artifact of an ONNX file that no network belongs to, as `write_artifact` does."""
    document = {**claims, "rewrites": [], "model": {"spec": None, "class": NO_NETWORK}}
    return _write(folder, document, inputs, {"model.onnx": graph, "recipe.yaml": recipe.encode()})


def _write(
    folder: Path, claims: Mapping[str, Any], inputs: Sequence[InputSpec], files: Mapping[str, bytes]
) -> Manifest:
    document: dict[str, Any] = {
        "schema": 1,
        **claims,
        "inputs": [spec.model_dump(mode="json") for spec in inputs],
        "hashes": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    document["self"] = hash_of(document)
    folder.mkdir(parents=True, exist_ok=True)
    write_together(folder, {**files, MANIFEST: json_text(document).encode()})
    return read_manifest(folder)


def random_inputs(inputs: Sequence[InputSpec]) -> dict[str, Tensor]:
    """The same random inputs (RANDOM_SAMPLES, ...) every time, by name."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return {spec.name: spec.random(generator) for spec in inputs}


def random_parity(model: nn.Module, graph: bytes, inputs: Sequence[InputSpec]) -> Parity:
    """Parity on random inputs within the range of real ones, so that it can be checked where the data is not."""
    from compress.graph.export import check_parity

    return check_parity(model, graph, random_inputs(inputs))
