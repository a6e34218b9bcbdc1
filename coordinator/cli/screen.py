"""The live picture of the fleet: what `sterna watch` and `sterna demo` show."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from coordinator.cli import render
from sterna.v1 import fleet_pb2, operator_service_pb2

_SHOWN_MIGRATIONS = 8


def fleet_screen(
    snapshot: operator_service_pb2.WatchFleetResponse,
    *,
    title: str,
    news: Sequence[str] = (),
    most_warnings: int = 0,
) -> RenderableType:
    """Return the screen for one snapshot.

    Parameters
    ----------
    snapshot : WatchFleetResponse
        What the coordinator says now.
    title : str
        First line.
    news : sequence of str
        Lines for the bottom, oldest first.
    most_warnings : int
        How many of the warnings stand first.
    """
    now = render.instant(snapshot.at)
    names = {job.job_id: job.spec.name for job in snapshot.jobs}
    parts: list[RenderableType] = [
        Panel(
            _energy(snapshot.sites, names), title=f"{title} · {now:%H:%M:%S} UTC · policy {snapshot.policy}"
        ),
        Panel(render.jobs_table(snapshot.jobs), title="jobs"),
        Panel(
            _one_line_each(render.migrations_table(snapshot.migrations[:_SHOWN_MIGRATIONS], names))
            if snapshot.migrations
            else Text("none yet", style="dim"),
            title="migrations",
        ),
    ]
    parts[:0] = [Text(line, style="yellow") for line in _attention(snapshot, most_warnings)]
    if news:
        parts.append(Panel(Text("\n".join(news)), title="news"))
    return Group(*parts)


def _attention(snapshot: operator_service_pb2.WatchFleetResponse, most: int) -> list[str]:
    """Return what needs somebody, a line each: for whom a new coordinator waits, and the first warnings."""
    waiting, warnings = render.waiting(snapshot), render.warnings(snapshot) if most else []
    lines = [waiting] if waiting else []
    lines += [f"! {warning}" for warning in warnings[:most]]
    more = len(warnings) - most
    return [*lines, f"! and {more} more; see `sterna status`"] if more > 0 else lines


def _one_line_each(table: Table) -> Table:
    """Give the last column what the others leave, and cut it there."""
    last = table.columns[-1]
    table.expand, last.ratio, last.no_wrap, last.overflow = True, 1, True, "ellipsis"
    return table


def _energy(sites: Sequence[fleet_pb2.Site], names: dict[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    # Bars and jobs share what the figures leave, so that these can be read on 80 columns.
    for column in ("site", "", "surplus", "compute", "grid", "limit", "GPU cap", "jobs"):
        table.add_column(column, no_wrap=True, ratio={"": 2, "jobs": 3}.get(column))
    scale_w = max([_surplus(site) or 0.0 for site in sites] + [1.0])
    for site in sites:
        telemetry = site.telemetry
        caps = [gpu.power_cap_w for gpu in telemetry.gpus if gpu.HasField("power_cap_w")]
        table.add_row(
            Text(site.site_id, style="" if site.connected else "red"),
            _Bar(_surplus(site), render.present(telemetry, "compute_w"), scale_w),
            render.watts(_surplus(site)),
            render.watts(render.present(telemetry, "compute_w")),
            render.watts(render.present(telemetry, "grid_w")),
            render.limit_words(site),
            render.watts(sum(caps)) if caps else render.UNKNOWN,
            ", ".join(names.get(job_id, job_id[:8]) for job_id in site.job_ids) or render.UNKNOWN,
        )
    return table


def _surplus(site: fleet_pb2.Site) -> float | None:
    surplus_w: float | None = render.present(site.telemetry, "surplus_w")
    return surplus_w


@dataclass(frozen=True, slots=True)
class _Bar:
    """Green is surplus, the marker is what compute draws: right of the green it is not renewable."""

    surplus_w: float | None
    compute_w: float | None
    scale_w: float

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._drawn(options.max_width)

    def _drawn(self, width: int) -> Text:
        if self.surplus_w is None:
            return Text("?" * 3, style="dim")
        cells = round(width * min(1.0, self.surplus_w / self.scale_w))
        bar = Text("█" * cells, style="green")
        bar.append("·" * (width - cells), style="dim")
        drawn = round((width - 1) * min(1.0, (self.compute_w or 0.0) / self.scale_w))
        if self.compute_w:
            style = "bold white on green" if drawn < cells else "bold red"
            return Text.assemble(bar[:drawn], Text("▮", style=style), bar[drawn + 1 :])
        return bar
