"""Published language models on the law of Chinchilla: what it predicts for them, and how much smaller they could be.

The law is fitted to the 240 points of Hoffmann et al. 2022 (digitised by Besiroglu et al. 2024). For each model of
studies/points/published_models.csv: the predicted loss, how far beyond the points it lies, the best split of the same
compute (6 N D), and the size that has the same predicted loss when trained on ten times the tokens.

Run: LEANFIT_DATA=... python benchmarks/case_studies.py [--picture docs/pictures/case-studies.svg]. Seconds.
"""

from __future__ import annotations

import argparse
import csv
import os
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.report.charts.law_charts import log_axis
from evaluate.report.charts.svg import ACCENT, BASE, LOST, MUTED, draw, save_picture
from evaluate.scaling import Chinchilla, optimum
from evaluate.scaling.diagnose.design import beyond

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = pathlib.Path(__file__).parent.parent / "studies" / "points" / "published_models.csv"
MORE = 10.0  # times the tokens
NAMED = ("BERT-large", "Turing-NLG", "GPT-3 175B", "ERNIE 3.0", "Chinchilla", "Llama 3.1 405B")
STYLES = {"next token": ("o", ACCENT), "masked": ("s", LOST), "denoising": ("D", LOST), "mixed": ("^", BASE)}


def law_of(folder: pathlib.Path) -> Chinchilla:
    """The law, fitted as its authors did."""
    with (folder / "scaling" / "chinchilla_epoch_245.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["used_in_240_fit"] == "True"]
    x = {name: np.array([float(row[name]) for row in rows]) for name in ("N", "D")}
    return Chinchilla(bootstrap=200).fit(x, np.array([float(row["loss"]) for row in rows]))


def studied(law: Chinchilla, row: dict[str, str]) -> dict[str, Any]:
    """What the law says of one model; of one whose tokens are not known, its size alone."""
    found: dict[str, Any] = {"model": row["model"], "objective": row["objective"], "N": float(row["params"]), "D": None}
    if not row["tokens"]:
        return found
    n, d = float(row["params"]), float(row["tokens"])
    x = {"N": [n], "D": [d]}
    loss, low, high = (float(end[0]) for end in law.predict(x, interval=0.9))
    best = optimum(law, "6*N*D", 6 * n * d)
    smaller = law.solve(loss, "N", given={"D": MORE * d})
    return {
        **found, "D": d, "loss": loss, "low": low, "high": high,
        "beyond": float(beyond(law.fitted_, law.fitted_.numbers(x))[0]), "best N": best.values["N"],
        "best D": best.values["D"], "best loss": best.y, "smaller": smaller.value,
    }  # fmt: skip


def table(entries: list[dict[str, Any]]) -> str:
    """As Markdown."""
    head = ("model", "objective", "N", "D", "D / N", "beyond the points", "loss (90 %)", "best split of its compute")
    more = ("loss there", f"size of the same loss on {MORE:g} D")
    lines = [f"| {' | '.join((*head, *more))} |", "|---" * 10 + "|"]
    for one in entries:
        shown = f"| {one['model']} | {one['objective']} | {one['N']:.3g} "
        if one["D"] is None:
            lines.append(shown + "| not published" + " | -" * 6 + " |")
            continue
        loss = f"{one['loss']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
        best = f"{one['best N']:.2g}, {one['best D']:.2g}"
        smaller = f"{one['smaller']:.2g} ({one['smaller'] / one['N']:.0%})"
        lines.append(
            f"{shown}| {one['D']:.3g} | {one['D'] / one['N']:.3g} | {one['beyond']:.3g} x | {loss} | {best} "
            f"| {one['best loss']:.3f} | {smaller} |"
        )
    return "\n".join(lines)


def picture(law: Chinchilla, entries: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Sizes and tokens of the models, the points of the fit, and the line of the best splits."""
    known = [one for one in entries if one["D"] is not None]
    budgets = np.geomspace(1e19, 1e26, 30)
    line = [optimum(law, "6*N*D", float(budget)).values for budget in budgets]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        log_axis(axes, "x", "N", 2e7, 2e12)
        log_axis(axes, "y", "D", 2e8, 5e13)
        data = law.data_.x
        axes.plot(data[:, 0], data[:, 1], ".", color=MUTED, markersize=3, label="points of the fit", zorder=1)
        axes.plot([one["N"] for one in line], [one["D"] for one in line], "-", color=MUTED, linewidth=1.2,
                  label="best split of a compute", zorder=2)  # fmt: skip
        for objective, (marker, color) in STYLES.items():
            some = [one for one in known if one["objective"] == objective]
            axes.plot([one["N"] for one in some], [one["D"] for one in some], marker, color=color, markersize=6,
                      markeredgewidth=0, label=objective, zorder=3)  # fmt: skip
        for one in (one for one in known if one["model"] in NAMED):
            left = one["N"] > 1e11
            axes.annotate(
                one["model"], (one["N"], one["D"]), xytext=(-4 if left else 6, -12), textcoords="offset points",
                fontsize=10, ha="right" if left else "left",
            )  # fmt: skip
        axes.legend(loc="upper left", fontsize=10)

    text = "Published language models by parameters N and training tokens D, on the best splits of Chinchilla's law."
    save_picture(draw(paint, height=330, title="Published models on Chinchilla's law", text=text, key="cases"), path)


def main() -> int:
    """Print the table; write the picture where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=pathlib.Path, help="an .svg or .png to write")
    arguments = parser.parse_args()
    folder = os.environ.get("LEANFIT_DATA")
    if not folder or not (pathlib.Path(folder) / "scaling" / "chinchilla_epoch_245.csv").exists():
        print(
            "LEANFIT_DATA must name a folder with scaling/chinchilla_epoch_245.csv (studies/points/README.md says why)"
        )
        return 2
    law = law_of(pathlib.Path(folder))
    print(", ".join(f"{name} {value:.4g}" for name, value in law.params_.items()))
    with MODELS.open(newline="") as file:
        entries = [studied(law, row) for row in csv.DictReader(file)]
    print(table(entries))
    if arguments.picture:
        picture(law, entries, arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
