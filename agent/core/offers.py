"""What of the plan's offers a site may tell its grid operator now: as much as it can keep at this instant.

The coordinator reckons with declared watts and samples that are seconds old; the site knows its import, how
low it can go, and what its grid asks. An offer is taken up by an import limit, so each says which. Knows no
MQTT and no OpenADR.
"""

from dataclasses import dataclass
from datetime import datetime

from agent.core.power_budget_sight import sees
from agent.model.limits import Envelope, GridState
from agent.model.readings import SitePower
from agent.model.telemetry import FlexibilityOffer, FlexibilityOffers

EMERGENCIES = ("ALERT_GRID_EMERGENCY", "ALERT_BLACK_START")
"""Reasons of limits during which nothing is offered: OpenADR's words for an emergency."""
LEAST_W = 1.0
SAME_W, SAME_FRAC = 25.0, 0.05
"""Offers that differ by less than the greater of the two are not told anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicOffer:
    """An offer as the operator may have it. `limit_w`: the import limit that takes it up; None: none does."""

    offer: FlexibilityOffer
    power_w: float
    limit_w: float | None

    @property
    def rises(self) -> bool:
        """Whether import would rise."""
        return self.limit_w is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospectus:
    """All that is offered at an instant: alternatives. `reason` says why there is nothing.

    `import_w` is what the offers count from; None: not known, or nothing is offered.
    """

    offers: tuple[PublicOffer, ...] = ()
    expires_at: datetime | None = None
    import_w: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the site can do now, in watts.

    `achievable_min_w` is the least import that its ladder reaches (None: unknown), `minimum_limit_w` the
    least limit that it takes, `margin_w` what it keeps free below a limit.
    """

    achievable_min_w: float | None
    minimum_limit_w: float = 0.0
    margin_w: float = 0.0


def prospectus(
    offers: FlexibilityOffers | None,
    *,
    power: SitePower | None,
    reach: Reach,
    envelope: Envelope,
    now: datetime,
) -> Prospectus:
    """Return what may be offered now.

    Parameters
    ----------
    offers : FlexibilityOffers or None
        What the coordinator sent last; None: nothing yet.
    power : SitePower or None
        The site's balance; None: no meter has spoken yet.
    reach : Reach
        What the site can do.
    envelope : Envelope
        What its grid asks.
    now : datetime
        The instant.
    """
    reason = _why_nothing(offers, envelope, now)
    if reason or offers is None:
        return Prospectus(reason=reason)
    import_w = power.grid_w if power is not None and sees(power) else None
    if import_w is None or reach.achievable_min_w is None:
        return Prospectus(reason="the site's import is not measured")
    told = (
        _rise(offer, import_w, envelope) if offer.increase_w > 0.0 else _fall(offer, import_w, reach)
        for offer in offers.offers
    )
    kept = tuple(one for one in told if one is not None)
    if not kept:
        return Prospectus(reason=offers.reason or "the site's own load leaves no room")
    return Prospectus(offers=kept, expires_at=offers.expires_at, import_w=import_w)


def shed_available_w(known: Prospectus, length_s: float) -> float | None:
    """Return the most that import can fall by over so many seconds; None: no offer is that long."""
    return max(
        (one.power_w for one in known.offers if not one.rises and one.offer.duration_s >= length_s),
        default=None,
    )


def is_news(one: Prospectus, told: Prospectus | None) -> bool:
    """Tell whether an operator should hear of it: other offers, or other watts than a meter's noise."""
    if told is None or one.reason != told.reason or one.expires_at != told.expires_at:
        return True
    if [a.offer for a in one.offers] != [b.offer for b in told.offers]:
        return True
    return any(
        abs(a.power_w - b.power_w) > _noise_w(b.power_w) or _moved(a.limit_w, b.limit_w)
        for a, b in zip(one.offers, told.offers, strict=True)
    )


def _why_nothing(offers: FlexibilityOffers | None, envelope: Envelope, now: datetime) -> str:
    if envelope.state in (GridState.INIT, GridState.FAILSAFE):
        return "the grid operator has not been heard"
    if any(limit.reason.startswith(EMERGENCIES) for limit in envelope.limits):
        return "a grid emergency"
    if offers is None or now >= offers.expires_at:
        return "no plan"
    return "" if offers.offers else offers.reason or "no plan"


def _fall(offer: FlexibilityOffer, import_w: float, reach: Reach) -> PublicOffer | None:
    """Tell by how much a limit can be lower: the margin that is kept below it is not the operator's."""
    assert reach.achievable_min_w is not None  # a prospectus without it is empty
    shed_w = min(offer.reduction_w, import_w - reach.achievable_min_w) - reach.margin_w
    power_w = min(shed_w, import_w - max(0.0, reach.minimum_limit_w))
    if power_w < LEAST_W:
        return None
    return PublicOffer(offer=offer, power_w=power_w, limit_w=import_w - power_w)


def _rise(offer: FlexibilityOffer, import_w: float, envelope: Envelope) -> PublicOffer | None:
    binding = envelope.binding
    power_w = offer.increase_w if binding is None else min(offer.increase_w, binding.limit_w - import_w)
    return PublicOffer(offer=offer, power_w=power_w, limit_w=None) if power_w >= LEAST_W else None


def _noise_w(power_w: float) -> float:
    return max(SAME_W, SAME_FRAC * power_w)


def _moved(one_w: float | None, other_w: float | None) -> bool:
    return one_w is not None and other_w is not None and abs(one_w - other_w) > _noise_w(other_w)
