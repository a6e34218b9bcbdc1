"""What the uplink wants of the rest of the agent."""

from collections.abc import Iterable
from typing import Protocol

from agent.model.orders import JobReport, Order, OrderAck
from agent.model.telemetry import FlexibilityOffers, SiteCapabilities, TelemetrySample


class UplinkHandler(Protocol):
    """Takes what the coordinator sends. Slow calls hold up their own kind only, never the session."""

    def capabilities(self) -> SiteCapabilities:
        """Tell what the site is and can do now; it may be asked often."""
        ...

    async def job_reports(self) -> Iterable[JobReport]:
        """Tell every job that the site knows, as its store has it; asked once a session.

        A released one is among them where a checkpoint of it is left.

        Raises
        ------
        TransientError
            What is on disk is not known; without that nothing is said.
        """
        ...

    async def on_order(self, order: Order, *, received_boot_s: float) -> OrderAck:
        """Record an order durably and answer it; orders come one at a time, in order, and may come twice.

        Parameters
        ----------
        order : Order
            The order.
        received_boot_s : float
            CLOCK_BOOTTIME of its receipt: a Start's lease is counted from here, however long it queued.

        Raises
        ------
        PermanentError
            It is refused, with the error's text as the reason.
        TransientError
            It cannot be recorded now; nothing is answered and the coordinator asks again.
        """
        ...

    async def on_lease(
        self, job_id: str, epoch: int, ttl_s: float | None, counted_from_boot_s: float
    ) -> None:
        """Take a lease: it ends `ttl_s` seconds after `counted_from_boot_s` (CLOCK_BOOTTIME); None: never."""
        ...

    def on_welcome(self, ticket_key: bytes) -> None:
        """Learn the key that checks transfer tickets naming this site."""
        ...

    def on_offers(self, offers: FlexibilityOffers) -> None:
        """Take the flexibility to publish to the grid operator, in place of all before it."""
        ...


class TelemetryQueue(Protocol):
    """Samples that wait for their acknowledgement; agent.store.telemetry keeps one."""

    @property
    def last_sequence(self) -> int:
        """The newest number given out."""
        ...

    async def unsent(
        self, limit: int, after: int = 0, through: int | None = None
    ) -> tuple[TelemetrySample, ...]:
        """Return the oldest samples above `after`, at most `limit`; none above `through`."""
        ...

    async def ack(self, sequence: int, after: int = 0) -> None:
        """Let go of everything above `after` up to `sequence`."""
        ...
