"""A meter whose polls are counted."""

from agent.devices.meters import Meter
from agent.model.readings import MeterReading, MeterRole


class CountedMeter:
    """Another meter, with its polls and failures counted.

    Parameters
    ----------
    meter : Meter
        The one that is polled.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.polls = 0
        self.errors = 0
        """Polls that were not answered in time, or not understood."""

    @property
    def name(self) -> str:
        """As configured; unique at the site."""
        return self._meter.name

    @property
    def role(self) -> MeterRole:
        """What it measures."""
        return self._meter.role

    async def poll(self) -> MeterReading:
        """Read it once; see `agent.devices.meters.Meter`."""
        self.polls += 1
        self.errors += 1  # until it has answered: one that is given up ends here with a cancellation
        reading = await self._meter.poll()
        self.errors -= 1
        return reading
