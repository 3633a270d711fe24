"""The package as a whole: what importing it costs, and what it may import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import evaluate

HERE = Path(evaluate.__file__).parent
LIGHT = """
import sys, time
start = time.perf_counter()
import evaluate
spent = time.perf_counter() - start
assert evaluate.__leanfit__
heavy = {"torch", "onnxruntime", "numpy", "scipy", "matplotlib", "compress"} & set(sys.modules)
print(spent, *heavy)
"""


def test_importing_it_is_free():
    runs = [subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True) for _ in range(3)]
    seconds, *heavy = min((run.stdout.split() for run in runs), key=lambda words: float(words[0]))
    assert not heavy
    assert float(seconds) < 0.05


@pytest.mark.parametrize("name", evaluate.__all__)
def test_every_lazy_name_is_there_and_is_no_module(name):
    assert callable(getattr(evaluate, name))
    assert name in dir(evaluate)


def test_a_renamed_name_says_its_new_one():
    with pytest.warns(DeprecationWarning, match=r"evaluate\.LeanfitError"):
        assert evaluate.EvaluateError is evaluate.LeanfitError


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"nonsense"):
        _ = evaluate.nonsense


@pytest.mark.parametrize("path", sorted(HERE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_module_imports_the_torch_side(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert not names & {"torch", "compress", "pydantic", "rich", "onnx", "sklearn"}
