"""int8 of two real ONNX files by leanfit and by onnxruntime's own quantizer in several settings, in one run.

    python benchmarks/onnx_int8.py WHEELS [--seconds 20]     # WHEELS as benchmarks/onnx_models.py --fetch writes it

magika 1.0.3 (types of files; fed files of Python's own library) and PP-OCRv4's recognition, of rapidocr-onnxruntime
1.4.4 (fed lines of text drawn here). Each is calibrated on 256 of the first 512 samples and judged on 200 others: by
how many answers are the fp32 file's (of a line each of its steps), and by latency, interleaved.
"""

from __future__ import annotations

import argparse
import random
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import version_converter
from onnx_models import unpacked
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image, ImageDraw, ImageFont

from compress import compress_onnx
from evaluate import compare
from evaluate.core.records import as_record
from evaluate.core.stats import wilson
from evaluate.hardware.environment import int8_path
from evaluate.report.messages.run_messages import candidate_table
from evaluate.runtime.session import open_session

CALIBRATED, JUDGED = 256, 200
WEIGHTED = ["Conv", "MatMul", "Gemm"]


def files() -> NDArray[np.int32]:
    """(n, 2048) the first and the last 1,024 bytes of files, 256 where there is none, as magika reads them."""
    found = [
        p for p in Path(sysconfig.get_path("stdlib")).rglob("*") if p.is_file() and 200 < p.stat().st_size < 200_000
    ]
    random.Random(0).shuffle(found)
    rows = []
    for path in found[: 2 * CALIBRATED + JUDGED]:
        data = path.read_bytes().strip()
        head, tail = (np.frombuffer(part, np.uint8) for part in (data[:1024], data[-1024:]))
        row = np.full(2048, 256, np.int32)
        row[: len(head)], row[2048 - len(tail) :] = head, tail
        rows.append(row)
    return np.array(rows)


def lines() -> NDArray[np.float32]:
    """(n, 3, 48, 320) drawn lines of words, dark on light, -1 to 1."""
    words = sorted({w for w in sys.copyright.split() if w.isalpha()} | set(dir(Path)) | set(dir(np.ndarray)))
    rng, found = random.Random(0), []
    for _ in range(2 * CALIBRATED + JUDGED):
        paper, ink = rng.randrange(180, 256), rng.randrange(0, 90)
        image = Image.new("RGB", (320, 48), (paper, paper, paper))
        text = " ".join(rng.choice(words) for _ in range(rng.randrange(1, 4)))[:24]
        font = ImageFont.load_default(size=rng.randrange(18, 32))
        ImageDraw.Draw(image).text((rng.randrange(2, 20), rng.randrange(2, 12)), text, (ink, ink, ink), font=font)
        noisy = np.asarray(image, np.float32) + np.random.default_rng(rng.randrange(10**6)).normal(0, 6, (48, 320, 3))
        found.append((np.clip(noisy, 0, 255) / 127.5 - 1).transpose(2, 0, 1))
    return np.array(found, np.float32)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """One sample at a time."""

    def __init__(self, name: str, rows: NDArray[Any]) -> None:
        self.left = iter([{name: row[None]} for row in rows])

    def get_next(self) -> Any:
        """The next sample, or None."""
        return next(self.left, None)


