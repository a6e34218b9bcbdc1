"""`sterna forecast`: how good the forecasts are on a recorded trace, as table, JSON and picture."""

import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatchcase
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.options import JsonOption
from coordinator.forecast.kinds import Kind
from sterna.errors import ConfigError, PermanentError

if TYPE_CHECKING:
    from rich.table import Table

    from coordinator.forecast.backtest import Score, TraceScore
    from coordinator.forecast.series import Series

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Score surplus forecasts.")

LEAD_HOURS = (1, 3, 6, 12, 24, 48)


@app.callback()
def _forecast() -> None:
    """Keep `score` a sub-command while it is the only one."""


@app.command()
def score(
    trace: Annotated[
        list[Path] | None,
        typer.Option("--trace", metavar="<path>", help="CSV of a trace, also .gz; may be repeated."),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option("--scenario", help="Instead: what replays of it forecast, scored in its periods alone."),
    ] = None,
    data: Annotated[Path, typer.Option("--data", help="Folder of the scenario's traces.")] = Path(
        "../shared/data"
    ),
    period: Annotated[str, typer.Option("--period", help="Of the scenario; all: every one.")] = "all",
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
        Path | None, typer.Option("--picture", help="Also draw CRPS and coverage by lead, as SVG.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    time_column: Annotated[
        str, typer.Option("--time-column", help="Stamps of plain files; docs/traces.md has the usual names.")
    ] = "",
    time_zone: Annotated[
        str, typer.Option("--time-zone", help="Of stamps that do not say it, as Europe/Berlin.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Score the learnt forecast against simpler ones.

    Those are persistence, the day before and climatology; figures are by lead time.

    The first part of each trace is there to learn from; only the rest is scored. CRPS and pinball loss are in
    percent of the trace's mean, night is not scored for sun, window lengths are of what is left of a window
    that is open (30 % of the most that the training part saw), up to 48 h.
    """
    from coordinator.forecast.backtest import Plan, run

    if bool(trace) is (scenario is not None):
        raise ConfigError("expected --trace FILE or --scenario NAME, one of both")
    if scenario is not None:
        found = _of_scenario(scenario, data, period)
    else:
        found = _of_traces(trace or (), time_column, time_zone)
    wanted = {name: one for name, one in found.items() if _wanted(name, one[0].kind, site, kind)}
    # A fuel that an area does not have is a column of zeros: there is nothing to foretell.
    wanted = {name: one for name, one in wanted.items() if one[0].values.any()}
    if not wanted:
        raise PermanentError("no such trace in these files")
    rehearse_days = 30.0 if scenario is None else 7.0  # as a replay does
    plan = Plan(train_frac=train_frac, every=every, rehearse_days=rehearse_days)
    with ProcessPoolExecutor(workers) as pool:
        series, starts = zip(*wanted.values(), strict=True)
        scored = list(pool.map(run, wanted, series, repeat(plan), starts))
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
    if picture is not None:
        picture.write_text(_drawn(scored), encoding="utf-8")


def _of_traces(
    paths: Iterable[Path], time_column: str, time_zone: str
) -> "dict[str, tuple[Series, int | None]]":
    from coordinator.forecast.traces import Reading, read_traces

    reading = Reading(time_column=time_column, time_zone=time_zone)
    return {name: (one, None) for path in paths for name, one in read_traces(path, reading).items()}


def _of_scenario(name: str, data: Path, period: str) -> "dict[str, tuple[Series, int | None]]":
    """Return the surplus of each site and period, and the slot with which the period begins."""
    from coordinator.replay.learnt import scored_course
    from coordinator.replay.scenariofile import read_scenario, read_traces, world_of

    scenario = read_scenario(name)
    traces = read_traces(scenario, data)
    worlds = {
        one: world_of(scenario, traces, one, 0)
        for one in (scenario.periods if period == "all" else period.split(","))
    }
    return {
        f"{site.site_id}/{one}": scored_course(world, site, max(LEAD_HOURS))
        for one, world in worlds.items()
        for site in world.sites
    }


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


def _drawn(scored: "Sequence[TraceScore]") -> str:
    """Draw CRPS and coverage by lead as SVG, a column per kind."""
    from coordinator.replay import svg

    kinds = [kind for kind in Kind if any(one.kind is kind for one in scored)]
    parts = []
    for column, kind in enumerate(kinds):
        some = [one for one in scored if one.kind is kind]
        hours = [float(hour) for hour in _leads(some[0])]
        for row, measure in enumerate(("crps", "cover")):
            courses = [
                [(hour, 100.0 * figure) for hour, figure in zip(hours, figures, strict=True)]
                for figures in (_figures(some, source, measure) for source in some[0].by_source)
            ]
            most = max(figure for course in courses for _, figure in course)
            panel = svg.Panel(
                left=70.0 + 420.0 * column,
                top=50.0 + 290.0 * row,
                width=340.0,
                height=210.0,
                x=svg.logarithmic(0.9 * hours[0], 1.1 * hours[-1], "lead time, h"),
                y=svg.linear(0.0, 1.08 * most, "CRPS, % of the mean")
                if measure == "crps"
                else svg.linear(50.0, 100.0, "within p10 to p90, %"),
                title=f"{kind.value}, {len(some)} traces",
            )
            for number, course in enumerate(courses):
                panel.line(course, svg.COLOURS[number])
                panel.dots(course, svg.COLOURS[number])
            for wanted in (77.0, 83.0) if measure == "cover" else ():
                panel.line([(panel.x.low, wanted), (panel.x.high, wanted)], svg.GREY, 1.0, "4 3")
            parts.append(panel.drawn())
    right = 70.0 + 420.0 * len(kinds)
    parts.append(svg.legend(right, 65.0, list(zip(svg.COLOURS, scored[0].by_source, strict=False))))
    return svg.document(right + 120.0, 620.0, "Forecast scores by lead time", parts)
