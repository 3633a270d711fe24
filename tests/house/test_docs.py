"""The documents are true: every command and every Python snippet in them runs, in the order of its page."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
QUICK = ["--set", "train.epochs=2", "--set", "benchmark.seconds=1"]
"""Added to runs of shipped recipes: what is tested is that the command works, not what it reaches."""

SLOW = {("findings.md", "bash"), ("benchmarking.md", "bash")}  # three quarters of a minute each
OF_RECORDS = ("leanfit size studies/records", "leanfit fit studies/records")
"""What answers from kept Records says the same everywhere, so what a page shows of it must be what it prints."""


def snippets(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def has(language: str) -> list[Any]:
    pages = [page for page in PAGES if snippets(page, language)]
    return [pytest.param(page, marks=pytest.mark.slow) if (page.name, language) in SLOW else page for page in pages]


def short(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", has("bash"), ids=short)
def test_every_command_runs(page: Path, tmp_path: Path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    for block in snippets(page, "bash"):
        said = ""
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["leanfit", "compress"]:
                words += QUICK
            done = subprocess.run(
                words,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                env={**os.environ, "PATH": path, "COLUMNS": "100"},
                timeout=240,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
            said += done.stdout
        if block.startswith(OF_RECORDS):
            shown = re.search(
                re.escape(f"```bash\n{block}```") + r"\s+```text\n(.*?)```", page.read_text("utf-8"), re.S
            )
            for line in shown[1].splitlines() if shown else ():
                assert line == "..." or line in said.splitlines(), f"the page shows {line!r}, and the command does not"


@pytest.mark.parametrize("page", has("python"), ids=short)
def test_every_snippet_runs(page: Path, tmp_path: Path):
    code = "\n".join(snippets(page, "python"))
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    (tmp_path / "snippet.py").write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", has("yaml"), ids=short)
def test_every_recipe_in_a_page_is_valid(page: Path):
    import yaml

    from compress import load_recipe
    from compress.study.study_checks import load_study

    for body in snippets(page, "yaml"):
        data = yaml.safe_load(body)
        (load_study if "sizes" in data else load_recipe)(data)


def test_make_knows_what_the_readme_promises():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_reference_is_what_the_schema_says():
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_recipe_says_how_it_is_run():
    for path in (ROOT / "recipes").glob("*.yaml"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert path.stem in first and ("leanfit compress" in first or "compress(" in first), path.name
