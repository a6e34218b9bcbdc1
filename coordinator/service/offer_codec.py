"""Offers of flexibility as messages: the same to the site that publishes them and to the fleet's operator."""

from coordinator.model.offers import Direction, Offer, OfferSet
from coordinator.service.wire import duration, timestamp
from sterna.v1 import site_service_pb2 as pb

_DIRECTION = {
    Direction.DOWN: pb.FLEXIBILITY_DIRECTION_DOWN,
    Direction.UP: pb.FLEXIBILITY_DIRECTION_UP,
}


def offers(value: OfferSet) -> pb.FlexibilityOffers:
    """Return all that a site may offer as one message."""
    return pb.FlexibilityOffers(
        issued_at=timestamp(value.issued_at),
        expires_at=timestamp(value.expires_at),
        offers=[_offer(one) for one in value.offers],
        reason=value.reason,
    )


def _offer(offer: Offer) -> pb.FlexibilityOffer:
    falls = offer.direction is Direction.DOWN
    return pb.FlexibilityOffer(
        offer_id=offer.offer_id,
        start_at=timestamp(offer.start_at),
        duration=duration(offer.duration_s),
        direction=_DIRECTION[offer.direction],
        reduction_w=offer.power_w if falls else 0.0,
        increase_w=0.0 if falls else offer.power_w,
        cost_job_s=offer.delay_s,
        jobs=offer.jobs,
        moves=offer.moves,
        steps_at_risk=offer.steps_at_risk,
        shifted_wh=offer.shifted_wh,
        extra_wh=offer.extra_wh,
    )
