"""Power meters: what one looks like from inside the agent, and the loop that polls it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from agent.core.staleness import MeterTrack, answered, failed, poll_delay_s, published
from agent.model.readings import MeterReading, MeterRole, Quality
from sterna import pace
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

POLL_DEADLINE_S = 5.0
STUCK_AFTER_S = 120.0
READ_AHEAD_S = 0.3
"""Meters are polled that much before the beat on which others ask what they say: enough for a slow answer."""


class Meter(Protocol):
    """A power meter of one role."""

    @property
    def name(self) -> str:
        """As configured; unique at the site."""
        ...

    @property
    def role(self) -> MeterRole:
        """What it measures."""
        ...

    async def poll(self) -> MeterReading:
        """Read it once.

        Returns
        -------
        MeterReading
            In the house's sign, OK; or BAD without a number when the figures cannot be believed.

        Raises
        ------
        TransientError
            It did not answer.
        PeerProtocolError
            It answered something that is not what its kind says.
        """
        ...


async def run_meter(
    meter: Meter,
    clock: Clock,
    period_s: float,
    publish: Callable[[MeterReading], None],
    heart: Heart,
    *,
    deadline_s: float = POLL_DEADLINE_S,
    stuck_after_s: float | None = STUCK_AFTER_S,
) -> None:
    """Poll a meter for the daemon's life and publish, every period, what may be believed of it.

    Parameters
    ----------
    meter : Meter
        The one to poll.
    clock : Clock
        For instants and for the period.
    period_s : float
        Between polls, > 0.
    publish : callable
        Takes each reading; called every period, also while the meter is dead.
    heart : Heart
        Beaten every round; its deadline must exceed ``deadline_s + period_s``.
    deadline_s : float
        Longest time that one poll may take.
    stuck_after_s : float or None
        See `agent.core.staleness.published`.
    """
    track = MeterTrack(meter=meter.name, role=meter.role)
    due_s = clock.boottime_s()
    told: str | None = None
    while True:
        began_s = clock.boottime_s()
        next_s = began_s + pace.to_beat_s(asyncio.get_running_loop().time(), period_s, READ_AHEAD_S)
        if began_s >= due_s:
            track = await _polled(meter, track, deadline_s)
            # Half a period less: a beat that comes a little early is the one that was meant.
            due_s = began_s + poll_delay_s(track, period_s=period_s) - period_s / 2
        reading = published(
            track,
            now=clock.now(),
            boottime_s=clock.boottime_s(),
            period_s=period_s,
            stuck_after_s=stuck_after_s,
        )
        publish(reading)
        heart.beat()
        told = _tell(reading, told)
        await asyncio.sleep(max(0.0, next_s - clock.boottime_s()))


async def _polled(meter: Meter, track: MeterTrack, deadline_s: float) -> MeterTrack:
    try:
        async with asyncio.timeout(deadline_s):
            return answered(track, await meter.poll())
    except (TransientError, PeerProtocolError) as error:
        return failed(track, str(error))
    except TimeoutError:
        return failed(track, f"no answer within {deadline_s:g} s")


def _tell(reading: MeterReading, told: str | None) -> str | None:
    """Log a change of quality once; returns what was told."""
    state = reading.quality.value
    if state == told:
        return told
    level = logging.INFO if reading.quality is Quality.OK else logging.WARNING
    log.log(level, "meter quality", extra={"meter": reading.meter, "quality": state, "fault": reading.fault})
    return state
