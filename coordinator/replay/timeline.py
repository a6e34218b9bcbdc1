"""A replay hour by hour: what each site had left over, what was drawn there, and how it splits."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from coordinator.replay.journal import Interval
from coordinator.replay.metrics import site_draw
from coordinator.replay.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One site in one step; mean watts over the step."""

    start_utc: str
    site: str
    surplus_w: float
    compute_w: float
    renewable_w: float


def timeline(world: World, intervals: Iterable[Interval]) -> tuple[Line, ...]:
    """Return every site in every step until the last job has finished, in order of time."""
    rows = tuple(intervals)
    steps = world.step_of(max((row.end_s for row in rows), default=0.0)) + 1
    power = {task.job_id: task.power_w for task in world.tasks}
    lines = []
    for site in world.sites:
        mine = [row for row in rows if row.site_id == site.site_id]
        edges, drawn_w = site_draw(mine, power, (step * world.step_s for step in range(steps + 1)))
        of = np.minimum((edges[:-1] // world.step_s).astype(int), steps - 1)
        length = np.diff(edges) / world.step_s
        surplus_w = np.asarray(site.surplus_w)[of]
        drawn = np.bincount(of, weights=drawn_w * length, minlength=steps)
        covered = np.bincount(of, weights=np.minimum(drawn_w, surplus_w) * length, minlength=steps)
        for step in range(steps):
            stamp = world.at(step * world.step_s).isoformat().replace("+00:00", "Z")
            lines.append(
                Line(
                    start_utc=stamp,
                    site=site.site_id,
                    surplus_w=round(site.surplus_w[step], 3),
                    compute_w=round(float(drawn[step]), 3),
                    renewable_w=round(float(covered[step]), 3),
                )
            )
    return tuple(sorted(lines, key=lambda line: line.start_utc))
