"""The demo's energy account: metered as it happened, and replayed under another policy on the same day."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import permutations

import numpy as np

from coordinator.cli import render
from coordinator.cli.demo import world as w
from coordinator.cli.demo.fleet import Fleet
from coordinator.core.energy_ledger import Entry, MeterSample, book, metered_course
from coordinator.core.ledger import Energy, PowerSample
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.forecast.kinds import PLANTS as KINDS
from coordinator.forecast.past import read_past
from coordinator.forecast.series import Series
from coordinator.replay.engine import Foresight, replay
from coordinator.replay.scenario import ReplayJob, Scenario, SiteTrace
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


def replayed(day: Scenario, world: w.World, policy: str, foresight: Foresight) -> Energy:
    """Account for what a policy would have drawn on the same day, by the planner itself."""
    settings = PlannerSettings(epsilon=w.EPSILON, min_residence_s=w.MIN_RESIDENCE_S, horizon_s=world.day_s)
    return replay(day, policy_named(policy), settings, foresight).energy


def metered_day(
    rolls: Mapping[str, Sequence[PowerSample]], world: w.World, *, start_at: datetime
) -> Scenario:
    """Return the day that was: the surplus as metered, the jobs and links as configured.

    No grid limit is in it: the replayed policies are not held back by the one that the fleet obeyed.
    """
    return Scenario(
        start_at=start_at,
        duration_s=2 * world.day_s,
        tick_s=w.TICK_S,
        sites=tuple(
            SiteTrace(
                site_id=site,
                slots=w.SLOTS,
                points=tuple(
                    ((sample.at - start_at).total_seconds(), sample.surplus_w) for sample in samples
                ),
            )
            for site, samples in sorted(rolls.items())
        ),
        jobs=tuple(
            ReplayJob(
                job_id=job.name,
                home_site=job.home_site,
                power_w=w.JOB_POWER_W,
                checkpoint_bytes=w.CHECKPOINT_BYTES,
                seal_s=w.SEAL_S,
                load_s=w.LOAD_S,
                downtime_s=w.DOWNTIME_S,
                work_s=job.steps * w.STEP_S,
            )
            for job in world.jobs
        ),
        links=dict.fromkeys(permutations(sorted(rolls), 2), w.LINK_BPS),
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
