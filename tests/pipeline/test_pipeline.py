"""compress(): the promises of a run as a whole."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from prune_nets import FIXED
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from compress import Artifact, Task, compress
from compress.core.errors import PassError, RecipeError
from compress.core.sources import source_of
from compress.graph.model_state import save_state
from compress.pipeline.plan import plan
from compress.pipeline.stages import locked
from evaluate.benchmark import latency
from evaluate.core.errors import DataError, LeanfitError, MachineError, ModelError
from evaluate.core.journal import find_records
from evaluate.core.stats import joint_intervals, session_run_ratios
from evaluate.hardware.monitor import Watch

FAST = {"seconds": 0.4}
RECIPE = {
    "version": 1,
    "name": "tiny",
    "passes": [
        {"kind": "prune", "keep": {"macs": 0.6}, **FIXED, "recover": {"epochs": 1, "batch_size": 64, "distill": {}}},
        {"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 64}},
    ],
    "goals": {"drop": 100, "bytes": 0.9},
    "benchmark": FAST,
}


def hashes(folder: Path) -> dict[str, str]:
    names = ("model.onnx", "weights.safetensors", "baseline/model.onnx")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module")
def run(trained: nn.Module, digits: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pipeline") / "run"
    compress(trained, RECIPE, task=digits, out=out)
    return out


def test_the_summary_has_the_promised_names(run: Path):
    summary = Artifact.load(run).summary()
    assert {"artifact", "baseline", "compressed", "passes", "drop", "speedup"} <= set(summary)
    for side in ("baseline", "compressed"):
        assert {"metric", "value", "low", "high", "n", "per_class"} <= set(summary[side]["accuracy"])
        assert {"median_ms", "low", "high", "p90", "provider", "threads", "batch", "n"} <= set(summary[side]["latency"])
        assert set(summary[side]["sizes"]) == {"params", "nonzero", "macs", "bytes", "packed_bytes", "bits"}
    assert set(summary["drop"]) == {"value", "low", "high", "gained", "lost", "p"}
    assert summary["speedup"]["verdict"] in {"faster", "slower", "not resolved"}
    json.dumps(summary)


def test_the_figures_hang_together(run: Path):
    record = Artifact.load(run).record()
    base, small = record["baseline"], record["compressed"]
    assert small["sizes"]["bytes"] == (run / "model.onnx").stat().st_size
    assert base["sizes"]["bytes"] == (run / "baseline/model.onnx").stat().st_size
    assert small["sizes"]["macs"] < 0.6 * base["sizes"]["macs"] * 1.02
    drop, n = record["drop"], base["accuracy"]["n"]
    assert drop["value"] == pytest.approx(base["accuracy"]["value"] - small["accuracy"]["value"])
    assert drop["value"] == pytest.approx(100 * (drop["lost"] - drop["gained"]) / n)
    assert drop["low"] <= drop["value"] <= drop["high"]
    assert [p["kind"] for p in record["passes"]] == ["prune", "quantize"]
    assert record["passes"][0]["sizes_after"] == record["passes"][1]["sizes_before"]
    ratios = np.exp(session_run_ratios(record["samples"]["baseline"], record["samples"]["compressed"]))
    (ratio,) = joint_intervals(np.log(ratios)[:, None])
    assert record["speedup"]["value"] == pytest.approx(ratio.value, rel=1e-3)
    assert ratios.min() < record["speedup"]["value"] < ratios.max()


def test_means_of_several_calls_are_told_as_such_and_carry_no_tails(
    trained: nn.Module, digits: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(latency, "TIMER_SHARE", 50_000)
    recipe = {**RECIPE, "passes": RECIPE["passes"][1:]}
    for _ in range(2):  # measured, then found again
        record = compress(trained, recipe, task=digits, out=tmp_path / "run").record()
        for side in ("baseline", "compressed"):
            told = record[side]["latency"]
            assert told["loops"] > 1 and (told["p90"], told["p99"]) == (None, None)


def test_what_others_did_meanwhile_is_remarked_on_when_it_is_found_again_too(
    trained: nn.Module, digits: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    summary = Watch.summary

    def busy(self):
        assert len(self._marks) > 2, "the machine was looked at while this was measured"
        return {**summary(self), "cores": 2, "others_cores": {"median": 1.4, "max": 2.0}}

    monkeypatch.setattr(Watch, "summary", busy)
    first = compress(trained, RECIPE, task=digits, out=tmp_path / "run")
    monkeypatch.setattr(Watch, "summary", None)
    for artifact in (first, compress(trained, RECIPE, task=digits, out=tmp_path / "run")):
        said = [text for text in artifact.figures["warnings"] if text.startswith("Other processes used 1.4 of 2 cores")]
        assert len(said) == 1 and "Other processes used" in artifact.table()
    assert "Other processes used" in (tmp_path / "run/report.html").read_text()


def test_the_callers_model_is_not_touched(trained: nn.Module, digits: Task, tmp_path: Path):
    model = copy.deepcopy(trained).train()
    before = save_state(model)
    compress(model, RECIPE, task=digits, out=tmp_path / "run")
    assert model.training and save_state(model) == before


def test_the_same_seed_gives_the_same_files(run: Path, trained: nn.Module, digits: Task, tmp_path: Path):
    compress(trained, RECIPE, task=digits, out=tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(run)
    compress(trained, {**RECIPE, "seed": 1}, task=digits, out=tmp_path / "other")
    assert hashes(tmp_path / "other") != hashes(run)


def test_the_saved_recipe_runs_again(run: Path, trained: nn.Module, digits: Task, tmp_path: Path):
    compress(trained, run / "recipe.yaml", task=digits, out=tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(run)


def test_a_finished_run_is_found_and_not_repeated(run: Path, trained: nn.Module, digits: Task):
    before = (run / "records.jsonl").read_text()
    messages: list[str] = []
    compress(trained, RECIPE, task=digits, out=run, status=lambda message, done, total: messages.append(message))
    assert (run / "records.jsonl").read_text() == before
    assert not [m for m in messages if "epoch" in m or "quantize" in m or "evaluate" in m]


class Killed(BaseException):
    """Stands for a kill: nothing of the program's own catches it."""


