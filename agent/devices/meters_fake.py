"""A meter without hardware: its figures come from a function, its faults from a switch."""

import asyncio
from collections.abc import Callable

from agent.core.plausibility import plausible
from agent.model.readings import MeterReading, MeterRole, Quality
from sterna.clock import Clock
from sterna.errors import TransientError


class FakeMeter:
    """Legal as a configured kind, so that the demo and the tests run the shipped agent.

    Parameters
    ----------
    name, role
        As configured.
    clock : Clock
        Stamps the readings.
    power_w : callable
        Active power in the house's sign at the moment of the poll.
    max_power_w : float
        As for a real meter.
    """

    def __init__(
        self,
        name: str,
        role: MeterRole,
        *,
        clock: Clock,
        power_w: Callable[[], float | None],
        max_power_w: float = 1e6,
    ) -> None:
        self.name = name
        self.role = role
        self._clock = clock
        self._power_w = power_w
        self._max_power_w = max_power_w
        self.dead = False
        self.delay_s = 0.0

    async def poll(self) -> MeterReading:
        """Answer, or fail as told; see `agent.devices.meters.Meter`."""
        if self.delay_s > 0:
            await asyncio.sleep(self.delay_s)
        if self.dead:
            raise TransientError(f"fake meter {self.name}: told to be dead")
        power_w = self._power_w()
        fault = plausible(power_w, max_power_w=self._max_power_w)
        return MeterReading(
            meter=self.name,
            role=self.role,
            measured_at=self._clock.now(),
            measured_boottime_s=self._clock.boottime_s(),
            quality=Quality.OK if fault is None else Quality.BAD,
            active_power_w=power_w if fault is None else None,
            fault=fault,
        )
