"""Between coordinator and site: orders to the keeper, leases to their clock, news to the uplink."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from agent.core.sitepower import frequency_hz
from agent.core.stored import together
from agent.devices.gpu_ports import GpuProvider
from agent.grid.desk import GridDesk
from agent.grid.wire import SiteSnapshot
from agent.jobs.keeper import Keeper
from agent.model.orders import JobReport, Order, OrderAck
from agent.model.telemetry import DeclaredSurplus, FlexibilityOffers, GridStatus, ImportCost, SiteCapabilities
from agent.tasks.control import Control
from agent.tasks.sense import Senses
from agent.uplink.link import Uplink
from sterna import pace
from sterna.clock import Clock
from sterna.supervise import Heart


@dataclass(slots=True)
class TicketKey:
    """The key that checks transfer tickets naming this site; None before the first welcome."""

    value: bytes | None = None

    def __call__(self) -> bytes | None:
        """Return the key."""
        return self.value


@dataclass(slots=True)
class LateSink:
    """Where the keeper reports to: an uplink that is made after it. None: the site runs alone."""

    sink: Callable[[JobReport], None] | None = None

    def __call__(self, report: JobReport) -> None:
        """Pass a report on."""
        if self.sink is not None:
            self.sink(report)


@dataclass(slots=True, kw_only=True)
class Liaison:
    """What the uplink wants of the agent (`agent.uplink.ports.UplinkHandler`).

    Parameters
    ----------
    checkpoint_address : str or None
        host:port where other sites fetch; None: they cannot dial us.
    idle_power_w : float
        The node's draw with no job.
    free_bytes : callable
        Bytes free in the checkpoint store.
    take_offers : callable
        Takes what may be offered to the grid operator.
    container_engines, container_mounts : tuple of str
        Engines that jobs may name here, and the folders that they may mount.
    """

    keeper: Keeper
    gpu: GpuProvider | None
    ticket_key: TicketKey
    checkpoint_address: str | None
    idle_power_w: float
    free_bytes: Callable[[], int]
    take_offers: Callable[[FlexibilityOffers], None] = lambda _offers: None
    container_engines: tuple[str, ...] = ()
    container_mounts: tuple[str, ...] = ()

    def capabilities(self) -> SiteCapabilities:
        """Tell what the site is and can do now."""
        gpu = None if self.gpu is None else self.gpu.capabilities()
        return SiteCapabilities(
            slots=self.keeper.slots,
            storage_free_bytes=self.free_bytes(),
            idle_power_w=self.idle_power_w,
            gpus=() if gpu is None else gpu.names,
            can_cap=gpu is not None and gpu.can_cap,
            checkpoint_address=self.checkpoint_address,
            container_engines=self.container_engines,
            container_mounts=self.container_mounts,
            storage_fault=self.keeper.storage_fault,
        )

    async def job_reports(self) -> Iterable[JobReport]:
        """Tell every job that the site knows."""
        return await self.keeper.settled_reports()

    async def on_order(self, order: Order, *, received_boot_s: float) -> OrderAck:
        """Record an order durably and answer it."""
        return await self.keeper.handle(order, received_boot_s=received_boot_s)

    async def on_lease(
        self, job_id: str, epoch: int, ttl_s: float | None, counted_from_boot_s: float
    ) -> None:
        """Extend a lease."""
        await self.keeper.extend_lease(job_id, epoch, ttl_s, counted_from_boot_s)

    def on_welcome(self, ticket_key: bytes) -> None:
        """Learn the key that checks transfer tickets."""
        self.ticket_key.value = ticket_key

    def on_offers(self, offers: FlexibilityOffers) -> None:
        """Take the flexibility that the coordinator computed."""
        self.take_offers(offers)


@dataclass(slots=True, kw_only=True)
class News:
    """What the site tells both its grid operator and its coordinator, gathered from where it is known."""

    desk: GridDesk
    senses: Senses
    control: Control
    uplink: Uplink | None
    clock: Clock
    declare: Callable[[datetime], tuple[DeclaredSurplus, ...]] = lambda _now: ()
    """What counts as surplus on somebody's word; nothing unless it is configured."""
    prices: Callable[[datetime], tuple[ImportCost, ...]] = lambda _now: ()
    """What import costs as the operator tells it; nothing unless it does."""
    carbon: Callable[[datetime], tuple[ImportCost, ...]] = lambda _now: ()
    """Grams of CO2 of what is imported, likewise."""
    least_export_w: Callable[[], float | None] = lambda: None
    """What the export could come down to, in watts; None: nothing obeys a limit of it, or it is not known."""

    def snapshot(self) -> SiteSnapshot:
        """Tell the grid operator's link what the site does and could do."""
        actions, readings = self.control.actions, self.senses.readings.values()
        storage = together(readings)
        return SiteSnapshot(
            power=self.senses.power,
            achievable_min_w=None if actions is None else actions.achievable_min_w,
            achievable_max_w=None if actions is None else actions.achievable_max_w,
            unachievable=actions is not None and actions.unachievable,
            breach_episodes=self.desk.tally.episodes,
            export_breach_episodes=self.desk.export_tally.episodes,
            soc_frac=None if storage is None else storage.soc_frac,
            frequency_hz=frequency_hz(readings),
            exports=self.desk.exports(),
            achievable_export_min_w=self.least_export_w(),
        )

    def grid_status(self) -> GridStatus:
        """Tell the coordinator what the grid asks."""
        snapshot = self.snapshot()
        now = self.clock.now()
        return GridStatus(
            measured_at=now,
            envelope=self.desk.envelope(),
            achievable_min_w=snapshot.achievable_min_w,
            achievable_max_w=snapshot.achievable_max_w,
            unachievable=snapshot.unachievable,
            breaches=snapshot.breach_episodes,
            export_breaches=snapshot.export_breach_episodes,
            declared=self.declare(now),
            exports=snapshot.exports,
            prices=self.prices(now),
            carbon=self.carbon(now),
        )

    def publish(self) -> None:
        """Pass up the grid status, and what the site has come to be able to do."""
        if self.uplink is not None:
            self.uplink.publish_grid(self.grid_status())
            self.uplink.publish_capabilities()


async def run_leases(keeper: Keeper, uplink: Uplink, *, period_s: float, heart: Heart) -> None:
    """Ask for every lease that is due to be extended."""
    while True:
        for job_id, epoch in keeper.leases_due():
            uplink.renew_lease(job_id, epoch)
        heart.beat()
        await pace.rest(period_s)
