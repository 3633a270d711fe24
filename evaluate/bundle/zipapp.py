"""The edge bundle: one file that `python bench.pyz` runs where only Python, numpy and onnxruntime are.

A zip application (PEP 441) that holds the part of this package without torch and without pages, the models, samples
with the outputs expected of each model, and a manifest with the SHA-256 of every member. Equal content, equal bytes.
Only Python's own library is imported here: a bundle is checked before anything else is asked of the device.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluate
from evaluate.core.errors import ArtifactError

MAIN, MANIFEST, SAMPLES, INPUTS = "__main__.py", "manifest.json", "samples.npz", "inputs.npz"
SCHEMA = 1
# What the device starts from; everything these import comes along, but for the pages and their pictures.
ROOMS = ("evaluate", "evaluate.bundle.device", "evaluate.benchmark.worker", "evaluate.metrics.samples")
LEFT_OUT = ("evaluate.report.html", "evaluate.report.charts", "evaluate.scaling")
SHEBANG = b"#!/usr/bin/env python3\n"
# Python 2 and 3.6 must be able to read this, to say that they are too old.
START = """\
import sys

if sys.version_info < (3, 9):
    sys.stderr.write(
        "bench: Python 3.9 or newer is needed; this is Python " + sys.version.split()[0] + ".\\n"
        "Look for a newer one (python3 --version, python3.9 --version, ...) and run: python3 " + sys.argv[0] + "\\n"
    )
    sys.exit(8)

from evaluate.bundle.device import main

if __name__ == "__main__":
    sys.exit(main())
"""
_PLAIN_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", re.ASCII)
_CLAIMED = {"sha256": str, "bytes": int}
_SHAPE: dict[str, Any] = {
    "leanfit": str,
    "task": [{"name": str, "fingerprint": str}],
    "metric": [str],
    "samples": int,
    "baseline": str,
    "needs": {"*": str},
    "settings": {"threads": int, "batch": int},
    "source": {"cpu": [str]},
    "models": {"*": {"member": str, "opset": int, **_CLAIMED}},
    "members": {"*": _CLAIMED},
}
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, KeyError,
)  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. `manifest` says what it holds: models by name, task, metric, classes, settings, members.

    digest : SHA-256 over the manifest, and thereby over everything in the bundle.
    """

    path: Path
    manifest: Mapping[str, Any]
    digest: str

    @property
    def models(self) -> Mapping[str, Mapping[str, Any]]:
        """Model name -> {member, sha256, bytes, ir_version, opset, inputs}."""
        found: Mapping[str, Mapping[str, Any]] = self.manifest["models"]
        return found

    def check(self) -> None:
        """Raise ArtifactError, naming every member that is missing, damaged, or not in the manifest."""
        members: Mapping[str, Mapping[str, Any]] = self.manifest["members"]
        with _opened(self.path) as archive:
            names = archive.namelist()
            wrong = [f"{name} ({why})" for name, claim in members.items() if (why := _fault(archive, name, claim))]
        wrong += [f"{name} (twice)" for name in sorted({name for name in names if names.count(name) > 1})]
        wrong += [f"{name} (not in its manifest)" for name in sorted(set(names) - {*members, MANIFEST})]
        if wrong:
            raise ArtifactError(f"{self.path} is damaged: {'; '.join(wrong)}. {_AGAIN}")

    def extract(self, folder: Path) -> None:
        """Write all members below `folder`. Raises ArtifactError where one cannot be read, OSError as writing does."""
        with _opened(self.path) as archive:
            for name in self.manifest["members"]:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(_read(archive, name, self.path))


_AGAIN = "Copy it to this device again, or pack it again."


def model_member(name: str) -> str:
    """Where the model of this name lies in a bundle."""
    return f"models/{name}.onnx"


def build_bundle(models: Mapping[str, bytes], samples: bytes, facts: Mapping[str, Any], inputs: bytes = b"") -> bytes:
    """The bundle as bytes.

    models  : name -> ONNX file; names are letters, digits, `.`, `_` and `-`.
    samples : what `Samples.save` gives; b"" for none.
    facts   : the rest of the manifest; "models" in it (name -> dict) is kept beside what is known of each file here.
    inputs  : values that models are fed, as `write_values` gives them; b"" for none.
    Raises ValueError for a name that could leave the folder it is unpacked into.
    """
    files = {MAIN: START.encode(), **sources()}
    files.update({model_member(name): data for name, data in models.items()})
    files.update({name: data for name, data in ((SAMPLES, samples), (INPUTS, inputs)) if data})
    wrong = [name for name in files if not _PLAIN_NAME.fullmatch(name)]
    if wrong:
        raise ValueError(f"a bundle's members need plain names, got {wrong}")
    members = {name: _claim(data) for name, data in files.items()}
    told = facts.get("models", {})
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        **facts,
        "models": {
            name: {"member": model_member(name), **_claim(data), **told.get(name, {})} for name, data in models.items()
        },
        "members": members,
    }
    manifest["self"] = _hash(_canonical(manifest))
    return _zipped({**files, MANIFEST: json.dumps(manifest, indent=1).encode()})


