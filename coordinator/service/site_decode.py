"""Messages of a site as values of the model. What a site may not say is a fault that names the field."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.import_cost import CostSlot
from coordinator.model.job import Checkpoint, JobPhase, JobReport
from coordinator.model.site import (
    ActiveLimit,
    Capabilities,
    DeclaredSurplus,
    GpuSample,
    GridState,
    GridStatus,
    MoveRequest,
    Quality,
    SiteBattery,
    SiteSample,
)
from sterna.errors import PeerProtocolError
from sterna.v1 import job_pb2, site_pb2, site_service_pb2

SAMPLES_MAX = 500
_PHASES: Mapping[int, JobPhase] = {job_pb2.JobPhase.Value(f"JOB_PHASE_{one.value}"): one for one in JobPhase}
_QUALITIES: Mapping[int, Quality] = {site_pb2.Quality.Value(f"QUALITY_{one.value}"): one for one in Quality}
_GRID_STATES: Mapping[int, GridState] = {
    site_pb2.GridState.Value(f"GRID_STATE_{one.value}"): one for one in GridState
}


def capabilities(message: site_pb2.SiteCapabilities) -> Capabilities:
    """Read what a site can do."""
    return Capabilities(
        slots=message.slots,
        storage_free_bytes=message.storage_free_bytes,
        idle_power_w=_not_negative("capabilities.idle_power_w", message.idle_power_w),
        gpus=tuple(message.gpus),
        can_cap=message.can_cap,
        checkpoint_address=message.checkpoint_address,
        container_engines=tuple(message.container_engines),
        container_mounts=tuple(message.container_mounts),
        can_slow=message.can_slow,
        storage_fault=message.storage_fault,
    )


def job_report(message: job_pb2.JobReport) -> JobReport:
    """Read a job report."""
    phase = _PHASES.get(message.phase)
    if phase is None:
        raise PeerProtocolError(f"job.phase: {message.phase} is no phase")
    return JobReport(
        job_id=_text("job.job_id", message.job_id),
        epoch=message.epoch,
        phase=phase,
        migration_id=message.migration_id,
        step=message.step if message.HasField("step") else None,
        start_step=message.start_step if message.HasField("start_step") else None,
        checkpoints=tuple(_checkpoint(checkpoint) for checkpoint in message.checkpoints),
        message=message.message,
        fetched_bytes=message.fetched_bytes,
        seal_s=_optional_s("job.seal_time", message.seal_time) if message.HasField("seal_time") else None,
        goodput_bps=_optional("job", message, "goodput_bps"),
        load_s=_optional_s("job.load_time", message.load_time) if message.HasField("load_time") else None,
        transferred_bytes=message.transferred_bytes if message.HasField("transferred_bytes") else None,
        highest_epoch=message.highest_epoch,
        reported_at=_instant("job.reported_at", message.reported_at)
        if message.HasField("reported_at")
        else None,
        held_until=_instant("job.held_until", message.held_until) if message.HasField("held_until") else None,
        hold_sequence=message.hold_sequence,
        slowed_to_w=_optional("job", message, "slowed_to_w"),
        checkpoints_unknown=message.checkpoints_unknown,
    )


def _checkpoint(message: job_pb2.CheckpointSummary) -> Checkpoint:
    return Checkpoint(
        checkpoint_id=_text("job.checkpoints.checkpoint_id", message.checkpoint_id),
        step=message.step,
        epoch=message.epoch,
        size_bytes=message.size_bytes,
        sealed_at=_instant("job.checkpoints.sealed_at", message.sealed_at),
    )


def samples(message: site_service_pb2.TelemetryBatch) -> tuple[SiteSample, ...]:
    """Read a batch of telemetry."""
    if len(message.samples) > SAMPLES_MAX:
        raise PeerProtocolError(f"telemetry.samples: {len(message.samples)}, at most {SAMPLES_MAX}")
    return tuple(_sample(sample) for sample in message.samples)


def _sample(message: site_pb2.SiteTelemetry) -> SiteSample:
    def watts(name: str) -> float | None:
        return _optional("telemetry", message, name)

    return SiteSample(
        measured_at=_instant("telemetry.measured_at", message.measured_at),
        sequence=message.sequence,
        # What a newer agent may say of quality is not known to be good.
        quality=_QUALITIES.get(message.quality, Quality.BAD),
        grid_w=watts("grid_w"),
        generation_w=watts("generation_w"),
        available_w=watts("available_w"),
        battery_w=watts("battery_w"),
        compute_w=watts("compute_w"),
        site_load_w=watts("site_load_w"),
        surplus_w=watts("surplus_w"),
        gpus=tuple(_gpu(gpu) for gpu in message.gpus),
        historical=message.historical,
        battery=_battery(message.battery) if message.HasField("battery") else None,
    )


def _battery(message: site_pb2.SiteBattery) -> SiteBattery:
    def figure(name: str) -> float | None:
        value = _optional("telemetry.battery", message, name)
        return None if value is None else _not_negative(f"telemetry.battery.{name}", value)

    soc_frac = figure("soc_frac")
    if soc_frac is not None and soc_frac > 1.0:
        raise PeerProtocolError(f"telemetry.battery.soc_frac: expected 0 to 1, got {soc_frac}")
    return SiteBattery(
        soc_frac=soc_frac,
        capacity_wh=figure("capacity_wh"),
        available_wh=figure("available_wh"),
        max_charge_w=figure("max_charge_w"),
        max_discharge_w=figure("max_discharge_w"),
        reserve_wh=figure("reserve_wh"),
        serves_site=message.serves_site,
    )


def _gpu(message: site_pb2.GpuTelemetry) -> GpuSample:
    def figure(name: str) -> float | None:
        return _optional("telemetry.gpus", message, name)

    return GpuSample(
        name=message.name,
        power_w=figure("power_w"),
        utilization_frac=figure("utilization_frac"),
        temperature_degc=figure("temperature_degc"),
        power_cap_w=figure("power_cap_w"),
        calibration_factor=figure("calibration_factor"),
        clock_hz=figure("clock_hz"),
    )


def forecast(message: site_pb2.SurplusForecast) -> SurplusForecast:
    """Read a forecast; its slots must be contiguous, its quantiles in order."""
    slots: list[ForecastSlot] = []
    for slot in message.slots:
        start_at = _instant("forecast.slots.start_at", slot.start_at)
        length = slot.duration.ToTimedelta()
        quantiles = (slot.surplus_p10_w, slot.surplus_p50_w, slot.surplus_p90_w)
        if length.total_seconds() <= 0:
            raise PeerProtocolError("forecast.slots.duration: expected more than zero")
        if slots and slots[-1].end_at != start_at:
            raise PeerProtocolError("forecast.slots: not contiguous")
        p10_w, p50_w, p90_w = (_not_negative("forecast.slots.surplus", value) for value in quantiles)
        if not p10_w <= p50_w <= p90_w:
            raise PeerProtocolError("forecast.slots.surplus: quantiles decrease")
        slots.append(
            ForecastSlot(start_at=start_at, end_at=start_at + length, p10_w=p10_w, p50_w=p50_w, p90_w=p90_w)
        )
    issued_at = _instant("forecast.issued_at", message.issued_at)
    return SurplusForecast(issued_at=issued_at, source=message.source, slots=tuple(slots))


def grid_status(message: site_pb2.GridStatus) -> GridStatus:
    """Read what the grid asks of a site."""
    state = _GRID_STATES.get(message.state)
    if state is None:
        raise PeerProtocolError(f"grid_status.state: {message.state} is no state")
    return GridStatus(
        state=state,
        limit_w=_optional("grid_status", message, "limit_w"),
        limits=tuple(_limit("limits", limit) for limit in message.limits),
        coming=tuple(_limit("coming_limits", limit) for limit in message.coming_limits),
        achievable_min_w=_optional("grid_status", message, "achievable_min_w"),
        achievable_max_w=_optional("grid_status", message, "achievable_max_w"),
        unachievable=message.unachievable,
        breaches=message.breaches,
        measured_at=_instant("grid_status.measured_at", message.measured_at)
        if message.HasField("measured_at")
        else None,
        declared=tuple(_declared(one) for one in message.declared),
        export_limits=tuple(_limit("export_limits", limit) for limit in message.export_limits),
        export_breaches=message.export_breaches,
        prices=tuple(_cost("prices", one) for one in message.prices),
        carbon=tuple(_cost("carbon", one) for one in message.carbon),
    )


def _cost(field: str, message: site_pb2.ImportCost) -> CostSlot:
    at = f"grid_status.{field}"
    start_at = _instant(f"{at}.start_at", message.start_at)
    end_at = _instant(f"{at}.end_at", message.end_at)
    if end_at <= start_at:
        raise PeerProtocolError(f"{at}.end_at: expected later than start_at")
    if not math.isfinite(message.per_kwh):
        raise PeerProtocolError(f"{at}.per_kwh: expected a number, got {message.per_kwh}")
    return CostSlot(start_at=start_at, end_at=end_at, per_kwh=message.per_kwh)


def _declared(message: site_pb2.DeclaredSurplus) -> DeclaredSurplus:
    start_at = _instant("grid_status.declared.start_at", message.start_at)
    end_at = _instant("grid_status.declared.end_at", message.end_at)
    if end_at <= start_at:
        raise PeerProtocolError("grid_status.declared.end_at: expected later than start_at")
    surplus_w = _not_negative("grid_status.declared.surplus_w", message.surplus_w)
    return DeclaredSurplus(start_at=start_at, end_at=end_at, surplus_w=surplus_w, source=message.source)


def _limit(field: str, message: site_pb2.ActiveLimit) -> ActiveLimit:
    at, has_end = f"grid_status.{field}", message.HasField("end_at")
    return ActiveLimit(
        source=message.source,
        command_id=message.command_id,
        limit_w=_not_negative(f"{at}.limit_w", message.limit_w),
        start_at=_instant(f"{at}.start_at", message.start_at),
        end_at=_instant(f"{at}.end_at", message.end_at) if has_end else None,
        reason=message.reason,
    )


def move_request(message: job_pb2.MoveRequest) -> MoveRequest:
    """Read a site's request to move a job away."""
    job_id = _text("move_request.job_id", message.job_id)
    return MoveRequest(job_id=job_id, epoch=message.epoch, reason=message.reason)


def _text(name: str, value: str) -> str:
    if not value:
        raise PeerProtocolError(f"{name}: missing")
    return value


def _instant(name: str, message: Timestamp) -> datetime:
    try:
        at = message.ToDatetime(tzinfo=UTC)
    except ValueError as error:
        raise PeerProtocolError(f"{name}: {error}") from error
    if at.year < 1971:  # an unset message is 1970; some stores cannot tell it from absence
        raise PeerProtocolError(f"{name}: missing")
    return at


def _optional_s(name: str, message: Duration) -> float:
    return _not_negative(name, message.ToTimedelta().total_seconds())


def _optional(table: str, message: Message, name: str) -> float | None:
    if not message.HasField(name):
        return None
    value = float(getattr(message, name))
    if not math.isfinite(value):
        raise PeerProtocolError(f"{table}.{name}: {value} is no number")
    return value


def _not_negative(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise PeerProtocolError(f"{name}: expected zero or more, got {value}")
    return value
