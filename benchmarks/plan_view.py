"""What a tick of the coordinator costs beside the policy: the view of what is stored and live.

The fleets are those of `plan`, ten jobs a site, all running, each with a checkpoint and a report; as many
jobs and moves again lie in the past. Every site has sent a sample and a forecast of 96 slots. Times are CPU
seconds of one thread, the least of several runs. The store is not asked: the coordinator holds its state in
memory.
"""

import argparse
import json
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

from plan import NOW, SETTINGS, SIZES, size_of, some_fleet, timed

from coordinator.core.policies import policy_named
from coordinator.core.view import ViewSettings
from coordinator.forecast.feed import FeedForecaster
from coordinator.model.fleet import FleetState, Grant, Job, JobState, Migration, MigrationState, Site
from coordinator.model.job import Checkpoint, JobPhase, JobReport, JobSpec
from coordinator.model.live import LiveSite
from coordinator.model.site import Capabilities, Quality, SiteSample
from coordinator.model.view import FleetView, JobView, SiteView
from coordinator.tasks.lookout import Lookout

SINCE = NOW - timedelta(hours=2)


def checkpoint_of(view: JobView) -> Checkpoint:
    return Checkpoint(
        checkpoint_id=view.job_id, step=1, epoch=1, size_bytes=view.checkpoint_bytes or 0, sealed_at=SINCE
    )


def job_of(view: JobView, *, ended: bool) -> Job:
    site_id = view.site_id or ""
    grant = Grant(site_id=site_id, epoch=1, checkpoint_id=None, granted_at=SINCE, lease_ttl_s=None)
    spec = JobSpec(name="bench", argv=("train",), power_w=view.power_w, home_site=view.home_site or "")
    return Job(
        job_id=f"past-{view.job_id}" if ended else view.job_id,
        spec=spec,
        state=JobState.COMPLETED if ended else JobState.RUNNING,
        submitted_at=SINCE,
        epoch=1,
        grant=None if ended else grant,
        copies={site_id: (checkpoint_of(view),)},
        sealed_once=True,
        resident_since=SINCE,
        running_since=None if ended else SINCE,
    )


def past_move(number: int, view: JobView) -> Migration:
    return Migration(
        migration_id=f"m{number}",
        job_id=f"past-{view.job_id}",
        source_site=view.site_id or "",
        destination_site=view.home_site or "",
        state=MigrationState.DONE,
        epoch=1,
        planned_at=SINCE,
        reason="bench",
    )


def live_of(view: SiteView, reports: Mapping[str, JobReport]) -> LiveSite:
    sample = SiteSample(measured_at=NOW, sequence=1, quality=Quality.OK, surplus_w=view.surplus_w)
    return LiveSite(
        connected=True, session=1, last_seen_at=NOW, sample=sample, forecast=view.forecast, reports=reports
    )


def lookout_of(fleet: FleetView) -> Lookout:
    """Return the lookout of a coordinator that knows this fleet."""
    running = {job_id: job_of(view, ended=False) for job_id, view in fleet.jobs.items()}
    past = [job_of(view, ended=True) for view in fleet.jobs.values()]
    state = FleetState(
        jobs=running | {job.job_id: job for job in past},
        migrations={f"m{n}": past_move(n, view) for n, view in enumerate(fleet.jobs.values())},
        sites={
            name: Site(
                site_id=name, capabilities=Capabilities(slots=view.slots, checkpoint_address=f"{name}:1")
            )
            for name, view in fleet.sites.items()
        },
    )
    reports: dict[str, dict[str, JobReport]] = {name: {} for name in fleet.sites}
    for view in fleet.jobs.values():
        reports[view.site_id or ""][view.job_id] = JobReport(
            job_id=view.job_id, epoch=1, phase=JobPhase.RUNNING, checkpoints=(checkpoint_of(view),)
        )
    live = {name: live_of(view, reports[name]) for name, view in fleet.sites.items()}
    known: Any = SimpleNamespace(state=state)
    said: Any = SimpleNamespace(sites=live)
    clock: Any = SimpleNamespace(now=lambda: NOW)
    return Lookout(
        fleet=known,
        live=said,
        forecaster=FeedForecaster(max_age_s=7200.0),
        settings=ViewSettings(default_bps=5e9),
        clock=clock,
    )


def decide(lookout: Lookout) -> None:
    policy_named("sterna").decide(lookout.view(), SETTINGS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=SIZES, help="sites x jobs, comma separated")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    view_s, tick_s = {}, {}
    for size in given.sizes.split(","):
        lookout = lookout_of(some_fleet(*size_of(size), seed=1))
        view_s[size] = round(timed(lookout.view, given.runs)[0], 3)
        tick_s[size] = round(timed(partial(decide, lookout), given.runs)[0], 3)
        print(
            f"{size}: {view_s[size]} s for the view, {tick_s[size]} s with the policy's decisions", flush=True
        )
    figures = {
        "view_s": list(view_s.values())[-1],
        "view_s_by_size": view_s,
        "view_and_decide_s_by_size": tick_s,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
