"""`leanfit fit` and `leanfit predict`: their options, what they print and what they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compress.cli.console import Allow, Json, Progress, Quiet, emit, error_boundary, reading
from evaluate.bundle.terminal import say

if TYPE_CHECKING:
    from compress.study.law_fit import FitResult


Interval = Annotated[float, typer.Option(help="Share that intervals of answers hold.", min=0.01, max=0.999)]
Solve = Annotated[
    list[str] | None,
    typer.Option(metavar="Y", help="Where does the law reach this y, in the unit of the points, or 92%?"),
]


def fit(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="CSV, JSON or JSONL (gzip is read), or a folder of Records.")
    ] = None,
    x: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A variable: a column, or NAME=COLUMN.")] = None,
    y: Annotated[
        str | None, typer.Option(metavar="NAME", help='What to fit: an error, a loss, an accuracy, or "1 - acc1/100".')
    ] = None,
    higher: Annotated[
        bool | None,
        typer.Option("--higher-is-better/--lower-is-better", help="Of y.  [default: by its name and its values]"),
    ] = None,
    law: Annotated[str, typer.Option(metavar="NAME", help="auto: choose by extrapolation. list: show all.")] = "auto",
    where: Annotated[
        list[str] | None, typer.Option(metavar="CONDITIONS", help='Rows to take, as "role=dense,density<=0.5".')
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="COLUMN", help="Points of one run belong together.")] = None,
    weight: Annotated[str | None, typer.Option(metavar="COLUMN", help="Weights of the points.")] = None,
    pool: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Curves of its other values may lend their exponent.")
    ] = None,
    bootstrap: Annotated[int | None, typer.Option(metavar="N", help="Resamples.  [default: 200]", min=20)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.", min=0)] = 0,
    set_param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Hold a parameter, as E=0.")] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="The uncompressed level, for --law effective.")
    ] = None,
    solve: Solve = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="SHARE", help="Where is 98% of the dense (or best) accuracy kept?")
    ] = None,
    drop: Annotated[
        list[float] | None, typer.Option(metavar="POINTS", help="Where is y this many points worse than the dense?")
    ] = None,
    solve_for: Annotated[str | None, typer.Option(metavar="NAME", help="Which variable to solve for.")] = None,
    given: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="The other variables, as D=1e9.")
    ] = None,
    compute: Annotated[str | None, typer.Option(metavar="FORMULA", help='Cost of a run, as "6*N*D".')] = None,
    budget: Annotated[float | None, typer.Option(help="How much of it there is: gives the best split.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="WHAT", help="Break-even with a second curve: conditions, points or a law.")
    ] = None,
    interval: Interval = 0.9,
    force: Annotated[bool, typer.Option("--force", help="Fit exponents that the points do not identify.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the law to this .json, for `leanfit predict`.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write an HTML page with pictures.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the picture as .png or .svg.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a scaling law to points: how sure it is, what it predicts, and the smallest model that reaches a target."""
    with error_boundary(as_json):
        if law == "list":
            _list(as_json)
            return
        if path is None:
            raise typer.BadParameter("give the points: a CSV, JSON or JSONL file, or a folder of Records")
        from compress.study.law_fit import FitRequest, Query, run_fit

        _check_places(out, page, picture)
        query = Query(
            solve=solve or (), keep=keep or (), drop=drop or (), solve_for=solve_for, given=given or (),
            interval=interval, compute=compute, budget=budget, against=against,
        )  # fmt: skip
        request = FitRequest(
            points=path, x=x or (), y=y, law=law, where=where or (), group=group, weight=weight, pool=pool,
            bootstrap=bootstrap, seed=seed, set_param=set_param or (), reference=reference, force=force, query=query,
            higher_is_better=higher, both_ends=out is not None,
        )  # fmt: skip
        with Progress(quiet) as progress:
            outcome = run_fit(request, say, progress)
        _show(outcome, as_json)
        _write(outcome, out, page, picture)
        if not as_json:
            at = " ".join(f"--x {name}={name.upper()}" for name in outcome.stored["variables"])
            kept = f"leanfit predict {out}" if out is not None else "with -o law.json: leanfit predict law.json"
            say(f"next     {kept} {at}")


def _list(as_json: bool) -> None:
    """The known laws with their formulas."""
    from evaluate.scaling.forms.form import LAWS

    forms = {name: component.facts["kind"].form for name, component in LAWS.all().items()}
    rows = [(name, form.title, form.formula) for name, form in forms.items()]
    if as_json:
        emit({"laws": [{"name": name, "title": title, "formula": formula} for name, title, formula in rows]})
        return
    width, wide = (max(len(row[place]) for row in rows) for place in (0, 1))
    typer.echo("\n".join(f"{name:<{width}}  {title:<{wide}}  {formula}".rstrip() for name, title, formula in rows))


