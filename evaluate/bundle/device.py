"""`python bench.pyz`: check the bundle and the device, compare the models in it, and write the Record."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import evaluate
from evaluate.bundle.needs import check_needs
from evaluate.bundle.terminal import Progress, close_stdout, say, show, stopped_by_signals
from evaluate.bundle.zipapp import INPUTS, SAMPLES, Bundle, read_bundle
from evaluate.core.errors import ArtifactError, LeanfitError, MachineError, UsageError, did_you_mean
from evaluate.core.execution_providers import PROVIDERS

if TYPE_CHECKING:
    from evaluate.benchmark.compare import Comparison


INTERRUPTED = 130
SCENARIOS = ("single-stream", "offline", "server")
HOME = Path(__file__).parents[2]  # the bundle itself, where this runs out of one
DEBUG = "LEANFIT_DEBUG"


def main(argv: Sequence[str] | None = None, archive: str | Path | None = None) -> int:
    """The bundle's command; gives the exit code: 0, that of an LeanfitError, 130 when interrupted, 1 for a bug.

    argv    : the arguments; those of the process where not given.
    archive : the bundle's file; the one this runs from where not given.
    """
    options = _arguments(argv)
    try:
        with stopped_by_signals():
            return _run(options, Path(archive) if archive is not None else _own_archive())
    except KeyboardInterrupt:
        say("bench: interrupted; nothing was written")
        return INTERRUPTED
    except LeanfitError as error:
        say(f"bench: {error}" if os.environ.get(DEBUG) != "1" else traceback.format_exc())
        return error.exit_code
    except BrokenPipeError:
        close_stdout()
        return 1
    except OSError as error:
        say(f"bench: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return MachineError.exit_code
    except Exception as error:  # noqa: BLE001  (the edge of the program: what is raised ends here)
        details = traceback.format_exc() if os.environ.get(DEBUG) == "1" else f"{DEBUG}=1 shows where"
        say(f"bench: a bug in leanfit: {type(error).__name__}: {error}\n{details}")
        return 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description="Compare the models in this bundle on this device: faster, slower, or not resolved."
    )
    add = parser.add_argument
    add("--out", "-o", type=Path, metavar="FILE", help="write the Record of the comparison to FILE, to bring back")
    add("--json", action="store_true", help="print the Record on stdout instead of the table")
    add("--seconds", type=_seconds, default=20.0, help="about how long to measure (default 20)")
    add("--threads", type=_counts, metavar="N,N", help="threads of one call; several are compared (default: as packed)")
    add("--batch", type=_counts, metavar="N,N", help="samples of one call; several are compared (default: as packed)")
    add("--provider", choices=sorted(PROVIDERS.all()), default="cpu", help="what runs the models (default cpu)")
    add("--io", choices=("device", "host"), default="device", help="leave inputs on the device, or time their transfer")
    add("--baseline", metavar="NAME", help="what speed-up is against (default: as packed)")
    add("--graphs", action="store_true", help="record and replay CUDA graphs")
    add("--profile", action="store_true", help="say which operators and layers take the time")
    add("--scenario", choices=SCENARIOS, help="measure as MLPerf does, one model after the other")
    add("--latency-bound", default="", metavar="TIME", help="what the server's 99th percentile must keep, as 50ms")
    add("--patience", type=_seconds, default=60.0, help="seconds without a sign of life: a model hangs (default 60)")
    add("--seed", type=int, default=0, help="seed of the order of the rounds (default 0)")
    add("--quiet", "-q", action="store_true", help="show no progress")
    add("--list", action="store_true", help="say what is in the bundle, and stop")
    add("--check", action="store_true", help="check the bundle and what the device has, and stop")
    return parser.parse_args(argv)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.1 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"at least 0.1 seconds are needed, got {text}")
    return value


def _counts(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers of at least 1, as in 1,2; got {text!r}")
    return found


def _run(options: argparse.Namespace, archive: Path) -> int:
    if options.scenario is None and options.latency_bound:
        raise UsageError("--latency-bound belongs to --scenario server")
    if options.scenario is not None and (options.profile or options.baseline):
        raise UsageError("a scenario runs one model after the other: it takes no --baseline or --profile")
    bundle = read_bundle(archive)
    bundle.check()
    if options.list:
        show(_listing(bundle))
        return 0
    versions = check_needs(bundle.manifest["needs"], options.provider)
    if options.check:
        show(_checked(bundle, versions))
        return 0
    baseline = _known(bundle, options.baseline)
    if options.out is not None:
        from evaluate.core.records import require_writable

        require_writable(options.out, "--out")
    with _unpacked(bundle) as folder, Progress(options.quiet) as progress:
        comparison = _compare(bundle, folder, baseline, options, progress)
        _complete(comparison.record, bundle, folder)
        answer = _answer(comparison, options.json)  # here, since its modules come from that folder
    try:
        show(answer)  # first, so that a full disk costs a file and not the measurement
    finally:
        if options.out is not None:
            from evaluate.core.records import write_record

            write_record(options.out, comparison.record)
    return comparison.exit_code


def _answer(comparison: Comparison, as_json: bool) -> str:
    """The Record as one JSON object, or the table."""
    from evaluate.core.whole_files import plain

    if as_json:
        return json.dumps(plain(comparison.record), indent=1, allow_nan=False)
    return comparison.table()


def _compare(
    bundle: Bundle, folder: Path, baseline: str | None, options: argparse.Namespace, progress: Progress
) -> Comparison:
    from evaluate.benchmark.compare import compare, serve
    from evaluate.metrics.samples import Samples

    samples, settings = folder / SAMPLES, bundle.manifest["settings"]
    files = {name: folder / model["member"] for name, model in bundle.models.items()}
    common: dict[str, Any] = {
        "names": list(files),
        "provider": options.provider,
        "io": options.io,
        "graphs": options.graphs,
        "threads": options.threads or [settings["threads"]],
        "batch": options.batch or [settings["batch"] if options.scenario is None else 1],
        "seconds": options.seconds,
        "seed": options.seed,
        "patience": options.patience,
        "samples": Samples.load(samples) if samples.exists() else None,
        **_fed(bundle, folder),
        "status": progress,
    }
    if options.scenario is not None:
        return serve(list(files.values()), options.scenario, bound=options.latency_bound, **common)
    chosen = None if baseline is None else files[baseline]
    return compare(list(files.values()), chosen, profile=options.profile, **common)


def _fed(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Shapes, sizes and values that were packed for inputs. Raises ArtifactError for what no `leanfit pack` writes."""
    from evaluate.benchmark.model_inputs import stored_calls

    told = bundle.manifest.get("inputs") or {}
    try:
        calls = stored_calls(folder / INPUTS, told["places"]) if told.get("places") else None
        shapes = {str(name): [int(size) for size in shape] for name, shape in told.get("shapes", {}).items()}
        dims = {str(name): int(size) for name, size in told.get("dims", {}).items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{bundle.path} is damaged: what it says of inputs cannot be read; pack it again"
        ) from error
    return {"shapes": shapes, "dims": dims, "inputs": calls}


