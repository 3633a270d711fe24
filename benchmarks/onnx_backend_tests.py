"""onnx's own backend tests through bench with their own inputs, beside what onnxruntime itself runs.

    python benchmarks/onnx_backend_tests.py [--whole 40]

Each model is opened, fed its own inputs by name and called as bench does it, in this process; a seeded sample of those
that run goes through compare() as a whole as well, in processes of its own. What bench does not run although
`InferenceSession.run` does is listed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases as node_cases

from evaluate import compare
from evaluate.benchmark.first_call import first_call
from evaluate.benchmark.model_inputs import calls_for, wanted_of
from evaluate.core.errors import LeanfitError
from evaluate.runtime.session import open_session

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


def cases(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every model with inputs of its own, by name: those on the disk, and those that onnx makes."""
    yield from stored()
    for case in node_cases():
        if case.model is None or not case.data_sets:
            continue
        model = folder / case.name / "model.onnx"
        model.parent.mkdir(exist_ok=True)
        onnx.save(case.model, model)
        names = [value.name for value in case.model.graph.input]
        yield model, dict(zip(names, case.data_sets[0][0], strict=False))


def stored() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Those in onnx's own folder."""
    for model in sorted(DATA.glob("*/*/model.onnx")):
        sets = model.parent / "test_data_set_0"
        names = [value.name for value in onnx.load(model, load_external_data=False).graph.input]
        files = sorted(sets.glob("input_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
        kinds = {value.name: value.type.WhichOneof("value") for value in onnx.load(model).graph.input}
        if len(files) > len(names):
            continue
        yield model, {name: read(file, kinds[name]) for name, file in zip(names, files, strict=False)}


def read(file: Path, kind: str) -> Any:
    """A tensor, a list of them for a sequence, None for an optional that is not there."""
    data = file.read_bytes()
    if kind == "tensor_type":
        return numpy_helper.to_array(onnx.TensorProto.FromString(data))
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))


def bare(model: Path, feeds: dict[str, Any]) -> bool:
    """Whether onnxruntime runs it."""
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)
    except Exception:  # noqa: BLE001  (onnxruntime's exceptions have no base of their own)
        return False
    return True


def ours(model: Path, feeds: dict[str, Any]) -> str:
    """Why bench does not run it; empty where it does."""
    try:
        session = open_session(model)
        wanted = wanted_of(inputs=feeds)
        first_call(session, lambda zeros: calls_for(session, 1, 0, wanted, zeros=zeros), ())
    except LeanfitError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001  (what this looks for)
        return f"TRACEBACK {type(error).__name__}: {error}"
    return ""


def main() -> int:
    """Exits 1 where bench runs less than onnxruntime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", type=int, default=40)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(4)
    scratch = tempfile.TemporaryDirectory()
    total, run, lost = 0, list[tuple[Path, dict[str, Any]]](), list[str]()
    for model, feeds in cases(Path(scratch.name)):
        total += 1
        if not bare(model, feeds):
            continue
        why = ours(model, feeds)
        run += [] if why else [(model, feeds)]
        lost += [f"{model.parent.name}: {' '.join(why.split())[:300]}"] if why else []
    ran = len(run) + len(lost)
    print(f"{total} models with inputs; onnxruntime {onnxruntime.__version__} runs {ran}, bench {len(run)}")
    print("\n".join(lost))
    whole = 0
    for model, feeds in random.Random(0).sample(run, min(given.whole, len(run))):
        try:
            whole += compare(model, inputs=feeds, seconds=0.3).results[0]["latency"]["median_ms"] > 0
        except LeanfitError as error:
            print(f"{model.parent.name}, as a whole: {error}")
    print(f"{whole} of {min(given.whole, len(run))} through compare() as a whole")
    return int(bool(lost))


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())
