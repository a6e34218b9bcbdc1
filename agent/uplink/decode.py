"""sterna.v1 messages as the agent's values: what comes down. Pure, and strict.

A field that matters and is missing, out of range or unknown raises `PeerProtocolError` with its path, so that
nothing half-understood reaches a job.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from agent.model.jobs import ContainerSpec, Flexibility, JobSpec, OnPartition
from agent.model.orders import Action, Fetch, Offer, Order, Pause, Prepare, Release, Resume, Slow, Start, Stop
from agent.model.telemetry import FlexibilityOffer, FlexibilityOffers
from sterna.errors import PeerProtocolError
from sterna.v1 import job_pb2, site_service_pb2

TICKET_KEY_BYTES = 32

_NANOS_PER_S = 1_000_000_000
_STOP_GRACE_S = 30.0
_ON_PARTITION: Mapping[int, OnPartition] = {
    job_pb2.ON_PARTITION_UNSPECIFIED: OnPartition.KEEP_RUNNING,
    job_pb2.ON_PARTITION_KEEP_RUNNING: OnPartition.KEEP_RUNNING,
    job_pb2.ON_PARTITION_STOP: OnPartition.STOP,
}
_FLEXIBILITY: Mapping[int, Flexibility] = {
    job_pb2.FLEXIBILITY_UNSPECIFIED: Flexibility.FLEX_3,
    job_pb2.FLEXIBILITY_FLEX_0: Flexibility.FLEX_0,
    job_pb2.FLEXIBILITY_FLEX_1: Flexibility.FLEX_1,
    job_pb2.FLEXIBILITY_FLEX_2: Flexibility.FLEX_2,
    job_pb2.FLEXIBILITY_FLEX_3: Flexibility.FLEX_3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The coordinator took the session."""

    fleet: str
    sent_at: datetime
    ticket_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseGrant:
    """The right to run a job; `ttl_s` None: without end."""

    job_id: str
    epoch: int
    ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryAck:
    """Everything up to `sequence` is stored."""

    sequence: int


Down = Welcome | Order | LeaseGrant | TelemetryAck | FlexibilityOffers


def down(message: site_service_pb2.ConnectResponse) -> Down:
    """Read any message of the coordinator.

    Raises
    ------
    PeerProtocolError
        Naming the field at fault.
    """
    kind = message.WhichOneof("message")
    if kind == "order":
        return order(message.order)
    if kind == "lease":
        return _lease(message.lease)
    if kind == "telemetry_ack":
        return TelemetryAck(sequence=message.telemetry_ack.sequence)
    if kind == "offers":
        return _offers(message.offers)
    if kind == "welcome":
        return _welcome(message.welcome)
    raise PeerProtocolError("coordinator: message: missing, or of a kind that this release does not know")


def order(message: site_service_pb2.Order) -> Order:
    """Read an order."""
    return Order(
        order_id=_text("order.order_id", message.order_id),
        migration_id=message.migration_id,
        job_id=_text("order.job_id", message.job_id),
        epoch=_positive("order.epoch", message.epoch),
        action=_action(message),
    )


def _action(message: site_service_pb2.Order) -> Action:  # noqa: PLR0911 - one way out an action
    kind = message.WhichOneof("action")
    if kind == "prepare":
        return Prepare(
            spec=_spec("order.prepare", message.prepare),
            checkpoint_bytes=message.prepare.checkpoint_bytes,
            expires_after_s=_required_s("order.prepare", message.prepare, "expires_after"),
        )
    if kind == "start":
        return Start(
            spec=_spec("order.start", message.start),
            checkpoint_id=message.start.checkpoint_id or None,
            lease_ttl_s=_optional_s("order.start", message.start, "lease_ttl"),
        )
    if kind == "stop":
        return Stop(reason=message.stop.reason, cancel=message.stop.cancel)
    if kind == "fetch":
        fetch = message.fetch
        return Fetch(
            checkpoint_id=_text("order.fetch.checkpoint_id", fetch.checkpoint_id),
            holder_site=_text("order.fetch.holder_site", fetch.holder_site),
            holder_address=fetch.holder_address or None,
            ticket=_text("order.fetch.ticket", fetch.ticket),
            max_bps=_not_negative("order.fetch.max_bps", fetch.max_bps) or None,
            for_start=fetch.for_start,
        )
    if kind == "offer":
        offer = message.offer
        return Offer(
            checkpoint_id=_text("order.offer.checkpoint_id", offer.checkpoint_id),
            receiver_site=_text("order.offer.receiver_site", offer.receiver_site),
            receiver_address=_text("order.offer.receiver_address", offer.receiver_address),
            ticket=_text("order.offer.ticket", offer.ticket),
            max_bps=_not_negative("order.offer.max_bps", offer.max_bps) or None,
        )
    if kind == "release":
        return Release(keep_checkpoints=message.release.keep_checkpoints)
    if kind == "pause":
        return Pause(
            sequence=_positive("order.pause.sequence", message.pause.sequence),
            expires_after_s=_required_s("order.pause", message.pause, "expires_after"),
            reason=message.pause.reason,
        )
    if kind == "slow":
        return Slow(
            sequence=_positive("order.slow.sequence", message.slow.sequence),
            expires_after_s=_required_s("order.slow", message.slow, "expires_after"),
            power_w=_not_negative("order.slow.power_w", message.slow.power_w),
            reason=message.slow.reason,
        )
    if kind == "resume":
        return Resume(sequence=_positive("order.resume.sequence", message.resume.sequence))
    raise PeerProtocolError(
        "coordinator: order.action: missing, or of a kind that this release does not know"
    )