def theirs(model: Path, name: str, rows: NDArray[Any], folder: Path) -> dict[str, Path]:
    """onnxruntime's quantizer: its best known settings for this CPU, by two calibrations and two choices of operators.

    What its own preparation leads into an error is quantized without it. Its percentile calibrator holds every value of
    every tensor, beyond 20 GB for 256 lines of text: it gets 16 samples.
    """
    prepared, raw, made = folder / "prepared.onnx", folder / "raw.onnx", {}
    graph = onnx.load(model)
    if max(entry.version for entry in graph.opset_import if not entry.domain) < 13:  # scales of channels need it
        graph = version_converter.convert_version(graph, 13)
    onnx.save(graph, raw)
    quant_pre_process(str(raw), str(prepared), skip_symbolic_shape=True)
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Percentile):
        for which, operators in (("all", None), ("weighted", WEIGHTED)):
            fitted = rows if method == CalibrationMethod.MinMax else rows[:16]
            for how, source in (("", prepared), ("-raw", raw)):
                path = folder / f"ort-{method.name.lower()}-{which}{how}.onnx"
                try:
                    quantize_static(
                        str(source), str(path), Reader(name, fitted), quant_format=QuantFormat.QDQ, per_channel=True,
                        reduce_range=int8_path() != "vnni", activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8, calibrate_method=method, op_types_to_quantize=operators,
                    )  # fmt: skip
                    made[path.stem] = path
                    break
                except Exception as error:  # noqa: BLE001  (the peer's)
                    print(f"{path.stem}: {type(error).__name__}: {str(error)[:100]}")
    return made


def answers(path: Path, name: str, rows: NDArray[Any]) -> NDArray[Any]:
    """The largest output of every sample, (n,) or (n, steps)."""
    session = open_session(path)
    return np.array([session.run({name: row[None]})[0][0].argmax(-1) for row in rows])


def one(title: str, model: Path, name: str, rows: NDArray[Any], drop: float, seconds: float, folder: Path) -> None:
    """Print a row for each way."""
    fitted, judged = rows[: 2 * CALIBRATED], rows[2 * CALIBRATED :]
    ways = {"fp32": model}
    for way, settings, goals in (
        ("minmax", {"choose": "fixed"}, {}),
        ("mse", {"choose": "fixed"}, {}),
        ("measured", {}, {"drop": drop}),
    ):
        calibrate = {"samples": CALIBRATED, "method": "mse" if way == "mse" else "minmax"}
        step = {"kind": "quantize", "calibrate": calibrate, **settings}
        recipe = {"version": 1, "passes": [step], "benchmark": {"seconds": 1}, "goals": goals}
        ours = compress_onnx(model, recipe, data={name: fitted}, out=folder / f"ours-{way}", progress=False)
        ways[f"leanfit-{way}"] = ours.onnx_path
        for entry in as_record(ours.record()).passes if goals else ():
            print(
                "\n".join(["", f"{title}, drop at most {drop:g}:", *map(str, candidate_table(entry)), *entry.warnings])
            )
    ways |= theirs(model, name, fitted[::2], folder)
    found = compare(list(ways.values()), names=list(ways), inputs={name: judged[:8]}, seconds=seconds).results
    truth = answers(model, name, judged).reshape(len(judged), -1)
    print(f"\n{title}: {len(judged)} judged, {CALIBRATED} calibrated on, {int8_path()}")
    for result in found:
        same = (answers(ways[result["name"]], name, judged).reshape(len(judged), -1) == truth).reshape(-1)
        share, low, high = (100 * x for x in wilson(int(same.sum()), len(same)))
        speed, size = result["speedup"], result["sizes"]["bytes"] / 1e6
        told = f"{speed['value']:.3f}x ({speed['low']:.3f} to {speed['high']:.3f})" if speed else "1"
        print(
            f"{result['name']:<24} same answers {share:6.2f} % ({low:.2f} to {high:.2f})  {size:6.2f} MB  "
            f"{result['latency']['median_ms']:7.3f} ms  {told}",
            flush=True,
        )


def main() -> None:
    """Both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    cases: list[tuple[str, str, str, str, Callable[[], NDArray[Any]], float]] = [
        ("magika", "magika==1.0.3", "standard_v3_3/model.onnx", "bytes", files, 1.0),
        ("PP-OCRv4 recognition", "rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_rec_infer.onnx", "x", lines, 0.1),
    ]
    for title, package, end, name, rows, drop in cases:
        with tempfile.TemporaryDirectory() as folder:
            model = unpacked(given.wheels, package, end, Path(folder))
            one(title, model, name, rows(), drop, given.seconds, Path(folder))


if __name__ == "__main__":
    main()
