"""Where a SunSpec device keeps its models: found by walking its map, known only by tables that we have."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.blocks import Span, compile_blocks, together
from agent.devices.bus import Bus
from agent.model.sunspec import BASE_ADDRESSES, COMMON, END_OF_MAP, HEADER, MODELS, SUNS, Model, Value, decode
from sterna.errors import PeerProtocolError

# A real map has some twenty models; garbage that looks like a chain must end somewhere.
MAX_MODELS = 64
MAX_ADDRESS = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """Where a model lies on the device.

    Parameters
    ----------
    model : Model
        Its table.
    model_id : int
        Which of the table's numbers.
    address : int
        Of its ID register, as on the wire.
    length : int
        Registers after ID and L, as the device says.
    """

    model: Model
    model_id: int
    address: int
    length: int

    def blocks(self, names: tuple[str, ...], max_read: int) -> tuple[Span, ...]:
        """Find the requests for these points: each with its scale factor, and with the header first.

        The header shows in every read that the map has not moved. Points beyond the device's own length are
        left out. Raises ValueError where `max_read` is too small.
        """
        spans = [Span("holding", self.address, HEADER)]
        for name in names:
            point = self.model.point(name)
            parts = [point, self.model.point(point.sf)] if point.sf else [point]
            if all(part.end <= self.length + HEADER for part in parts):
                spans.append(
                    together([Span("holding", self.address + part.offset, part.count) for part in parts])
                )
        return compile_blocks(spans, max_read=max_read, max_gap=max_read)


async def find_models(bus: Bus, unit: int) -> list[FoundModel]:
    """Walk a device's map; only the models that we have a table for are kept.

    Raises
    ------
    PeerProtocolError
        There is no map, or it has no end.
    TransientError
        The device does not answer.
    """
    return [
        FoundModel(model=MODELS[model_id], model_id=model_id, address=address, length=length)
        for model_id, address, length in await walk_map(bus, unit)
        if model_id in MODELS
    ]


async def walk_map(bus: Bus, unit: int) -> list[tuple[int, int, int]]:
    """Walk a device's map: number, address and length of every model; raises as `find_models`."""
    address = await _base(bus, unit) + len(SUNS)
    found: list[tuple[int, int, int]] = []
    for _ in range(MAX_MODELS):
        if address + HEADER > MAX_ADDRESS:
            break
        model_id, length = await bus.read_holding(unit, address, HEADER)
        if model_id == END_OF_MAP:
            return found
        found.append((model_id, address, length))
        address += HEADER + length
    raise PeerProtocolError(f"{bus.peer} unit {unit}: the SunSpec map has no end")


async def read_common(bus: Bus, unit: int, address: int, length: int) -> Mapping[str, Value]:
    """Read who a device says that it is; nothing where it refuses, for it may be read all the same."""
    try:
        registers = await bus.read_holding(unit, address, min(length, COMMON.length) + HEADER)
    except PeerProtocolError:
        return {}
    return decode(COMMON, registers)


async def _base(bus: Bus, unit: int) -> int:
    for address in BASE_ADDRESSES:
        try:
            if await bus.read_holding(unit, address, len(SUNS)) == SUNS:
                return address
        except PeerProtocolError:
            continue  # no registers there: the next base
    raise PeerProtocolError(f"{bus.peer} unit {unit}: no SunSpec map at 40000, 0 or 50000")
