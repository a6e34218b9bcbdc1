"""Values of the model as messages for operators. States that are views on the fleet are made here."""

from collections.abc import Iterable
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from coordinator.core.deadlines import deadline_of, deadline_slack_s
from coordinator.model.decision import Alternative, Decision, Term
from coordinator.model.fleet import Job, JobState, Migration, Site
from coordinator.model.import_cost import CostSlot
from coordinator.model.job import Checkpoint, JobReport
from coordinator.model.live import LiveSite, is_connected, report_of
from coordinator.model.site import (
    ActiveLimit,
    Capabilities,
    DeclaredSurplus,
    GridStatus,
    SiteBattery,
    SiteSample,
)
from coordinator.service.operator_ports import FleetPicture, StoredDecision
from coordinator.service.wire import duration, job_spec, timestamp
from sterna.v1 import fleet_pb2, job_pb2, site_pb2

JOBS_SHOWN_AFTER_END_S = 3600.0
ENDED_MIGRATIONS_SHOWN = 20

_JOB_STATE = {
    JobState.QUEUED: fleet_pb2.JOB_STATE_QUEUED,
    JobState.STARTING: fleet_pb2.JOB_STATE_STARTING,
    JobState.RUNNING: fleet_pb2.JOB_STATE_RUNNING,
    JobState.PAUSED: fleet_pb2.JOB_STATE_PAUSED,
    # For operators it waits: the site refused it and another one is to have it.
    JobState.WITHDRAWING: fleet_pb2.JOB_STATE_QUEUED,
    JobState.COMPLETED: fleet_pb2.JOB_STATE_COMPLETED,
    JobState.FAILED: fleet_pb2.JOB_STATE_FAILED,
    JobState.CANCELLED: fleet_pb2.JOB_STATE_CANCELLED,
}


def shown_state(job: Job, picture: FleetPicture) -> "fleet_pb2.JobState.ValueType":
    """Return the state that operators see: a move under way, and silence of its site, come first."""
    if job.migration_id is not None:
        return fleet_pb2.JOB_STATE_MIGRATING
    if job.grant is not None and not is_connected(picture.live, job.grant.site_id):
        return fleet_pb2.JOB_STATE_CONTACT_LOST
    return _JOB_STATE[job.state]


def job(job: Job, picture: FleetPicture) -> fleet_pb2.Job:
    """Return a job, with what its site last said of it."""
    report = report_of(picture.live, job.owner_site, job.job_id)
    if report is not None and report.epoch != job.epoch:
        report = None  # of an earlier stay at the same site
    return fleet_pb2.Job(
        job_id=job.job_id,
        spec=job_spec(job.spec),
        state=shown_state(job, picture),
        owner_site=job.owner_site or "",
        epoch=job.epoch,
        step=report.step if report is not None else None,
        migration_id=job.migration_id or "",
        submitted_at=timestamp(job.submitted_at),
        started_at=timestamp(job.started_at),
        ended_at=timestamp(job.ended_at),
        migrations=job.migrations,
        message=job.message or _note(job, report),
        checkpoint=checkpoint(job.checkpoint) if job.checkpoint is not None else None,
        deadline_at=timestamp(deadline_of(job)),
    )


def deadline_slack(job: Job, picture: FleetPicture) -> Duration | None:
    """Return what is left to a job's deadline; None: nothing is to be said."""
    return duration(deadline_slack_s(job, picture.at))


def _note(job: Job, report: JobReport | None) -> str:
    if job.cancelling and not job.ended:
        return "being cancelled"
    if report is None or report.held_until is None:
        return ""
    until = f"{report.held_until:%H:%M:%S} UTC unless that is renewed"
    if report.slowed_to_w is not None:
        slowed = f"slowed to {report.slowed_to_w:.0f} of {job.spec.power_w:.0f} W for want of surplus"
        return f"{slowed}; at full power by {until}" if job.state is JobState.RUNNING else ""
    return f"paused for surplus; goes on by {until}" if job.state is JobState.PAUSED else ""


def checkpoint(checkpoint: Checkpoint) -> job_pb2.CheckpointSummary:
    """Return a checkpoint."""
    return job_pb2.CheckpointSummary(
        checkpoint_id=checkpoint.checkpoint_id,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        size_bytes=checkpoint.size_bytes,
        sealed_at=timestamp(checkpoint.sealed_at),
    )


def migration(migration: Migration, picture: FleetPicture) -> fleet_pb2.Migration:
    """Return a migration, with what its destination has fetched so far."""
    held = migration.checkpoint
    return fleet_pb2.Migration(
        migration_id=migration.migration_id,
        job_id=migration.job_id,
        source_site=migration.source_site,
        destination_site=migration.destination_site,
        state=fleet_pb2.MigrationState.Value(f"MIGRATION_STATE_{migration.state.value}"),
        epoch=migration.epoch,
        checkpoint_id=held.checkpoint_id if held is not None else "",
        checkpoint_bytes=held.size_bytes if held is not None else 0,
        planned_at=timestamp(migration.planned_at),
        ended_at=timestamp(migration.ended_at),
        reason=migration.reason,
        failure=migration.failure,
        transferred_bytes=_transferred_bytes(migration, picture),
        downtime=duration(migration.downtime_s),
        predicted=duration(migration.predicted_s),
    )


