"""Reports to the operator over MQTT: what the site did in each interval of each of its limits."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from agent.core.event_windows import Closed, Running, follow
from agent.core.limits import HeldCommand
from agent.core.openadr.report_body import body, term
from agent.model.openadr import Due, Event, Figure, Quantity, ReportDescriptor
from agent.model.readings import Quality
from sterna.clock import Clock
from sterna.supervise import Heart

PERIOD_S = 1.0

DESCRIPTORS = (
    ReportDescriptor(payload_type="DEMAND", reading_type="MEAN", units="KW"),
    ReportDescriptor(payload_type="USAGE", reading_type="DIRECT_READ", units="KWH"),
    ReportDescriptor(payload_type="SETPOINT", units="KW"),
    ReportDescriptor(payload_type="BASELINE", units="KW"),
    ReportDescriptor(payload_type="DELTA_USAGE", units="KWH"),
)
"""The demand is always told, if only as missing; of the others what is known."""


class Measured(Protocol):
    """What the site can tell of itself (`agent.tasks.measurements.SiteMeasurements`)."""

    async def figure(
        self, quantity: Quantity, start_at: datetime, end_at: datetime, *, forecast: bool
    ) -> Figure | None:
        """Return a quantity over an interval, in the house's units; None: it cannot be told."""
        ...


class EventReports:
    """Follows the operator's limits and writes an OpenADR report per interval.

    Parameters
    ----------
    speaking : callable
        The operator's command in force now; None: none is.
    measurements : Measured
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
        measurements: Measured,
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
            await asyncio.sleep(PERIOD_S)

    async def step(self) -> None:
        """See whether an interval is over, and report on it."""
        held = self._speaking()
        limit = None if held is None or held.command.is_release else held.command
        self._running, closed = follow(self._running, limit, self._clock.now(), interval_s=self._interval_s)
        if closed is not None:
            self._publish(await self._written(closed))

    async def _written(self, closed: Closed) -> bytes:
        window = closed.window
        figures: dict[tuple[int, int], Figure] = {}
        known: list[ReportDescriptor] = []
        for descriptor in DESCRIPTORS:
            figure = await self._figure(descriptor, closed)
            if figure is not None:
                figures[len(known), 0] = figure
            if figure is not None or descriptor is DESCRIPTORS[0]:
                known.append(descriptor)
        due = Due(
            event=Event(id=closed.command.command_id, program_id=""),
            group=0,
            number=window.id,
            due_at=window.end_at,
            descriptors=tuple(known),
            windows=(window,),
        )
        report = body(due, figures, client_name=self._client_name, resource_name=self._client_name)
        return json.dumps(report, separators=(",", ":"), allow_nan=False).encode()

    async def _figure(self, descriptor: ReportDescriptor, closed: Closed) -> Figure | None:
        found, limit_w = term(descriptor), closed.command.value_w
        if found is None:
            return None
        if found.quantity is Quantity.LIMIT_W and limit_w is not None:
            # That of the interval: by now another may bind the site.
            return Figure(value=limit_w, quality=Quality.OK)
        window = closed.window
        return await self._measurements.figure(found.quantity, window.start_at, window.end_at, forecast=False)
