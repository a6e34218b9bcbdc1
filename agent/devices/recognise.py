"""Finds out what answers at a unit id: a SunSpec device with its models, or a meter that a table fits.

It only reads. What the figures of a table are worth is decided in `agent.core.recognise`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agent.core.blocks import Span, compile_blocks, wanted, words
from agent.core.recognise import Verdict, judge_figures
from agent.devices.bus import Bus
from agent.devices.bus_sunspec import read_common, walk_map
from agent.devices.meters_sunspec import ROLE_MODELS
from agent.modbus import NotConnectedError
from agent.model.readings import MeterRole
from agent.model.registers import Space, Table, decode
from agent.model.sunspec import BASE_ADDRESSES, COMMON, MODELS, SUNS, Value
from sterna.errors import PeerProtocolError, TransientError

STORAGE_MODELS = frozenset({124, 713, 802})


@dataclass(frozen=True, slots=True, kw_only=True)
class SunSpecFind:
    """A SunSpec device: who it says that it is, and the numbers of its models in order."""

    maker: str
    product: str
    serial: str
    models: tuple[int, ...]

    @property
    def roles(self) -> tuple[MeterRole, ...]:
        """What it measures."""
        ours = [MODELS[number] for number in self.models if number in MODELS]
        return tuple(
            role
            for role in (MeterRole.GENERATION, MeterRole.GRID)
            if any(model in ROLE_MODELS[role] for model in ours)
        )

    @property
    def stores(self) -> bool:
        """Whether it has a battery."""
        return not STORAGE_MODELS.isdisjoint(self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFind:
    """A table that fits, with what speaks for it."""

    table: Table
    verdict: Verdict


async def answers(bus: Bus, unit: int) -> bool:
    """Whether anything answers at a unit id, be it with a refusal.

    Raises
    ------
    NotConnectedError
        The line itself is away.
    """
    for read, address in ((bus.read_holding, BASE_ADDRESSES[0]), (bus.read_input, 0)):
        try:
            await read(unit, address, len(SUNS))
        except PeerProtocolError:
            return True
        except NotConnectedError:
            raise
        except TransientError:
            continue
        return True
    return False


async def find_sunspec(bus: Bus, unit: int) -> SunSpecFind | None:
    """Look for a SunSpec map; None: there is none."""
    try:
        chain = await walk_map(bus, unit)
    except (PeerProtocolError, TransientError):
        return None
    common: Mapping[str, Value] = {}
    for number, address, length in chain:
        if number in COMMON.ids:
            with suppress(TransientError):  # it has answered before: its models tell what it is
                common = await read_common(bus, unit, address, length)
            break
    maker, product, serial = (str(common.get(name) or "") for name in ("Mn", "Md", "SN"))
    return SunSpecFind(
        maker=maker, product=product, serial=serial, models=tuple(number for number, _, _ in chain)
    )


async def find_tables(
    bus: Bus, unit: int, tables: Sequence[Table], *, max_power_w: float
) -> tuple[TableFind, ...]:
    """Try tables on a device; those that fit, the one with most evidence first."""
    finds = []
    for table in tables:
        verdict = judge_figures(await _figures(bus, unit, table), max_power_w=max_power_w)
        if verdict.fits:
            finds.append(TableFind(table=table, verdict=verdict))
    return tuple(sorted(finds, key=lambda find: -len(find.verdict.evidence)))


async def _figures(bus: Bus, unit: int, table: Table) -> dict[str, float | None]:
    read = bus.read_holding if table.space is Space.HOLDING else bus.read_input
    blocks = compile_blocks(
        wanted(table.registers, table.space),
        max_read=table.max_read,
        max_gap=table.max_gap,
        holes=table.holes,
    )
    found: list[tuple[Span, Sequence[int]]] = []
    for block in blocks:
        try:
            found.append((block, await read(unit, block.address, block.count)))
        except (PeerProtocolError, TransientError):
            continue  # what it does not have speaks for itself
    return decode(table, lambda space, address, count: words(found, space, address, count))
