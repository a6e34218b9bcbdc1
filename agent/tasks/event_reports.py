"""Reports to the operator over MQTT: what the site did in each interval of each of its limits."""

from collections.abc import Callable

from agent.core.event_windows import Closed, Running, follow
from agent.core.limits import HeldCommand
from agent.grid.measured import Measurements
from sterna import pace
from sterna.clock import Clock
from sterna.supervise import Heart

PERIOD_S = 1.0


class EventReports:
    """Follows the operator's limits and writes an OpenADR report per interval.

    Parameters
    ----------
    speaking : callable
        The operator's command in force now; None: none is.
    measurements : Measurements
        Tells the figures.
    publish : callable
        Gets each report as JSON; it must not block.
    client_name : str
        The site, as it calls itself in reports.
    interval_s : float
        Longest interval.
    clock : Clock
        Tells when an interval is over.
    """

    def __init__(
        self,
        *,
        speaking: Callable[[], HeldCommand | None],
        measurements: Measurements,
        publish: Callable[[bytes], None],
        client_name: str,
        interval_s: float,
        clock: Clock,
    ) -> None:
        self._speaking = speaking
        self._measurements = measurements
        self._publish = publish
        self._client_name = client_name
        self._interval_s = interval_s
        self._clock = clock
        self._running: Running | None = None

    async def run(self, heart: Heart) -> None:
        """Report for the daemon's life."""
        while True:
            await self.step()
            heart.beat()
            await pace.rest(PERIOD_S)

    async def step(self) -> None:
        """See whether an interval is over, and report on it."""
        held = self._speaking()
        limit = None if held is None or held.command.is_release else held.command
        self._running, closed = follow(self._running, limit, self._clock.now(), interval_s=self._interval_s)
        if closed is not None:
            self._publish(await self._written(closed))

    async def _written(self, closed: Closed) -> bytes:
        from agent.tasks.event_report import written  # OpenADR's words: 0.4 MB, from the first limit on

        return await written(closed, self._measurements, self._client_name)
