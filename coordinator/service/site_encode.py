"""Values of the model as messages for a site."""

from collections.abc import Callable
from datetime import datetime
from typing import assert_never

from coordinator.model.offers import OfferSet
from coordinator.model.orders import Fetch, Offer, Order, Pause, Prepare, Release, Resume, Slow, Start, Stop
from coordinator.service import offer_codec
from coordinator.service.wire import duration, job_spec, timestamp
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


def welcome(fleet: str, now: datetime, ticket_key: bytes) -> ConnectResponse:
    """Make the first message down."""
    return ConnectResponse(welcome=Welcome(fleet=fleet, sent_at=timestamp(now), ticket_key=ticket_key))


def telemetry_ack(sequence: int) -> ConnectResponse:
    """Make the word that everything up to `sequence` is stored."""
    return ConnectResponse(telemetry_ack=TelemetryAck(sequence=sequence))


def lease(job_id: str, epoch: int, ttl_s: float | None) -> ConnectResponse:
    """Make a lease."""
    return ConnectResponse(lease=LeaseGrant(job_id=job_id, epoch=epoch, ttl=duration(ttl_s)))


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
                    spec=job_spec(action.spec),
                    checkpoint_bytes=action.checkpoint_bytes,
                    expires_after=duration(action.expires_after_s),
                )
            )
        case Start():
            message.start.CopyFrom(
                StartMessage(
                    spec=job_spec(action.spec),
                    checkpoint_id=action.checkpoint_id or "",
                    lease_ttl=duration(action.lease_ttl_s),
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
                    expires_after=duration(action.expires_after_s),
                    reason=action.reason,
                )
            )
        case Slow():
            message.slow.CopyFrom(
                SlowMessage(
                    sequence=action.sequence,
                    expires_after=duration(action.expires_after_s),
                    power_w=action.power_w,
                    reason=action.reason,
                )
            )
        case Resume():
            message.resume.CopyFrom(ResumeMessage(sequence=action.sequence))
        case _:
            assert_never(action)
    return ConnectResponse(order=message)