def _check_places(out: Path | None, page: Path | None, picture: Path | None) -> None:
    """Whether what was asked for can be written, before anything is fitted."""
    from evaluate.core.records import require_writable

    named = [str(place) for place in (out, page, picture) if place is not None]
    if len(set(named)) < len(named):
        raise typer.BadParameter("--out, --page and --picture name the same file")
    if out is not None:
        require_writable(out, "--out")
    if page is not None and page.suffix.lower() not in (".html", ".htm"):  # never over a file of points
        raise typer.BadParameter(f"--page takes a name that ends in .html, got {page.name!r}")
    if picture is not None and picture.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"--picture takes a name that ends in .png or .svg, got {picture.name!r}")


def _show(outcome: FitResult, as_json: bool) -> None:
    if as_json:
        emit(outcome.stored)
        return
    from evaluate.report.messages.law_messages import law_table

    typer.echo(law_table(outcome.stored))


def _write(outcome: FitResult, out: Path | None, page: Path | None, picture: Path | None) -> None:
    """The files, after the answer was shown: a full disk costs a file and not the answer."""
    if out is not None:
        from evaluate.scaling.law import write_law

        write_law(out, outcome.stored)
        say(f"law      {out}")
    if picture is not None:
        from evaluate.report.charts.law_curve import curve_picture
        from evaluate.report.charts.svg import save_picture

        say(f"picture  {save_picture(curve_picture(outcome.stored, outcome.columns), picture)}")
    if page is not None:
        from evaluate.report.html.study_page import write_law_page

        say(f"to read  {write_law_page(outcome.stored, outcome.columns, page)}")


def size(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="CSV, JSON or JSONL (gzip is read), or a folder of Records.")
    ],
    keep: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Of the dense (or best) accuracy to keep.  [default: 98%]")
    ] = None,
    drop: Annotated[
        float | None, typer.Option(metavar="POINTS", help="How many points y may be worse than the dense.")
    ] = None,
    target: Annotated[str | None, typer.Option(metavar="Y", help="The y to keep, in its unit, or 92%.")] = None,
    cost: Annotated[
        str | None, typer.Option(metavar="NAME", help="What is to be small: params, packed_bytes, latency ...")
    ] = None,
    y: Annotated[str | None, typer.Option(metavar="NAME", help="The metric: an error, a loss, an accuracy.")] = None,
    by: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Columns that tell families apart.  [default: level ...]")
    ] = None,
    confidence: Annotated[float, typer.Option(help="The chance that is asked for.", min=0.01, max=0.999)] = 0.9,
    where: Annotated[
        list[str] | None, typer.Option(metavar="CONDITIONS", help='Rows to take, as "role=dense,density<=0.5".')
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="COLUMN", help="Points of one run belong together.")] = None,
    higher: Annotated[
        bool | None,
        typer.Option("--higher-is-better/--lower-is-better", help="Of y.  [default: by its name and its values]"),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Write chance against size as .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """The smallest model that keeps a target: by size, with the chance of each, and the one to measure next."""
    with error_boundary(as_json):
        from compress.study.law_fit import Query
        from compress.study.law_size import SizeRequest, run_size
        from evaluate.report.messages.sizing_messages import sizing_table

        _check_places(None, None, picture)
        query = Query(
            solve=[target] if target is not None else (), keep=[keep] if keep is not None else (),
            drop=[drop] if drop is not None else (),
        )  # fmt: skip
        request = SizeRequest(
            points=path, cost=cost, y=y, by=by or (), where=where or (), group=group, higher_is_better=higher,
            query=query, confidence=confidence,
        )  # fmt: skip
        found = run_size(request, say)
        if as_json:
            emit(found.plain())
        else:
            typer.echo(sizing_table(found.sizing, found.y, found.scale, found.asked))
        if picture is not None:
            from evaluate.report.charts.chances import chances_picture
            from evaluate.report.charts.svg import save_picture

            say(f"picture  {save_picture(chances_picture(found.sizing, found.y, found.scale), picture)}")


def predict(
    path: Annotated[Path, typer.Argument(metavar="LAW.json", help="A law that `leanfit fit --out` wrote.")],
    x: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable, as params=1e5; several as 1e4,1e5.")
    ] = None,
    points: Annotated[Path | None, typer.Option(help="Points to predict at: a file as `leanfit fit` reads it.")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="CONDITIONS", help="Rows of them to take.")] = None,
    interval: Interval = 0.9,
    solve: Solve = None,
    solve_for: Annotated[str | None, typer.Option(metavar="NAME", help="Which variable to solve for.")] = None,
    allow: Allow = None,
    as_json: Json = False,
) -> None:
    """Predict by a fitted law, with an interval, and say how far beyond its points that is."""
    with reading(as_json, allow):
        from compress.study.law_predict import PredictRequest, predicted_table, run_predict

        request = PredictRequest(
            path=path,
            x=x or (),
            points=points,
            where=where or (),
            interval=interval,
            solve=solve or (),
            solve_for=solve_for,
        )
        found: dict[str, Any] = run_predict(request)
        if as_json:
            emit(found)
            return
        for warning in found["warnings"]:
            say(f"warning: {warning}")
        typer.echo(predicted_table(found))
