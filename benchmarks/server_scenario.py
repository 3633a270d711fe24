"""The highest rate of the server scenario, found five times over: how far apart, and is every query counted once?

    python benchmarks/server_scenario.py                            # under 3 minutes; ResNet-20 with random weights
    python benchmarks/server_scenario.py model.onnx --bound 20ms --seconds 60 --check 30

Every repeat opens the model anew and has arrivals of its own (another seed). Calls are counted outside the search, by
the function that is called. --check: afterwards one long run at the found rate, whose percentile should lie at the
bound, and one at 90 % of it. Asked: within 10 % of one another; no query lost or counted twice.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from models import exported

from evaluate.benchmark.model_inputs import calls_for
from evaluate.load_test.rate_search import highest_rate
from evaluate.load_test.scenarios import parse_bound, server
from evaluate.report.text.bench_table import scenario_table
from evaluate.runtime.session import open_session


class Counted:
    """A call of this model, and how often it was made."""

    def __init__(self, file: Path) -> None:
        session = open_session(file)
        self.call, self.calls = session.bind(calls_for(session, 1, 0)[0]), 0

    def __call__(self) -> None:
        self.calls += 1
        self.call()


def search(file: Path, bound: float, seconds: float, seed: int) -> tuple[dict[str, Any], int]:
    """A search, and by how much the calls it made differ from those it reports."""
    counted = Counted(file)
    found = highest_rate(counted, bound_ms=1e3 * bound, seconds=seconds, seed=seed)
    answered = sum(probe["queries"] for probe in found["probes"])
    return found, abs(counted.calls - found["calls"]) + abs(answered - found["completed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="an ONNX file; without one, ResNet-20")
    parser.add_argument("--bound", type=parse_bound, default=parse_bound("50ms"))
    parser.add_argument("--seconds", type=float, default=30.0, help="budget of each search")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--check", type=float, default=0.0, metavar="SECONDS", help="length of the runs afterwards")
    parser.add_argument("--out", type=Path, help="write all results here, as JSON")
    options = parser.parse_args()
    file = options.model or exported(Path("runs/benchmarks"), "resnet", depth=20)
    results, differ = [], 0
    for seed in range(options.repeats):
        found, wrong = search(file, options.bound, options.seconds, seed)
        results.append(found)
        differ += wrong
        print(scenario_table([found]).splitlines()[0], flush=True)
    print(scenario_table(results[-1:]))
    if options.out:
        options.out.write_text(json.dumps(results))
    lost, twice = (sum(result[key] for result in results) for key in ("lost", "counted_twice"))
    served = sum(result["completed"] for result in results)
    print(f"{served:,} queries: {lost} lost, {twice} counted twice, {differ} calls that the report does not have")
    rates = np.array([result["rate"] or np.nan for result in results])
    spread = (rates.max() - rates.min()) / np.median(rates)
    print(f"rates {', '.join(f'{rate:,.1f}' for rate in rates)} queries/s; largest less smallest {100 * spread:.1f} %")
    if options.check and np.isfinite(spread):
        rate, call = float(np.median(rates)), Counted(file)
        checks = [server(call, rate=share * rate, seconds=options.check, seed=99) for share in (0.9, 1.0)]
        print(scenario_table(checks))


if __name__ == "__main__":
    main()
