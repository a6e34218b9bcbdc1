"""How far any policy could get: perfect knowledge, free and instant migration, no deferral.

Jobs start first come first served over all slots of the fleet, and at every instant those that run lie on
the surplus in the best way: a site takes no more than its slots draw, a job may be split between sites.
"""

import heapq

import numpy as np

from coordinator.core.ledger import account_steps
from coordinator.replay.journal import Interval, Stage
from coordinator.replay.metrics import site_draw
from coordinator.replay.world import World


def bound_wh(world: World) -> float:
    """Return the non-renewable energy, in Wh, below which no policy without deferral gets.

    Jobs of a world all draw the same power.
    """
    if not world.tasks:
        return 0.0
    free = [0.0] * sum(site.slots for site in world.sites)
    rows = []
    for task in world.tasks:
        start_s = max(task.submitted_s, heapq.heappop(free))
        heapq.heappush(free, start_s + task.work_s)
        rows.append(Interval(task.job_id, "fleet", start_s, start_s + task.work_s, Stage.RUN))
    power = {task.job_id: task.power_w for task in world.tasks}
    last = world.step_of(max(row.end_s for row in rows)) + 1
    edges, drawn_w = site_draw(rows, power, (step * world.step_s for step in range(last + 1)))
    most = max(power.values())
    usable = sum(
        np.minimum(np.asarray(site.surplus_w[: last + 1]), site.slots * most) for site in world.sites
    )
    steps = np.minimum((edges[:-1] // world.step_s).astype(int), len(usable) - 1)
    return account_steps(edges, usable[steps], drawn_w).nonrenewable_wh
