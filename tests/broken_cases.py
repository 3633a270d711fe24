"""The table of broken inputs that test_broken_inputs.py drives through the command line."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import shutil
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from onnx import TensorProto
from safetensors.torch import save
from tiny_onnx import cast_onnx, linear_onnx
from torch import nn

from compress.core.files import file_hash, hash_of
from compress.models import build_model

QUICK = ["digits-mlp-int8", "--force"]
for _change in ("train.epochs=1", "benchmark.seconds=0.3", "goals={}"):
    QUICK += ["--set", _change]
BRIEF = ["--seconds", "0.1", "--quiet"]


class Ground(NamedTuple):
    """Where a case breaks something: its own folder, and a finished run to take from."""

    path: Path
    run: Path
    patch: pytest.MonkeyPatch

    def file(self, name: str, data: bytes | str = b"") -> Path:
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data if isinstance(data, bytes) else data.encode())
        return place

    def copy(self, *, stages: bool = False) -> Path:
        """The finished run once more, to be damaged."""
        ignore = None if stages else shutil.ignore_patterns("stages")
        return Path(shutil.copytree(self.run, self.path / "damaged", ignore=ignore))

    def resign(self, folder: Path, **claims: object) -> Path:
        """Give a changed artifact a manifest that agrees with itself and with the files."""
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["self"]
        manifest["hashes"] = {name: file_hash(folder / name) for name in manifest["hashes"]}
        manifest |= claims
        self.file("damaged/manifest.json", json.dumps({**manifest, "self": hash_of(manifest)}))
        return folder

    def weights(self, name: str, data: bytes | str) -> list[object]:
        """A run whose model takes its weights from a file of this content."""
        return self.compress("--set", f"model.weights={self.file(name, data)}")

    def data(self, task: str, model: str = "resnet", **files: bytes) -> list[object]:
        """A run on a data set whose folder holds these files."""
        self.patch.setenv("LEANFIT_DATA", str(self.path / "data"))
        for name, content in files.items():
            self.file(f"data/{name}", content)
        recipe = "version: 1\ntrain: {epochs: 1}\npasses: [{kind: quantize}]\n"
        recipe += f"model: {{name: {model}}}\ntask: {{name: {task}}}\n"
        return ["compress", self.file("r.yaml", recipe), "--out", self.path / "run"]

    def compress(self, *more: object, out: Path | None = None) -> list[object]:
        return ["compress", *QUICK, "--quiet", "--out", out or self.path / "run", *more]


Make = Callable[[Ground], list[object]]


class Case(NamedTuple):
    name: str
    make: Make
    code: int
    said: tuple[str, ...]


CASES: list[Case] = []


def broken(code: int, *said: str) -> Callable[[Make], None]:
    """A case: the exit code, and what is said on stdout or stderr: the place first, then the next step."""
    return lambda make: each(code, *said, **{make.__name__: make})


def each(code: int, *said: str, **makes: Make) -> None:
    """Several cases that are refused alike."""
    CASES.extend(Case(name, make, code, said) for name, make in makes.items())


def state() -> dict[str, torch.Tensor]:
    return build_model("mlp", inputs=64, width=128, depth=2).state_dict()


def torch_bytes(value: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


class Harm:
    """Unpickling it makes a folder, as any code could be run."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.place),)


def idx(shape: tuple[int, ...], values: int) -> bytes:
    return gzip.compress(bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}i", *shape) + bytes(values))


# ---- ONNX files ----


each(
    7, "m.onnx is not a complete ONNX model", "Export or copy the file again",
    truncated_onnx=lambda at: ["bench", at.file("m.onnx", linear_onnx()[:200]), *BRIEF],
    garbage_onnx=lambda at: ["bench", at.file("m.onnx", bytes(range(256)) * 9), *BRIEF],
)  # fmt: skip


@broken(7, "m.onnx is empty", "an ONNX model was expected")
def empty_onnx(at):
    return ["bench", at.file("m.onnx"), *BRIEF]