_BEFORE_VERIFIED = frozenset({"PLANNED", "PREPARED", "PRESTAGING", "STOPPING", "SEALED", "TRANSFERRING"})
_GIVEN_UP = frozenset({"COMPENSATING", "ABORTED"})


def _transferred_bytes(migration: Migration, picture: FleetPicture) -> int:
    report = report_of(picture.live, migration.destination_site, migration.job_id)
    fetched_bytes = 0
    if report is not None and report.migration_id == migration.migration_id:
        fetched_bytes = report.fetched_bytes
    if migration.state.value in _BEFORE_VERIFIED | _GIVEN_UP or migration.checkpoint is None:
        return fetched_bytes
    return migration.checkpoint.size_bytes  # it was verified at the destination, so all of it crossed


def site(site_id: str, picture: FleetPicture) -> fleet_pb2.Site:
    """Return a site, heard of or not."""
    return sites((site_id,), picture)[0]


def sites(site_ids: Iterable[str], picture: FleetPicture) -> list[fleet_pb2.Site]:
    """Return sites, heard of or not, each with the jobs that it has."""
    there: dict[str | None, list[str]] = {}
    for job in picture.state.jobs.values():
        if not job.ended:
            there.setdefault(job.owner_site, []).append(job.job_id)
    return [_site(site_id, sorted(there.get(site_id, ())), picture) for site_id in site_ids]


def _site(site_id: str, jobs: list[str], picture: FleetPicture) -> fleet_pb2.Site:
    known = picture.state.sites.get(site_id, Site(site_id=site_id))
    live = picture.live.get(site_id, LiveSite())
    forecast = picture.forecasts.get(site_id)
    return fleet_pb2.Site(
        site_id=site_id,
        connected=live.connected,
        last_seen_at=timestamp(live.last_seen_at),
        draining=known.draining,
        fenced=known.fenced,
        capabilities=_capabilities(known.capabilities) if known.capabilities is not None else None,
        telemetry=telemetry(live.sample) if live.sample is not None else None,
        grid_status=grid_status(live.grid_status) if live.grid_status is not None else None,
        window_end_at=timestamp(picture.window_end_at.get(site_id)),
        job_ids=jobs,
        forecast_source=forecast.source if forecast is not None else "",
        forecast_issued_at=timestamp(forecast.issued_at if forecast is not None else None),
    )


def _capabilities(capabilities: Capabilities) -> site_pb2.SiteCapabilities:
    return site_pb2.SiteCapabilities(
        slots=capabilities.slots,
        storage_free_bytes=capabilities.storage_free_bytes,
        idle_power_w=capabilities.idle_power_w,
        gpus=capabilities.gpus,
        can_cap=capabilities.can_cap,
        checkpoint_address=capabilities.checkpoint_address,
        container_engines=capabilities.container_engines,
        container_mounts=capabilities.container_mounts,
        can_slow=capabilities.can_slow,
        storage_fault=capabilities.storage_fault,
    )


def telemetry(sample: SiteSample) -> site_pb2.SiteTelemetry:
    """Return one instant at a site; what is unknown is absent."""
    return site_pb2.SiteTelemetry(
        measured_at=timestamp(sample.measured_at),
        grid_w=sample.grid_w,
        generation_w=sample.generation_w,
        available_w=sample.available_w,
        battery_w=sample.battery_w,
        compute_w=sample.compute_w,
        site_load_w=sample.site_load_w,
        surplus_w=sample.surplus_w,
        quality=site_pb2.Quality.Value(f"QUALITY_{sample.quality.value}"),
        gpus=[
            site_pb2.GpuTelemetry(
                name=gpu.name,
                power_w=gpu.power_w,
                utilization_frac=gpu.utilization_frac,
                temperature_degc=gpu.temperature_degc,
                power_cap_w=gpu.power_cap_w,
                calibration_factor=gpu.calibration_factor,
                clock_hz=gpu.clock_hz,
            )
            for gpu in sample.gpus
        ],
        historical=sample.historical,
        sequence=sample.sequence,
        battery=None if sample.battery is None else _battery(sample.battery),
    )


def _battery(battery: SiteBattery) -> site_pb2.SiteBattery:
    return site_pb2.SiteBattery(
        soc_frac=battery.soc_frac,
        capacity_wh=battery.capacity_wh,
        available_wh=battery.available_wh,
        max_charge_w=battery.max_charge_w,
        max_discharge_w=battery.max_discharge_w,
        reserve_wh=battery.reserve_wh,
        serves_site=battery.serves_site,
    )


