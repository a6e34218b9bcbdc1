"""Values of the model as messages for a site."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.model.job import Flexibility, JobSpec, OnPartition
from coordinator.model.offers import OfferSet
from coordinator.model.orders import Fetch, Offer, Order, Pause, Prepare, Release, Resume, Slow, Start, Stop
from coordinator.service import container_codec, offer_codec, slow_codec
from sterna.v1 import job_pb2
from sterna.v1.site_service_pb2 import ConnectResponse, LeaseGrant, TelemetryAck, Welcome
from sterna.v1.site_service_pb2 import FetchCheckpoint as FetchMessage
from sterna.v1.site_service_pb2 import OfferCheckpoint as OfferMessage
from sterna.v1.site_service_pb2 import Order as OrderMessage
from sterna.v1.site_service_pb2 import PauseJob as PauseMessage
from sterna.v1.site_service_pb2 import PrepareJob as PrepareMessage
from sterna.v1.site_service_pb2 import ReleaseJob as ReleaseMessage
from sterna.v1.site_service_pb2 import ResumeJob as ResumeMessage
from sterna.v1.site_service_pb2 import SlowJob as SlowMessage
from sterna.v1.site_service_pb2 import StartJob as StartMessage
from sterna.v1.site_service_pb2 import StopJob as StopMessage

MintTicket = Callable[[Order], str]
"""Makes the ticket of an order to fetch or offer."""

_ON_PARTITION = {
    OnPartition.KEEP_RUNNING: job_pb2.ON_PARTITION_KEEP_RUNNING,
    OnPartition.STOP: job_pb2.ON_PARTITION_STOP,
}
_FLEXIBILITY = {
    Flexibility.FLEX_0: job_pb2.FLEXIBILITY_FLEX_0,
    Flexibility.FLEX_1: job_pb2.FLEXIBILITY_FLEX_1,
    Flexibility.FLEX_2: job_pb2.FLEXIBILITY_FLEX_2,
    Flexibility.FLEX_3: job_pb2.FLEXIBILITY_FLEX_3,
}


def welcome(fleet: str, now: datetime, ticket_key: bytes) -> ConnectResponse:
    """Make the first message down."""
    sent_at = Timestamp()
    sent_at.FromDatetime(now)
    return ConnectResponse(welcome=Welcome(fleet=fleet, sent_at=sent_at, ticket_key=ticket_key))


def telemetry_ack(sequence: int) -> ConnectResponse:
    """Make the word that everything up to `sequence` is stored."""
    return ConnectResponse(telemetry_ack=TelemetryAck(sequence=sequence))


def lease(job_id: str, epoch: int, ttl_s: float | None) -> ConnectResponse:
    """Make a lease."""
    return ConnectResponse(lease=LeaseGrant(job_id=job_id, epoch=epoch, ttl=_optional(ttl_s)))


def offers(value: OfferSet) -> ConnectResponse:
    """Make the word of what a site may offer its grid operator."""
    return ConnectResponse(offers=offer_codec.offers(value))


def order(order_id: str, value: Order, mint: MintTicket) -> ConnectResponse:
    """Make an order; `mint` is asked for a ticket where it needs one."""
    message = OrderMessage(
        order_id=order_id, migration_id=value.migration_id, job_id=value.job_id, epoch=value.epoch
    )
    action = value.action
    match action:
        case Prepare():
            message.prepare.CopyFrom(
                PrepareMessage(
                    spec=_spec(action.spec),
                    checkpoint_bytes=action.checkpoint_bytes,
                    expires_after=_duration(action.expires_after_s),
                )
            )
        case Start():
            message.start.CopyFrom(
                StartMessage(
                    spec=_spec(action.spec),
                    checkpoint_id=action.checkpoint_id or "",
                    lease_ttl=_optional(action.lease_ttl_s),
                )
            )
        case Stop():
            message.stop.CopyFrom(StopMessage(reason=action.reason, cancel=action.cancel))
        case Fetch():
            message.fetch.CopyFrom(
                FetchMessage(
                    checkpoint_id=action.checkpoint_id,
                    holder_site=action.holder_site,
                    holder_address=action.holder_address,
                    ticket=mint(value),
                    max_bps=action.max_bps or 0.0,
                    for_start=action.for_start,
                )
            )
        case Offer():
            message.offer.CopyFrom(
                OfferMessage(
                    checkpoint_id=action.checkpoint_id,
                    receiver_site=action.receiver_site,
                    receiver_address=action.receiver_address,
                    ticket=mint(value),
                    max_bps=action.max_bps or 0.0,
                )
            )
        case Release():
            message.release.CopyFrom(ReleaseMessage(keep_checkpoints=action.keep_checkpoints))
        case Pause():
            message.pause.CopyFrom(
                PauseMessage(
                    sequence=action.sequence,
                    expires_after=_duration(action.expires_after_s),
                    reason=action.reason,
                )
            )
        case Slow():
            message.slow.CopyFrom(
                SlowMessage(
                    sequence=action.sequence,
                    expires_after=_duration(action.expires_after_s),
                    power_w=action.power_w,
                    reason=action.reason,
                )
            )
        case Resume():
            message.resume.CopyFrom(ResumeMessage(sequence=action.sequence))
        case _:
            assert_never(action)
    return ConnectResponse(order=message)


def _spec(spec: JobSpec) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(
        name=spec.name,
        argv=spec.argv,
        resume_argv=spec.resume_argv,
        env=dict(spec.env),
        working_dir=spec.working_dir,
        checkpoint_glob=spec.checkpoint_glob,
        stop_signal=spec.stop_signal,
        stop_grace=_duration(spec.stop_grace_s),
        power_w=spec.power_w,
        checkpoint_bytes=spec.checkpoint_bytes,
        on_partition=_ON_PARTITION[spec.on_partition],
        may_migrate=spec.may_migrate,
        min_residence=_optional(spec.min_residence_s),
        home_site=spec.home_site,
        load_time=_optional(spec.load_s),
        declared_work=_optional(spec.declared_work_s),
        flexibility=_FLEXIBILITY[spec.flexibility],
        container=container_codec.write(spec.container),
        slow=slow_codec.write(spec.slow),
    )


def _duration(length_s: float) -> Duration:
    message = Duration()
    message.FromTimedelta(timedelta(seconds=length_s))
    return message


def _optional(length_s: float | None) -> Duration | None:
    return None if length_s is None else _duration(length_s)
