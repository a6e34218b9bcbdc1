"""The energy ledger of a replay: what each job drew at each site, by the code that books a live fleet.

Grams of CO2 and money where the scenario has the grid's carbon intensity and prices. The energy of the
network is nobody's here, as in production; the tables of `evaluation` have it.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coordinator.core.energy_ledger import Course, Entry, Stay, book
from coordinator.replay.journal import Interval
from coordinator.replay.metrics import at_steps, site_course
from coordinator.replay.world import Plant, World

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one job drew at one site; `cost` in the world's currency, None where part of it is unknown."""

    entry: Entry
    cost: float | None


_FIGURES = tuple(one.name for one in fields(Entry))


def accounts(world: World, intervals: Iterable[Interval]) -> dict[tuple[str, str], Account]:
    """Return what each job drew at each site of a replayed world, and what that cost, by (site, job)."""
    power_w = {task.job_id: task.power_w for task in world.tasks}
    by_site: defaultdict[str, list[Interval]] = defaultdict(list)
    for row in intervals:
        by_site[row.site_id].append(row)
    return {
        (site.site_id, job_id): account
        for site in world.sites
        if by_site[site.site_id]
        for job_id, account in _site(world, site, by_site[site.site_id], power_w).items()
    }


def write_accounts(path: Path, booked: Mapping[tuple[str, str], Account]) -> None:
    """Write a row for each site and job; grams and costs that are not known for all of it are empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("site", "job", *_FIGURES, "cost"))
        for (site_id, job_id), account in sorted(booked.items()):
            told = {name: getattr(account.entry, name) for name in _FIGURES}
            told["carbon_g"] = account.entry.known_carbon_g
            # None is written as an empty field.
            writer.writerow((site_id, job_id, *told.values(), account.cost))


def _site(
    world: World, site: Plant, rows: Sequence[Interval], power_w: Mapping[str, float]
) -> dict[str, Account]:
    drawn = site_course(world, site, rows, power_w)
    course = Course(
        edges_s=drawn.edges_s,
        surplus_w=drawn.surplus_w,
        compute_w=drawn.drawn_w,
        carbon_g_per_kwh=at_steps(site.carbon, drawn.steps),
        estimated=np.zeros(len(drawn.drawn_w), dtype=np.bool_),
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
    # What is imported is shared alike whatever a kilowatt-hour of it is charged with: grams, or money.
    charged = book(replace(course, carbon_g_per_kwh=at_steps(site.price, drawn.steps)), stays)
    return {
        job_id: Account(entry=entry, cost=charged[job_id].known_carbon_g)
        for job_id, entry in book(course, stays).items()
    }