def read_bundle(path: str | Path) -> Bundle:
    """The bundle in a file, by its manifest; `Bundle.check` looks at the rest. Raises ArtifactError."""
    place = Path(path)
    with _opened(place) as archive:
        if MANIFEST not in archive.namelist():
            raise ArtifactError(f"{place} is no leanfit bundle: it has no {MANIFEST}. `leanfit pack` writes bundles.")
        data = _read(archive, MANIFEST, place)
    try:
        manifest = json.loads(data)
        claimed, digest = manifest.pop("self"), _hash(_canonical(manifest))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        claimed, digest, manifest = None, "", {}
    if claimed != digest:
        raise ArtifactError(f"{place} is damaged: {MANIFEST} is not what was packed. {_AGAIN}")
    if manifest.get("schema") != SCHEMA:
        raise ArtifactError(
            f"{place} has schema {manifest.get('schema')!r:.40}, and this leanfit reads {SCHEMA}; pack it again"
        )
    if wrong := _misfit(manifest, _SHAPE) or _odd_name(manifest):
        raise ArtifactError(f"{place} is damaged: {MANIFEST} has another {wrong} than `leanfit pack` writes. {_AGAIN}")
    return Bundle(place, manifest, digest)


def _misfit(value: Any, shape: Any, where: str = "") -> str:
    """The first place, as `models.small.bytes`, where a value has not the shape of `_SHAPE`; empty where it has.

    A type, [what may be null], a mapping of keys that have to be there, or {"*": the shape of whatever is}.
    """
    if isinstance(shape, list):
        return "" if value is None else _misfit(value, shape[0], where)
    if not isinstance(shape, dict):
        wrong = not isinstance(value, shape) or isinstance(value, bool)
        return where if wrong or (isinstance(value, int) and not 0 <= value < 2**53) or len(str(value)) > 1000 else ""
    if not isinstance(value, dict):
        return where
    inner = dict.fromkeys(value, shape["*"]) if "*" in shape else shape
    places = {key: f"{where}.{key}".lstrip(".") for key in inner}
    found = (_misfit(value[key], inner[key], at) if key in value else at for key, at in places.items())
    return next(filter(None, found), "")


def _odd_name(manifest: Mapping[str, Any]) -> str:
    """A name that could lead out of the folder that the bundle is unpacked into, or a model that is not in it."""
    names = [name for name in manifest["members"] if not _PLAIN_NAME.fullmatch(name)]
    lost = [
        name
        for name, model in manifest["models"].items()
        if model["member"] not in manifest["members"] or model["member"] != model_member(name)
    ]
    return "name of a member" if names else "place of a model" if lost or not manifest["models"] else ""


@functools.lru_cache(maxsize=1)
def sources() -> Mapping[str, bytes]:
    """The files of this package that the device needs, by name: the closure of what its rooms import."""
    home = Path(evaluate.__file__).parent.parent
    waiting, found = list(ROOMS), dict[str, bytes]()
    while waiting:
        name = waiting.pop()
        place = home.joinpath(*name.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        member = file.relative_to(home).as_posix()
        if name.startswith(LEFT_OUT) or member in found or not file.is_file():
            continue
        found[member] = file.read_bytes()
        waiting += _rooms_in(found[member])
        waiting.append(name.rpartition(".")[0] or name)
    return dict(sorted(found.items()))


def _rooms_in(source: bytes) -> Iterator[str]:
    """Modules of this package that a source names, in imports at any depth or as the text "evaluate.x"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "evaluate":
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # a module, or a name in one
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("evaluate."))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"evaluate(\.\w+)+", node.value)
        ):
            yield node.value


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip that can be run, without a clock in it: fixed dates and rights, the order given."""
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter: of a version that nobody writes
        raise ArtifactError(
            f"{path} is no whole bundle ({error}): cut off, or another kind of file. {_AGAIN}"
        ) from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        return archive.read(name)
    except _UNREADABLE as error:
        raise ArtifactError(f"{path} is damaged: {name} cannot be read ({error}). {_AGAIN}") from error


def _fault(archive: zipfile.ZipFile, name: str, claim: Mapping[str, Any]) -> str:
    """What is wrong with a member, or an empty string."""
    try:
        if archive.getinfo(name).file_size != claim["bytes"]:
            return f"{archive.getinfo(name).file_size} bytes, packed were {claim['bytes']}"
        found = _hash(archive.read(name))
    except KeyError:
        return "missing"
    except _UNREADABLE as error:
        return f"cannot be read: {error}"
    return "" if found == claim["sha256"] else f"sha256 {found[:12]}..., packed was {claim['sha256'][:12]}..."


def _claim(data: bytes) -> dict[str, Any]:
    return {"sha256": _hash(data), "bytes": len(data)}


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, separators=(",", ":"), allow_nan=False).encode()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
