"""Fleets in any state of a move, made of events, for tables of tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from coordinator.core.endings import GrantSettings
from coordinator.core.feasibility import Tolerance
from coordinator.core.fleet import fold
from coordinator.core.prestage import PrestageSettings
from coordinator.core.view import ViewSettings
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, JobState, MigrationState
from coordinator.model.job import Checkpoint, JobPhase, JobReport, JobSpec, OnPartition
from coordinator.model.live import LiveSite
from coordinator.model.site import Capabilities, Quality, SiteSample

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
SETTINGS = GrantSettings(lease_ttl_s=60.0, start_attempts=2)
PRESTAGE = PrestageSettings(view=ViewSettings(), tolerance=Tolerance())
SPEC = JobSpec(name="t", argv=("train",), power_w=100.0, home_site="a", checkpoint_bytes=500)
STOPS = replace(SPEC, on_partition=OnPartition.STOP)
C1 = Checkpoint(checkpoint_id="c1", step=10, epoch=1, size_bytes=1000, sealed_at=NOW)
C2 = Checkpoint(checkpoint_id="c2", step=20, epoch=1, size_bytes=2000, sealed_at=NOW)
On = ev.MigrationEvent
M = MigrationState


def seen(*sites: str, slots: int = 2, address: str = ":1") -> list[ev.Event]:
    return [
        ev.SiteSeen(
            at=NOW,
            site_id=site,
            capabilities=Capabilities(slots=slots, checkpoint_address=f"{site}{address}" if address else ""),
        )
        for site in sites
    ]


def submitted(spec: JobSpec = SPEC, job_id: str = "j") -> list[ev.Event]:
    return [ev.JobSubmitted(at=NOW, job_id=job_id, spec=spec)]


def granted(site: str = "a", epoch: int = 1, spec: JobSpec = SPEC, job_id: str = "j") -> ev.Event:
    return ev.JobGranted(
        at=NOW,
        job_id=job_id,
        site_id=site,
        epoch=epoch,
        checkpoint_id=None,
        lease_ttl_s=SETTINGS.ttl_s(spec),
    )


def at_work(spec: JobSpec = SPEC, job_id: str = "j") -> list[ev.Event]:
    return [
        *submitted(spec, job_id),
        granted(spec=spec, job_id=job_id),
        ev.JobPhaseChanged(at=NOW, job_id=job_id, state=JobState.RUNNING),
    ]


def step(event: On) -> ev.Event:
    return ev.MigrationAdvanced(at=NOW, migration_id="m", event=event)


PLANNED = ev.MigrationPlanned(
    at=NOW,
    migration_id="m",
    job_id="j",
    destination_site="b",
    reason="sun",
    predicted_s=5.0,
    reserved_bps=1e6,
)
SEALED = ev.MigrationSealed(at=NOW, migration_id="m", checkpoint=C2, seal_s=2.0)
COMMITTED = ev.MigrationCommitted(at=NOW, migration_id="m", epoch=2, lease_ttl_s=None)
FAILED = ev.MigrationFailed(
    at=NOW, migration_id="m", epoch=2, checkpoint_id="c1", lease_ttl_s=None, failure="no"
)
WAY: list[tuple[M, ev.Event]] = [
    (M.PLANNED, PLANNED),
    (M.PREPARED, step(On.RESERVED)),
    (M.STOPPING, step(On.STOP)),
    (M.SEALED, SEALED),
    (M.TRANSFERRING, step(On.FETCH)),
    (M.VERIFIED, step(On.VERIFY)),
    (M.COMMITTED, COMMITTED),
    (M.STARTING, step(On.START)),
    (M.CONFIRMED, step(On.CONFIRM)),
    (M.DONE, step(On.FINISH)),
]


def events_to(state: M, spec: JobSpec = SPEC) -> list[ev.Event]:
    """Return the events that bring the job j, at a, into a move to b that is in a state."""
    known = ev.CheckpointSealed(at=NOW, job_id="j", site_id="a", checkpoints=(C1,))
    events = [*seen("a", "b", "c"), *at_work(spec), known]
    if state is M.COMPENSATING:
        return [*events_to(M.STOPPING, spec), FAILED]
    if state is M.ABORTED:
        return [*events_to(M.COMPENSATING, spec), step(On.RESUMED)]
    for reached, event in WAY:
        events.append(event)
        if reached is state:
            return events
    raise AssertionError(state)


def moving(state: M, spec: JobSpec = SPEC) -> FleetState:
    return fold(events_to(state, spec))


def report(phase: JobPhase, epoch: int = 1, **changes: object) -> JobReport:
    return replace(JobReport(job_id="j", epoch=epoch, phase=phase), **changes)  # type: ignore[arg-type]


def sample(surplus_w: float | None = 500.0, age_s: float = 1.0, quality: Quality = Quality.OK) -> SiteSample:
    measured_at = NOW - timedelta(seconds=age_s)
    return SiteSample(
        measured_at=measured_at, sequence=1, quality=quality, surplus_w=surplus_w, compute_w=5.0
    )


def here(**reports: JobReport) -> dict[str, LiveSite]:
    """Return sites a, b and c connected, with the reports given by site."""
    sites = {}
    for site in ("a", "b", "c"):
        known = {reports[site].job_id: reports[site]} if site in reports else {}
        sites[site] = LiveSite(connected=True, session=1, reports=known, sample=sample())
    return sites
