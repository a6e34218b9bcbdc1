"""The demo's energy account: metered as it happened, and replayed under another policy on the same day."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import permutations
from math import ceil
from operator import attrgetter

import numpy as np

from coordinator.cli import render
from coordinator.cli.demo import world as w
from coordinator.cli.demo.fleet import Fleet
from coordinator.core.energy_ledger import Entry, MeterSample, book, metered_course
from coordinator.core.ledger import PowerSample
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.forecast.kinds import PLANTS as KINDS
from coordinator.forecast.past import read_past
from coordinator.forecast.series import Series
from coordinator.replay.exact import run
from coordinator.replay.foresight import Foresight
from coordinator.replay.metrics import measure
from coordinator.replay.world import Costs, Plant, Task, World, access_of
from sterna.v1 import fleet_pb2

# A meter may miss a few polls on a busy machine; longer gaps are not counted as anything.
HOLD_S = 5.0


@dataclass(slots=True)
class MeterRoll:
    """Telemetry of every site, each sample once.

    The node's idle draw is taken off both sides: what is compared is the energy of the training.
    """

    idle_w: float
    _samples: dict[str, dict[int, PowerSample]] = field(default_factory=dict)

    def take(self, sites: Iterable[fleet_pb2.Site]) -> None:
        """Add what a snapshot of the fleet says."""
        for site in sites:
            telemetry = site.telemetry
            if not telemetry.sequence:
                continue
            rows = self._samples.setdefault(site.site_id, {})
            rows[telemetry.sequence] = PowerSample(
                at=render.instant(telemetry.measured_at),
                surplus_w=_above(render.present(telemetry, "surplus_w"), self.idle_w),
                compute_w=_above(render.present(telemetry, "compute_w"), self.idle_w),
            )

    def between(self, start_at: datetime, end_at: datetime) -> Mapping[str, Sequence[PowerSample]]:
        """Return each site's samples of an interval, in order."""
        return {
            site: [rows[number] for number in sorted(rows) if start_at <= rows[number].at <= end_at]
            for site, rows in self._samples.items()
        }


def metered(rolls: Mapping[str, Sequence[PowerSample]], start_at: datetime, end_at: datetime) -> Entry:
    """Account for what was drawn at all sites, as the coordinator's ledger does."""
    courses = [
        metered_course(
            [MeterSample(power=sample) for sample in samples],
            start_at=start_at,
            end_at=end_at,
            hold_s=HOLD_S,
            carbon_g_per_kwh=None,
        )
        for samples in rolls.values()
    ]
    return sum((entry for course in courses for entry in book(course, ()).values()), start=Entry())


def surplus_at(samples: Sequence[PowerSample], at: datetime) -> float | None:
    """Return what was last metered by an instant, in W; None: unknown."""
    index = bisect_right(samples, at, key=attrgetter("at"))
    return samples[index - 1].surplus_w if index else None


def replayed(day: World, world: w.World, policy: str, foresight: Foresight) -> float:
    """Return the renewable share that a policy would have had on the same day, 0 to 1."""
    record = run(day, policy_named(policy), PlannerSettings(**world.planner_numbers), foresight)
    return measure(day, record.intervals).renewable_frac


def metered_day(rolls: Mapping[str, Sequence[PowerSample]], world: w.World, *, start_at: datetime) -> World:
    """Return the day that was: the surplus as metered, the jobs and links as configured.

    No grid limit is in it: the replayed policies are not held back by the one that the fleet obeyed.
    """
    sites, planner = sorted(rolls), PlannerSettings(**world.planner_numbers)
    # The last surplus holds until every job must have ended: one of those that are left runs or moves at
    # any time, and a move takes less than the stay before it.
    longest_s = world.day_s + 2.0 * w.STEP_S * sum(job.steps for job in world.jobs)
    looks = [start_at + timedelta(seconds=w.TICK_S * tick) for tick in range(ceil(longest_s / w.TICK_S))]
    return World(
        name="demo",
        start_at=start_at,
        period_s=world.day_s,
        step_s=w.TICK_S,
        sites=tuple(
            # An unknown surplus covers nothing.
            Plant(
                site_id=site,
                slots=w.SLOTS,
                surplus_w=tuple(surplus_at(rolls[site], at) or 0.0 for at in looks),
            )
            for site in sites
        ),
        tasks=tuple(
            Task(
                job_id=job.name,
                home_site=job.home_site,
                submitted_s=0.0,
                work_s=job.steps * w.STEP_S,
                checkpoint_bytes=w.CHECKPOINT_BYTES,
                power_w=w.JOB_POWER_W,
            )
            for job in world.jobs
        ),
        wan=access_of(dict.fromkeys(permutations(sites, 2), w.LINK_BPS), None, sites),
        costs=Costs(
            # A replay seals and loads at one rate; both together take what the planner reckons with.
            store_bytes_per_s=2.0 * w.CHECKPOINT_BYTES / (w.SEAL_S + w.LOAD_S),
            downtime_s=w.DOWNTIME_S,
            eta=planner.eta,
            network_wh_per_gb=0.0,  # no meter of the live fleet sees it
            alpha=planner.alpha,
        ),
    )


def pasts(fleet: Fleet, now: datetime) -> dict[str, Series]:
    """Return each site's past as the coordinator read it, the node's idle draw taken off."""
    found = {}
    for site in fleet.world.sites:
        past = read_past(
            fleet.past(site),
            kind=KINDS[site.plant],
            slot_s=fleet.world.slot_s,
            day_s=fleet.world.day_s,
            now=now,
        )
        found[site.site_id] = replace(past, values=np.maximum(past.values - w.NODE_IDLE_W, 0.0))
    return found


def _above(power_w: float | None, idle_w: float) -> float | None:
    return None if power_w is None else max(0.0, power_w - idle_w)