def grid_status(status: GridStatus) -> site_pb2.GridStatus:
    """Return what the grid asks of a site."""
    return site_pb2.GridStatus(
        state=site_pb2.GridState.Value(f"GRID_STATE_{status.state.value}"),
        limit_w=status.limit_w,
        limits=[_limit(limit) for limit in status.limits],
        coming_limits=[_limit(limit) for limit in status.coming],
        achievable_min_w=status.achievable_min_w,
        achievable_max_w=status.achievable_max_w,
        unachievable=status.unachievable,
        breaches=status.breaches,
        measured_at=timestamp(status.measured_at),
        declared=[_declared(one) for one in status.declared],
        export_limits=[_limit(limit) for limit in status.export_limits],
        export_breaches=status.export_breaches,
        prices=[_cost(one) for one in status.prices],
        carbon=[_cost(one) for one in status.carbon],
    )


def _cost(cost: CostSlot) -> site_pb2.ImportCost:
    return site_pb2.ImportCost(
        start_at=timestamp(cost.start_at), end_at=timestamp(cost.end_at), per_kwh=cost.per_kwh
    )


def _declared(declared: DeclaredSurplus) -> site_pb2.DeclaredSurplus:
    return site_pb2.DeclaredSurplus(
        start_at=timestamp(declared.start_at),
        end_at=timestamp(declared.end_at),
        surplus_w=declared.surplus_w,
        source=declared.source,
    )


def _limit(limit: ActiveLimit) -> site_pb2.ActiveLimit:
    return site_pb2.ActiveLimit(
        source=limit.source,
        command_id=limit.command_id,
        limit_w=limit.limit_w,
        start_at=timestamp(limit.start_at),
        end_at=timestamp(limit.end_at),
        reason=limit.reason,
    )


def _term(term: Term) -> fleet_pb2.FeasibilityTerm:
    return fleet_pb2.FeasibilityTerm(
        name=term.name,
        value=term.value,
        limit=term.limit,
        unit=term.unit,
        satisfied=term.satisfied,
        remedy=term.remedy,
    )


def alternative(alternative: Alternative, forecast_source: str = "") -> fleet_pb2.Alternative:
    """Return a judgement on one site, and whose forecast it rests on where that is known."""
    return fleet_pb2.Alternative(
        site_id=alternative.site_id,
        feasible=alternative.feasible,
        score=alternative.score,
        terms=[_term(term) for term in alternative.terms],
        rejections=alternative.rejections,
        forecast_source=forecast_source,
    )


def decision(stored: StoredDecision) -> fleet_pb2.Decision:
    """Return a stored decision, with everything that it weighed."""
    decided: Decision = stored.decision
    return fleet_pb2.Decision(
        decision_id=stored.decision_id,
        job_id=decided.job_id,
        decided_at=timestamp(decided.decided_at),
        policy=decided.policy,
        kind=fleet_pb2.DecisionKind.Value(f"DECISION_KIND_{decided.kind.name}"),
        source_site=decided.source_site or "",
        target_site=decided.target_site or "",
        reason=decided.reason,
        alternatives=[alternative(one) for one in decided.alternatives],
    )


def jobs(picture: FleetPicture) -> list[fleet_pb2.Job]:
    """Return every job, in order of submission."""
    ordered = sorted(picture.state.jobs.values(), key=lambda one: (one.submitted_at, one.job_id))
    return [job(one, picture) for one in ordered]


def migrations(picture: FleetPicture, *, active_only: bool, job_id: str = "") -> list[fleet_pb2.Migration]:
    """Return the migrations, newest first, of one job or of all."""
    chosen = (
        one
        for one in picture.state.migrations.values()
        if not (active_only and one.ended) and (not job_id or one.job_id == job_id)
    )
    return [migration(one, picture) for one in newest_first(chosen)]


def newest_first(migrations: Iterable[Migration]) -> list[Migration]:
    """Order migrations by when they were planned, the newest first."""
    return sorted(migrations, key=lambda one: (one.planned_at, one.migration_id), reverse=True)


def current_jobs(picture: FleetPicture) -> list[Job]:
    """Return the jobs to watch, in order of submission: those that have not ended, or did lately."""
    since = picture.at - timedelta(seconds=JOBS_SHOWN_AFTER_END_S)
    current = (one for one in picture.state.jobs.values() if one.ended_at is None or one.ended_at >= since)
    return sorted(current, key=lambda one: (one.submitted_at, one.job_id))


def current_migrations(picture: FleetPicture) -> list[Migration]:
    """Return the migrations to watch, newest first: the active ones, and those that ended last."""
    every = picture.state.migrations.values()
    ended = sorted(
        (one for one in every if one.ended), key=lambda one: one.ended_at or one.planned_at, reverse=True
    )
    return newest_first([*(one for one in every if not one.ended), *ended[:ENDED_MIGRATIONS_SHOWN]])
