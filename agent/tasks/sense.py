"""Sensing: the newest reading of every meter and GPU, and once a second the site's balance from them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.core.known import total
from agent.core.sitepower import site_power
from agent.core.stored import completed, together
from agent.devices.gpu_ports import GpuProvider
from agent.grid.desk import GridDesk
from agent.model.readings import DeclaredBattery, GpuReading, MeterReading, MeterRole, SitePower
from agent.store.telemetry import TelemetryStore
from sterna import pace
from sterna.clock import Clock
from sterna.errors import TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

LOOK_AHEAD_S = 0.05
"""The site is balanced that much before the beat on which others ask what it draws."""


@dataclass(slots=True, kw_only=True)
class Senses:
    """What the site's instruments said last.

    Parameters
    ----------
    meters : mapping of meter name to role
        The meters that the site has.
    gpu : GpuProvider or None
        The node's GPU; None: it has none that can be read.
    gpu_timeout_s : float
        How long one look at the GPU may take.
    batteries : mapping of meter name to DeclaredBattery
        What the operator says of batteries.
    """

    meters: Mapping[str, MeterRole]
    gpu: GpuProvider | None
    clock: Clock
    gpu_timeout_s: float = 5.0
    batteries: Mapping[str, DeclaredBattery] = field(default_factory=dict)
    readings: dict[str, MeterReading] = field(default_factory=dict)
    gpus: tuple[GpuReading, ...] = ()
    power: SitePower | None = None
    _gpu_fault: str = ""

    def take(self, reading: MeterReading) -> None:
        """Keep a meter's newest reading."""
        declared = self.batteries.get(reading.meter)
        self.readings[reading.meter] = reading if declared is None else completed(reading, declared)

    async def look(self) -> SitePower:
        """Read the GPU, balance the site, and keep both."""
        self.gpus = await self._read_gpus()
        self.power = site_power(
            self.readings,
            meters=self.meters,
            now=self.clock.now(),
            compute_w=total(reading.power_w for reading in self.gpus),
        )
        return self.power

    async def _read_gpus(self) -> tuple[GpuReading, ...]:
        if self.gpu is None:
            return ()
        try:
            async with asyncio.timeout(self.gpu_timeout_s):
                readings = await asyncio.to_thread(self.gpu.read)
        except (TransientError, TimeoutError) as error:
            fault = str(error) or "no answer"
            if fault != self._gpu_fault:
                log.warning("the GPU cannot be read", extra={"fault": fault})
            self._gpu_fault = fault
            return ()
        self._gpu_fault = ""
        return tuple(readings)


async def run_senses(
    senses: Senses,
    *,
    desk: GridDesk,
    telemetry: TelemetryStore,
    publish: Callable[[], None],
    least_export_w: Callable[[], float | None],
    listeners: Sequence[Callable[[SitePower], None]],
    period_s: float,
    heart: Heart,
) -> None:
    """Balance the site every `period_s` seconds, judge the sample against the limits, queue it to be sent."""
    while True:
        power = await senses.look()
        telemetry.append(power, senses.gpus, together(senses.readings.values()))
        for listener in listeners:
            listener(power)
        try:
            await desk.observe(power, least_export_w())
        except TransientError as error:  # a full disk stops neither metering nor obeying
            log.error("a breach could not be recorded", extra={"fault": str(error)})
        publish()
        heart.beat()
        await pace.rest(period_s, ahead_s=LOOK_AHEAD_S)
