"""Delivers the reports that events ask for: gathers figures, posts, and remembers what got through."""

import asyncio
import logging
import random
from collections.abc import Callable

from agent.core.openadr.book import Book
from agent.core.openadr.report_body import body, term
from agent.core.openadr.report_due import due
from agent.grid.measured import Measurements
from agent.grid.openadr_ports import Vtn
from agent.grid.openadr_rest import ConflictError
from agent.model.figures import Figure
from agent.model.openadr import Due
from sterna.backoff import Backoff
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, TransientError

log = logging.getLogger(__name__)

LONGEST_BACKOFF_S = 300.0


class Reporter:
    """Makes one site's reports.

    Parameters
    ----------
    vtn : Vtn
        Takes them.
    measurements : Measurements
        Tells the figures.
    clock : Clock
        Tells what is due.
    ven_name, resource_name : str
        As registered with the VTN.
    period_s : float
        How often it is seen what is due.
    open_window_s : float
        Length of the interval where an event leaves it to us.
    """

    def __init__(
        self,
        *,
        vtn: Vtn,
        measurements: Measurements,
        clock: Clock,
        ven_name: str,
        resource_name: str,
        period_s: float = 10.0,
        open_window_s: float = 900.0,
    ) -> None:
        self._vtn = vtn
        self._measurements = measurements
        self._clock = clock
        self._ven_name = ven_name
        self._resource_name = resource_name
        self._period_s = period_s
        self._open_window_s = open_window_s
        self._done: dict[tuple[str, int], int] = {}

    async def run(self, book: Callable[[], Book]) -> None:
        """Deliver what is due until cancelled; what a VTN that is away does not take is tried again."""
        backoff = Backoff(2 * self._period_s, LONGEST_BACKOFF_S, least_frac=0.9)
        while True:
            try:
                await self.deliver(book())
                backoff.reset()
                wait_s = self._period_s * random.uniform(0.9, 1.0)
            except TransientError as error:
                log.warning("a report waits", extra={"reason": str(error)})
                wait_s = backoff.next_s()
            await asyncio.sleep(wait_s)

    async def deliver(self, book: Book) -> int:
        """Deliver what is due now, oldest first; return how many reports got through.

        Raises
        ------
        TransientError
            The VTN is away; what it took so far is remembered.
        """
        delivered = 0
        self._done = {key: number for key, number in self._done.items() if key[0] in book.held}
        for _, known in sorted(book.held.items()):
            waiting = due(
                known,
                site=self._ven_name,
                now=self._clock.now(),
                done=self._done,
                open_window_s=self._open_window_s,
            )
            for report in waiting:
                delivered += await self._deliver(report)
        return delivered

    async def _deliver(self, report: Due) -> bool:
        written = body(
            report,
            await self._figures(report),
            client_name=self._ven_name,
            resource_name=self._resource_name,
        )
        taken = True
        try:
            await self._vtn.create_report(written)
        except ConflictError:
            log.info("the VTN has a report already", extra={"report": written["reportName"]})
        except PeerProtocolError as error:
            log.error("the VTN refuses a report", extra={"reason": str(error)})
            taken = False  # it will not like it better tomorrow
        self._done[report.key] = report.number
        return taken

    async def _figures(self, report: Due) -> dict[tuple[int, int], Figure]:
        figures = {}
        for place, descriptor in enumerate(report.descriptors):
            found = term(descriptor)
            if found is None:
                continue
            for number, window in enumerate(report.windows):
                figure = await self._measurements.figure(
                    found.quantity, window.start_at, window.end_at, forecast=not descriptor.historical
                )
                if figure is not None:
                    figures[place, number] = figure
        return figures
