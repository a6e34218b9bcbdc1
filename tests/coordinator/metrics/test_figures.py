"""What becomes of sites, jobs and moves on the page; missing stays missing."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from coordinator.model.fleet import FleetState, Grant, Job, JobState, LinkGoodput, Site
from coordinator.model.job import JobSpec
from coordinator.model.live import LiveSite
from coordinator.model.site import Capabilities, GridState, GridStatus, Quality, SiteBattery, SiteSample
from coordinator.tasks.metrics import fleet_samples, site_samples
from sterna.exposition.families import Sample

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def told(samples: Iterable[Sample]) -> dict[str, float]:
    return {
        " ".join((one.family.sample_name.removeprefix("sterna_fleet_"), *one.labels)): one.value
        for one in samples
    }


def sampled(quality: Quality, surplus_w: float | None = 800.0) -> LiveSite:
    sample = SiteSample(
        measured_at=NOW - timedelta(seconds=3), sequence=1, quality=quality, surplus_w=surplus_w
    )
    return LiveSite(connected=True, last_seen_at=NOW - timedelta(seconds=1), sample=sample)


def test_a_site_that_was_never_heard_of_is_only_not_connected() -> None:
    assert told(site_samples("kiel", None, LiveSite(), NOW)) == {"site_connected kiel": 0.0}


def test_a_site_that_talks() -> None:
    site = Site(site_id="kiel", capabilities=Capabilities(slots=4), draining=True)
    status = GridStatus(state=GridState.LIMITED, limit_w=500.0)
    live = sampled(Quality.OK)
    live = LiveSite(connected=True, last_seen_at=live.last_seen_at, sample=live.sample, grid_status=status)
    assert told(site_samples("kiel", site, live, NOW)) == {
        "site_connected kiel": 1.0,
        "site_draining kiel": 1.0,
        "site_fenced kiel": 0.0,
        "site_slots kiel": 4.0,
        "site_silence_seconds kiel": 1.0,
        "site_sample_age_seconds kiel": 3.0,
        "site_surplus_watts kiel": 800.0,
        "site_limit_watts kiel": 500.0,
    }


def test_what_batteries_hold() -> None:
    battery = SiteBattery(soc_frac=0.0, capacity_wh=1e4)
    sample = SiteSample(measured_at=NOW, sequence=1, quality=Quality.BAD, battery=battery)
    figures = told(site_samples("kiel", None, LiveSite(sample=sample), NOW))
    assert figures["site_charge_ratio kiel"] == 0.0 and "site_stored_joules kiel" not in figures
    sample = replace(sample, battery=replace(battery, available_wh=2.0))
    figures = told(site_samples("kiel", None, LiveSite(sample=sample), NOW))
    assert figures["site_stored_joules kiel"] == 7200.0


@pytest.mark.parametrize("live", [sampled(Quality.BAD), sampled(Quality.STALE), sampled(Quality.OK, None)])
def test_a_surplus_that_cannot_be_believed_is_not_told(live: LiveSite) -> None:
    assert "site_surplus_watts kiel" not in told(site_samples("kiel", None, live, NOW))


def test_jobs_whose_owner_is_silent_are_counted() -> None:
    jobs = {
        name: Job(
            job_id=name,
            spec=JobSpec(name=name, argv=("train",)),
            state=JobState.RUNNING,
            submitted_at=NOW,
            grant=Grant(site_id=site, epoch=1, checkpoint_id=None, granted_at=NOW, lease_ttl_s=None),
        )
        for name, site in (("a", "kiel"), ("b", "malaga"))
    }
    link = LinkGoodput(source="kiel", destination="malaga", goodput_bps=5e7, samples=2)
    state = FleetState(jobs=jobs, links={("kiel", "malaga"): link})
    seen = told(fleet_samples(state, {"kiel": LiveSite(connected=True)}))
    assert (seen["jobs RUNNING"], seen["jobs_contact_lost"], seen["jobs QUEUED"]) == (2, 1, 0)
    assert seen["link_goodput_bits_per_second kiel malaga"] == 5e7
    assert seen["migrations DONE"] == 0