@pytest.mark.parametrize("at", ["prune", "epoch", "ranges", "evaluate", "timing"])
def test_a_run_cut_off_goes_on_and_ends_the_same(at: str, run: Path, trained: nn.Module, digits: Task, tmp_path: Path):
    out = tmp_path / "run"
    stopped = False

    def cut(message: str, done: float, total: float) -> None:
        nonlocal stopped
        if at in message and not stopped:
            stopped = True
            raise Killed

    with pytest.raises(Killed):
        compress(trained, RECIPE, task=digits, out=out, status=cut)
    assert not (out / "manifest.json").exists() or at in ("evaluate", "timing")
    finished = {r["key"] for r in find_records(out) if r["kind"] == "stage"}
    compress(trained, RECIPE, task=digits, out=out, status=cut)
    stages = [r["key"] for r in find_records(out) if r["kind"] == "stage"]
    assert len(stages) == len(set(stages)) > len(finished), "a finished stage was done twice"
    assert hashes(out) == hashes(run)


def test_a_changed_recipe_keeps_the_stages_it_shares(trained: nn.Module, digits: Task, tmp_path: Path):
    out = tmp_path / "run"
    compress(trained, RECIPE, task=digits, out=out)
    changed = copy.deepcopy(RECIPE)
    changed["passes"][1]["calibrate"]["method"] = "mse"
    messages: list[str] = []
    compress(trained, changed, task=digits, out=out, status=lambda message, done, total: messages.append(message))
    assert any("ranges" in m for m in messages) and not any("epoch" in m for m in messages)
    assert all(len(r["hashes"]) == 3 for r in find_records(out) if r["kind"] == "compress")
    assert len([p for p in (out / "stages").iterdir() if "quantize" in p.name]) == 1


