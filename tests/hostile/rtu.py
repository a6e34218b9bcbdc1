"""The Modbus server for an operator's RTU as a target: real sockets, production registers, desk and store."""

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from agent.core import loadlimit
from agent.core.rtu_registers import ADDRESSES, BASE, COUNT
from agent.grid.rtu_server import Access
from agent.store.commands import CommandStore
from sterna.errors import TransientError
from tests.agent.grid.rtu_rig import ALL, BLOCK, HOST, LOOPBACK, Rtu, Site, wide

LAST_SEQUENCE = 1000
HARD_MINIMUM_W = 100
EXPORT_W = 10_000.0
LIMIT, SET = ADDRESSES[704] + 14, ADDRESSES[704] + 22
READ_ONLY = Access(clients=LOOPBACK)
REASONS = {number: reason.value for reason, number in loadlimit.REASONS.items()}
EXCEPTIONS = {
    1: "ILLEGAL_FUNCTION",
    2: "ILLEGAL_ADDRESS",
    3: "ILLEGAL_VALUE",
    4: "FAILURE",
    11: "NO_SUCH_UNIT",
}
CLOSED, SILENCE, ANSWERED = "closed", "waits for the rest", "answered"
FUNCTIONS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 20, 22, 23, 24, 43, 90, 128, 131, 255)


class FullStore(CommandStore):
    """A store whose disk takes nothing more."""

    async def accept(self, *_args: object) -> None:
        """Refuse as a full disk does."""
        raise TransientError("disk full")

    async def keep_config(self, *_args: object) -> None:
        """Refuse as a full disk does."""
        raise TransientError("disk full")


