"""What the sites' service needs of the coordinator: a port, in values of the model."""

from collections.abc import Sequence
from typing import Protocol

from coordinator.model.forecast import SurplusForecast
from coordinator.model.job import JobReport
from coordinator.model.site import Capabilities, GridStatus, MoveRequest, SiteSample


class SiteHandler(Protocol):
    """Takes what sites say. A site is authenticated before anything of it gets here."""

    def greeted(self, site_id: str, session: int) -> None:
        """Take note that a site has a session; it can be sent to from here on."""
        ...

    def gone(self, site_id: str, session: int) -> None:
        """Take note that a session has ended; a later one of the same site may have begun."""
        ...

    async def on_hello(self, site_id: str, capabilities: Capabilities, jobs: Sequence[JobReport]) -> None:
        """Take what a site is, and every job that it knows; returns once it is recorded."""
        ...

    async def on_capabilities(self, site_id: str, capabilities: Capabilities) -> None:
        """Take what a site has become since its Hello; returns once it is recorded."""
        ...

    async def on_report(self, site_id: str, report: JobReport) -> None:
        """Take the newest of one job."""
        ...

    def on_telemetry(self, site_id: str, samples: Sequence[SiteSample]) -> None:
        """Take samples; they are acknowledged to the site once they are stored."""
        ...

    def on_forecast(self, site_id: str, forecast: SurplusForecast) -> None:
        """Take a forecast in place of the one before."""
        ...

    def on_grid_status(self, site_id: str, status: GridStatus) -> None:
        """Take what the grid asks of the site."""
        ...

    def on_renewal(self, site_id: str, job_id: str, epoch: int) -> None:
        """Answer a lease renewal, if it is to be answered."""
        ...

    async def on_ack(self, site_id: str, order_id: str, accepted: bool, reason: str) -> None:
        """Take the answer to an order."""
        ...

    def on_move_request(self, site_id: str, request: MoveRequest) -> None:
        """Take a site's request to move a job away."""
        ...
