"""What flows between passes: nothing that an earlier pass did is lost, and cached work knows the code it came from."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prune_nets import FIXED

from compress import Task, build_model, compress
from compress.core.errors import PassError
from compress.core.traits import Traits
from compress.graph.export import export_onnx
from compress.graph.model_state import ModelState
from compress.pipeline.chain import check_may_follow, check_nothing_lost
from evaluate.core.components import registries
from evaluate.core.errors import LeanfitError
from evaluate.core.journal import find_records

MODULE = '''
import copy
from dataclasses import replace

import torch
from helper import FACTOR
from torch import nn

from compress.core.config import Config
from compress.core.traits import Traits
from compress.graph.export import export_onnx
from compress.graph.model_state import Rewrite, ZerosStay, register_rewrite
from compress.passes.base import Change, PassResult, register_pass


@register_pass("scale", Config)
def scale(model, config, context):
    """Multiply the weights of the first layer."""
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        next(module.parameters()).mul_(FACTOR)
    return PassResult(replace(model, module=module))


@register_pass("mask", Config)
def mask(model, config, context):
    """Set the smaller half of every tensor of weights to zero, for good."""
    module = copy.deepcopy(model.module)
    named = dict(module.named_parameters())
    with torch.no_grad():
        for parameter in named.values():
            parameter.masked_fill_(parameter.abs() < parameter.abs().median(), 0.0)
    zeros = ZerosStay(parameters=tuple(named))
    return PassResult(replace(model, module=module, constraints=(*model.constraints, zeros)))


class Doubled(nn.Module):
    """A linear layer in two: its outputs are a product with a matrix that starts as the identity."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs, bias=False)

    def forward(self, x):
        return self.second(self.first(x))


@register_rewrite("doubled")
class Double(Rewrite):
    """A linear layer that became two."""

    inputs: int
    outputs: int

    @classmethod
    def apply(cls, model, example):
        done = []
        for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and "." in n]:
            record = cls(layer=name, inputs=layer.in_features, outputs=layer.out_features)
            record.rebuild(model)
            new = model.get_submodule(name)
            new.first.load_state_dict(layer.state_dict())
            nn.init.eye_(new.second.weight)
            done.append(record)
        return tuple(done)

    def describe(self):
        return f"{self.layer}: two linear layers of {self.outputs}"

    def rebuild(self, model):
        parent, _, key = self.layer.rpartition(".")
        model.get_submodule(parent)[int(key)] = Doubled(self.inputs, self.outputs)


@register_pass("double", Config, traits=Traits(reshapes=True))
def double(model, config, context):
    """Make two layers of every hidden one."""
    module = copy.deepcopy(model.module)
    rewrites = Double.apply(module, context.task.example(1))
    changes = tuple(Change(rewrite.layer, "layers", 1, 2) for rewrite in rewrites)
    return PassResult(replace(model, module=module, rewrites=(*model.rewrites, *rewrites)), changes)


@register_pass("sixteen", Config, traits=Traits(writes_graph=True))
def sixteen(model, config, context):
    """Write a graph of the network's own, with a note in it."""
    graph = export_onnx(model.module, context.task.example(2))
    graph.doc_string = "written"
    return PassResult(replace(model, graph=graph))


@register_pass("forget", Config, traits=Traits(writes_graph=True, trains=True, keeps_constraints=True))
def forget(model, config, context):
    """Say that everything is kept, and hand back the network alone."""
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        next(module.parameters()).add_(1.0)
    return PassResult(type(model)(module))


@register_pass("careless", Config, traits=Traits(trains=True))
def careless(model, config, context):
    """Train, and say nothing of constraints."""
    return forget(model, config, context)


@register_pass("breaks", Config)
def breaks(model, config, context):
    """Hand constraints on and break them."""
    return PassResult(replace(model, module=forget(model, config, context).model.module))
