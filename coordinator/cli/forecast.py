"""`sterna forecast`: how good the forecasts are on a recorded trace, as table, JSON and picture."""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.options import JsonOption
from coordinator.forecast.kinds import Kind
from sterna.errors import PermanentError

if TYPE_CHECKING:
    from rich.table import Table

    from coordinator.forecast.backtest import Score, TraceScore

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Score surplus forecasts.")

LEAD_HOURS = (1, 3, 6, 12, 24, 48)


@app.callback()
def _forecast() -> None:
    """Keep `score` a sub-command while it is the only one."""


@app.command()
def score(
    trace: Annotated[
        list[Path],
        typer.Option("--trace", metavar="<path>", help="CSV of a trace, also .gz; may be repeated."),
    ],
    site: Annotated[
        list[str] | None, typer.Option("--site", metavar="<str>", help="Only these traces; * and ? match.")
    ] = None,
    kind: Annotated[
        list[Kind] | None,
        typer.Option(
            "--kind", metavar="<kind>", help="Only series of this kind: sun, wind or other; may be repeated."
        ),
    ] = None,
    train_frac: Annotated[
        float, typer.Option("--train-frac", min=0.1, max=0.95, help="Share to learn from, not scored.")
    ] = 0.6,
    every: Annotated[int, typer.Option("--every", min=1, help="Score every n-th slot's forecast.")] = 1,
    by_site: Annotated[bool, typer.Option("--by-site", help="A table for each trace as well.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Also draw CRPS and coverage by lead (matplotlib).")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    json: JsonOption = False,
) -> None:
    """Score the learnt forecast against simpler ones.

    Those are persistence, the day before and climatology; figures are by lead time.

    The first part of each trace is there to learn from; only the rest is scored. CRPS and pinball loss are in
    percent of the trace's mean, night is not scored for sun, window lengths are of what is left of a window
    that is open (30 % of the most that the training part saw), up to 48 h.
    """
    from coordinator.forecast.backtest import Plan, run
    from coordinator.forecast.traces import read_traces

    found = {name: one for path in trace for name, one in read_traces(path).items()}
    series = {name: one for name, one in found.items() if _wanted(name, one.kind, site, kind)}
    # A fuel that an area does not have is a column of zeros: there is nothing to foretell.
    series = {name: one for name, one in series.items() if one.values.any()}
    if not series:
        raise PermanentError("no such trace in these files")
    plan = Plan(train_frac=train_frac, every=every)
    with ProcessPoolExecutor(workers) as pool:
        scored = list(pool.map(partial(run, plan=plan), series, series.values()))
    if json:
        from coordinator.cli import document

        sys.stdout.write(document.encode("forecast-scores", [as_json(one) for one in scored]).decode())
    else:
        from coordinator.cli.console import open_console

        console = open_console()
        for one in scored if by_site else ():
            console.print(score_table([one], one.name))
        for one_kind in Kind:
            some = [one for one in scored if one.kind is one_kind]
            if some:
                console.print(score_table(some, f"{one_kind.value}, {len(some)} traces"))
    if picture is not None and not _draw(scored, picture):
        sys.stderr.write("sterna: no picture: matplotlib is not installed\n")


def score_table(scored: "Sequence[TraceScore]", title: str) -> "Table":
    """Return one row per source and measure; coverage is pooled, losses are the mean over the traces."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    hours = _leads(scored[0])
    for column in ("source", "", *(f"{hour} h" for hour in hours)):
        table.add_column(column, justify="left" if column in ("source", "") else "right")
    for measure in ("crps", "pinball", "cover"):
        for source in scored[0].by_source:
            cells = [f"{100 * figure:.1f} %" for figure in _figures(scored, source, measure)]
            table.add_row(source, {"cover": "p10–p90 holds"}.get(measure, measure), *cells)
    for source in scored[0].by_source:
        error_h, ranked_h, count = _windows(scored, source)
        words = "–" if count == 0 else f"{error_h:.2f} h, CRPS {ranked_h:.2f} h, {count} windows"
        table.add_row(source, f"window ± {words}")
    return table


def as_json(one: "TraceScore") -> dict[str, Any]:
    """Return one trace's scores by source and lead hour; losses in the trace's unit."""
    hours = _leads(one)
    places = [_place(one, hour) for hour in hours]

    def plain(score: "Score") -> dict[str, Any]:
        def by_lead(sums: Any) -> list[float | None]:
            return [float(sums[p] / score.count[p]) if score.count[p] else None for p in places]

        return {
            "crps": by_lead(score.crps),
            "pinball": by_lead(score.pinball),
            "p10_p90_cover_frac": by_lead(score.covered),
            "slots": [int(score.count[p]) for p in places],
            "windows": score.windows,
            "window_error_s": score.window_error_slots / score.windows * one.slot_s
            if score.windows
            else None,
            "window_crps_s": score.window_crps_slots / score.windows * one.slot_s if score.windows else None,
        }

    sources = {source: plain(score) for source, score in one.by_source.items()}
    return {"trace": one.name, "kind": one.kind.value, "mean": one.mean, "lead_h": hours, "sources": sources}


def _wanted(name: str, kind: Kind, sites: list[str] | None, kinds: list[Kind] | None) -> bool:
    named = not sites or any(fnmatchcase(name, pattern) for pattern in sites)
    return named and (not kinds or kind in kinds)


def _place(one: "TraceScore", hour: int) -> int:
    return round(hour * 3600 / one.slot_s) - 1


def _leads(one: "TraceScore") -> list[int]:
    most = len(next(iter(one.by_source.values())).count)
    return [hour for hour in LEAD_HOURS if 0 <= _place(one, hour) < most]


def _figures(scored: "Sequence[TraceScore]", source: str, measure: str) -> list[float]:
    figures = []
    for hour in _leads(scored[0]):
        found = [(one, one.by_source[source], _place(one, hour)) for one in scored]
        if measure == "cover":
            count = sum(score.count[place] for _, score, place in found)
            figures.append(float(sum(score.covered[place] for _, score, place in found) / max(count, 1)))
        else:
            shares = [
                getattr(score, measure)[place] / max(score.count[place], 1) / (abs(one.mean) or 1.0)
                for one, score, place in found
            ]
            figures.append(float(sum(shares) / len(shares)))
    return figures


def _windows(scored: "Sequence[TraceScore]", source: str) -> tuple[float, float, int]:
    """Return the mean error and CRPS of the window length in hours, over all windows, and how many."""
    found = [(one.by_source[source], one.slot_s / 3600) for one in scored]
    count = sum(score.windows for score, _ in found)
    error = sum(score.window_error_slots * hours for score, hours in found)
    ranked = sum(score.window_crps_slots * hours for score, hours in found)
    return error / max(count, 1), ranked / max(count, 1), count


def _draw(scored: "Sequence[TraceScore]", picture: Path) -> bool:
    """Draw CRPS and coverage by lead, a column per kind; False when there is nothing to draw with."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    kinds = [kind for kind in Kind if any(one.kind is kind for one in scored)]
    figure = Figure(figsize=(5 * len(kinds), 7), layout="constrained")
    axes = figure.subplots(2, len(kinds), squeeze=False, sharex=True)
    for column, kind in enumerate(kinds):
        some = [one for one in scored if one.kind is kind]
        for row, measure in enumerate(("crps", "cover")):
            axis = axes[row][column]
            for source in some[0].by_source:
                axis.plot(_leads(some[0]), _figures(some, source, measure), marker="o", label=source)
            axis.set_title(f"{kind.value}, {len(some)} traces")
            axis.set_ylabel("CRPS / mean" if measure == "crps" else "share within p10–p90")
            axis.set_xlabel("lead time [h]")
        axes[1][column].axhspan(0.77, 0.83, alpha=0.15)
        axes[0][column].legend()
    figure.savefig(picture)
    return True
