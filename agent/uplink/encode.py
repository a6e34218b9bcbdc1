"""The agent's values as sterna.v1 messages: what goes up. Pure."""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agent.model.forecast import ForecastSlot, PlantForecast
from agent.model.jobs import Checkpoint
from agent.model.limits import Limit
from agent.model.orders import JobReport, MoveRequest, OrderAck
from agent.model.readings import GpuReading, Storage
from agent.model.telemetry import DeclaredSurplus, GridStatus, ImportCost, SiteCapabilities, TelemetrySample
from sterna.v1 import job_pb2, site_pb2, site_service_pb2

PROTOCOL_VERSION = 1

_NANOS_PER_S = 1_000_000_000


def hello(
    *,
    site_id: str,
    agent_version: str,
    boot_id: str,
    capabilities: SiteCapabilities,
    jobs: Iterable[JobReport],
) -> site_service_pb2.ConnectRequest:
    """Make the first message of a session."""
    return site_service_pb2.ConnectRequest(
        hello=site_service_pb2.Hello(
            site_id=site_id,
            protocol_version=PROTOCOL_VERSION,
            agent_version=agent_version,
            boot_id=boot_id,
            capabilities=_capabilities(capabilities),
            jobs=[_job(report) for report in jobs],
        )
    )


def capabilities(value: SiteCapabilities) -> site_service_pb2.ConnectRequest:
    """Make what a site is and can do."""
    return site_service_pb2.ConnectRequest(capabilities=_capabilities(value))


def telemetry(samples: Iterable[TelemetrySample], *, historical: bool) -> site_service_pb2.ConnectRequest:
    """Make a batch; `historical`: it was measured before the session."""
    batch = site_service_pb2.TelemetryBatch(samples=[_sample(sample, historical) for sample in samples])
    return site_service_pb2.ConnectRequest(telemetry=batch)


def forecast(value: PlantForecast) -> site_service_pb2.ConnectRequest:
    """Make a forecast."""
    message = site_pb2.SurplusForecast(
        issued_at=_timestamp(value.issued_at),
        source=value.source,
        slots=[_slot(slot) for slot in value.slots],
    )
    return site_service_pb2.ConnectRequest(forecast=message)


def grid_status(value: GridStatus) -> site_service_pb2.ConnectRequest:
    """Make a grid status."""
    binding = value.envelope.binding
    message = site_pb2.GridStatus(
        state=site_pb2.GridState.Value(f"GRID_STATE_{value.envelope.state.value}"),
        limit_w=None if binding is None else binding.limit_w,
        limits=[_limit(limit) for limit in value.envelope.limits],
        achievable_min_w=value.achievable_min_w,
        achievable_max_w=value.achievable_max_w,
        unachievable=value.unachievable,
        breaches=value.breaches,
        export_breaches=value.export_breaches,
        measured_at=_timestamp(value.measured_at),
        declared=[_declared(one) for one in value.declared],
        export_limits=[_limit(limit) for limit in value.exports],
        coming_limits=[_limit(limit) for limit in value.envelope.coming],
        prices=[_cost(one) for one in value.prices],
        carbon=[_cost(one) for one in value.carbon],
    )
    return site_service_pb2.ConnectRequest(grid_status=message)


def job(report: JobReport) -> site_service_pb2.ConnectRequest:
    """Make a job report."""
    return site_service_pb2.ConnectRequest(job=_job(report))


def lease_renewal(job_id: str, epoch: int) -> site_service_pb2.ConnectRequest:
    """Make a renewal."""
    return site_service_pb2.ConnectRequest(
        lease_renewal=site_service_pb2.LeaseRenewal(job_id=job_id, epoch=epoch)
    )


def order_ack(ack: OrderAck) -> site_service_pb2.ConnectRequest:
    """Make the answer to an order."""
    message = site_service_pb2.OrderAck(
        order_id=ack.order_id,
        migration_id=ack.migration_id,
        job_id=ack.job_id,
        result=site_service_pb2.OrderResult.Value(f"ORDER_RESULT_{ack.result.value}"),
        reason=ack.reason,
    )
    return site_service_pb2.ConnectRequest(order_ack=message)


def move_request(value: MoveRequest) -> site_service_pb2.ConnectRequest:
    """Make a request to move a job away."""
    message = job_pb2.MoveRequest(job_id=value.job_id, epoch=value.epoch, reason=value.reason)
    return site_service_pb2.ConnectRequest(move_request=message)