class Peer:
    """One connection to one site, opened again whenever the site has closed it."""

    def __init__(self, site: Site, port: int) -> None:
        self.site, self.port = site, port
        self.rtu: Rtu | None = None

    async def connected(self) -> Rtu:
        if self.rtu is None:
            self.rtu = Rtu(*await asyncio.open_connection(HOST, self.port))
        return self.rtu

    def close(self) -> None:
        if self.rtu is not None:
            self.rtu.writer.transport.abort()
            self.rtu = None

    async def throw(self, data: bytes) -> str:
        """Send bytes that may be anything, and nothing after them; say what became of the last of them."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        answers = b""
        try:
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                writer.write_eof()
                async with asyncio.timeout(10):
                    answers = await reader.read()
        finally:
            writer.transport.abort()
        return _outcome(data, answers)


class RtuTarget:
    """Sites that hostile frames are sent to: one that may only be read, one that may be written, one full."""

    name = "rtu"
    reasons = frozenset({CLOSED, SILENCE, ANSWERED, *EXCEPTIONS.values()}) | (
        frozenset(REASONS.values()) - {"CLOCK_UNSYNCHRONISED"}  # a write is issued as it arrives
    )

    def __init__(self, peers: dict[str, Peer]) -> None:
        self._peers = peers

    def state(self) -> object:
        """Return what the desks hold."""
        return [
            (
                desk.envelope(),
                desk.exports(),
                desk.newest("modbus"),
                desk.last_sequence("modbus"),
                desk.operators.of("modbus"),
                desk.machines,
            )
            for desk in (peer.site.desk for peer in self._peers.values())
        ]

    async def offer(self, rng: random.Random) -> str:
        """Send one bad frame."""
        kind = rng.randrange(10)
        if kind == 0:
            return await rng.choice(list(self._peers.values())).throw(_junk(rng))
        if kind < 3:
            # Here even a mutant that is a sound command must change nothing.
            return await self._peers["read"].throw(_mutant(_frame(rng, _valid(rng)), rng))
        if kind < 5:
            return await self._ask("read", rng, _valid(rng) if rng.random() < 0.7 else _wild(rng))
        if kind < 6:
            return await self._ask("write", rng, _wild(rng))
        if kind == 6:
            return await self._full(rng)
        return await self._refused(rng)

    async def _ask(self, site: str, rng: random.Random, pdu: bytes, *, unit: int | None = None) -> str:
        """Send a frame whose length is right."""
        rtu = await self._peers[site].connected()
        answer = await rtu.ask(pdu, rng.choice((1, 1, 1, 1, 1, 0, 2, 255)) if unit is None else unit)
        return EXCEPTIONS[answer[1]] if answer[0] & 0x80 else ANSWERED

    async def _full(self, rng: random.Random) -> str:
        """Have a full disk refuse a sound command."""
        rtu = await self._peers["full"].connected()
        if rng.random() < 0.2:
            settings = (BLOCK + 20, wide(rng.randrange(2**31)))
            assert await rtu.write(*rng.choice((settings, (LIMIT, [1, rng.randrange(10_001)])))) == 4
            return EXCEPTIONS[4]
        assert await rtu.limit(rng.randrange(HARD_MINIMUM_W, 2**31), seq=rng.randrange(2**16)) == 4
        return await self._told(rtu)

    async def _refused(self, rng: random.Random) -> str:
        """Write to the site that may be written what it must refuse, whole or in pieces."""
        rtu = await self._peers["write"].connected()
        if rng.random() < 0.1:
            place, values = _refused_export(rng)
            assert await rtu.write(place, values) == 3
            return EXCEPTIONS[3]
        points = _refused_command(rng)
        if points is None:
            assert await rtu.write(BLOCK + 20, wide(rng.randrange(2**31, 2**32))) == 3
            return EXCEPTIONS[3]
        for address, values in points:
            fault = await rtu.write(address, values)
        assert fault == 3
        return await self._told(rtu)

    async def _told(self, rtu: Rtu) -> str:
        registers = await rtu.read(BLOCK + 15, 3)
        assert isinstance(registers, list)
        assert registers[1] == loadlimit.REJECTED
        return REASONS[registers[2]]

    async def close(self) -> None:
        """Hang up."""
        for peer in self._peers.values():
            peer.close()


Writes = list[tuple[int, list[int]]]


def _refused_export(rng: random.Random) -> tuple[int, list[int]]:
    """Make a write to model 704 that is refused: the one control is off, the other holds a limit."""
    return rng.choice(
        (
            (LIMIT, [rng.randrange(2, 2**16)]),
            (LIMIT, [1, rng.randrange(10_001, 2**16), 10_000, 0]),
            (LIMIT + 1, [rng.randrange(10_001, 2**16)]),
            (LIMIT + 4, wide(rng.randrange(366 * 86_400 + 1, 2**32))),
            (SET, [1, rng.choice((0, *range(2, 2**16)))]),
            (SET, [rng.randrange(2), 1, *wide(rng.randrange(2**31, 2**32))]),
            (SET + 2, wide(rng.randrange(int(EXPORT_W) + 1, 2**31))),
        )
    )


def _refused_command(rng: random.Random) -> Writes | None:
    """Make the writes of a command that is refused, for each reason in turn; None: settings instead."""
    ahead = (LAST_SEQUENCE + rng.randrange(1, 0x8000)) % 0x10000
    past = (LAST_SEQUENCE - rng.randrange(1, 0x8001)) % 0x10000
    sound_w = rng.randrange(HARD_MINIMUM_W, 2**31)
    kind = rng.randrange(8)
    if kind == 0:
        return None
    if kind == 1:
        return _whole(rng.randrange(2**31, 2**32 - 1), 0, 0, 1, ahead)
    if kind == 2:
        return _whole(rng.randrange(HARD_MINIMUM_W), 0, 0, 1, ahead)
    if kind == 3:
        return _whole(sound_w, 0, 0, 1, past)
    if kind == 4:
        return _whole(sound_w + 1 if sound_w == 5000 else sound_w, 1, 0, 1, LAST_SEQUENCE)
    if kind == 5:
        return _whole(sound_w, rng.randrange(366 * 86_400 + 1, 2**32), 0, 1, ahead)
    if kind == 6:
        return _whole(sound_w, 0, rng.randrange(3601, 2**16), 1, ahead)
    pieces: Writes = [
        (BLOCK + 8, wide(sound_w)),
        (BLOCK + 10, wide(rng.randrange(2**32))),
        (BLOCK + 12, [rng.randrange(2**16)]),
        (BLOCK + 13, [rng.randrange(2, 2**16)]),
    ]
    rng.shuffle(pieces)
    return [*pieces[: rng.randrange(5)], (BLOCK + 13, [rng.randrange(2, 2**16)]), (BLOCK + 14, [ahead])]


def _whole(value_w: int, duration_s: int, ramp_s: int, enabled: int, seq: int) -> Writes:
    return [(BLOCK + 8, [*wide(value_w), *wide(duration_s), ramp_s, enabled, seq])]


def _valid(rng: random.Random) -> bytes:
    """Return a sound request: a read, a heartbeat, settings, a command."""
    kind = rng.randrange(5)
    if kind == 0:
        return struct.pack(">BHH", 3, BASE + rng.randrange(COUNT - 2), 2)
    if kind == 1:
        return struct.pack(">BHH", 6, BLOCK + 14, rng.randrange(2**16))
    place, values = rng.choice(
        (
            (BLOCK + 4, wide(rng.randrange(2**32))),
            (ADDRESSES[715] + 5, wide(rng.randrange(2**32))),
            (BLOCK + 20, [*wide(3000), *wide(7200)]),
            (BLOCK + 8, [*wide(3000), *wide(60), 5, 1, rng.randrange(2**16)]),
            (BLOCK + 8, [0, 0, 0, 0, 0, 0, rng.randrange(2**16)]),
            (LIMIT, [rng.randrange(2), rng.randrange(10_001), 5000, 1, *wide(60)]),
            (SET, [1, 1, *wide(rng.randrange(int(EXPORT_W)))]),
        )
    )
    return struct.pack(f">BHHB{len(values)}H", 16, place, len(values), 2 * len(values), *values)


def _wild(rng: random.Random) -> bytes:
    """Return a request that is well framed and nonsense; none that a writer would be obeyed for."""
    kind = rng.randrange(4)
    if kind == 0:
        return bytes((rng.choice(FUNCTIONS),)) + rng.randbytes(rng.choice((0, 1, 3, 5, 60, 252)))
    if kind == 1:
        return struct.pack(">BHH", 3, rng.randrange(2**16), rng.choice((0, 1, 125, 126, 2**16 - 1)))
    if kind == 2:
        return struct.pack(">BHH", 6, rng.choice((BASE, BLOCK + 2, BLOCK + 8, 65535)), rng.randrange(2**16))
    count = rng.randrange(1, 124)
    place = rng.choice((0, BASE, BLOCK, BLOCK + 7, BLOCK + 9, BLOCK + 15, BLOCK + 24, 65535))
    said = rng.choice((count, count, 0, 124, 65535))
    return struct.pack(
        f">BHHB{count}H", 16, place, said, 2 * count, *(rng.randrange(2**16) for _ in range(count))
    )


def _frame(rng: random.Random, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", rng.randrange(2**16), 0, len(pdu) + 1, 1) + pdu


def _mutant(frame: bytes, rng: random.Random) -> bytes:
    """Flip bits, cut, add, say it several times in one packet."""
    data = bytearray(frame * rng.choice((1, 1, 1, 2, 20)))
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    kind = rng.randrange(4)
    if kind == 0:
        return bytes(data[: rng.randrange(1, len(data) + 1)])
    if kind == 1:
        return bytes(data) + rng.randbytes(rng.randrange(1, 20))
    if kind == 2:
        place = rng.randrange(len(data))
        return bytes(data[:place] + rng.randbytes(3) + data[place:])
    return bytes(data)


def _junk(rng: random.Random) -> bytes:
    """Return bytes at random, or what other protocols begin with."""
    greetings = (
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x00" * 300,
        b"\xff" * 300,
    )
    return rng.choice(greetings) if rng.random() < 0.2 else rng.randbytes(rng.randrange(1, 2000))


def _outcome(data: bytes, answers: bytes) -> str:
    """Say what became of the last frame: the server reads on until it is no frame, or only part of one."""
    place = 0
    while len(data) - place >= 7:
        _, protocol, length = struct.unpack(">HHH", data[place : place + 6])
        if protocol != 0 or not 2 <= length <= 254:
            return CLOSED
        if len(data) - place < 6 + length:
            return SILENCE
        place += 6 + length
    if place < len(data):
        return SILENCE
    place, last = 0, b""
    while place < len(answers):
        length = struct.unpack(">H", answers[place + 4 : place + 6])[0]
        last, place = answers[place + 7 : place + 6 + length], place + 6 + length
    assert last, "every whole frame is answered"
    return EXCEPTIONS[last[1]] if last[0] & 0x80 else ANSWERED


@asynccontextmanager
async def rtu_target(folder: Path) -> AsyncIterator[RtuTarget]:
    """Open the sites; each of them has heard its operator, and one is limited."""
    situations = {"read": (READ_ONLY, CommandStore), "write": (ALL, CommandStore), "full": (ALL, FullStore)}
    async with AsyncExitStack() as stack:
        peers = {}
        for name, (access, store_type) in situations.items():
            site = Site(folder / f"{name}.db", store_type=store_type)
            site.nameplate = replace(site.nameplate, export_w=EXPORT_W, curtailable=True)
            server = await stack.enter_async_context(site.running(access=access))
            site.desk.alive("modbus")
            peers[name] = Peer(site, server.port)
        writer = await peers["write"].connected()
        assert await writer.limit(5000, seq=LAST_SEQUENCE) is None
        assert await writer.write(SET, [1, 1, *wide(3000)]) is None
        target = RtuTarget(peers)
        stack.push_async_callback(target.close)
        yield target
