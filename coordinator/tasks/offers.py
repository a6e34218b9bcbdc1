"""Keeps what each site may offer its grid operator, made anew from every tick of the planner.

Level-triggered like orders: a site gets all that it may offer, again before it expires and in every new
session. A coordinator that falls silent needs no word: what it offered ends by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.core.offering import Plan, plan_offers
from coordinator.core.offers import OfferSettings, is_same
from coordinator.model.decision import Decision
from coordinator.model.offers import OfferSet
from coordinator.model.view import FleetView
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.live import LiveBook


class OfferSender(Protocol):
    """Sends offers to sites."""

    def offers(self, offers: OfferSet) -> bool:
        """Send a site what it may offer; False: it has no session, or does not keep up."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    offers: OfferSet
    session: int


class OfferBook:
    """What is offered, by site, and what of it the sites know.

    Parameters
    ----------
    fleet, live : Fleet, LiveBook
        What is stored and what is live.
    sender : OfferSender
        The way to the sites.
    settings : OfferSettings
        How offers are made.
    """

    def __init__(self, *, fleet: Fleet, live: LiveBook, sender: OfferSender, settings: OfferSettings) -> None:
        self._fleet = fleet
        self._live = live
        self._sender = sender
        self._settings = settings
        self._sent: dict[str, _Sent] = {}

    def current(self) -> Mapping[str, OfferSet]:
        """Return what was sent last, by site."""
        return {site_id: sent.offers for site_id, sent in self._sent.items()}

    def on_tick(self, view: FleetView, decisions: Sequence[Decision]) -> None:
        """Make the offers of a tick, and send those that are news or about to expire."""
        live = self._live.sites
        plan = Plan(state=self._fleet.state, live=live, view=view, decisions=decisions)
        made = plan_offers(plan, self._settings)
        self._sent = {site_id: sent for site_id, sent in self._sent.items() if site_id in made}
        for site_id, offers in made.items():
            session = live[site_id].session
            if self._is_due(offers, session) and self._sender.offers(offers):
                self._sent[site_id] = _Sent(offers=offers, session=session)

    def _is_due(self, offers: OfferSet, session: int) -> bool:
        sent = self._sent.get(offers.site_id)
        if sent is None or sent.session != session or not is_same(offers, sent.offers):
            return True
        age_s = (offers.issued_at - sent.offers.issued_at).total_seconds()
        return age_s >= self._settings.valid_s / 2