def _sample(sample: TelemetrySample, historical: bool) -> site_pb2.SiteTelemetry:
    power = sample.power
    return site_pb2.SiteTelemetry(
        measured_at=_timestamp(power.measured_at),
        grid_w=power.grid_w,
        generation_w=power.generation_w,
        available_w=power.available_w,
        battery_w=power.battery_w,
        compute_w=power.compute_w,
        site_load_w=power.site_load_w,
        surplus_w=power.surplus_w,
        quality=site_pb2.Quality.Value(f"QUALITY_{power.quality.value}"),
        gpus=[_gpu(gpu) for gpu in sample.gpus],
        historical=historical,
        sequence=sample.sequence,
        battery=None if sample.storage is None else _battery(sample.storage),
    )


def _battery(storage: Storage) -> site_pb2.SiteBattery:
    return site_pb2.SiteBattery(
        soc_frac=storage.soc_frac,
        capacity_wh=storage.capacity_wh,
        available_wh=storage.available_wh,
        max_charge_w=storage.max_charge_w,
        max_discharge_w=storage.max_discharge_w,
        reserve_wh=storage.reserve_wh,
        serves_site=storage.serves_site,
    )


def _gpu(reading: GpuReading) -> site_pb2.GpuTelemetry:
    return site_pb2.GpuTelemetry(
        name=reading.name,
        power_w=reading.power_w,
        utilization_frac=reading.utilization_frac,
        temperature_degc=reading.temperature_degc,
        power_cap_w=reading.power_cap_w,
        calibration_factor=reading.calibration_factor,
        clock_hz=reading.clock_hz,
    )


def _slot(slot: ForecastSlot) -> site_pb2.ForecastSlot:
    return site_pb2.ForecastSlot(
        start_at=_timestamp(slot.start_at),
        duration=_duration(slot.duration_s),
        surplus_p10_w=slot.surplus_p10_w,
        surplus_p50_w=slot.surplus_p50_w,
        surplus_p90_w=slot.surplus_p90_w,
    )


def _capabilities(value: SiteCapabilities) -> site_pb2.SiteCapabilities:
    return site_pb2.SiteCapabilities(
        slots=value.slots,
        storage_free_bytes=value.storage_free_bytes,
        idle_power_w=value.idle_power_w,
        gpus=value.gpus,
        can_cap=value.can_cap,
        can_slow=value.can_cap,
        checkpoint_address=value.checkpoint_address or "",
        container_engines=value.container_engines,
        container_mounts=value.container_mounts,
        storage_fault=value.storage_fault,
    )


def _limit(limit: Limit) -> site_pb2.ActiveLimit:
    return site_pb2.ActiveLimit(
        source=limit.source,
        command_id=limit.command_id,
        limit_w=limit.limit_w,
        start_at=_timestamp(limit.start_at),
        end_at=None if limit.end_at is None else _timestamp(limit.end_at),
        reason=limit.reason,
    )


def _cost(cost: ImportCost) -> site_pb2.ImportCost:
    return site_pb2.ImportCost(
        start_at=_timestamp(cost.start_at), end_at=_timestamp(cost.end_at), per_kwh=cost.per_kwh
    )


def _declared(declared: DeclaredSurplus) -> site_pb2.DeclaredSurplus:
    return site_pb2.DeclaredSurplus(
        start_at=_timestamp(declared.start_at),
        end_at=_timestamp(declared.end_at),
        surplus_w=declared.surplus_w,
        source=declared.source,
    )


def _job(report: JobReport) -> job_pb2.JobReport:
    return job_pb2.JobReport(
        job_id=report.job_id,
        epoch=report.epoch,
        phase=job_pb2.JobPhase.Value(f"JOB_PHASE_{report.phase.value}"),
        migration_id=report.migration_id,
        step=report.step,
        start_step=report.start_step,
        checkpoints=[_checkpoint(checkpoint) for checkpoint in report.checkpoints],
        message=report.message,
        fetched_bytes=report.fetched_bytes,
        seal_time=None if report.seal_s is None else _duration(report.seal_s),
        goodput_bps=report.goodput_bps,
        transferred_bytes=report.transferred_bytes,
        highest_epoch=report.highest_epoch,
        load_time=None if report.load_s is None else _duration(report.load_s),
        reported_at=_timestamp(report.reported_at),
        pid=report.pid or 0,
        held_until=None if report.held_until is None else _timestamp(report.held_until),
        hold_sequence=report.hold_sequence,
        slowed_to_w=report.slowed_to_w,
        checkpoints_unknown=report.checkpoints_unknown,
    )


def _checkpoint(checkpoint: Checkpoint) -> job_pb2.CheckpointSummary:
    manifest = checkpoint.manifest
    return job_pb2.CheckpointSummary(
        checkpoint_id=checkpoint.checkpoint_id,
        step=manifest.step,
        epoch=manifest.epoch,
        size_bytes=manifest.size_bytes,
        sealed_at=_timestamp(manifest.sealed_at),
    )


def _timestamp(instant: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def _duration(duration_s: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(round(duration_s * _NANOS_PER_S))
    return message