def _spec(path: str, parent: site_service_pb2.PrepareJob | site_service_pb2.StartJob) -> JobSpec:
    if not parent.HasField("spec"):
        raise PeerProtocolError(f"coordinator: {path}.spec: missing")
    path, spec = f"{path}.spec", parent.spec
    if not spec.argv:
        raise PeerProtocolError(f"coordinator: {path}.argv: missing")
    on_partition = _ON_PARTITION.get(spec.on_partition)
    if on_partition is None:
        raise PeerProtocolError(f"coordinator: {path}.on_partition: unknown value {spec.on_partition}")
    flexibility = _FLEXIBILITY.get(spec.flexibility)
    if flexibility is None:
        raise PeerProtocolError(f"coordinator: {path}.flexibility: unknown value {spec.flexibility}")
    stop_grace_s = _optional_s(path, spec, "stop_grace")
    return JobSpec(
        name=spec.name,
        argv=tuple(spec.argv),
        resume_argv=tuple(spec.resume_argv),
        env=dict(spec.env),
        working_dir=spec.working_dir,
        checkpoint_glob=spec.checkpoint_glob,
        stop_signal=spec.stop_signal or "TERM",
        stop_grace_s=_STOP_GRACE_S if stop_grace_s is None else stop_grace_s,
        power_w=_not_negative(f"{path}.power_w", spec.power_w),
        checkpoint_bytes=spec.checkpoint_bytes,
        on_partition=on_partition,
        may_migrate=spec.may_migrate,
        min_residence_s=_optional_s(path, spec, "min_residence"),
        home_site=spec.home_site,
        load_s=_optional_s(path, spec, "load_time"),
        declared_work_s=_optional_s(path, spec, "declared_work"),
        flexibility=flexibility,
        container=_container(f"{path}.container", spec.container) if spec.HasField("container") else None,
        stays=tuple(spec.stays),
    )


def _container(path: str, message: job_pb2.ContainerSpec) -> ContainerSpec:
    return ContainerSpec(
        image=_text(f"{path}.image", message.image),
        engine=message.engine,
        mounts=dict(message.mounts),
        devices=tuple(message.devices),
        network=message.network,
        arguments=tuple(message.arguments),
    )


def _welcome(message: site_service_pb2.Welcome) -> Welcome:
    if len(message.ticket_key) != TICKET_KEY_BYTES:
        raise PeerProtocolError(
            f"coordinator: welcome.ticket_key: {len(message.ticket_key)} bytes, expected {TICKET_KEY_BYTES}"
        )
    return Welcome(
        fleet=_text("welcome.fleet", message.fleet),
        sent_at=_required_at("welcome", message, "sent_at"),
        ticket_key=message.ticket_key,
    )


def _lease(message: site_service_pb2.LeaseGrant) -> LeaseGrant:
    return LeaseGrant(
        job_id=_text("lease.job_id", message.job_id),
        epoch=_positive("lease.epoch", message.epoch),
        ttl_s=_optional_s("lease", message, "ttl"),
    )


def _offers(message: site_service_pb2.FlexibilityOffers) -> FlexibilityOffers:
    return FlexibilityOffers(
        issued_at=_required_at("offers", message, "issued_at"),
        expires_at=_required_at("offers", message, "expires_at"),
        offers=tuple(_flexibility(f"offers.offers[{at}]", one) for at, one in enumerate(message.offers)),
        reason=message.reason,
    )


def _flexibility(path: str, message: site_service_pb2.FlexibilityOffer) -> FlexibilityOffer:
    def figure(name: str) -> float:
        return _not_negative(f"{path}.{name}", getattr(message, name))

    return FlexibilityOffer(
        offer_id=_text(f"{path}.offer_id", message.offer_id),
        start_at=_required_at(path, message, "start_at"),
        duration_s=_required_s(path, message, "duration"),
        reduction_w=figure("reduction_w"),
        increase_w=figure("increase_w"),
        jobs=message.jobs,
        moves=message.moves,
        cost_job_s=figure("cost_job_s"),
        steps_at_risk=message.steps_at_risk if message.HasField("steps_at_risk") else None,
        shifted_wh=figure("shifted_wh"),
        extra_wh=figure("extra_wh"),
    )


def _text(path: str, value: str) -> str:
    if not value:
        raise PeerProtocolError(f"coordinator: {path}: missing")
    return value


def _positive(path: str, value: int) -> int:
    if value < 1:
        raise PeerProtocolError(f"coordinator: {path}: missing")
    return value


def _not_negative(path: str, value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise PeerProtocolError(f"coordinator: {path}: expected a number >= 0, got {value:g}")
    return value


def _optional_s(path: str, parent: Message, field: str) -> float | None:
    if not parent.HasField(field):
        return None
    duration: Duration = getattr(parent, field)
    return _not_negative(f"{path}.{field}", duration.seconds + duration.nanos / _NANOS_PER_S)


def _required_s(path: str, parent: Message, field: str) -> float:
    duration_s = _optional_s(path, parent, field)
    if not duration_s:
        raise PeerProtocolError(f"coordinator: {path}.{field}: missing")
    return duration_s


def _required_at(path: str, parent: Message, field: str) -> datetime:
    if not parent.HasField(field):
        raise PeerProtocolError(f"coordinator: {path}.{field}: missing")
    instant: Timestamp = getattr(parent, field)
    try:
        return instant.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise PeerProtocolError(f"coordinator: {path}.{field}: out of range") from error
