"""How the tasks reach the sites: a port that the service's sessions fill."""

from typing import Protocol

from coordinator.model.orders import Order


class SiteSender(Protocol):
    """Sends to sites. False: the site has no session, or does not keep up; nothing was sent."""

    def order(self, order_id: str, order: Order) -> bool:
        """Send an order to its site."""
        ...

    def lease(self, site_id: str, job_id: str, epoch: int, ttl_s: float | None) -> bool:
        """Send a lease."""
        ...

    def telemetry_ack(self, site_id: str, sequence: int) -> bool:
        """Send the word that everything up to `sequence` is stored."""
        ...

    def hang_up(self, site_id: str, why: str) -> None:
        """End the site's session; what it has not been sent yet is dropped."""
        ...
