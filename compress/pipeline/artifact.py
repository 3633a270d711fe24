"""The folder a user deploys: model.onnx, weights.safetensors, recipe.yaml and a manifest that vouches for them.

A network is rebuilt from its constructor (a registered model's name and arguments, or an unpruned module the caller
brings), the rewrites that passes made, and the shapes of the stored weights. Nothing that a file names is imported,
unless the caller allows it.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.core.files import file_hash
from compress.graph.onnx_graph import constant_sizes, load_graph
from compress.pipeline.manifest import Manifest, random_inputs, random_parity, read_manifest
from evaluate.core.components import only_allowed
from evaluate.core.errors import ArtifactError, DataError, LeanfitError
from evaluate.core.journal import find_records
from evaluate.core.records import CompressRecord
from evaluate.core.units import unit_named
from evaluate.metrics.samples import predict
from evaluate.report.html.notebook import framed
from evaluate.report.messages.run_messages import headline
from evaluate.report.text.run_table import summary, text_table
from evaluate.runtime.session import open_session

if TYPE_CHECKING:
    from torch import nn

    from compress.graph.model_state import ModelState


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


@dataclass(frozen=True, repr=False)
class Artifact:
    """A compressed model on disk. `path` is its folder, `manifest` what it claims of itself.

    A notebook shows its report, a prompt one line.

    allow : modules and packages that may be imported where the manifest names a model or a rewrite of theirs.
    """

    path: Path
    manifest: Manifest
    base: nn.Module | None = field(default=None, repr=False, compare=False)
    allow: Sequence[str] = field(default=(), repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path, *, allow: Sequence[str] = ()) -> Artifact:
        """Open the artifact in a folder. Raises ArtifactError where there is none or its manifest is unreadable."""
        folder = Path(path)
        return cls(folder, read_manifest(folder), allow=allow)

    @property
    def onnx_path(self) -> Path:
        """The file to deploy."""
        return self.path / "model.onnx"

    @property
    def figures(self) -> dict[str, Any]:
        """What was measured, as `leanfit compress --json` prints it."""
        return self.summary()

    def predict(self, inputs: Any, *, batch: int = 64) -> np.ndarray[Any, Any]:
        """Outputs (n, ...) of the deployed file, in ONNX Runtime, for a tensor, an array or a dict of them by name.

        Raises DataError for inputs of another kind or number, ModelError where the file cannot run on them.
        """
        from compress.tasks.checks import as_inputs

        session = open_session(self.onnx_path.read_bytes(), threads=1)
        given = as_inputs(inputs, "predict")
        names = [port.name for port in session.inputs]
        if len(names) == 1 and len(given) == 1:
            given = {names[0]: next(iter(given.values()))}
        if set(given) != set(names):
            raise DataError(f"predict: got inputs {', '.join(given)}; the file takes {', '.join(names)}.")
        count = len(next(iter(given.values())))
        parts = ({name: t[at : at + batch].numpy() for name, t in given.items()} for at in range(0, count, batch))
        return np.asarray(predict(session, parts))

    def open_report(self) -> bool:
        """Show report.html in the browser; whether one could be found."""
        return webbrowser.open((self.path / "report.html").resolve().as_uri())

    def __repr__(self) -> str:
        try:
            said = headline(CompressRecord.of(self.record()))
        except LeanfitError:
            said = "not measured"
        return f"<Artifact {self.path}: {said}>"

    def _repr_html_(self) -> str:
        return framed(self.path / "report.html", repr(self))

    def module(self, base: nn.Module | None = None) -> nn.Module:
        """The compressed network in torch, fp32, in eval mode, rebuilt from the files.

        A model that was not built by a registered name needs `base`: the unpruned network, with any weights. Where the
        deployed graph is quantized this is the network the integers were made from. Raises ArtifactError.
        """
        return self.state(base).module

    def state(self, base: nn.Module | None = None) -> ModelState:
        """The network as `module` gives it, with its graph where a pass wrote one, its rewrites and constraints."""
        from compress.core.forward import JUDGED
        from compress.graph.model_state import ModelState, network_from, read_constraints, read_rewrites

        if not self.manifest.has_network:
            raise ArtifactError(f"{self.path} was made of an ONNX file: there is no network of it in torch")
        base = base if base is not None else self.base
        with only_allowed(self.allow):
            try:
                base = _build_base(self.manifest, self.path) if base is None else base
                rewrites, constraints = (
                    read_rewrites(self.manifest.rewrites),
                    read_constraints(self.manifest.constraints),
                )
                network = network_from(base, rewrites, self.path / "weights.safetensors").eval()
                if len(self.manifest.outputs) > 1:
                    setattr(network, JUDGED, self.manifest.outputs[0])
                for constraint in constraints:
                    constraint.bind(network)
            except ArtifactError:
                raise
            except LeanfitError as error:
                raise ArtifactError(f"{self.path}: its network cannot be built again: {error}") from error
        graph = load_graph(self.path / "model.onnx") if self.manifest.quantized else None
        return ModelState(network, graph, rewrites, constraints)

    def record(self) -> dict[str, Any]:
        """The newest Record of this artifact and its recipe. Raises ArtifactError where the journal holds none."""
        wanted = self.manifest.hashes["model.onnx"], self.manifest.recipe_hash
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


def verify(path: str | Path, base: nn.Module | None = None, *, allow: Sequence[str] = ()) -> list[Check]:
    """Check hashes, all claimed sizes, and parity of the file with the rebuilt network.

    Later checks are left out where an earlier one fails. `base` and `allow` as in `Artifact`. Never raises for a
    damaged artifact: what is wrong is a failed Check.
    """
    folder = Path(path)
    try:
        artifact = Artifact(folder, read_manifest(folder), base, allow)
    except ArtifactError as error:
        return [Check("manifest", False, str(error))]
    checks = [Check("manifest", True, "matches its own hash")]
    checks += [_check_hash(folder, name, artifact.manifest.hashes[name]) for name in artifact.manifest.files]
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
    except Exception as error:  # noqa: BLE001  (the network's own code and torch's run here, on whatever the files hold)
        return Check(name, False, f"{type(error).__name__}: {error}")


def _check_sizes(artifact: Artifact) -> tuple[bool, str]:
    data = (artifact.path / "model.onnx").read_bytes()
    if artifact.manifest.has_network:
        from compress.graph.sizes import measure_sizes

        inputs = random_inputs(artifact.manifest.inputs)
        found: dict[str, Any] = {**measure_sizes(artifact.module(), inputs, load_graph(data), data)}
    else:
        found = constant_sizes(load_graph(data), data)
    claimed = {unit: value for unit, value in artifact.manifest.sizes.items() if unit in found}
    wrong = [f"{unit}: {found[unit]}, claimed {v}" for unit, v in claimed.items() if _differs(unit, found[unit], v)]
    detail = ", ".join(f"{found[unit]} {unit}" for unit in ("params", "nonzero", "macs", "bytes") if unit in found)
    return not wrong, "; ".join(wrong) or detail


def _differs(unit: str, found: float, claimed: float) -> bool:
    """Sizes are exact, but for units that say otherwise: another build of zlib packs a little better or worse."""
    return abs(found - claimed) > unit_named(unit).spread * claimed


def _check_parity(artifact: Artifact) -> tuple[bool, str]:
    graph, claim = (artifact.path / "model.onnx").read_bytes(), artifact.manifest.random_parity
    if not artifact.manifest.has_network or claim is None:
        raise _NeedsBase("it was made of an ONNX file, and no network belongs to it")
    found, claimed = random_parity(artifact.module(), graph, artifact.manifest.inputs).relative, claim.relative
    # Another CPU rounds differently; integer kernels by up to a step of the output.
    allowed = 2 * claimed + (0.05 if artifact.manifest.quantized else 1e-4)
    return found <= allowed, f"differs from torch by {found:.1e} of the output's range (claimed {claimed:.1e})"


class _NeedsBase(ArtifactError):
    pass


def _build_base(manifest: Manifest, folder: Path) -> nn.Module:
    from compress.models import build_model

    spec = manifest.model.spec
    if spec is None:
        raise _NeedsBase(
            f"{folder}: this network ({manifest.model.class_name}) was brought as an object, so its constructor "
            "is not known. Give the unpruned network: Artifact.load(folder).module(base=MyNet()), or register its "
            "builder with @register_model and build it by name."
        )
    try:
        return build_model(spec.name, **spec.args)
    except LeanfitError as error:
        raise ArtifactError(f"{folder}: its network cannot be built again: {error}") from error
    except Exception as error:  # a builder is anyone's code, and the arguments are the file's
        reason = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{folder}: its network cannot be built again: {spec.name}: {reason}") from error