def test_two_processes_do_not_share_a_folder(trained: nn.Module, digits: Task, tmp_path: Path):
    with locked(tmp_path / "run"), pytest.raises(MachineError, match="another leanfit process"):
        compress(trained, RECIPE, task=digits, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "result.json"])
def test_a_damaged_stage_is_done_again(name: str, run: Path, trained: nn.Module, digits: Task, tmp_path: Path):
    out = Path(shutil.copytree(run, tmp_path / "run"))
    stage = next(path for path in (out / "stages").iterdir() if "quantize" in path.name)
    (stage / name).write_bytes((stage / name).read_bytes()[:-9])
    messages: list[str] = []
    compress(trained, RECIPE, task=digits, out=out, status=lambda message, done, total: messages.append(message))
    assert any("quantize" in m for m in messages) and not any("epoch" in m for m in messages)
    assert hashes(out) == hashes(run)


def test_goals_are_those_of_the_recipe_that_ran_last(run: Path, trained: nn.Module, digits: Task, tmp_path: Path):
    out = Path(shutil.copytree(run, tmp_path / "run"))
    compress(trained, {**RECIPE, "goals": {"params": 0.1}}, task=digits, out=out)
    again = compress(trained, RECIPE, task=digits, out=out)
    assert {g["goal"] for g in again.summary()["goals"]} == set(RECIPE["goals"])


def test_a_tolerance_is_raised_without_training_again(digits: Task, tmp_path: Path):
    recipe = {
        "version": 1,
        "model": {"name": "mlp", "inputs": 64, "width": 16, "depth": 2},
        "train": {"epochs": 1},
        "passes": [RECIPE["passes"][1]],
        "benchmark": FAST,
    }
    with pytest.raises(ModelError, match=r"export\.tolerance allows 1e-12"):
        compress(recipe={**recipe, "export": {"tolerance": 1e-12}}, task=digits, out=tmp_path / "run")
    messages: list[str] = []
    compress(
        recipe=recipe, task=digits, out=tmp_path / "run", status=lambda message, done, total: messages.append(message)
    )
    assert messages and not any("epoch" in m for m in messages)


def test_a_changed_forward_is_another_network():
    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    first = Net(2, 2)

    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -super().forward(x)

    assert str(first) == str(Net(2, 2))
    assert source_of(first) != source_of(Net(2, 2))


def test_a_folder_of_other_files_is_left_alone(trained: nn.Module, digits: Task, tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"do not": "lose"}')
    (tmp_path / "stages").mkdir()
    with pytest.raises(MachineError, match="holds other files"):
        compress(trained, RECIPE, task=digits, out=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "stages"]


def test_loaders_and_tensors_are_both_tasks(trained: nn.Module, digits: Task, tmp_path: Path):
    pairs = {
        name: (torch.cat([i["image"] for i, _ in split.batches(64)]), split.all_targets())
        for name, split in digits.splits().items()
    }
    recipe = {**RECIPE, "passes": [RECIPE["passes"][1]]}
    tensors = compress(trained, recipe, task=Task.from_tensors(**pairs), out=tmp_path / "tensors")
    loaders = {name: DataLoader(TensorDataset(*pair), batch_size=32, shuffle=True) for name, pair in pairs.items()}
    loaded = compress(trained, recipe, task=Task.from_loaders(**loaders), out=tmp_path / "loaders")
    found = [a.summary()["compressed"]["accuracy"] for a in (tensors, loaded)]
    assert found[0]["n"] == found[1]["n"] == len(digits.test)
    assert abs(found[0]["value"] - found[1]["value"]) < 2


