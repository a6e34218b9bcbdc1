"""Orders, leases and acks into the sessions, with the tickets that orders need."""

from datetime import timedelta

from coordinator.model.offers import OfferSet
from coordinator.model.orders import Fetch, Offer, Order
from coordinator.service import site_encode
from coordinator.service.sessions import Sessions
from sterna import ticket
from sterna.clock import Clock


class Sender:
    """Sends to whichever session a site has now.

    Parameters
    ----------
    sessions : Sessions
        The open sessions.
    secret : bytes
        The coordinator's ticket secret, 32 bytes at least.
    clock : Clock
        For the tickets' expiry.
    ticket_ttl_s : float
        How long a ticket is good, in seconds: as long as a transfer may take.
    """

    def __init__(self, *, sessions: Sessions, secret: bytes, clock: Clock, ticket_ttl_s: float) -> None:
        self._sessions = sessions
        self._secret = secret
        self._clock = clock
        self._ticket_ttl_s = ticket_ttl_s

    def order(self, order_id: str, order: Order) -> bool:
        """Send an order to its site."""
        return self._sessions.send(order.site_id, site_encode.order(order_id, order, self.mint))

    def lease(self, site_id: str, job_id: str, epoch: int, ttl_s: float | None) -> bool:
        """Send a lease."""
        return self._sessions.send(site_id, site_encode.lease(job_id, epoch, ttl_s))

    def telemetry_ack(self, site_id: str, sequence: int) -> bool:
        """Send the word that everything up to `sequence` is stored."""
        return self._sessions.send(site_id, site_encode.telemetry_ack(sequence))

    def offers(self, offers: OfferSet) -> bool:
        """Send a site what it may offer its grid operator."""
        return self._sessions.send(offers.site_id, site_encode.offers(offers))

    def hang_up(self, site_id: str, why: str) -> None:
        """End the site's session; what it has not been sent yet is dropped."""
        self._sessions.end(site_id, why)

    def key(self, site_id: str) -> bytes:
        """Return the key with which a site checks tickets that name it as the dialled side."""
        return ticket.site_key(self._secret, site_id)

    def mint(self, order: Order) -> str:
        """Return the ticket for an order to fetch or offer, made with the dialled side's key."""
        match order.action:
            case Fetch(holder_site=holder, holder_address=address) as action:
                receiver = order.site_id
                dialled = holder if address else receiver
            case Offer(receiver_site=receiver) as action:
                holder = order.site_id
                dialled = receiver
            case _:
                raise AssertionError(f"no ticket goes with {order.action}")
        claims = ticket.Claims(
            checkpoint_id=action.checkpoint_id,
            job_id=order.job_id,
            holder=holder,
            receiver=receiver,
            expires_at=self._clock.now() + timedelta(seconds=self._ticket_ttl_s),
            max_bps=action.max_bps,
        )
        return ticket.mint(self.key(dialled), claims)
