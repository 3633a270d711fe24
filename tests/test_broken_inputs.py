"""Broken inputs through the real command line: a place, a next step, the documented exit code, nothing half-written."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from onnx import TensorProto
from safetensors.torch import save
from tiny_onnx import cast_onnx, linear_onnx
from torch import nn

from compress import Task, compress
from compress.artifact import verify
from compress.cli import main
from compress.errors import LeanfitError
from compress.files import file_hash, hash_of
from compress.models import build_model
from compress.stages import locked
from evaluate.errors import EvaluateError

QUICK = ["digits-mlp-int8"]
for _change in ("train.epochs=1", "benchmark.rounds=5", "benchmark.seconds=0.3", "goals={}"):
    QUICK += ["--set", _change]
BRIEF = ["--rounds", "5", "--seconds", "0.1", "--quiet"]
SHELL = [sys.executable, "-c", "from compress.cli import main; main()"]
NOBODY = 65534
Answer = tuple[int, str, str]


def call(*arguments: object) -> Answer:
    """Exit code, stdout and stderr of one command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        patch.setattr(sys, "argv", ["leanfit", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
    return int(caught.value.code or 0), out.getvalue(), err.getvalue()


def check_whole(folder: Path) -> None:
    """No file that is not whole, and every artifact is what it claims."""
    outside = [p for p in folder.rglob("*") if p.name.startswith(".") and p.name != ".lock" and "stages" not in p.parts]
    assert outside == [], "left behind"
    for model in (*folder.rglob("model.onnx"), *folder.rglob("weights.safetensors")):
        if "stages" not in model.parts:
            assert all(check.ok for check in verify(model.parent)), f"half-written: {model.parent}"


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
        recipe = f"version: 1\nmodel: {{name: {model}}}\ntask: {{name: {task}}}\npasses: [{{kind: quantize}}]\n"
        return ["compress", self.file("r.yaml", recipe), "--out", self.path / "run"]

    def compress(self, *more: object, out: Path | None = None) -> list[object]:
        return ["compress", *QUICK, "--quiet", "--out", out or self.path / "run", *more]


class Case(NamedTuple):
    make: Callable[[Ground], list[object]]
    code: int
    said: tuple[str, ...]


CASES: list[Case] = []


def broken(code: int, *said: str) -> Callable[[Callable[[Ground], list[object]]], Callable[[Ground], list[object]]]:
    """A case: the exit code, and what is said on stdout or stderr: the place first, then the next step."""

    def keep(make: Callable[[Ground], list[object]]) -> Callable[[Ground], list[object]]:
        CASES.append(Case(make, code, said))
        return make

    return keep


def state(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**build_model("mlp", inputs=64, width=128, depth=2).state_dict(), **changes}


def torch_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
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


@broken(7, "m.onnx is not a complete ONNX model", "Export or copy the file again")
def truncated_onnx(at):
    return ["bench", at.file("m.onnx", linear_onnx()[:200]), *BRIEF]


@broken(7, "m.onnx is not a complete ONNX model", "Export or copy the file again")
def garbage_onnx(at):
    return ["bench", at.file("m.onnx", bytes(range(256)) * 9), *BRIEF]


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


@broken(4, "m.onnx: input 'x' is a tensor(string)", "only numeric tensors")
def onnx_of_texts(at):
    return ["bench", at.file("m.onnx", cast_onnx(TensorProto.STRING, [1, 4])), *BRIEF]


@broken(2, "unknown provider 'tpu'", "Known providers: cpu, cuda")
def unknown_provider(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--provider", "tpu", *BRIEF]


@broken(2, "--threads", "x>=1")
def no_threads(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--threads", "0", *BRIEF]


@broken(8, "out of memory", "smaller batch")
def a_batch_beyond_memory(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--batch", 10**13, *BRIEF]


@broken(2, "--batch", "at most")
def a_batch_beyond_numbers(at):
    return ["bench", at.file("m.onnx", linear_onnx()), "--batch", 10**30, *BRIEF]


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
    return ["verify", at.resign(folder, hashes=dict.fromkeys(("model.onnx", "weights.safetensors"), "beef"))]


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


@broken(7, "records.jsonl:1: this record lacks", "`leanfit compress RECIPE --out DIR`")
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


@broken(4, "w.pt: cannot be read as weights", "Expected safetensors, or a state dict")
def weights_that_run_code(at):
    return at.weights("w.pt", torch_bytes(Harm(at.path / "harm")))


@broken(4, "w.pt: cannot be read as weights", "Expected safetensors, or a state dict")
def weights_that_run_code_plain_pickle(at):
    return at.weights("w.pt", pickle.dumps(Harm(at.path / "harm")))


@broken(4, "w.pt: cannot be read as weights", "whole pickled models are not read")
def a_whole_pickled_model(at):
    return at.weights("w.pt", torch_bytes(nn.Linear(2, 2)))


@broken(4, "w.pt: cannot be read as weights", "Expected safetensors, or a state dict")
def truncated_pt(at):
    return at.weights("w.pt", torch_bytes(state())[:3000])


@broken(4, "w.safetensors: cannot be read as weights", "Expected safetensors, or a state dict")
def truncated_safetensors(at):
    return at.weights("w.safetensors", save(state())[:3000])


@broken(4, "w.pt: cannot be read as weights", "Expected safetensors, or a state dict")
def empty_pt(at):
    return at.weights("w.pt", b"")


@broken(4, "w.pt: cannot be read as weights", "Expected safetensors, or a state dict")
def garbage_pt(at):
    return at.weights("w.pt", "not weights at all\n" * 99)


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


@broken(5, "train-images-idx3-ubyte.gz: not a whole gzip file", "Delete it")
def truncated_fashion(at):
    return fashion(at, idx((20, 28, 28), 20 * 784)[:-9])


@broken(5, "train-images-idx3-ubyte.gz: not a whole gzip file", "Delete it")
def garbage_fashion(at):
    return fashion(at, b"<html>404</html>" * 99)


@broken(5, "train-images-idx3-ubyte.gz: not an idx file", "Delete it")
def fashion_that_is_empty_inside(at):
    return fashion(at, gzip.compress(b""))


@broken(5, "fashion-mnist (train)", "0 samples", "LEANFIT_DATA")
def fashion_without_images(at):
    return fashion(at, idx((0, 28, 28), 0))


def no_internet(at: Ground) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    at.patch.setattr(urllib.request, "urlopen", fail)


@broken(5, "no route to host", "cifar-10-batches-bin", "Put them there, or set LEANFIT_DATA")
def no_cifar_and_no_internet(at):
    no_internet(at)
    return at.data("cifar10")


@broken(5, "no route to host", "train-images-idx3-ubyte.gz", "Put them there, or set LEANFIT_DATA")
def no_fashion_and_no_internet(at):
    no_internet(at)
    return at.data("fashion_mnist")