def test_a_regression_is_measured_by_its_error(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 8, generator=generator)
    y = x @ torch.randn(8, 1, generator=generator)
    task = Task.from_tensors((x[:400], y[:400]), (x[400:500], y[400:500]), (x[500:], y[500:]))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    recipe = {
        "version": 1,
        "name": "regression",
        "train": {"epochs": 5, "optimizer": "adamw", "learning_rate": 0.01, "batch_size": 32},
        "passes": [{"kind": "quantize", "choose": "fixed", "calibrate": {"samples": 64}}],
        "benchmark": FAST,
    }
    artifact = compress(model, recipe, task=task, out=tmp_path / "run")
    accuracy = artifact.summary()["baseline"]["accuracy"]
    assert accuracy["metric"] == "mse" and accuracy["value"] < float(y.var())
    assert "mse" in artifact.table()


def test_the_plan_predicts_what_comes_out(run: Path, trained: nn.Module, digits: Task):
    steps = plan(trained, RECIPE, task=digits).summary()["steps"]
    record = Artifact.load(run).record()
    assert [s["kind"] for s in steps] == ["baseline", "prune", "quantize"]
    for step, after in zip(steps[1:], record["passes"], strict=True):
        assert (step["params"], step["macs"]) == (after["sizes_after"]["params"], after["sizes_after"]["macs"])
    assert {c["layer"] for c in record["passes"][1]["changes"]} <= set(steps[2]["layers"])


def test_goals_are_judged(trained: nn.Module, digits: Task, tmp_path: Path):
    recipe = {**RECIPE, "passes": [RECIPE["passes"][1]], "goals": {"bytes": "1kB", "macs": 1.0, "drop": 100}}
    goals = compress(trained, recipe, task=digits, out=tmp_path / "run").summary()["goals"]
    assert {g["goal"]: g["status"] for g in goals} == {"bytes": "missed", "macs": "met", "drop": "met"}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"passes": [{"kind": "quantize", "choose": "fixed", "exclude": ["*"]}]}, PassError, "would change nothing"),
        ({"passes": [{"kind": "quantize", "choose": "fixed", "layers": ["conv9"]}]}, RecipeError, "matches no layer"),
        ({"benchmark": {"provider": "cuda"}}, LeanfitError, "cuda"),
    ],
    ids=["excludes all", "no such layer", "no such provider"],
)
def test_what_a_recipe_cannot_mean_is_refused(
    change: dict, kind: type, message: str, trained: nn.Module, digits: Task, tmp_path: Path
):
    if "benchmark" in change and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    from evaluate.core.errors import LeanfitError

    with pytest.raises((kind, LeanfitError), match=f"(?i){message}"):
        compress(trained, {**RECIPE, **change}, task=digits, out=tmp_path / "run")
    assert not (tmp_path / "run" / "model.onnx").exists()
    assert "benchmark" not in change or not (tmp_path / "run").exists(), "work was done before the refusal"


class WrongClasses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


def poisoned(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = float("nan")
    return model


def test_models_that_do_not_fit_are_refused_before_any_work(trained: nn.Module, digits: Task, tmp_path: Path):
    cases = [
        (poisoned(trained), "NaN or infinite: conv1"),
        (WrongClasses(), "has 10 classes"),
        (nn.Linear(3, 10), "cannot run on the task's inputs"),
    ]
    for model, message in cases:
        with pytest.raises(ModelError, match=message):
            compress(model, RECIPE, task=digits, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_what_is_missing_is_said(trained: nn.Module, digits: Task, tmp_path: Path):
    with pytest.raises(LeanfitError, match="names no model"):
        compress(recipe=RECIPE, task=digits, out=tmp_path / "run")
    with pytest.raises(LeanfitError, match="names no task"):
        compress(trained, RECIPE, out=tmp_path / "run")


def test_unusable_data_is_said(digits: Task):
    x, y = torch.zeros(20, 64), torch.zeros(20, dtype=torch.int64)
    with pytest.raises(DataError):
        Task.from_tensors((x * float("nan"), y), test=(x, y))
    with pytest.raises(DataError):
        Task.from_tensors((x[:0], y[:0]), test=(x, y))
    with pytest.raises(DataError):
        Task.from_tensors((x, y[:5]), test=(x, y))


def test_names_are_lazy():
    import subprocess
    import sys

    code = "import sys, compress, evaluate; sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