def _known(bundle: Bundle, name: str | None) -> str | None:
    """The baseline that was named; None for the first that runs. Raises UsageError for one that is not here."""
    if name is not None and name not in bundle.models:
        raise UsageError(
            f"there is no model {name!r} in this bundle{did_you_mean(name, bundle.models) or '.'} "
            f"It holds {', '.join(bundle.models)}."
        )
    return name


def _own_archive() -> Path:
    if HOME.is_dir():
        raise ArtifactError(
            "this runs from a bundle only: python bench.pyz. `leanfit pack RUN -o bench.pyz` writes one."
        )
    return HOME


def _listing(bundle: Bundle) -> str:
    facts = bundle.manifest
    width = max(map(len, bundle.models))
    lines = [f"leanfit {facts['leanfit']}, packed on {facts['source']['cpu'] or 'an unnamed processor'}"]
    if facts["samples"]:
        task = facts["task"]["name"] if facts["task"] else "no task"
        lines.append(f"task     {task}: {facts['samples']} samples, {facts['metric']}")
    else:
        lines.append("samples  none: models are measured on seeded random inputs, without accuracy")
    for name, model in bundle.models.items():
        mark = ", the baseline" if name == facts["baseline"] else ""
        lines.append(f"model    {name:<{width}}  {model['bytes']:>11,} bytes, opset {model['opset']}{mark}")
    return "\n".join(lines)


def _checked(bundle: Bundle, versions: Mapping[str, str]) -> str:
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{bundle.path} is whole: {len(bundle.manifest['members'])} members as packed\n"
        f"Python {platform.python_version()}, {found}: all that is needed is here"
    )


@contextlib.contextmanager
def _unpacked(bundle: Bundle) -> Iterator[Path]:
    """The bundle's members in a folder that is removed afterwards; the package's other modules come from there too.

    Processes that are started later then find them compiled, which a zip never keeps.
    """
    try:
        scratch = tempfile.TemporaryDirectory(prefix="leanfit-bundle-")
    except OSError as error:
        raise MachineError(f"no folder for temporary files can be written ({error}); set TMPDIR to one") from error
    with scratch as place:
        folder = Path(place).resolve()
        bundle.extract(folder)
        if not HOME.is_dir():  # this runs out of the zip
            evaluate.__path__.insert(0, str(folder / "evaluate"))
        yield folder


def _complete(record: dict[str, Any], bundle: Bundle, folder: Path) -> None:
    """Say in the Record what was measured: the bundle's members, not files in a folder that is gone."""
    from evaluate.core.bench_parts import Agreement
    from evaluate.core.blocks import as_block
    from evaluate.report.messages.run_messages import agreement_sentence

    facts = bundle.manifest
    record.update(_renamed(record, f"{folder}{os.sep}"))
    record["leanfit"] = facts["leanfit"]
    if facts["task"] is not None:
        record["task"] = facts["task"]
    int8_path = record["environment"].get("int8_path")
    for entry in record["results"]:
        quantized = bundle.models[entry["name"]].get("quantized")
        said = agreement_sentence(as_block(Agreement, entry.get("agreement")), int8_path if quantized else None)
        entry["warnings"] += [said] if said and said not in entry["warnings"] else []
    record["bundle"] = {
        "file": bundle.path.name,
        "digest": bundle.digest,
        "samples": facts["samples"],
        "source": facts["source"],
    }


def _renamed(value: Any, folder: str) -> Any:
    """`value` with the folder left out of every path in it, and null for what JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _renamed(item, folder) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(item, folder) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.replace(folder, "") if isinstance(value, str) else value