'''


def fresh(code: str, *args: object) -> dict:
    """What a fresh process prints last, as JSON."""
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a user's own modules: passes and a rewrite in `mine`, a number in `helper`."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mine.py").write_text(MODULE)
    (folder / "helper.py").write_text("FACTOR = 1.5\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    for registry in registries().values():
        for name, component in registry.registered().items():
            if component.module == "mine":
                registry.forget(name)
    forget_modules()


def forget_modules() -> None:
    importlib.invalidate_caches()
    for name in ("mine", "helper"):
        sys.modules.pop(name, None)


def run(own: Path, *passes: dict[str, Any] | str, **blocks: Any) -> dict[str, Any]:
    """A run on what `mine` is now, as a new process would find it; always in the same folder."""
    forget_modules()
    mine = importlib.import_module("mine")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, 8, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    pairs = [(x[a:b], y[a:b]) for a, b in ((0, 160), (160, 200), (200, 240))]
    task = Task.from_tensors(*pairs, loss=getattr(mine, "LOSS", None))
    torch.manual_seed(0)
    model = mine.NET() if hasattr(mine, "NET") else build_model("mlp", inputs=8, classes=2, width=16, depth=2)
    listed = [{"kind": p} if isinstance(p, str) else p for p in passes]
    recipe = {"version": 1, "name": "tiny", "passes": listed, "benchmark": {"seconds": 0.05}, **blocks}
    brought = (None, None) if blocks else (model, task)
    artifact = compress(brought[0], recipe, task=brought[1], out=own.parent / "run")
    stages = [line for line in find_records(artifact.path) if line["kind"] == "stage"]
    return {
        "weights": (artifact.path / "weights.safetensors").read_bytes(),
        "validation": [p["validation"] for p in artifact.summary()["passes"]],
        "nonzero": [p["sizes_after"]["nonzero"] for p in artifact.summary()["passes"]],
        "stages": len(stages),
        "constraints": artifact.manifest.constraints,
        "rewrites": artifact.manifest.rewrites,
    }


EDITS = {
    "the pass": ("mine.py", "mul_(FACTOR)", "mul_(2 * FACTOR)"),
    "what it imports": ("helper.py", "1.5", "2.5"),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_changed_pass_gives_a_new_result_and_an_unchanged_one_is_found(what: str, own: Path):
    first, again = run(own, "scale"), run(own, "scale")
    assert (again["weights"], again["stages"]) == (first["weights"], first["stages"])
    name, old, new = EDITS[what]
    text = (own / name).read_text()
    (own / name).write_text(text.replace(old, new))
    changed = run(own, "scale")
    assert changed["weights"] != first["weights"]
    (own / name).write_text(text)
    assert run(own, "scale")["weights"] == first["weights"]


NET = """
def act(x):
    return x.relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x):
        return self.second(act(self.first(x)))


def loss(outputs, targets):
    return measure(outputs, targets)


def measure(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)


LOSS = loss
"""
BROUGHT = f"{NET}\nNET = Net\n"
NAMED = f"""{NET}
from compress import Task, register_model, register_task
from evaluate.metrics import register_metric


@register_model("net")
def net():
    return Net()


@register_metric("margin", higher_is_better=True, labels=True)
def margin(outputs, targets):
    return SCALE * outputs[range(len(targets)), targets]


@register_task("samples")
def data():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=g)
    pair = x, (x[:, 0] > LIMIT).long()
    return Task.from_tensors(pair, test=pair, metric="mine:margin")


SCALE, LIMIT = 1.0, 0.0
"""
TRAIN = {"kind": "finetune", "epochs": 1, "batch_size": 32, "learning_rate": 0.05}
NAMES = {"model": {"name": "mine:net"}, "task": {"name": "mine:samples"}, "train": {"epochs": 1, "batch_size": 32}}


@pytest.mark.parametrize(
    ("code", "blocks", "old", "new"),
    [
        pytest.param(BROUGHT, {}, "x.relu()", "x.tanh()", id="brought network"),
        pytest.param(BROUGHT, {}, "cross_entropy(", "multi_margin_loss(", id="brought loss"),
        pytest.param(NAMED, NAMES, "x.relu()", "x.tanh()", id="named network"),
        pytest.param(NAMED, NAMES, "LIMIT = 1.0, 0.0", "LIMIT = 1.0, 0.5", id="named task"),
        pytest.param(NAMED, NAMES, "SCALE, LIMIT = 1.0", "SCALE, LIMIT = 2.0", id="named metric"),
    ],
)
def test_what_a_model_a_task_a_loss_or_a_metric_calls_is_part_of_the_key(
    code: str, blocks: dict[str, Any], old: str, new: str, own: Path
):
    (own / "mine.py").write_text(MODULE + code)
    first, again = run(own, TRAIN, **blocks), run(own, TRAIN, **blocks)
    assert again["stages"] == first["stages"]
    (own / "mine.py").write_text(MODULE + code.replace(old, new))
    changed = run(own, TRAIN, **blocks)
    assert changed["stages"] > first["stages"]
    assert (changed["weights"], changed["validation"]) != (first["weights"], first["validation"])


PRUNE = {"kind": "prune", "keep": {"params": 0.6}, **FIXED, "round_to": 1, "recover": {"epochs": 1, "batch_size": 32}}


LOAD_AND_TRAIN = """
import json, sys
from compress import Artifact

state = Artifact.load(sys.argv[1]).state()
(bound,) = state.bound_constraints()
count = lambda: sum(int(p.count_nonzero()) for p in state.module.parameters())
before = count()
for parameter in state.module.parameters():
    parameter.data += parameter == 0
bound.apply(state.module)
print(json.dumps([before, count()]))
"""


def test_zeros_stay_zero_whatever_follows(own: Path):
    found = run(own, "mask", TRAIN, PRUNE, TRAIN)
    assert sorted(found["nonzero"], reverse=True) == found["nonzero"]
    names = [f"{layer}.{kind}" for layer in ("layers.0", "layers.1", "head") for kind in ("weight", "bias")]
    assert found["constraints"] == [{"kind": "zeros", "parameters": names}]
    loaded = fresh(LOAD_AND_TRAIN, own.parent / "run")
    assert loaded[0] == loaded[1] == found["nonzero"][-1]


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        (("mask", "careless"), "careless.*does not say that it keeps constraints.*ZerosStay"),
        (("mask", "forget"), "forget.*forgets constraints"),
        (("mask", "breaks"), "breaks a constraint: weights of layers.0.weight that were zero are not zero any more"),
        (("double", "forget"), "forget.*forgets rewrites"),
        (("sixteen", "forget"), "forget may not follow sixteen"),
        (("sixteen", "scale"), "scale may not follow sixteen"),
        (("sixteen", TRAIN), "finetune may not follow sixteen"),
        (("sixteen", PRUNE), "prune may not follow sixteen"),
    ],
)
def test_what_an_earlier_pass_did_is_not_lost_in_silence(passes: tuple, message: str, own: Path):
    with pytest.raises(LeanfitError, match=message):
        run(own, *passes)


def test_a_graph_is_not_lost_whatever_a_pass_says_of_itself():
    net, other = (build_model("mlp", inputs=8, classes=2, width=4, depth=1) for _ in range(2))
    written = ModelState(net, graph=export_onnx(net, {"x": torch.zeros(2, 8)}))
    with pytest.raises(PassError, match="hands back no graph"):
        check_nothing_lost("mine", written, ModelState(other))
    with pytest.raises(PassError, match="would be lost"):
        check_may_follow("mine", Traits(trains=True, reshapes=True, needs_data=True, keeps_constraints=True), written)
    with pytest.raises(PassError, match="gives MLP, not a ModelState"):
        check_nothing_lost("mine", written, other)


def test_a_rewrite_of_ones_own_comes_back_in_a_fresh_process(own: Path):
    found = run(own, "double", {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 32}})
    assert [rewrite["kind"] for rewrite in found["rewrites"]] == ["mine:doubled"] * 2
    load = (
        "import json, sys; sys.path.insert(0, sys.argv[2]); from compress import Artifact\n"
        "from compress.pipeline.artifact import verify\n"
        "from evaluate.core.errors import ArtifactError\n"
        "allow = json.loads(sys.argv[3])\n"
        "try: kinds = str(Artifact.load(sys.argv[1], allow=allow).module())\n"
        "except ArtifactError as error: kinds = str(error)\n"
        "checks = {c.name: c.ok for c in verify(sys.argv[1], allow=allow)}\n"
        "print(json.dumps([kinds, 'mine' in sys.modules, checks]))"
    )
    text, imported, checks = fresh(load, own.parent / "run", own, '["mine"]')
    assert "Doubled" in text and imported and all(checks.values())
    text, imported, checks = fresh(load, own.parent / "run", own, "[]")
    assert "--allow mine" in text and not imported and not checks["parity"]
