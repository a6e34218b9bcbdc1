"""Takes what sites say: into the live book, the lease book and the store. Decides nothing."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from coordinator.core.grants import LeaseBook, renewable
from coordinator.model.events import Event, SiteSeen
from coordinator.model.fleet import FleetState
from coordinator.model.forecast import SurplusForecast
from coordinator.model.job import JobReport
from coordinator.model.site import Capabilities, GridStatus, MoveRequest, SiteSample
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.learning import Learning
from coordinator.tasks.live import LiveBook
from coordinator.tasks.ports import SiteSender
from coordinator.tasks.telemetry import TelemetryDesk
from sterna.clock import Clock

log = logging.getLogger(__name__)

OnAck = Callable[[str, str, bool, str], Awaitable[None]]


class Reception:
    """The coordinator's side of every session.

    Parameters
    ----------
    fleet, live, leases, telemetry
        Where things go.
    sender : SiteSender
        For the answers to lease renewals.
    on_ack : callable
        Takes answers to orders: site, order id, accepted, reason.
    clock : Clock
        For instants and durations.
    learning : Learning or None
        Learns from telemetry; None: nobody does.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        live: LiveBook,
        leases: LeaseBook,
        telemetry: TelemetryDesk,
        sender: SiteSender,
        on_ack: OnAck,
        clock: Clock,
        learning: Learning | None = None,
    ) -> None:
        self._fleet = fleet
        self._live = live
        self._leases = leases
        self._telemetry = telemetry
        self._learning = learning
        self._sender = sender
        self._on_ack = on_ack
        self._clock = clock

    async def on_hello(self, site_id: str, capabilities: Capabilities, jobs: Sequence[JobReport]) -> None:
        """Take what a site is, and every job that it knows."""
        await self.on_capabilities(site_id, capabilities)
        for report in jobs:
            self._hear(site_id, report)
        self._live.greet(site_id, jobs, self._clock.now())

    async def on_capabilities(self, site_id: str, capabilities: Capabilities) -> None:
        """Take what a site is and can do."""
        now = self._clock.now()

        def seen(state: FleetState) -> tuple[Event, ...]:
            known = state.sites.get(site_id)
            if known is not None and known.capabilities == capabilities:
                return ()
            return (SiteSeen(at=now, site_id=site_id, capabilities=capabilities),)

        await self._fleet.change(seen)

    def greeted(self, site_id: str, session: int) -> None:
        """Take note of a session; orders may go to it."""
        self._telemetry.begin(site_id)
        self._live.connect(site_id, session, self._clock.now())

    def gone(self, site_id: str, session: int) -> None:
        """Take note that a session has ended."""
        self._live.disconnect(site_id, session)

    async def on_report(self, site_id: str, report: JobReport) -> None:
        """Take the newest of one job; the driver judges it."""
        if self._live.report(site_id, report, self._clock.now()):
            self._hear(site_id, report)

    def on_telemetry(self, site_id: str, samples: Sequence[SiteSample]) -> None:
        """Take samples."""
        now = self._clock.now()
        for sample in samples:
            self._live.sample(site_id, sample, now)
        self._telemetry.take(site_id, samples)
        if self._learning is not None:
            self._learning.take(site_id, samples)

    def on_forecast(self, site_id: str, forecast: SurplusForecast) -> None:
        """Take a forecast."""
        self._live.forecast(site_id, forecast)

    def on_grid_status(self, site_id: str, status: GridStatus) -> None:
        """Take what the grid asks of a site."""
        self._live.grid_status(site_id, status)

    def on_renewal(self, site_id: str, job_id: str, epoch: int) -> None:
        """Renew the lease of the very grant that is current; say nothing to any other."""
        job = self._fleet.state.jobs.get(job_id)
        if job is None or job.grant is None or not renewable(job, site_id, epoch):
            log.info("a lease was not renewed", extra={"site": site_id, "job": job_id, "epoch": epoch})
            return
        now_boot_s = self._clock.boottime_s()
        self._leases.heard(job_id, site_id, epoch, now_boot_s)
        self._leases.given(job_id, site_id, epoch, now_boot_s)
        self._sender.lease(site_id, job_id, epoch, job.grant.lease_ttl_s)

    async def on_ack(self, site_id: str, order_id: str, accepted: bool, reason: str) -> None:
        """Take the answer to an order."""
        await self._on_ack(site_id, order_id, accepted, reason)

    def on_move_request(self, site_id: str, request: MoveRequest) -> None:
        """Take a site's request to move a job away."""
        log.info(
            "a site asks for a job to be moved away",
            extra={"site": site_id, "job": request.job_id, "why": request.reason},
        )
        self._live.move_request(site_id, request)

    def _hear(self, site_id: str, report: JobReport) -> None:
        job = self._fleet.state.jobs.get(report.job_id)
        grant = job.grant if job is not None else None
        if grant is not None and (grant.site_id, grant.epoch) == (site_id, report.epoch):
            self._leases.heard(report.job_id, site_id, report.epoch, self._clock.boottime_s())
