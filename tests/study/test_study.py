"""Studies: every trial once, none lost, whatever happens on the way."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from prune_nets import FIXED
from typer.testing import CliRunner

from compress.cli.commands import app
from compress.cli.study_commands import seconds_of
from compress.core.progress import silent
from compress.study import run_study as studies
from compress.study.forecast import Estimate, Forecast
from compress.study.pools import Event, LocalPool
from compress.study.run_study import run_study
from compress.study.study_report import report
from compress.study.study_worker import attempt
from compress.study.trial import by_id, head
from evaluate.core.errors import DataError, MachineError
from evaluate.core.journal import Journal
from evaluate.hardware.environment import usable_cores

STUDY = {
    "version": 1,
    "name": "small",
    "task": {"name": "digits"},
    "model": {"name": "mlp", "inputs": 64, "depth": 1},
    "sizes": {"width": [12]},
    "train": {"epochs": 1, "batch_size": 64},
    "levels": {
        "pruned": {
            "values": {"keep": [0.5]},
            "passes": [{"kind": "prune", "keep": {"macs": "$keep"}, **FIXED, "round_to": 1, "recover": {"epochs": 1}}],
        },
        "pruned-int8": {"after": "pruned", "passes": [{"kind": "quantize", "calibrate": {"samples": 32}}]},
    },
    "data": [{"set": {"task.train_limit": [100]}, "sizes": {"width": 12}}],
    "seeds": 1,
}
UNREACHABLE = {
    **STUDY,
    "levels": {"tiny": {"passes": [{"kind": "prune", "keep": {"params": 0.001}, **FIXED}]}},
    "data": [],
}


class Inline:
    """A pool of this very process: the real path of a trial, without the start of a worker."""

    retries = True

    def __init__(self, out: Path, slots: int = 1, before=lambda trial: None) -> None:
        self.slots, self.out, self.before = slots, out, before
        self.queue, self.started, self.most = [], [], 0

    def start(self, trial) -> None:
        self.queue.append(trial)
        self.started.append(trial)
        prefixes = [set(t.prefixes) for t in self.queue]
        self.most = max(self.most, len(self.queue))
        made = {p for t in self.started if t not in self.queue for p in t.prefixes}
        assert len(set().union(*prefixes) - made) == sum(len(p - made) for p in prefixes), "two make one stage"

    def wait(self, seconds: float) -> list[Event]:
        trial = self.queue.pop(0)
        told = self.before(trial)
        return [told or Event(trial, result={**attempt(trial.as_dict(), self.out, "cpu", silent)})]

    def stop(self) -> None:
        self.queue = []


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch):
    """Lets studies run in this process; gives the pools that were made."""
    pools = []

    def use(slots: int = 1, before=lambda trial: None):
        def make(folder, workers, ray, device):
            pools.append(Inline(folder, slots, before))
            return pools[-1]

        monkeypatch.setattr(studies, "_pool", make)
        return pools

    return use


def records(out: Path) -> list[dict]:
    return [r for r in Journal(out / "records.jsonl").read() if r["kind"] == "trial"]


def results(out: Path) -> dict:
    return {r["id"]: {k: r.get(k) for k in ("status", "role", "sizes", "accuracy", "loss")} for r in records(out)}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("study") / "run"
    patch = pytest.MonkeyPatch()
    patch.setattr(studies, "_pool", lambda folder, workers, ray, device: Inline(folder))
    with patch.context():
        outcome = run_study(STUDY, out=out)
    patch.undo()
    return out, outcome


def test_every_trial_is_one_small_record_with_what_was_promised(done):
    out, outcome = done
    found = records(out)
    assert {r["id"] for r in found} == {t.id for t in outcome.trials} and len(found) == len(outcome.trials)
    for record in found:
        assert len(json.dumps(record)) < 2000 and record["status"] == "finished"
        assert record["error"] == pytest.approx(1 - record["accuracy"]["value"] / 100)
        assert record["loss"] > 0 and record["train_macs"] > 0 and record["seconds"] > 0
        assert (record["baseline"] is None) == (record["role"] != "compressed") == (record["drop"] is None)
    both = next(r for r in found if r["level"]["name"] == "pruned-int8")
    assert both["level"] == {"name": "pruned-int8", "keep": 0.5, "bits": 8} and both["sizes"]["bits"] == 8
    limited = next(r for r in found if r["data"])
    assert limited["data"] == {"samples": 100} and limited["train_samples"] == 100


def test_training_is_counted_in_macs(done):
    dense = next(r for r in records(done[0]) if r["role"] == "dense" and not r["data"])
    assert dense["train_macs"] == 3 * dense["sizes"]["macs"] * dense["train_samples"]


def test_a_shared_stage_is_made_once_and_the_disk_stays_small(done):
    out, outcome = done
    keys = [line["key"] for line in Journal(out / "stages.jsonl").read()]
    assert len(keys) == len(set(keys))
    wanted = {prefix for t in outcome.trials for prefix in t.prefixes}
    baselines = {t.prefixes[0] for t in outcome.trials}
    assert len(keys) == len(wanted) + len(baselines)  # and the outputs of each baseline
    kept = Counter(path.name.split("-")[0] for path in (out / "stages").glob("[!.]*"))
    assert kept == {"baseline": len(baselines), "outputs": len(baselines)}


def test_the_native_model_follows_a_target_that_only_a_run_can_tell(done):
    out, outcome = done
    found = {r["id"]: r for r in records(out)}
    assert not outcome.plan.pending
    for trial in (t for t in outcome.trials if t.role == "compressed"):
        native, params = found[trial.native], found[trial.id]["sizes"]["params"]
        assert native["role"] in ("native", "dense")
        assert abs(native["sizes"]["params"] - params) <= 75  # one unit of width more or less


def test_a_finished_study_is_found_without_torch(done):
    code = (
        "import json, sys; from compress.study.run_study import run_study; "
        "o = run_study(json.loads(sys.argv[1]), out=sys.argv[2]); "
        "assert o.made == 0 and o.left == 0; sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    began = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code, json.dumps(STUDY), str(done[0])], check=False).returncode == 0
    assert time.perf_counter() - began < 5


def test_a_level_that_is_added_costs_only_itself(done, inline, tmp_path: Path):
    import shutil

    out = Path(shutil.copytree(done[0], tmp_path / "run"))
    pools = inline()
    more = copy.deepcopy(STUDY)
    more["levels"]["int8"] = {"passes": [{"kind": "quantize", "calibrate": {"samples": 32}}]}
    outcome = run_study(more, out=out)
    assert outcome.made == len(pools[0].started) == 1
    assert not [line for line in Journal(out / "stages.jsonl").read() if line["ended"] > time.time()]
    keys = [line["key"] for line in Journal(out / "stages.jsonl").read()]
    assert len(keys) == len(set(keys))


def test_workers_get_trials_that_do_not_wait_on_one_another(inline, tmp_path: Path):
    def finish(trial):
        sizes = {"params": 100, "macs": 1000}
        told = {"sizes": sizes, "baseline": None, "seconds": 1.0, "train_samples": 100, "stages": []}
        return Event(trial, result={"record": {**head(trial), "status": "finished", **told}})

    pools = inline(slots=3, before=finish)
    outcome = run_study({**STUDY, "seeds": 3}, out=tmp_path / "run")
    assert pools[0].most == 3 and len(pools[0].started) == len(outcome.trials)


class Killed(BaseException):
    """Stands for a kill."""


def test_a_study_cut_off_goes_on_and_ends_the_same(done, inline, tmp_path: Path):
    count = 0

    def cut(trial):
        nonlocal count
        count += 1
        if count in (1, 3):
            raise Killed

    inline(before=cut)
    dense = {**STUDY, "levels": {}}
    for _ in range(2):
        with pytest.raises(Killed):
            run_study(dense, out=tmp_path / "run")
    run_study(dense, out=tmp_path / "run")
    found, whole = results(tmp_path / "run"), results(done[0])
    assert found == {key: whole[key] for key in found} and len(records(tmp_path / "run")) == len(found) == 2


def test_a_failed_trial_is_a_record_and_is_tried_again_only_when_asked(inline, tmp_path: Path):
    pools = inline()
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps({**UNREACHABLE, "sizes": {"width": [4]}, "native": False}))
    command = ["study", str(path), "--out", str(tmp_path / "run"), "--json", "-q"]
    for more, made in (([], 2), ([], 0), (["--retry-failed"], 1)):
        result = CliRunner().invoke(app, [*command, *more])
        assert result.exit_code == 6, result.output
        told = json.loads(result.stdout)
        assert (told["made"], told["finished"], len(told["failed"]), told["left"]) == (made, 1, 1, 0)
        assert told["failed"][0]["reason"]["kind"] == "PassError"
        assert "smallest reachable" in told["failed"][0]["reason"]["message"]
    assert [len(p.started) for p in pools] == [2, 1]


def test_the_time_budget_ends_in_good_order(inline, tmp_path: Path):
    inline(before=lambda trial: time.sleep(0.3))
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps({**STUDY, "native": False}))
    result = CliRunner().invoke(
        app, ["study", str(path), "--out", str(tmp_path / "run"), "--time-budget", "0.2s", "-q"]
    )
    assert result.exit_code == 0, result.output
    assert "the time is up: 3 of 4 trials are left, about" in result.output
    assert len(records(tmp_path / "run")) == 1
    none = CliRunner().invoke(
        app, ["study", str(path), "--out", str(tmp_path / "none"), "--time-budget", "0.001s", "-q"]
    )
    assert none.exit_code == 0 and none.output.startswith("leanfit: the time is up: 4 of 4 trials are left")
    assert [seconds_of(t) for t in ("8h", "90 min", "1.5m", "2d")] == [28800, 5400, 90, 172800]
    assert CliRunner().invoke(app, ["study", str(path), "--time-budget", "8 parsecs"]).exit_code == 2


def test_ctrl_c_ends_in_good_order(inline, tmp_path: Path):
    def interrupt(trial):
        if records(tmp_path / "run"):
            raise KeyboardInterrupt

    pools = inline(before=interrupt)
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(STUDY))
    result = CliRunner().invoke(app, ["study", str(path), "--out", str(tmp_path / "run"), "-q"])
    assert result.exit_code == 130 and "what is finished is kept" in result.output
    assert len(records(tmp_path / "run")) == 1 and pools[0].queue == []


def test_a_worker_that_dies_costs_one_more_try_and_then_the_trial(inline, tmp_path: Path):
    deaths = Counter()

    def die(trial):
        deaths[trial.id] += 1
        first = trial.size["width"] == 4
        return Event(trial, died="its worker was ended by SIGKILL") if first or deaths[trial.id] == 1 else None

    inline(before=die)
    outcome = run_study({**STUDY, "sizes": {"width": [4, 12]}, "levels": {}, "data": []}, out=tmp_path / "run")
    found = {r["size"]["width"]: r for r in records(tmp_path / "run")}
    assert found[12]["status"] == "finished" and found[4]["status"] == "failed"
    assert found[4]["reason"]["kind"] == "WorkerDied" and "SIGKILL" in found[4]["reason"]["message"]
    assert set(deaths.values()) == {2} and len(outcome.failed) == 1


def test_what_every_trial_would_meet_ends_the_study(inline, tmp_path: Path):
    pools = inline()
    with pytest.raises(MachineError, match="full"):
        inline(before=lambda t: Event(t, result={"failed": failure("MachineError", "disk full", 8, True)}))
        run_study(STUDY, out=tmp_path / "disk")
    with pytest.raises(DataError, match="no data"):
        inline(before=lambda t: Event(t, result={"failed": failure("DataError", "no data", 5, False)}))
        run_study(STUDY, out=tmp_path / "data")
    assert all(len(p.started) == 1 for p in pools)
    assert not records(tmp_path / "disk") and not records(tmp_path / "data")


def test_no_record_makes_anything_outside_of_the_stages_be_removed(done):
    from compress.study.scheduler import _pass_stages

    _, outcome = done
    trial = next(t for t in outcome.trials if t.role == "compressed")
    names = ["0-prune", "0-x/../../thesis", "/0-", "../0-", "1-quantize"]
    assert _pass_stages(trial, {"stages": names}, set()) <= {"0-prune", "1-quantize"}


WIDTHS = {**STUDY, "sizes": {"width": [4, 6, 8, 10, 12, 14]}, "levels": {}, "data": []}
LAST_WORDS = "its worker ended by exit code 1; its last words: ModuleNotFoundError: no module named 'x'"


@pytest.mark.parametrize(
    ("became", "code", "message", "tries"),
    [
        ({"died": LAST_WORDS}, 8, "ModuleNotFoundError", 5),
        ({"result": {"failed": {"kind": "PassError", "message": "no such layer", "exit_code": 6, "stops": False}}}, 6,
         "no such layer", 3),
    ],
)  # fmt: skip
def test_a_study_whose_trials_all_end_alike_stops_with_the_reason(became, code, message, tries, inline, tmp_path: Path):
    pools = inline(before=lambda trial: Event(trial, **became))
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(WIDTHS))
    command = ["study", str(path), "--out", str(tmp_path / "run"), "-q"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == code and message in result.output and "--retry-failed" in result.output, result.output
    assert len(pools[0].started) == tries
    inline()
    again = CliRunner().invoke(app, [*command, "--retry-failed"])
    assert again.exit_code == 0 and len([r for r in records(tmp_path / "run") if r["status"] == "finished"]) == 6


def test_trials_that_end_alike_with_others_finished_in_between_stop_nothing(inline, tmp_path: Path):
    fail = {"failed": failure("PassError", "no such layer", 6, False)}
    inline(before=lambda trial: None if trial.size["width"] in (8, 10) else Event(trial, result=fail))
    study_result = run_study({**WIDTHS, "sizes": {"width": [4, 6, 8, 10, 12]}}, out=tmp_path / "run")
    assert len(study_result.failed) == 3 and study_result.left == 0


def failure(kind: str, message: str, code: int, stops: bool) -> dict:
    return {"kind": kind, "message": message, "exit_code": code, "stops": stops}


def test_the_rest_is_estimated_from_what_was_measured(done):
    _, outcome = done
    plan = Estimate(outcome.trials, outcome.records)
    assert plan.remaining([]) == 0 and Estimate(outcome.trials, {}).remaining(outcome.trials) is None
    half = {key: outcome.records[key] for key in list(outcome.records)[: len(outcome.records) // 2]}
    told = Estimate(outcome.trials, half).remaining([t for t in outcome.trials if t.id not in half])
    assert 0 < told < 100 * sum(r["seconds"] for r in outcome.found)


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "ray", None)
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(STUDY))
    result = CliRunner().invoke(app, ["study", str(path), "--out", str(tmp_path / "run"), "--ray", "auto", "-q"])
    assert result.exit_code == 8 and "leanfit[ray]" in result.output


def test_more_workers_than_cores_are_not_started(tmp_path: Path):
    assert studies._pool(tmp_path, 64, None, "cpu").slots == usable_cores()


def test_records_that_were_edited_are_made_again_and_others_kept(done):
    found = records(done[0])
    torn = [{**found[0], "id": 7}, {"kind": "trial"}, {"kind": "trial", "id": "x"}, {**found[1], "status": "done"}]
    torn.append({key: value for key, value in found[2].items() if key != "sizes"})
    assert by_id([*torn, *found[3:]]).keys() == {record["id"] for record in found[3:]}


def test_a_folder_of_another_study_is_left_alone(done):
    with pytest.raises(MachineError, match=r"holds the study 'small', and this one is 'else'.*--set name=small"):
        run_study({**STUDY, "name": "else"}, out=done[0])


def test_laws_are_of_this_study_alone(done, tmp_path: Path):
    """The folder holds Records of other trainings too, once the study was changed."""
    _, outcome = done
    wish = {"x": "params", "y": "loss", "law": "power", "where": [], "group": None, "solve": [], "against": None}
    few = replace(outcome, folder=tmp_path, plan=replace(outcome.plan, laws=[wish]))
    told = report(few)
    assert len(told.laws) == 1 and told.laws[0]["points"]["n"] == len(outcome.trials)
    assert told.laws[0]["points"]["source"] == str(tmp_path)
    assert report(few).laws == told.laws
    alone = replace(few, plan=replace(few.plan, trials=[t for t in outcome.trials if t.role == "dense"]))
    assert not report(alone).laws and "no law" in report(alone).sentences[0]


def test_the_time_left_is_told_at_the_pace_of_this_run(done):
    _, outcome = done
    now = 0.0
    forecast = Forecast(lambda: now)
    half = outcome.trials[: len(outcome.trials) // 2]
    left = outcome.trials[len(half) :]
    forecast.learn(outcome.trials, {}, outcome.trials)
    assert forecast.seconds(1) is None
    forecast.learn(outcome.trials, {t.id: outcome.records[t.id] for t in half}, left)
    told = forecast.seconds(1)
    assert told == pytest.approx(2 * forecast.seconds(2)) and told > 0
    forecast.start(left[0])
    now = told / 100
    assert told > forecast.seconds(1) >= 0.98 * told
    now = 1000.0  # far slower than its stages: so may be the others
    forecast.end(left[0], True)
    assert forecast.seconds(1) > 10 * told


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(MachineError, match="holds other files"):
        run_study(STUDY, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_killed_worker_is_noticed_and_its_trial_told(tmp_path: Path):
    from compress.study.run_study import plan_study

    (tmp_path / "run").mkdir()
    trial = plan_study({**STUDY, "levels": {}, "data": []}).trials[0]
    pool = LocalPool(1, tmp_path / "run", "cpu", 1)
    try:
        pool.start(trial)
        while not pool.busy[0].ready:
            pool.wait(0.1)
        os.kill(pool.busy[0].process.pid, signal.SIGKILL)
        events = []
        while not events:
            events = [event for event in pool.wait(0.2) if not event.status]
        assert "SIGKILL" in events[0].died and events[0].trial == trial and not pool.busy
    finally:
        pool.stop()


@pytest.mark.slow
def test_two_workers_and_a_kill_of_the_whole_group(done, tmp_path: Path):
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(STUDY))
    command = [sys.executable, "-m", "compress", "study", str(path), "--out", str(tmp_path / "run"), "--workers", "2"]
    stages = tmp_path / "run" / "stages"
    for seconds in (0.3, 1):  # of work, however long a busy machine takes to get there
        before = set(stages.glob("*"))
        process = subprocess.Popen([*command, "-q"], start_new_session=True, stdout=subprocess.DEVNULL)
        while process.poll() is None and set(stages.glob("*")) == before:
            time.sleep(0.05)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert subprocess.run([*command, "-q"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert results(tmp_path / "run").keys() == results(done[0]).keys()
    assert len(records(tmp_path / "run")) == len(results(done[0]))


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_records(done, tmp_path: Path):
    pytest.importorskip("ray")
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps({**STUDY, "levels": {}}))
    command = [sys.executable, "-m", "compress", "study", str(path), "--out", str(tmp_path / "run"), "--workers", "2"]
    ended = subprocess.run([*command, "--ray", "auto", "-q"], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    wanted = {key: value for key, value in results(done[0]).items() if value["role"] == "dense"}
    assert results(tmp_path / "run") == wanted
