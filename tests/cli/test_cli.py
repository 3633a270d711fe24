"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
import typer
from tiny_onnx import linear_onnx

from compress import __version__
from compress.cli.commands import app, main
from compress.cli.console import Progress
from compress.core import errors
from evaluate.bundle.terminal import EVERY_SECONDS
from evaluate.core import errors as evaluate_errors

torch.set_num_threads(1)
FILES = [str(f) for kind in ("recipes", "studies") for f in sorted((Path(__file__).parents[2] / kind).glob("*.yaml"))]
LEANFIT = [sys.executable, "-c", "from compress.cli.commands import main; main()"]
QUICK = ["digits-mlp-int8", "--force"]
for change in ("train.epochs=1", "benchmark.seconds=0.2", "model.width=16", "goals={}"):
    QUICK += ["--set", change]


@pytest.fixture
def leanfit(capsys, monkeypatch):
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["leanfit", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One real run through the command line: its folder, stdout and stderr."""
    folder = tmp_path_factory.mktemp("runs") / "a run"
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        patch.setattr(sys, "argv", ["leanfit", "compress", *QUICK, "--out", str(folder)])
        with pytest.raises(SystemExit) as caught:
            main()
    assert not caught.value.code, err.getvalue()
    return folder, out.getvalue(), err.getvalue()


def test_help_is_light_and_quick():
    code = "import sys; sys.argv = ['leanfit', '--help']; from compress.cli.commands import main\n"
    code += "heavy = {'torch', 'onnxruntime', 'onnx', 'numpy', 'pydantic', 'yaml'}\n"
    code += "try: main()\nfinally: print(sorted(heavy & set(sys.modules)))"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    after = os.times()
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("compress", "bench", "verify", "list", "report", "schema", "doctor"):
        assert command in done.stdout
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    assert processor < 1.0


@pytest.mark.parametrize(
    "arguments", [["list"], ["check", *FILES], ["show", "int8", "--resolved"], ["schema"], ["compress", "misspelt"]]
)
def test_what_only_reads_recipes_needs_no_torch(arguments):
    code = f"import sys; sys.argv = {['leanfit', *arguments]}; from compress.cli.commands import main\n"
    code += (
        "try: main()\nfinally: print(sorted({'torch', 'onnx', 'onnxruntime', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (errors.RecipeError.exit_code if "misspelt" in arguments else 0), done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_out_is_o_everywhere_and_json_takes_no_file():
    for name, command in typer.main.get_command(app).commands.items():
        options = {option: parameter for parameter in command.params for option in parameter.opts}
        assert ("--out" in options) == ("-o" in options), name
        assert options.get("--out") is options.get("-o"), name
        assert "--json" not in options or options["--json"].is_flag, name
        assert not {"--html", "--output", "--save"} & options.keys(), name


def test_version(leanfit):
    assert leanfit("--version") == (0, f"leanfit {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["compres"], ["compress"], ["list", "pases"], ["bench"], ["compress", "x", "--device", "tpu"]]
)
def test_a_wrong_command_line_is_2(leanfit, arguments):
    code, out, err = leanfit(*arguments)
    assert code == 2
    assert out == ""
    assert "Error" in err


def test_the_table_says_where_to_look(run):
    folder, out, err = run
    for word in ("baseline", "compressed", "latency", "bytes", "change"):
        assert word in out
    assert str(folder / "report.html") in out
    assert f"leanfit verify '{folder}'" in out
    for name in ("model.onnx", "weights.safetensors", "manifest.json", "recipe.yaml", "report.html", "records.jsonl"):
        assert (folder / name).is_file()
    assert "epoch 1 of 1" in err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", out + err), "control characters where there is no terminal"
    assert "Warning" not in err


def test_json_is_one_object_of_the_same_figures(run, leanfit):
    folder, _, _ = run
    code, out, err = leanfit("compress", *QUICK, "--out", folder, "--json", "--quiet")
    assert (code, err) == (0, "")
    summary = json.loads(out)
    assert {"artifact", "baseline", "compressed", "passes", "drop", "speedup"} <= set(summary)
    assert summary["compressed"]["sizes"]["bytes"] == (folder / "model.onnx").stat().st_size
    assert summary["passes"][0]["kind"] == "quantize"


def test_a_missed_goal_is_9_with_everything_saved(run, leanfit):
    folder, _, _ = run
    code, out, err = leanfit("compress", *QUICK, "--out", folder, "--set", "goals.bytes=100B", "--quiet")
    assert code == errors.GoalMissedError.exit_code == 9
    assert "missed the goal of bytes" in err
    assert "to deploy" in out
    assert leanfit("verify", folder)[0] == 0


def test_verify_bench_and_report(run, leanfit, tmp_path):
    folder, _, _ = run
    code, out, _ = leanfit("verify", folder, "--json")
    checked = json.loads(out)
    assert (code, checked["ok"]) == (0, True)
    assert {check["name"] for check in checked["checks"]} >= {"manifest", "model.onnx", "weights.safetensors"}
    code, out, _ = leanfit("bench", folder / "baseline", folder, "--seconds", "0.2", "--json", "--quiet")
    results = json.loads(out)["results"]
    assert code == 0
    assert [entry["speedup"] is None for entry in results] == [True, False]
    assert "smallest difference" in leanfit("bench", folder / "model.onnx", "--seconds", "0.1", "-q")[1]
    page = tmp_path / "page.html"
    code, out, _ = leanfit("report", folder, folder.parent, "--out", page, "--json")
    assert (code, json.loads(out)["out"]) == (0, str(page))
    assert "<html" in page.read_text()
    assert str(page) in leanfit("report", folder, "--out", page)[1]


def test_verify_finds_one_flipped_byte(run, leanfit, tmp_path):
    folder, _, _ = run
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("model.onnx", "weights.safetensors", "manifest.json", "recipe.yaml"):
        (copy / name).write_bytes((folder / name).read_bytes())
    assert leanfit("verify", copy)[0] == 0
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    code, out, _ = leanfit("verify", copy)
    assert code == 7
    assert re.search(r"FAIL +model.onnx", out)


def test_a_dry_run_writes_nothing_and_fetches_nothing(leanfit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEANFIT_DATA", str(tmp_path / "none"))
    monkeypatch.setattr("urllib.request.urlopen", None)
    assert leanfit("compress", "fashion-mobilenet-half-int8", "--dry-run")[0] == 0
    code, out, err = leanfit("compress", "digits-resnet-half-int8", "--dry-run")
    assert (code, err) == (0, "")
    assert "layer2.0.conv1" in out
    planned = json.loads(leanfit("compress", "digits-resnet-half-int8", "--dry-run", "--json")[1])
    assert [step["kind"] for step in planned["steps"]] == ["baseline", "prune", "quantize"]
    assert list(tmp_path.iterdir()) == []


LISTED = {"passes": "prune", "models": "resnet", "tasks": "digits", "recipes": "half-int8", "metrics": "accuracy"}


@pytest.mark.parametrize("what", [*LISTED, "laws"])
def test_lists(leanfit, what):
    code, out, _ = leanfit("list", what)
    listed = json.loads(leanfit("list", what, "--json")[1])[what]
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [entry["name"] for entry in listed]
    assert all(entry["summary"] for entry in listed)
    assert LISTED.get(what, "chinchilla") in out


def test_a_list_of_what_there_is_none_is_2_and_names_the_nearest(leanfit):
    code, out, err = leanfit("list", "pases", "--json")
    assert code == 2 and "did you mean 'passes'" in json.loads(out)["error"]["message"] and "metrics" in err


def test_schema_and_doctor(leanfit):
    assert json.loads(leanfit("schema")[1])["title"] == "leanfit recipe"
    assert {"CompressRecord", "BenchRecord"} <= json.loads(leanfit("schema", "record")[1])["$defs"].keys()
    code, out, _ = leanfit("doctor", "--json")
    seen = json.loads(out)
    assert code == (0 if seen["ok"] else 8)
    assert {"torch", "onnxruntime", "evaluate", "cpu", "data", "disk"} <= {check["name"] for check in seen["checks"]}
    assert "onnxruntime" in leanfit("doctor")[1]


def test_doctor_tells_of_a_runtime_that_is_missing(leanfit, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, _ = leanfit("doctor")
    assert code == 8
    assert re.search(r"fail +onnxruntime", out)


def test_a_wrong_recipe_is_3_with_every_problem(leanfit, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("version: 1\npasses:\n  - kind: prun\n  - {kind: quantize, bit: 8}\n")
    code, out, err = leanfit("compress", path)
    assert (code, out) == (3, "")
    assert f"{path}:3:11: unknown pass 'prun'; did you mean 'prune'?" in err
    assert f"{path}:4:22: unknown key 'bit'; did you mean 'bits'?" in err
    assert f"{path}:3:5: missing key 'keep'" in err, "checked against prune"
    assert err.endswith("leanfit: the recipe has 3 problems\n")
    code, out, _ = leanfit("compress", path, "--json", "--set", "passes.7.x=1")
    error = json.loads(out)["error"]
    assert (code, error["kind"], error["exit_code"], len(error["problems"])) == (3, "RecipeError", 3, 4)


def test_a_recipe_for_python_says_so(leanfit):
    code, _, err = leanfit("compress", "half-int8")
    assert code == 3
    assert "names no model and no task" in err
    assert "compress(model, 'half-int8', task=task)" in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (evaluate_errors.ModelError("the [red]model[/red] [/] {x}"), 4, "the [red]model[/red] [/] {x}"),
        (evaluate_errors.DataError("no data"), 5, "no data"),
        (errors.PassError("changes nothing"), 6, "changes nothing"),
        (evaluate_errors.ArtifactError("damaged"), 7, "damaged"),
        (evaluate_errors.MachineError("no runtime"), 8, "no runtime"),
        (evaluate_errors.NoRuntimeError("no onnxruntime"), 8, "no onnxruntime"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 8, "the disk is full: runs/x"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 8, "permission denied: runs/x"),
        (MemoryError(), 8, "out of memory"),
        (ModuleNotFoundError("no", name="onnxscript.ir"), 8, "the package 'onnxscript' is not installed"),
        (ModuleNotFoundError("no", name="evaluate.scaling.forms.form"), 8, "evaluate.scaling.forms.form is missing"),
        (KeyboardInterrupt(), 130, "run the same command again to go on where it stopped"),
    ],
)
def test_every_error_has_its_exit_code(leanfit, monkeypatch, error, code, said):
    def broken(**_):
        raise error

    monkeypatch.setattr("compress.pipeline.run.compress", broken)
    found, out, err = leanfit("compress", *QUICK)
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
    found, out, _ = leanfit("compress", *QUICK, "--json")
    assert json.loads(out)["error"]["exit_code"] == found == code


def test_another_package_named_evaluate_is_said_to_be_one(tmp_path):
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "__init__.py").write_text("")
    places = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, "-P", "-m", "compress", "list", "passes"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True)
    assert done.returncode == 8
    assert "not leanfit's own" in done.stderr and str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_is_1_and_its_traceback_is_kept(leanfit, monkeypatch, tmp_path):
    def broken(**_):
        raise ZeroDivisionError("by zero\nsecond line")

    monkeypatch.setattr("compress.pipeline.run.compress", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, _, err = leanfit("compress", *QUICK)
    assert code == 1
    assert err.startswith("leanfit: a bug in leanfit: ZeroDivisionError: by zero\nThe details are in ")
    (kept,) = tmp_path.glob("leanfit-*.txt")
    assert str(kept) in err
    assert "in broken" in kept.read_text()
    monkeypatch.setenv("LEANFIT_DEBUG", "1")
    assert "in broken" in leanfit("compress", *QUICK)[2]


def test_a_reader_that_went_away_is_no_bug():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*LEANFIT, "list", "recipes"], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_an_interrupted_run_goes_on(tmp_path):
    arguments = ["compress", *QUICK, "--set", "train.epochs=400", "--out", str(tmp_path / "run")]
    with subprocess.Popen([*LEANFIT, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert any("epoch" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert rest.rstrip().endswith("run the same command again to go on where it stopped")


def test_a_benchmark_that_is_interrupted_promises_nothing(tmp_path):
    (tmp_path / "net.onnx").write_bytes(linear_onnx())
    arguments = ["bench", str(tmp_path / "net.onnx"), "--seconds", "60", "--json"]
    with subprocess.Popen([*LEANFIT, *arguments], stdout=-1, stderr=subprocess.PIPE, text=True) as process:
        assert any("trying" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said, rest = process.communicate(timeout=60)
    assert process.returncode == 130 and rest.rstrip().endswith("leanfit: interrupted")
    assert json.loads(said)["error"]["kind"] == "Interrupted"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="has no /dev/full")
def test_json_on_a_full_disk_is_no_traceback():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*LEANFIT, "bench", "no.onnx", "--json"], stdout=full, stderr=-1, text=True, check=False)
    assert done.returncode == 7 and done.stderr.startswith("leanfit: there is no file") and done.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="has no SIGHUP")
def test_a_terminal_that_is_gone_leaves_nothing_behind(tmp_path):
    (tmp_path / "net.onnx").write_bytes(linear_onnx())
    (tmp_path / "scratch").mkdir()
    where = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    command = [*LEANFIT, "bench", str(tmp_path / "net.onnx"), "--seconds", "60"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=where) as process:
        assert process.stderr and any("trying" in line for line in process.stderr)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not list((tmp_path / "scratch").glob("leanfit*"))


@pytest.mark.parametrize("wrong", [("--seed", "-1"), ("--latency-bound", "5ms")])
def test_a_bench_option_that_cannot_be_meant_is_2(wrong, leanfit):
    code, out, err = leanfit("bench", "net.onnx", *wrong)
    assert (code, out) == (2, "") and wrong[0] in err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress("epoch 1 [bold]of[/bold] 2", 1, 2)
        progress("epoch 2 of 2", 0, 2)
        progress("no total", 0, 0)
    assert "epoch 1 [bold]of[/bold] 2" in stream.getvalue() or "no total" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_progress_elsewhere_is_an_occasional_line():
    now = 0.0
    stream = io.StringIO()
    with Progress(stream=stream, clock=lambda: now) as progress:
        for step in range(1000):
            progress(f"epoch {step // 100 + 1} of 10, loss {1 / (step + 1):.4f}", step % 100, 100)
            now += EVERY_SECONDS / 400
        progress("calibrate\x1b[2J", 0, 0)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "epoch 1 of 10, loss 1.0000"
    assert lines[-1] == "calibrate [2J"
    assert len(lines) == 4


def test_progress_of_several_kinds_of_work_at_once_is_an_occasional_line_too():
    now = 0.0
    stream = io.StringIO()
    with Progress(stream=stream, clock=lambda: now, timed=True) as progress:
        for step in range(240):
            progress(f"{step} of 240 trials, about 2 min left; {('prune', 'evaluate')[step % 2]}", step, 240)
            now += 0.5
    lines = stream.getvalue().splitlines()
    assert len(lines) == 120 / EVERY_SECONDS
    assert lines[1] == "30 of 240 trials, about 2 min left; prune"


def test_a_bar_of_timed_work_has_no_second_estimate(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream=stream, timed=True) as progress:
        progress("1 of 2 trials, about 3 s left", 1, 2)
        progress("1 of 4 trials, about 9 s left", 1, 4)
        assert progress.rich.tasks[0].total == 4
    assert "about" in stream.getvalue() and "-:--" not in stream.getvalue()


def test_quiet_is_quiet():
    stream = Terminal()
    with Progress(quiet=True, stream=stream) as progress:
        progress("epoch 1", 1, 2)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("prints", ["print('hello')", "os.write(1, b'from C')", "subprocess.run(['echo', 'a child'])"])
def test_whatever_prints_cannot_get_into_the_one_json_object(prints):
    code = (
        "import os, subprocess, sys; sys.argv = ['leanfit', 'list', 'recipes', '--json']\n"
        "from compress.cli import commands, recipe_commands\nknown = recipe_commands._known\n"
        f"def noisy(what):\n    {prints}\n    return known(what)\n"
        "recipe_commands._known = noisy\ncommands.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["recipes"] and any(w in done.stderr for w in ("hello", "from C", "a child"))


INIT_DATA = {
    "image": lambda at: (
        [write_image(at / name / f"{n}.png", n) for name in ("cat", "dog", "no") for n in range(8)] and at
    ),
    "tabular": lambda at: written(
        at / "t.csv", "a,b,yes\n" + "".join(f"{n},{n % 7},{'pq'[n % 2]}\n" for n in range(60))
    ),
    "text": lambda at: written(at / "t.jsonl", "".join(f'{{"text": "t {n}", "label": {n % 3}}}\n' for n in range(60))),
}


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_image(path: Path, shade: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 8), (shade, 0, 0)).save(path)


@pytest.mark.parametrize("kind", INIT_DATA)
def test_init_writes_a_recipe_for_the_data_that_runs(kind, leanfit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert leanfit("init", kind)[0] == 0, "to be filled in, where no data are named"
    assert leanfit("check", f"{kind}.yaml")[0] == 0
    data = INIT_DATA[kind](tmp_path / "my data")
    code, out, _ = leanfit("init", kind, data, "-o", "new/mine.yaml")
    assert code == 0 and "leanfit compress new/mine.yaml --dry-run" in out
    assert leanfit("check", "new/mine.yaml")[0] == 0
    text = Path("new/mine.yaml").read_text()
    assert f"classes: {2 if kind == 'tabular' else 3}" in text and "my data" in text
    if kind != "text":  # which needs a network of Transformers
        code, out, err = leanfit("compress", "new/mine.yaml", "--dry-run")
        assert code == 0 and "prune" in out, err


def test_init_writes_over_nothing_and_says_what_the_data_lack(leanfit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "image.yaml", "mine")
    code, _, err = leanfit("init", "image")
    assert code == errors.RecipeError.exit_code and "--force" in err
    assert (tmp_path / "image.yaml").read_text() == "mine"
    assert leanfit("init", "image", "--force")[0] == 0
    for arguments, said in (
        (("image", "nowhere"), "no such folder"),
        (("image", tmp_path), "a folder for each class"),
        (("tabular", "nowhere.csv"), "no such file"),
        (("tabular", written(tmp_path / "one.csv", "a\n1\n")), "two columns"),
        (("text", written(tmp_path / "t.jsonl", "plain\n")), "line 1: not JSON"),
        (("tabular", written(tmp_path / "ragged.csv", "a,b\n1,2\n3\n")), "line 3: 1 values for 2 columns"),
    ):
        code, _, err = leanfit("init", *arguments, "-o", "x.yaml")
        assert code == evaluate_errors.DataError.exit_code and said in err
    assert not Path("x.yaml").exists()
