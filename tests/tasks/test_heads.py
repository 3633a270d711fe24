"""Several heads: targets side by side, one sum to train on, and a score, an interval and a drop of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from prune_nets import FIXED
from torch import nn
from torch.utils.data import DataLoader
from torchvision_ops import declare

import leanfit
from compress.core.errors import RecipeError
from compress.core.forward import JUDGED, run_model
from compress.core.sources import values_key
from compress.pipeline.record import judge_goals
from compress.recipe.named_blocks import goals_class
from compress.tasks import Head, Task
from compress.tasks.heads import HeadMetric, HeadsLoss
from compress.training.distillation import check_distillation, distillation_loss
from compress.training.evaluation import evaluate_split
from evaluate.core.blocks import as_block
from evaluate.core.errors import DataError, ModelError
from evaluate.core.record_parts import Goal
from evaluate.metrics.base import drop, get_metric, score
from evaluate.report.messages.run_messages import goal_sentence
from evaluate.runtime.session import open_session

N = 160


def samples(n: int = N, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Points (n, 6); the sign of the first says the kind, the others add up to two places."""
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return {"x": x}, {"kind": (x[:, 0] > 0).long(), "at": torch.stack([x[:, 1:3].sum(1), x[:, 3:].sum(1)], 1)}


def task(**settings) -> Task:
    return Task.from_tensors(*[samples(seed=seed) for seed in range(3)], **settings)


class TwoHeads(nn.Module):
    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 8))
        self.kind, self.at = nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x):
        h = self.body(x)
        return {"features": h, "at": self.at(h), "kind": self.kind(h)}


def test_what_is_not_given_follows_from_the_targets():
    two = task()
    assert [(h.name, h.loss, h.metric.name, h.classes) for h in two.heads] == [
        ("kind", "cross_entropy", "accuracy", ("0", "1")),
        ("at", "mse", "mse", ()),
    ]
    assert two.judged == ("kind", "at") and "kind (2 classes), at (2 values)" in repr(two)


def test_the_first_of_heads_is_what_goals_read_and_each_keeps_its_targets():
    _, targets = samples()
    two = task(heads={"at": Head(metric="rmse", weight=2.0)})
    assert two.judged == ("at", "kind") and two.metric.name == "rmse"
    for head in two.heads:
        assert torch.equal(head.targets.of(two.train.all_targets()), targets[head.name])


def test_a_limit_in_points_holds_for_every_head_that_is_judged_in_points():
    lost = {"value": 5.0, "low": 4.0, "high": 6.0}
    metrics = {"kind": "accuracy", "size": "accuracy", "at": "r2"}
    record = {
        "baseline": {"accuracy": {"metric": "accuracy"}},
        "drop": {"value": 0.1, "low": 0.0, "high": 0.2},
        "heads": [{"name": name, "baseline": {"metric": metric}, "drop": lost} for name, metric in metrics.items()],
    }
    judged = judge_goals(goals_class()(drop=1.0), record)
    assert [(goal["goal"], goal["status"]) for goal in judged] == [("drop", "met"), ("drop of size", "missed")]
    said = [goal_sentence(as_block(Goal, goal), get_metric("accuracy")) for goal in judged]
    assert said == ["at most 1.00 points lost: 0.10 points", "at most 1.00 points lost of size: 5.00 points"]


def test_loss_and_metrics_are_those_of_each_head():
    two = task(heads={"kind": Head(weight=0.5)})
    model = TwoHeads().eval()
    setattr(model, JUDGED, two.judged)
    inputs, targets = samples(seed=1)
    outputs, packed = run_model(model, inputs).detach(), two.validation.all_targets()
    own = {name: tensor.detach() for name, tensor in model(**inputs).items()}
    wanted = 0.5 * F.cross_entropy(own["kind"], targets["kind"]) + F.mse_loss(own["at"], targets["at"])
    assert torch.isclose(two.loss(outputs, packed), wanted)
    assert evaluate_split(model, two.validation, two.loss, two.metric)["loss"] == pytest.approx(float(wanted), rel=1e-5)
    worse = outputs + 0.3 * torch.randn_like(outputs)
    for head in two.heads:
        packed_score = score(outputs, packed, HeadMetric.of(head), head.classes)
        assert packed_score == score(own[head.name], targets[head.name], head.metric.name, head.classes)
        parts = head.outputs(outputs).numpy(), head.outputs(worse).numpy(), targets[head.name].numpy()
        assert drop(outputs, worse, packed, HeadMetric.of(head)) == drop(*parts, head.metric.name)


