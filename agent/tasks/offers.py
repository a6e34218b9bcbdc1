"""Tells the grid operator what the site offers: as soon as it is news, and that it is withdrawn.

What the coordinator sends is held here until it expires. A site whose coordinator is away has nothing to
offer; the range that it can reach stands in its status as ever.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.offers import Prospectus, Reach, is_news, prospectus, shed_available_w
from agent.grid.measured import Measurements
from agent.grid.wire import SiteSnapshot, encode_offers
from agent.model.figures import Figure, Quantity
from agent.model.limits import Envelope
from agent.model.readings import Quality
from agent.model.telemetry import FlexibilityOffers
from sterna import pace
from sterna.clock import Clock
from sterna.supervise import Heart

log = logging.getLogger(__name__)

PERIOD_S = 1.0
REST_S = 5.0
"""Shortest time between two messages that offer something; a withdrawal waits for nothing."""
POSTED_LONGER_S = 5.0
"""The broker keeps a message for so long after it expired: the site's own withdrawal comes first."""

Post = Callable[[bytes, float | None], None]
"""Takes a message to keep for the operator, and for how many seconds (None: without end)."""


@dataclass(slots=True, kw_only=True)
class Offers:
    """What may be offered now, and what was told.

    Parameters
    ----------
    snapshot, envelope : callable
        What the site does and could do now, and what limits it.
    minimum_limit_w, margin_w : float
        Limits below the one are refused; the other is kept free below a limit.
    clock : Clock
        For instants and durations.
    post : callable or None
        Tells the operator; None: only reports do.
    """

    snapshot: Callable[[], SiteSnapshot]
    envelope: Callable[[], Envelope]
    minimum_limit_w: float
    margin_w: float
    clock: Clock
    post: Post | None = None
    _held: FlexibilityOffers | None = None
    _told: Prospectus | None = None
    _told_s: float = field(default=float("-inf"))

    def take(self, offers: FlexibilityOffers) -> None:
        """Take what the coordinator has computed, in place of all before it."""
        self._held = offers

    def now(self) -> Prospectus:
        """Return what may be offered at this instant."""
        snapshot = self.snapshot()
        return prospectus(
            self._held,
            power=snapshot.power,
            reach=Reach(
                achievable_min_w=snapshot.achievable_min_w,
                minimum_limit_w=self.minimum_limit_w,
                margin_w=self.margin_w,
            ),
            envelope=self.envelope(),
            now=self.clock.now(),
        )

    async def run(self, heart: Heart) -> None:
        """Look each second, tell what is news; runs for the daemon's life."""
        while True:
            heart.beat()
            self.look()
            await pace.rest(PERIOD_S)

    def look(self) -> None:
        """Tell the operator what is offered now, if it is news."""
        if self.post is None:
            return
        known, now_s = self.now(), self.clock.boottime_s()
        withdrawn = not known.offers
        told = self._told is not None and bool(self._told.offers)
        rests = told and not withdrawn and now_s - self._told_s < REST_S
        if rests or not is_news(known, self._told):
            return
        if withdrawn and told:
            log.info("offers are withdrawn", extra={"because": known.reason})
        now = self.clock.now()
        self.post(encode_offers(known, now), _left_s(known, now))
        self._told, self._told_s = known, now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedMeasurements:
    """Measurements that also know what load could be left off ahead, as far as the offers reach.

    Parameters
    ----------
    others : Measurements
        Know the rest.
    offers : Offers
        What is offered.
    clock : Clock
        An interval is told when an offer that begins now would cover it to its end.
    """

    others: Measurements
    offers: Offers
    clock: Clock

    async def figure(
        self, quantity: Quantity, start_at: datetime, end_at: datetime, *, forecast: bool
    ) -> Figure | None:
        """Return a quantity over an interval; None: it cannot be told."""
        if not (forecast and quantity is Quantity.SHED_AVAILABLE_W):
            return await self.others.figure(quantity, start_at, end_at, forecast=forecast)
        ends_s = (end_at - self.clock.now()).total_seconds()
        power_w = shed_available_w(self.offers.now(), ends_s)
        return None if power_w is None else Figure(value=power_w, quality=Quality.ESTIMATED)


def _left_s(known: Prospectus, now: datetime) -> float | None:
    if known.expires_at is None:
        return None
    return max(0.0, (known.expires_at - now).total_seconds()) + POSTED_LONGER_S
