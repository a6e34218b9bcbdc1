"""What came down and waits for the agent: orders in one lane, leases and offers in another.

The session puts and never waits; a handler that is slow, or hangs, holds up its own lane only. The lanes
outlive sessions: an order that is being carried out is carried through even if the link breaks meanwhile.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from agent.model.orders import Order, OrderAck, OrderResult
from agent.model.telemetry import FlexibilityOffers
from agent.uplink.decode import LeaseGrant
from agent.uplink.outbox import Outbox
from agent.uplink.ports import UplinkHandler
from sterna.errors import PermanentError, TransientError

log = logging.getLogger(__name__)

T = TypeVar("T")

_ORDERS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Received:
    order: Order
    received_boot_s: float


class Inbox:
    """Hands what comes down to the handler.

    Parameters
    ----------
    handler : UplinkHandler
        Takes it.
    outbox : Outbox
        Where answers go.
    handler_timeout_s : float
        Seconds after which a call is given up, > 0; nothing is answered then and the order comes again.
    """

    def __init__(self, *, handler: UplinkHandler, outbox: Outbox, handler_timeout_s: float = 30.0) -> None:
        self._handler = handler
        self._outbox = outbox
        self._timeout_s = handler_timeout_s
        self._orders: deque[_Received] = deque()
        self._leases: dict[str, tuple[LeaseGrant, float]] = {}
        self._offers: FlexibilityOffers | None = None
        self._order_came = asyncio.Event()
        self._lease_came = asyncio.Event()

    def put_order(self, order: Order, received_boot_s: float) -> None:
        """Queue an order; over the bound it is dropped, for it comes again until it is answered."""
        if len(self._orders) >= _ORDERS_MAX:
            log.warning("too many orders wait; one is dropped", extra={"order_id": order.order_id})
            return
        self._orders.append(_Received(order=order, received_boot_s=received_boot_s))
        self._order_came.set()

    def forget_orders(self) -> None:
        """Drop the orders that wait: what is done after the next Hello, that Hello has not said."""
        self._orders.clear()

    def put_lease(self, lease: LeaseGrant, counted_from_boot_s: float) -> None:
        """Queue a lease; the newest of a job replaces what waits."""
        self._leases[lease.job_id] = (lease, counted_from_boot_s)
        self._lease_came.set()

    def put_offers(self, offers: FlexibilityOffers) -> None:
        """Queue offers; they replace those that wait."""
        self._offers = offers
        self._lease_came.set()

    async def run_orders(self) -> None:
        """Carry orders to the handler, one at a time; runs for the daemon's life."""
        while True:
            await self._order_came.wait()
            self._order_came.clear()
            while self._orders:
                received = self._orders.popleft()
                ack = await self._answered(received)
                if ack is not None:
                    self._outbox.put(ack)

    async def run_leases(self) -> None:
        """Carry leases and offers to the handler; runs for the daemon's life."""
        while True:
            await self._lease_came.wait()
            self._lease_came.clear()
            while self._leases:
                lease, counted_from_s = self._leases.pop(next(iter(self._leases)))
                try:
                    await self._within(
                        self._handler.on_lease(lease.job_id, lease.epoch, lease.ttl_s, counted_from_s)
                    )
                except (TransientError, PermanentError):
                    log.warning("a lease was not taken", exc_info=True, extra={"job_id": lease.job_id})
            offers, self._offers = self._offers, None
            if offers is not None:
                self._handler.on_offers(offers)

    async def _answered(self, received: _Received) -> OrderAck | None:
        order = received.order
        try:
            return await self._within(self._handler.on_order(order, received_boot_s=received.received_boot_s))
        except PermanentError as error:
            log.warning("an order was refused", exc_info=True, extra={"order_id": order.order_id})
            return refusal(order.order_id, order.migration_id, order.job_id, str(error))
        except TransientError:
            log.warning("an order was not recorded", exc_info=True, extra={"order_id": order.order_id})
            return None

    async def _within(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError as error:
            raise TransientError("the handler did not answer in time") from error


def refusal(order_id: str, migration_id: str, job_id: str, reason: str) -> OrderAck:
    """Make the answer that says no."""
    return OrderAck(
        order_id=order_id,
        migration_id=migration_id,
        job_id=job_id,
        result=OrderResult.REFUSED,
        reason=reason,
    )