def test_each_head_is_distilled_by_its_own_kind():
    two = task(heads={"at": Head(weight=3.0)})
    a, b = torch.randn(8, 4), torch.randn(8, 4)
    by_head = [h.weight * distillation_loss(h.loss, h.outputs(a), h.outputs(b), 2.0) for h in two.heads]
    assert torch.isclose(distillation_loss(two.loss, a, b, 2.0), torch.stack(by_head).sum())
    check_distillation(two)
    with pytest.raises(RecipeError, match="does not say"):
        check_distillation(task(heads={"at": Head(loss=lambda outputs, targets: outputs.sum())}))


def test_loaders_and_data_sets_give_the_task_that_tensors_give():
    def rows(seed: int):
        inputs, targets = samples(seed=seed)
        return [{"x": inputs["x"][n], **{k: v[n] for k, v in targets.items()}} for n in range(N)]

    def loader(seed: int):
        pairs = [({"x": row["x"]}, {name: row[name] for name in ("at", "kind")}) for row in rows(seed)]
        return DataLoader(pairs, batch_size=50)

    plain = task()
    by_loader = Task.from_loaders(*map(loader, range(3)), heads={"kind": Head()})
    by_rows = Task.from_dataset(*map(rows, range(3)), target=["kind", "at"])
    for other in (by_loader, by_rows):
        assert other.judged == plain.judged
        assert torch.equal(other.validation.all_targets(), plain.validation.all_targets())
    assert by_rows.fingerprint() == Task.from_dataset(*map(rows, range(3)), target=["kind", "at"]).fingerprint()
    assert by_rows.fingerprint() != task(heads={"at": Head(weight=2.0)}).fingerprint()


def test_two_heads_through_pruning_distillation_and_int8(tmp_path):
    recipe = {
        "version": 1,
        "train": {"epochs": 12, "batch_size": 16, "optimizer": "adamw", "learning_rate": 0.01},
        "passes": [
            {
                "kind": "prune",
                "keep": {"macs": 0.6},
                "round_to": 1,
                **FIXED,
                "recover": {"epochs": 2, "batch_size": 16, "distill": {"temperature": 2, "weight": 0.5}},
            },
            {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 64}},
        ],
        "benchmark": {"seconds": 0.2},
    }
    two = task(heads={"kind": Head(), "at": Head(metric="r2")})
    artifact = leanfit.compress(TwoHeads(), recipe, task=two, out=tmp_path / "run", progress=False)
    heads = {entry["name"]: entry for entry in artifact.figures["heads"]}
    session = open_session(tmp_path / "run/model.onnx")
    assert [port[0] for port in session.outputs] == ["kind", "at", "features"]
    inputs, targets = samples(seed=2)
    outputs = dict(zip(two.judged, session.run({"x": inputs["x"].numpy()}), strict=False))
    for name, metric in (("kind", "accuracy"), ("at", "r2")):
        wanted = score(outputs[name], targets[name], metric, ["0", "1"] if name == "kind" else ())
        assert heads[name]["compressed"]["value"] == pytest.approx(wanted["value"])
        assert {"low", "high"} <= heads[name]["drop"].keys()
    assert heads["kind"]["baseline"]["value"] > 85 and heads["at"]["baseline"]["value"] > 0.5
    assert artifact.figures["drop"] == heads["kind"]["drop"]
    assert "kind: accuracy %" in artifact.table() and "at: r2" in artifact.table()
    assert "at: r2" in (tmp_path / "run/report.html").read_text()
    assert all(check.ok for check in leanfit.verify(tmp_path / "run", base=TwoHeads()))


class OneWide(TwoHeads):
    def forward(self, x):
        return {**super().forward(x), "at": x[:, :1]}


