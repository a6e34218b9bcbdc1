"""A site with the operator's Modbus server on a real socket, and an RTU that talks to it."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.rtu_registers import ADDRESSES, Nameplate
from agent.grid.desk import GridDesk
from agent.grid.rtu import OperatorRegisters
from agent.grid.rtu_server import Access, RtuServer
from agent.grid.wire import SiteSnapshot
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower
from agent.model.sunspec.codec import Value, decode
from agent.model.sunspec.load_limit import LOAD_LIMIT
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import FakeClock

HOST = "127.0.0.1"
START = datetime(2026, 11, 22, 10, tzinfo=UTC)
LOOPBACK = (ip_network("127.0.0.0/8"),)
BLOCK = ADDRESSES[64900]
ALL = Access(clients=LOOPBACK, writers=LOOPBACK, roles=frozenset({"operator"}))


def power(grid_w: float | None, quality: Quality = Quality.OK) -> SitePower:
    return SitePower(
        measured_at=START,
        quality=quality,
        grid_w=grid_w,
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=None,
        site_load_w=None,
        surplus_w=None,
    )


def meter(**more: float | None) -> MeterReading:
    return MeterReading(
        meter="grid",
        role=MeterRole.GRID,
        measured_at=START,
        measured_boottime_s=0.0,
        quality=Quality.OK,
        active_power_w=3980.0,
        **more,  # type: ignore[arg-type]
    )


class Site:
    """One site whose agent can be restarted; its clock moves when told to."""

    def __init__(
        self,
        path: Path,
        *,
        operators: tuple[str, ...] = ("modbus",),
        store_type: type[CommandStore] = CommandStore,
    ) -> None:
        self.path = path
        self.store_type = store_type
        self.boot = "boot"
        self.clock = FakeClock(START)
        self.operators = operators
        self.snapshot = SiteSnapshot(power=power(3980.0), achievable_min_w=1800.0, achievable_max_w=9200.0)
        self.readings: list[MeterReading] = [meter()]
        self.synced = True
        self.nameplate = Nameplate(name="site-a", version="0.1.0", import_w=11_000.0, phases=3)
        self.failsafe_exports_w: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def running(
        self, *, access: Access = ALL, tls: ssl.SSLContext | None = None, idle_s: float = 30.0
    ) -> AsyncIterator[RtuServer]:
        async with Database(self.path, MIGRATIONS) as db:
            self.store = self.store_type(db, boot_id=self.boot)
            self.desk = GridDesk(
                clock=self.clock,
                store=self.store,
                operators=self.operators,
                settings=FailsafeSettings(failsafe_import_w=4200.0),
                rules=Rules(site="site-a", hard_minimum_w=100.0),
                clock_synced=lambda: self.synced,
                failsafe_exports_w=self.failsafe_exports_w,
            )
            await self.desk.recover()
            registers = OperatorRegisters(
                desk=self.desk,
                source="modbus",
                nameplate=self.nameplate,
                snapshot=lambda: self.snapshot,
                readings=lambda: self.readings,
                clock=self.clock,
            )
            server = RtuServer(
                host=HOST,
                port=0,
                unit=1,
                registers=registers,
                access=access,
                clock=self.clock,
                tls=tls,
                idle_s=idle_s,
            )
            server.bind()
            try:
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(server.run())
                    yield server
                    task.cancel()
            finally:
                server.close()


class Rtu:
    """The operator's side, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.transaction = 0
        self.beats = 0
        self.sequence = 0

    async def ask(self, pdu: bytes, unit: int = 1) -> bytes:
        """Send a request and return the answer's PDU."""
        self.transaction = (self.transaction + 1) % 0x10000
        self.writer.write(struct.pack(">HHHB", self.transaction, 0, len(pdu) + 1, unit) + pdu)
        return await self.answer(self.transaction, unit)

    async def answer(self, transaction: int, unit: int = 1) -> bytes:
        """Take the next answer, which must belong to this request."""
        async with asyncio.timeout(10):
            head = await self.reader.readexactly(7)
            told, protocol, length, told_unit = struct.unpack(">HHHB", head)
            assert (told, protocol, told_unit) == (transaction, 0, unit)
            return await self.reader.readexactly(length - 1)

    async def read(self, address: int, count: int) -> list[int] | int:
        """Return the registers, or the exception's code."""
        answer = await self.ask(struct.pack(">BHH", 3, address, count))
        if answer[0] & 0x80:
            return answer[1]
        return list(struct.unpack(f">{count}H", answer[2:]))

    async def write(self, address: int, values: Sequence[int]) -> int | None:
        """Write registers; None: done, else the exception's code."""
        body = struct.pack(f">BHHB{len(values)}H", 16, address, len(values), 2 * len(values), *values)
        answer = await self.ask(body)
        assert answer[0] & 0x80 or answer == body[:5]
        return answer[1] if answer[0] & 0x80 else None

    async def beat(self) -> None:
        """Be alive."""
        self.beats += 1
        assert await self.write(BLOCK + 4, wide(self.beats)) is None

    async def limit(
        self, value_w: int | None, *, duration_s: int = 0, ramp_s: int = 0, seq: int | None = None
    ) -> int | None:
        """Command a limit, or None to release, in one write."""
        self.sequence = self.sequence + 1 if seq is None else seq
        enabled = 0 if value_w is None else 1
        values = [*wide(value_w or 0), *wide(duration_s), ramp_s, enabled, self.sequence % 0x10000]
        return await self.write(BLOCK + 8, values)

    async def block(self) -> dict[str, Value]:
        """Read LoadLimit."""
        registers = await self.read(BLOCK, 32)
        assert isinstance(registers, list)
        return decode(LOAD_LIMIT, registers)


def wide(value: int) -> list[int]:
    """Write 32 bits as two registers."""
    return [value >> 16 & 0xFFFF, value & 0xFFFF]


@contextlib.asynccontextmanager
async def rtu(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Rtu]:
    name = "localhost" if tls is not None else None
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls, server_hostname=name)
    try:
        yield Rtu(reader, writer)
    finally:
        writer.transport.abort()