@broken(7, "m.onnx holds no model.onnx", "name one of its files: inside.onnx")
def onnx_that_is_a_folder(at):
    return ["bench", at.file("m.onnx/inside.onnx").parent, *BRIEF]


@broken(7, "there is no file", "did you mean 'm.onnx'?")
def missing_onnx(at):
    return ["bench", at.file("m.onnx", linear_onnx()).with_name("n.onnx"), *BRIEF]


@broken(7, "there is no baseline", "did you mean")
def missing_baseline(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--baseline", at.path / "n.onnx", *BRIEF]


@broken(4, "m.onnx: input 'x' is a tensor(string)", "--inputs FILE.json")
def onnx_of_texts(at):
    return ["bench", at.file("m.onnx", cast_onnx(TensorProto.STRING, [1, 4])), *BRIEF]


@broken(2, "unknown provider 'tpu'", "Known providers: cpu, cuda, tensorrt")
def unknown_provider(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--provider", "tpu", *BRIEF]


each(
    2, "numbers of at least 1, as in 1,2; got",
    no_threads=lambda at: ["bench", at.file("m.onnx", linear_onnx()), "--threads", "0", *BRIEF],
    half_a_thread=lambda at: ["bench", at.file("m.onnx", linear_onnx()), "--threads", "1,0.5", *BRIEF],
    a_batch_of_words=lambda at: ["bench", at.file("m.onnx", linear_onnx()), "--batch", "many", *BRIEF],
)  # fmt: skip


@broken(2, "the scenario server needs a bound of latency", "--latency-bound 50ms")
def a_server_without_a_bound(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--scenario", "server", *BRIEF]


@broken(2, "a latency bound is a number with us, ms or s", "got '50'")
def a_bound_without_a_unit(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--scenario", "server", "--latency-bound", "50", *BRIEF]


@broken(8, "is there and holds no Record", "name another file by --out")
def a_record_over_a_model(at):
    model = at.file("m.onnx", linear_onnx())
    return ["bench", model, "--out", model, *BRIEF]


@broken(7, "--samples takes samples of a run's task", "no folder of a run is named")
def samples_without_a_run(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--samples", "5", *BRIEF]


each(
    8, "m.onnx: an input 'x' of shape", "does not fit into memory; take a smaller batch",
    a_batch_beyond_memory=lambda at: ["bench", at.file("m.onnx", linear_onnx()), "--batch", 10**13, *BRIEF],
    a_batch_beyond_numbers=lambda at: ["bench", at.file("m.onnx", linear_onnx()), "--batch", 10**30, *BRIEF],
)  # fmt: skip

# ---- artifacts ----


@broken(7, "has no manifest.json", "`leanfit compress`")
def verify_an_empty_folder(at):
    return ["verify", at.path]


@broken(7, "nowhere: not an artifact: there is no such folder", "`leanfit compress`")
def verify_nothing(at):
    return ["verify", at.path / "nowhere"]


@broken(7, "model.onnx: not an artifact: it is not a folder", "`leanfit compress`")
def verify_a_file(at):
    return ["verify", at.run / "model.onnx"]


@broken(7, "FAIL  model.onnx", "changed or damaged", "compress again")
def truncated_model(at):
    folder = at.copy()
    at.file("damaged/model.onnx", (folder / "model.onnx").read_bytes()[:-100])
    return ["verify", folder]


@broken(7, "FAIL  model.onnx", "missing", "compress again")
def a_model_that_is_a_folder(at):
    (at.copy() / "model.onnx").unlink()
    return ["verify", at.file("damaged/model.onnx/x").parents[1]]


@broken(7, "FAIL  recipe.yaml", "missing", "compress again")
def recipe_removed(at):
    folder = at.copy()
    (folder / "recipe.yaml").unlink()
    return ["verify", folder]


@broken(7, "manifest.json", "changed or damaged", "compress again")
def a_wrong_hash_in_the_manifest(at):
    manifest = at.copy() / "manifest.json"
    text = manifest.read_text()
    return ["verify", at.file("damaged/manifest.json", re.sub(r'(model.onnx": ")....', r"\1beef", text)).parent]


@broken(7, "FAIL  model.onnx", "the manifest says beef", "compress again")
def a_wrong_hash_in_a_manifest_that_agrees_with_itself(at):
    folder = at.copy()
    return [
        "verify",
        at.resign(folder, hashes=dict.fromkeys(("model.onnx", "weights.safetensors", "recipe.yaml"), "beef")),
    ]


@broken(7, "manifest.json: damaged", "compress again")
def a_manifest_without_claims(at):
    return ["verify", at.file("damaged/manifest.json", json.dumps({"self": hash_of({})})).parent]


@broken(7, "manifest.json: damaged", "compress again")
def a_manifest_of_brackets(at):
    return ["verify", at.file("damaged/manifest.json", b"[" * 100_000).parent]


@broken(7, "FAIL  sizes", "weights.safetensors: cannot be read as safetensors", "compress again")
def truncated_artifact_weights(at):
    folder = at.copy()
    at.file("damaged/weights.safetensors", (folder / "weights.safetensors").read_bytes()[:-100])
    return ["verify", at.resign(folder)]


@broken(7, "FAIL  parity", "compress again")
def a_model_of_another_input_shape(at):
    folder = at.copy()
    data = linear_onnx()
    at.file("damaged/model.onnx", data)
    sizes = json.loads((folder / "manifest.json").read_text())["sizes"]
    return ["verify", at.resign(folder, sizes={**sizes, "bytes": len(data)})]


# ---- journals ----


@broken(7, "no records were found", "`leanfit compress RECIPE --out DIR`")
def report_on_no_records(at):
    return ["report", at.path, "--out", at.path / "page.html"]


@broken(7, "there is no", "nowhere", "give a run's folder")
def report_on_nothing(at):
    return ["report", at.path / "nowhere", "--out", at.path / "page.html"]


@broken(7, "records.jsonl:1: this record is not a JSON object", "`leanfit compress RECIPE --out DIR`")
def report_on_garbage(at):
    return ["report", at.file("records.jsonl", b"\x00\xff{\n[1]\n" + b"[" * 100_000), "--out", at.path / "page.html"]


@broken(7, "records.jsonl:1: this record has another baseline", "`leanfit compress RECIPE --out DIR`")
def report_on_an_empty_record(at):
    journal = at.file("records.jsonl", b'{"schema":1,"kind":"compress","id":"x","baseline":7}\n')
    return ["report", journal, "--out", at.path / "page.html"]


@broken(8, "cannot write the page", "choose another place")
def a_page_that_is_a_folder(at):
    return ["report", at.run, "--out", at.file("page.html/x").parent]


# ---- weights ----


@broken(4, "w.safetensors: weights that are NaN or infinite", "Train again or take another file")
def nan_weights(at):
    return at.weights("w.safetensors", save({n: torch.full_like(t, torch.nan) for n, t in state().items()}))


@broken(4, "w.safetensors: these weights do not fit", "of another shape", "Check the model's arguments")
def weights_of_another_shape(at):
    return at.weights("w.safetensors", save(build_model("mlp", inputs=64, width=32, depth=2).state_dict()))


each(
    4, ": cannot be read as weights", "Expected safetensors, or a state dict", "whole pickled models are not read",
    weights_that_run_code=lambda at: at.weights("w.pt", torch_bytes(Harm(at.path / "harm"))),
    plain_pickle_that_runs_code=lambda at: at.weights("w.pt", pickle.dumps(Harm(at.path / "harm"))),
    a_whole_pickled_model=lambda at: at.weights("w.pt", torch_bytes(nn.Linear(2, 2))),
    truncated_pt=lambda at: at.weights("w.pt", torch_bytes(state())[:3000]),
    truncated_old_pt=lambda at: at.weights("w.pt", torch_bytes(state(), zipped=False)[:3000]),
    damaged_old_pt=lambda at: at.weights("w.pt", torch_bytes(state(), zipped=False).replace(b"weight", b"w\xffight")),
    truncated_safetensors=lambda at: at.weights("w.safetensors", save(state())[:3000]),
    empty_pt=lambda at: at.weights("w.pt", b""),
    garbage_pt=lambda at: at.weights("w.pt", "not weights at all\n" * 99),
)  # fmt: skip


@broken(4, "w.pt: expected a state dict", "got list")
def weights_that_are_a_list(at):
    return at.weights("w.pt", torch_bytes([1, 2]))


@broken(4, "weights file", "nowhere.pt", "Give a path")
def missing_weights(at):
    return at.compress("--set", f"model.weights={at.path / 'nowhere.pt'}")


@broken(4, "has 10 classes", "Set the model's `classes`")
def a_wrong_number_of_classes(at):
    return at.compress("--set", "model.classes=7")


# ---- data ----


@broken(5, "data_batch_1.bin: 3073 bytes, expected 30730000", "Delete it", "LEANFIT_DATA")
def truncated_cifar(at):
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    return at.data("cifar10", **{f"cifar-10-batches-bin/{name}": bytes(3073) for name in names})


def fashion(at: Ground, images: bytes) -> list[object]:
    parts = {"train-images-idx3-ubyte.gz": images, "train-labels-idx1-ubyte.gz": idx((20,), 20)}
    parts |= {"t10k-images-idx3-ubyte.gz": images, "t10k-labels-idx1-ubyte.gz": idx((20,), 20)}
    return at.data("fashion_mnist", **{f"fashion-mnist/{name}": content for name, content in parts.items()})


each(
    5, "train-images-idx3-ubyte.gz: not a whole gzip file", "Delete it", "LEANFIT_DATA",
    truncated_fashion=lambda at: fashion(at, idx((20, 28, 28), 20 * 784)[:-9]),
    garbage_fashion=lambda at: fashion(at, b"<html>404</html>" * 99),
)  # fmt: skip


@broken(5, "train-images-idx3-ubyte.gz: not an idx file", "Delete it")
def fashion_that_is_empty_inside(at):
    return fashion(at, gzip.compress(b""))


@broken(5, "fashion-mnist (train)", "0 images and", "LEANFIT_DATA")
def fashion_without_images(at):
    return fashion(at, idx((0, 28, 28), 0))


def offline(at: Ground) -> Ground:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    at.patch.setattr(urllib.request, "urlopen", fail)
    return at


each(
    5, "no route to host", "Put them there, or set LEANFIT_DATA",
    no_cifar_and_no_internet=lambda at: offline(at).data("cifar10"),
    no_fashion_and_no_internet=lambda at: offline(at).data("fashion_mnist"),
)  # fmt: skip

# ---- the folder of the run, and the command itself ----

each(8, "taken is a file", "--out must name a folder", out_that_is_a_file=lambda at: at.compress(out=at.file("taken")))
each(
    8, "taken/run", "is a file, not a folder", "choose another place",
    out_below_a_file=lambda at: at.compress(out=at.file("taken") / "run"),
)  # fmt: skip
each(
    8, "the file name is too long", "xxx", "choose another place",
    out_of_a_name_too_long=lambda at: at.compress(out=at.path / ("x" * 300)),
)  # fmt: skip
each(
    8, "holds other files and no leanfit run", "--out",
    out_with_foreign_files=lambda at: at.compress(out=at.file("mine/thesis.tex").parent),
)  # fmt: skip
each(
    3, "benchmark.provider", "'tpu'", "cpu",
    a_recipe_with_an_unknown_provider=lambda at: at.compress("--set", "benchmark.provider=tpu"),
)  # fmt: skip
each(
    3, "benchmark.threads=0", "at least 1",
    a_recipe_with_no_threads=lambda at: at.compress("--set", "benchmark.threads=0"),
)  # fmt: skip
each(3, "nowhere.yaml", "leanfit list recipes", missing_recipe=lambda at: ["compress", at.path / "nowhere.yaml"])
each(3, "r.yaml", a_recipe_that_is_a_folder=lambda at: ["compress", at.file("r.yaml/x").parent])
each(3, "r.yaml", "version", empty_recipe=lambda at: ["compress", at.file("r.yaml")])