WRONG = {
    "a head that is none": (lambda: task(heads={"kinds": Head()}), "no head 'kinds'; did you mean 'kind'"),
    "loss beside heads": (lambda: task(loss="mse"), "of each as heads="),
    "heads without a dict": (
        lambda: Task.from_tensors(*[(torch.randn(9, 2), torch.arange(9) % 2)] * 3, heads={"a": Head()}),
        "no dict of them",
    ),
    "no weight": (lambda: task(heads={"kind": Head(weight=0)}), "above 0"),
    "a metric of classes for floats": (lambda: task(heads={"at": Head(metric="accuracy")}), "head 'at'"),
    "an unknown metric": (lambda: task(heads={"at": Head(metric="acuracy")}), "did you mean"),
    "other heads in another split": (
        lambda: Task.from_tensors(samples(), samples(), (samples()[0], {"kind": samples()[1]["kind"]})),
        "different heads",
    ),
    "other numbers of samples": (
        lambda: Task.from_tensors(*[(samples()[0], {**samples()[1], "kind": torch.zeros(3).long()})] * 3),
        "different numbers of samples",
    ),
    "an output that is missing": (
        lambda: leanfit.compress(nn.Linear(6, 2), "int8", task=task(), out="never"),
        "no argument 'x'|no output",
    ),
    "an output of another width": (
        lambda: leanfit.compress(OneWide(), "int8", task=task(), out="never"),
        "gives at of shape .* has 2 values a sample",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str):
    made, said = WRONG[name]
    with pytest.raises((DataError, ModelError), match=said):
        made()


def outputs_and_targets(n: int = 300):
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, n)
    return generator.normal(size=(n, 3)) + 1.5 * np.eye(3)[targets], targets


@pytest.fixture(scope="module")
def torchmetrics():
    operators = declare()
    found = pytest.importorskip("torchmetrics")
    yield found
    del operators


def test_a_torchmetrics_object_is_judged_as_our_own_of_that_name(torchmetrics):
    outputs, targets = outputs_and_targets()
    theirs = leanfit.whole_metric(torchmetrics.classification.MulticlassF1Score(3, average="macro"))
    before_use = values_key(theirs)
    assert before_use is not None
    found, own = score(outputs, targets, theirs), score(outputs, targets, "macro_f1")
    for key in ("value", "low", "high"):  # ours is in per cent; intervals differ by the draws
        assert 100 * found[key] == pytest.approx(own[key], abs=0.02 if key == "value" else 1.0)
    assert found["metric"] == "MulticlassF1Score" and found["higher_is_better"]
    better = outputs + np.eye(3)[targets]
    gap = drop(better, outputs, targets, theirs)
    assert gap["low"] > 0 and gap["p"] < 0.05
    assert values_key(theirs) == before_use, "use changes nothing of the key under which stages are found again"


def test_any_function_is_a_metric_once_its_direction_is_known(tmp_path):
    worst = leanfit.whole_metric(lambda outputs, targets: (outputs - targets).abs().max(), higher_is_better=False)
    inputs, targets = samples()
    made = Task.from_tensors(*[(inputs, targets["at"])] * 3, metric=worst, output="at")
    model = TwoHeads().eval()
    setattr(model, JUDGED, "at")
    found = evaluate_split(model, made.validation, made.loss, made.metric)["metric"]
    with torch.no_grad():
        assert found == pytest.approx(float((model(**inputs)["at"] - targets["at"]).abs().max()))
    artifact = leanfit.compress(
        model,
        {
            "version": 1,
            "passes": [{"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 32}}],
            "benchmark": {"seconds": 0.2},
        },
        task=made,
        out=tmp_path / "run",
        force=True,
        progress=False,
    )
    assert artifact.figures["compressed"]["accuracy"]["higher_is_better"] is False


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: leanfit.whole_metric(lambda outputs, targets: 1.0), "higher_is_better=True"),
        (lambda: Task.from_tensors(*[samples()] * 3, heads={"at": Head(metric=max)}), "which way it points"),
    ],
)
def test_a_function_without_a_direction_is_refused(made, said):
    with pytest.raises(DataError, match=said):
        made()


@pytest.mark.parametrize("given", [lambda outputs, targets: targets[:2], lambda outputs, targets: outputs.nothing])
def test_what_a_function_gives_or_raises_is_said(given):
    metric = leanfit.whole_metric(given, higher_is_better=True, name="mine")
    with pytest.raises(ModelError, match=r"metric mine (gives 2 values|failed on outputs \(300, 3\))"):
        score(*outputs_and_targets(), metric)


def test_the_heads_loss_is_known_by_its_settings():
    keys = {task(heads={"at": Head(weight=weight)}).fingerprint() for weight in (1.0, 1.0, 2.0)}
    assert len(keys) == 2 and isinstance(task().loss, HeadsLoss)
