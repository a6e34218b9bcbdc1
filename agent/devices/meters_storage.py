"""A battery's charge beside its power: a SunSpec model that changes slowly and may be missing."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from agent.core.stored import BANK_POINTS, CAPACITY_POINTS, RATING_POINTS, from_bank, from_capacity, rated
from agent.devices.bus_sunspec import FoundModel
from agent.model.readings import Storage
from agent.model.sunspec import BATTERY, DER_CAPACITY, DER_STORAGE, Model, Value
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, TransientError

log = logging.getLogger(__name__)

PERIOD_S = 30.0
# A read may fail twice before the charge is unknown.
ROUNDS = 3.0
REFUSED_RETRY_S = 600.0

Values = Mapping[str, Value]
KINDS: tuple[tuple[Model, tuple[str, ...], Callable[[Values], Storage]], ...] = (
    (DER_STORAGE, CAPACITY_POINTS, from_capacity),
    (BATTERY, BANK_POINTS, from_bank),
)
"""What tells of charge, the preferred first."""


class StorageSide:
    """The charge of one battery.

    Parameters
    ----------
    meter : str
        Its meter, for the log.
    chain : sequence of FoundModel
        The device's models.
    read : callable
        Reads points of a model; raises as a bus does.
    clock : Clock
        Times the reads.
    """

    def __init__(
        self,
        meter: str,
        chain: Sequence[FoundModel],
        read: Callable[[FoundModel, tuple[str, ...]], Awaitable[Values]],
        clock: Clock,
    ) -> None:
        found = ((one, *kind[1:]) for kind in KINDS for one in chain if one.model is kind[0])
        self._found = next(found, None)
        told = self._found is not None and self._found[0].model is DER_STORAGE
        self._rating = next((one for one in chain if told and one.model is DER_CAPACITY), None)
        self._meter, self._read, self._clock = meter, read, clock
        self._storage: Storage | None = None
        self._read_at_s = self._due_s = float("-inf")

    async def poll(self) -> Storage | None:
        """Return the charge, read again when it is due; None: unknown."""
        now_s = self._clock.boottime_s()
        if self._found is not None and now_s >= self._due_s:
            found, points, make = self._found
            self._due_s = now_s + PERIOD_S
            try:
                self._storage = make(await self._read(found, points))
                if self._rating is not None:
                    self._storage = rated(self._storage, await self._read(self._rating, RATING_POINTS))
                self._read_at_s = now_s
            except PeerProtocolError as error:
                # Power is what the meter is for; without its charge a battery is a battery all the same.
                self._storage, self._due_s = None, now_s + REFUSED_RETRY_S
                log.warning("battery refuses its charge", extra={"meter": self._meter, "fault": str(error)})
            except TransientError:
                if now_s - self._read_at_s > ROUNDS * PERIOD_S:
                    self._storage = None
        return self._storage
