import pytest

from agent.model.orders import Order, Release
from agent.uplink.decode import LeaseGrant
from agent.uplink.inbox import Inbox
from agent.uplink.outbox import Outbox
from tests.agent.uplink.standin import Handler, running
from tests.waiting import until


def order(index: int) -> Order:
    return Order(
        order_id=str(index), migration_id="", job_id="job-1", epoch=1, action=Release(keep_checkpoints=2)
    )


async def test_orders_are_bounded_and_keep_their_order() -> None:
    handler = Handler()
    inbox = Inbox(handler=handler, outbox=Outbox())
    for index in range(300):
        inbox.put_order(order(index), float(index))
    async with running(inbox.run_orders()):
        await until(lambda: len(handler.orders) == 256)
        inbox.put_order(order(999), 1.0)
        await until(lambda: len(handler.orders) == 257)
    assert [taken.order_id for taken in handler.orders[:256]] == [str(index) for index in range(256)]


async def test_the_newest_lease_of_a_job_wins_while_it_waits() -> None:
    handler = Handler()
    inbox = Inbox(handler=handler, outbox=Outbox())
    for index in range(5):
        inbox.put_lease(LeaseGrant(job_id="job-1", epoch=1, ttl_s=120.0), float(index))
    async with running(inbox.run_leases()):
        await until(lambda: handler.leases)
    assert handler.leases == [("job-1", 1, 120.0, 4.0)]


async def test_a_handler_that_breaks_ends_the_lane() -> None:
    """Anything but our own errors is a bug: the daemon ends and is started again."""

    class Broken(Handler):
        async def on_order(self, order: Order, *, received_boot_s: float):  # type: ignore[no-untyped-def]
            raise KeyError("bug")

    inbox = Inbox(handler=Broken(), outbox=Outbox())
    inbox.put_order(order(1), 1.0)
    with pytest.raises(KeyError):
        await inbox.run_orders()
