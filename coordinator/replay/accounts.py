"""The energy ledger of a replay: what each job drew at each site, by the code that books a live fleet.

Grams of CO2 where the trace has the grid's carbon intensity. The energy of the network is nobody's here, as
in production; the tables of `evaluation` have it.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coordinator.core.energy_ledger import Course, Entry, Stay, book
from coordinator.replay import importers
from coordinator.replay.journal import Interval
from coordinator.replay.metrics import site_draw
from coordinator.replay.world import Plant, World

Array = NDArray[np.float64]
Carbon = Mapping[str, Mapping[float, float]]
"""By site: g/kWh of the step that begins so many seconds from the start; a missing step is unknown."""

_FIGURES = tuple(one.name for one in fields(Entry))


def accounts(
    world: World, intervals: Iterable[Interval], carbon: Carbon | None = None
) -> dict[tuple[str, str], Entry]:
    """Return what each job drew at each site, by (site, job).

    Parameters
    ----------
    world : World
        The world that was replayed.
    intervals : iterable of Interval
        Its journal.
    carbon : mapping or None
        Carbon intensity by site and step; None: unknown everywhere.
    """
    power_w = {task.job_id: task.power_w for task in world.tasks}
    by_site: defaultdict[str, list[Interval]] = defaultdict(list)
    for row in intervals:
        by_site[row.site_id].append(row)
    return {
        (site.site_id, job_id): entry
        for site in world.sites
        if by_site[site.site_id]
        for job_id, entry in _site(world, site, by_site[site.site_id], power_w, carbon or {}).items()
    }


def carbon_of(world: World, path: Path) -> Carbon:
    """Read the carbon intensity of the world's sites from a trace with the column ``ci_g_per_kwh``.

    Returns
    -------
    mapping
        Empty where the trace has no such column.

    Raises
    ------
    ConfigError
        The file cannot be read.
    """
    found: dict[str, dict[float, float]] = {site.site_id: {} for site in world.sites}
    for row in importers.rows(path):
        text = row.get("ci_g_per_kwh")
        if text is None:
            return {}
        if text and row["ba"] in found:
            offset_s = (importers.instant(row["ts_utc"]) - world.start_at).total_seconds()
            found[row["ba"]][offset_s] = float(text)
    return found


def write_accounts(path: Path, booked: Mapping[tuple[str, str], Entry]) -> None:
    """Write a row for each site and job; grams that are not known for all of it are empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("site", "job", *_FIGURES))
        for (site_id, job_id), entry in sorted(booked.items()):
            told = {name: getattr(entry, name) for name in _FIGURES}
            told["carbon_g"] = "" if entry.known_carbon_g is None else entry.known_carbon_g
            writer.writerow((site_id, job_id, *told.values()))


def _site(
    world: World, site: Plant, rows: Sequence[Interval], power_w: Mapping[str, float], carbon: Carbon
) -> dict[str, Entry]:
    last = world.step_of(max(row.end_s for row in rows)) + 1
    edges, drawn_w = site_draw(rows, power_w, (step * world.step_s for step in range(last + 1)))
    steps = np.minimum((edges[:-1] // world.step_s).astype(int), len(site.surplus_w) - 1)
    known = carbon.get(site.site_id, {})
    by_step = np.array([known.get(step * world.step_s, np.nan) for step in range(int(steps.max()) + 1)])
    course = Course(
        edges_s=edges,
        surplus_w=np.asarray(site.surplus_w)[steps],
        compute_w=drawn_w,
        carbon_g_per_kwh=by_step[steps],
        estimated=np.zeros(len(drawn_w), dtype=np.bool_),
    )
    stays = [
        Stay(
            job_id=row.job_id,
            start_s=row.start_s,
            end_s=row.end_s,
            weight_w=power_w[row.job_id] if row.power_w is None else row.power_w,
        )
        for row in rows
    ]
    return book(course, stays)
