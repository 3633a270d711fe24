"""The wheel holds all that an installed leanfit needs: recipes and styles too, and nothing of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_is_complete(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    recipes = {f"compress/_recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml")}
    sources = {str(p.relative_to(ROOT)) for d in ("compress", "evaluate") for p in (ROOT / d).rglob("*.py")}
    page = {f"evaluate/report/html/{name}" for name in ("page.css", "templates/document.html")}
    assert recipes and recipes | sources | page | {"leanfit.py"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_shipped_recipes_work_from_any_folder(wheel: Path, tmp_path: Path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for arguments in (["list", "recipes"], ["compress", "digits-mlp-int8", "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "compress", *arguments],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "digits-mlp-int8" in done.stdout or "baseline" in done.stdout
    where = "import compress; print(compress.__file__)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", where], env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert found.stdout.startswith(str(site)), "the checkout was tested, not the wheel"
