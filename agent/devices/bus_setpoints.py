"""Sets something on a SunSpec device, reads it back, and knows when it is to be renewed.

Nothing here can write unless the bus was built to allow writes and the control was named in the
configuration; then only that control's own registers join the bus's allow-list.
"""

import asyncio
from collections.abc import Mapping, Sequence

from agent.devices.bus import WritableBus
from agent.devices.bus_sunspec import FoundModel, find_models
from agent.model.sunspec import HEADER
from agent.model.sunspec.setpoints import (
    CONTROLS_BY_NAME,
    Control,
    Write,
    apply_writes,
    missing,
    release_writes,
)
from sterna.clock import Clock
from sterna.errors import PeerProtocolError

# Two renewals may fail before the device returns by itself.
RENEWALS_PER_REVERSION = 3.0


class SetPoint:
    """One control of one device.

    Parameters
    ----------
    bus : WritableBus
        Built with a `writable` list, which may be empty; a read-only one refuses.
    clock : Clock
        Times the renewals.
    unit : int
        Modbus unit id.
    control : str
        One of `agent.model.sunspec.setpoints.CONTROLS_BY_NAME`.
    reversion_s : int
        Seconds of our silence after which the device returns by itself.
    allow_lasting : bool
        Set it also on a device that does not return by itself.
    max_read : int
        Most registers that the device gives in one request.
    """

    def __init__(
        self,
        bus: WritableBus,
        *,
        clock: Clock,
        unit: int,
        control: str,
        reversion_s: int = 60,
        allow_lasting: bool = False,
        max_read: int = 125,
    ) -> None:
        self._bus, self._clock, self._unit = bus, clock, unit
        self._candidates = CONTROLS_BY_NAME[control]
        self._reversion_s, self._allow_lasting, self._max_read = reversion_s, allow_lasting, max_read
        self._place: tuple[Control, FoundModel] | None = None
        self._wish: Mapping[str, float] | None = None
        self._renewed_s = float("-inf")
        self._lock = asyncio.Lock()

    @property
    def wish(self) -> Mapping[str, float] | None:
        """What was last set and read back, in the points' units; None: nothing."""
        return self._wish

    @property
    def due_s(self) -> float:
        """Boottime at which it is to be renewed."""
        return self._renewed_s + self._reversion_s / RENEWALS_PER_REVERSION

    async def apply(self, wish: Mapping[str, float]) -> None:
        """Put a wish in force and read it back.

        Raises
        ------
        ValueError
            It is beyond the control's limits.
        WriteForbiddenError
            The bus is read-only.
        TransientError
            The device does not answer; it may or may not have taken it.
        PeerProtocolError
            The device has no such control, refuses it, did not take it, or would never return by itself.
        """
        async with self._lock:
            await self._apply(wish)

    async def look(self) -> int:
        """Find the control without writing it, and return its model's number; raises as `apply`."""
        async with self._lock:
            _, found, _ = await self._ready()
        return found.model_id

    async def release(self) -> None:
        """End it; raises as `apply`."""
        async with self._lock:
            self._wish = None  # first: if the device does not answer now, its own timer ends it
            control, found, image = await self._ready()
            await self._write(found, release_writes(control, image))

    async def _apply(self, wish: Mapping[str, float]) -> None:
        control, found, image = await self._ready()
        writes = apply_writes(control, image, wish, reversion_s=self._reversion_s)
        # From here on it may be in force, so it is renewed, or ended, until we know better.
        self._wish, self._renewed_s = dict(wish), self._clock.boottime_s()
        await self._write(found, writes)

    async def _ready(self) -> tuple[Control, FoundModel, Sequence[int]]:
        """Find the control, open the gate for its registers alone, and read them."""
        if self._place is None:
            self._place = await self._find()
        control, found = self._place
        try:
            image = await self._read(found)
        except PeerProtocolError:
            self._place = None  # the map moved: never write where something else may lie now
            raise
        lacking = missing(control, image)
        if control.timer and control.timer in lacking and not self._allow_lasting:
            raise PeerProtocolError(f"{self._peer}: {control.name} would stay in force if we died")
        return control, found, image

    async def _find(self) -> tuple[Control, FoundModel]:
        models = await find_models(self._bus, self._unit)
        for control in self._candidates:
            if not control.timer and not self._allow_lasting:
                continue
            for found in models:
                if found.model is control.model:
                    points = [control.model.point(name) for name in control.points]
                    spans = [range(found.address + p.offset, found.address + p.end) for p in points]
                    self._bus.allow_writes(self._unit, spans)
                    return control, found
        raise PeerProtocolError(f"{self._peer}: no model for {self._candidates[0].name}")

    async def _read(self, found: FoundModel) -> Sequence[int]:
        wanted = min(found.length, found.model.length) + HEADER
        image: list[int] = []
        while len(image) < wanted:
            count = min(self._max_read, wanted - len(image))
            image += await self._bus.read_holding(self._unit, found.address + len(image), count)
        if tuple(image[:HEADER]) != (found.model_id, found.length):
            raise PeerProtocolError(f"{self._peer}: model {found.model_id} is no longer at {found.address}")
        return image

    async def _write(self, found: FoundModel, writes: Sequence[Write]) -> None:
        for write in writes:
            await self._bus.write_registers(self._unit, found.address + write.offset, write.registers)
        for write in writes:
            got = await self._bus.read_holding(self._unit, found.address + write.offset, len(write.registers))
            if got != write.registers:
                raise PeerProtocolError(
                    f"{self._peer} registers {found.address + write.offset}: wrote "
                    f"{list(write.registers)}, reads {list(got)}"
                )

    @property
    def _peer(self) -> str:
        return f"{self._bus.peer} unit {self._unit}"
