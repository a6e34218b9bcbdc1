"""Model 704 as the operator's RTU sees it, on real sockets and a real store."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import sunspec2.modbus.client as oracle

from agent.core.rtu_registers import ADDRESSES
from agent.devices.bus_setpoints import SetPoint
from agent.grid.rtu_server import Access, RtuServer
from agent.modbus import ModbusBus
from agent.model.sunspec.codec import Value, decode
from agent.model.sunspec.der_controls import DER_CONTROLS
from sterna.clock import SystemClock
from sterna.errors import TransientError
from tests.agent.grid.rtu_rig import BLOCK, HOST, LOOPBACK, Rtu, Site, rtu, wide
from tests.conftest import Eventually

PLACE = ADDRESSES[704]
LIMIT, SET = PLACE + 14, PLACE + 22
WMAX_W = 10_000.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "agent.db")
    site.nameplate = replace(site.nameplate, export_w=WMAX_W, curtailable=True)
    return site


def exports(site: Site) -> list[tuple[str, float]]:
    return [(limit.source, limit.limit_w) for limit in site.desk.exports()]


async def block(peer: Rtu) -> dict[str, Value]:
    registers = await peer.read(PLACE, DER_CONTROLS.length + 2)
    assert isinstance(registers, list)
    return decode(DER_CONTROLS, registers)


async def told(peer: Rtu, *names: str) -> tuple[Value, ...]:
    points = await block(peer)
    return tuple(points[name] for name in names)


async def limit(peer: Rtu, pct: float, *, for_s: int = 0, after_pct: float | None = None) -> int | None:
    """Write 14 to 19 in one: the switch, the value, the reversion."""
    after = [10_000, 0] if after_pct is None else [round(100 * after_pct), 1]
    return await peer.write(LIMIT, [1, round(100 * pct), *after, *wide(for_s)])


async def test_one_write_is_one_command_with_its_reversion(site: Site, peer: Rtu) -> None:
    assert await limit(peer, 60.0, for_s=300, after_pct=20.0) is None
    assert exports(site) == [("modbus-wmaxlim", 6000.0)]
    names = ("WMaxLimPctEna", "WMaxLimPct", "WMaxLimPctRvrt", "WMaxLimPctEnaRvrt", "WMaxLimPctRvrtTms")
    assert await told(peer, *names) == (1, 60.0, 20.0, 1, 300)
    site.clock.advance(200.0)
    assert await told(peer, "WMaxLimPctRvrtRem") == (100,)
    site.clock.advance(100.0)
    await site.desk.tick()
    assert exports(site) == [("modbus-wmaxlim", 2000.0)]
    assert await told(peer, "WMaxLimPctEna", "WMaxLimPct", "WMaxLimPctRvrtRem") == (1, 20.0, 0)
    site.clock.advance(1e6)
    await site.desk.tick()
    assert exports(site) == [("modbus-wmaxlim", 2000.0)]
    assert await peer.write(LIMIT, [0]) is None
    assert exports(site) == []


async def test_without_a_reversion_value_the_export_is_free_again(site: Site, peer: Rtu) -> None:
    assert await limit(peer, 10.0) is None
    assert await limit(peer, 60.0, for_s=30) is None
    site.clock.advance(30.0)
    assert exports(site) == [], "not the limit of before: the reversion says what follows"
    assert await told(peer, "WMaxLimPctEna", "WMaxLimPct") == (0, 100.0)


async def test_a_limit_that_is_renewed_for_days_leaves_nothing_behind(
    site: Site, peer: Rtu, eventually: Eventually
) -> None:
    for _ in range(50):
        assert await limit(peer, 60.0, for_s=300) is None
        site.clock.advance(100.0)
        await site.desk.tick()
    memory = await site.store.recover(site.clock.now(), site.clock.boottime_s(), calendar_kept=True)
    assert len(memory.timeline.held) == 2

    async def answered() -> bool:
        return not [
            ack for one in ("wmaxlim", "wset") for ack in await site.store.pending_acks(f"modbus-{one}", 9)
        ]

    await eventually(answered, within_s=30.0, what="every answer taken")


async def test_watts_and_per_cents_are_two_limits_and_the_stricter_binds(site: Site, peer: Rtu) -> None:
    assert await limit(peer, 60.0) is None
    assert await peer.write(SET, [1, 1, *wide(4000)]) is None
    assert exports(site) == [("modbus-wset", 4000.0), ("modbus-wmaxlim", 6000.0)]
    assert await told(peer, "WSetEna", "WSetMod", "WSet", "WMaxLimPct") == (1, 1, 4000, 60.0)
    assert await peer.write(SET, [0]) is None
    assert exports(site) == [("modbus-wmaxlim", 6000.0)]


async def test_pieces_are_staged_by_their_connection_until_the_switch(
    site: Site, server: RtuServer, peer: Rtu
) -> None:
    async with rtu(server.port) as other:
        assert await peer.write(LIMIT + 1, [3000]) is None
        assert await peer.write(LIMIT + 4, wide(120)) is None
        assert await told(peer, "WMaxLimPctEna", "WMaxLimPct", "WMaxLimPctRvrtTms") == (0, 30.0, 120)
        assert await told(other, "WMaxLimPct", "WMaxLimPctRvrtTms") == (100.0, 0)
        assert exports(site) == []
        assert await peer.write(LIMIT, [1]) is None
        assert exports(site) == [("modbus-wmaxlim", 3000.0)]
        assert await other.write(LIMIT + 1, [2000]) is None
        assert exports(site) == [("modbus-wmaxlim", 2000.0)], "while it is on, a value holds at once"
        assert await told(peer, "WMaxLimPct", "WMaxLimPctRvrtRem") == (20.0, 120)
        site.clock.advance(120.0)
        assert await peer.write(LIMIT, [1, 2500]) is None
        assert await told(peer, "WMaxLimPct", "WMaxLimPctRvrtRem") == (25.0, 120), "the reversion is kept"


async def test_what_it_cannot_have_is_refused_and_the_limit_stays(site: Site, peer: Rtu) -> None:
    assert await limit(peer, 60.0) is None
    assert await limit(peer, 100.01) == 3
    assert await peer.write(LIMIT, [2]) == 3
    assert await peer.write(SET, [1, 1, *wide(-4000)]) == 3, "charging is not ours to order"
    assert await peer.write(SET, [1, 0]) == 3, "per cents are WMaxLimPct's"
    assert await peer.write(SET + 6, [5000]) == 2
    assert await peer.write(LIMIT + 6, wide(5)) == 2
    assert await peer.write(PLACE + 35, [1]) == 2
    assert await peer.write(SET + 1, [1]) is None
    assert exports(site) == [("modbus-wmaxlim", 6000.0)]
    assert await told(peer, "WSetEna", "WMaxLimPct") == (0, 60.0)


async def test_the_import_and_its_failsafe_know_nothing_of_it(site: Site, peer: Rtu) -> None:
    await peer.beat()
    assert await limit(peer, 0.0) is None
    assert site.desk.envelope().state.value == "INIT", "it is not the word on the import that is awaited"
    assert await peer.limit(None) is None
    assert site.desk.envelope().limits == ()
    assert exports(site) == [("modbus-wmaxlim", 0.0)], "nor does a release of the import end it"


async def test_it_is_never_forgotten_over_a_restart(site: Site) -> None:
    async with site.running() as server, rtu(server.port) as peer:
        assert await limit(peer, 60.0, for_s=300, after_pct=0.0) is None
        assert await peer.write(SET, [1, 1, *wide(7000)]) is None
    site.clock.advance(100.0)
    async with site.running() as server, rtu(server.port) as peer:
        assert exports(site) == [("modbus-wmaxlim", 6000.0), ("modbus-wset", 7000.0)]
        assert await told(peer, "WMaxLimPctRvrtRem", "WMaxLimPctRvrt", "WSet") == (200, 0.0, 7000)
    site.clock.advance(1e6)
    site.boot = "another boot"
    async with site.running():
        assert exports(site) == [("modbus-wmaxlim", 0.0), ("modbus-wset", 7000.0)]


async def test_a_silent_operator_limits_the_export_too_where_the_site_says_so(site: Site) -> None:
    site.failsafe_exports_w = {"modbus": 3000.0}
    async with site.running() as server, rtu(server.port) as peer:
        assert await limit(peer, 60.0) is None
        assert exports(site)[0] == ("failsafe", 3000.0), "INIT: a command without a heartbeat"
        await peer.beat()
        assert await peer.limit(None) is None
        assert exports(site)[0] == ("failsafe", 3000.0), "a word on the import is none on the export"
        assert await limit(peer, 60.0) is None
        assert exports(site) == [("modbus-wmaxlim", 6000.0)]
        site.clock.advance(120.0)
        assert exports(site)[0] == ("failsafe", 3000.0), "FAILSAFE"
        await peer.beat()
        assert exports(site)[0] == ("failsafe", 3000.0), "a heartbeat alone ends nothing"
        assert await peer.write(SET, [0]) is None
        assert exports(site) == [("modbus-wmaxlim", 6000.0)], "either control is a word on the export"
        assert site.desk.envelope().state.value == "FAILSAFE", "which frees no import"


@pytest.mark.parametrize("change", [{"curtailable": False}, {"export_w": None}])
async def test_where_nothing_obeys_it_every_write_is_refused(site: Site, change: dict[str, None]) -> None:
    site.nameplate = replace(site.nameplate, **change)
    async with site.running() as server, rtu(server.port) as peer:
        assert await limit(peer, 60.0) == 2
        assert await peer.write(SET, [1, 1, *wide(4000)]) == 2
        assert set((await block(peer) | {"ID": None, "L": None}).values()) == {None}


async def test_who_may_only_read_writes_no_limit(site: Site) -> None:
    async with site.running(access=Access(clients=LOOPBACK)) as server, rtu(server.port) as peer:
        assert await limit(peer, 60.0) == 2
        assert exports(site) == []


async def test_a_full_disk_is_a_device_failure_and_what_was_staged_can_be_sent_again(
    site: Site, peer: Rtu, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await peer.write(LIMIT + 1, [3000]) is None

    async def full(*_words: object) -> None:
        raise TransientError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(site.store, "accept", full)
        assert await peer.write(LIMIT, [1]) == 4
    assert exports(site) == []
    assert await peer.write(LIMIT, [1]) is None
    assert exports(site) == [("modbus-wmaxlim", 3000.0)]


async def test_two_writers_at_once_are_two_commands(site: Site, server: RtuServer, peer: Rtu) -> None:
    async with rtu(server.port) as other:
        answers = await asyncio.gather(*(limit(one, pct) for one, pct in ((peer, 60.0), (other, 40.0))))
    assert answers == [None, None]
    assert site.desk.last_sequence("modbus-wmaxlim") == 4


async def test_pysunspec2_limits_the_export(site: Site, server: RtuServer) -> None:
    def act() -> tuple[object, ...]:
        device = oracle.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr=HOST, ipport=server.port)
        device.scan()
        controls = device.DERCtlAC[0]
        controls.WMaxLimPctEna.value, controls.WMaxLimPct.cvalue = 1, 62.5
        controls.WMaxLimPctRvrt.cvalue, controls.WMaxLimPctEnaRvrt.value = 0.0, 1
        controls.WMaxLimPctRvrtTms.value = 900
        controls.write()
        controls.WSet.cvalue, controls.WSetEna.value = 7000, 1
        controls.write()
        controls.read()
        told = (controls.WMaxLimPct.cvalue, controls.WMaxLimPctRvrtRem.value, controls.WSet.cvalue)
        modes = device.DERCapacity[0].CtrlModes.value
        device.close()
        return (*told, modes)

    assert await asyncio.to_thread(act) == (62.5, 900, 7000, 3)
    assert exports(site) == [("modbus-wmaxlim", 6250.0), ("modbus-wset", 7000.0)]


async def test_an_agent_curtails_another_one_by_its_own_set_points(site: Site, server: RtuServer) -> None:
    clock = SystemClock()
    async with ModbusBus(HOST, server.port, clock=clock, writable={1: ()}) as bus:
        limits = SetPoint(bus, clock=clock, unit=1, control="generation-limit", reversion_s=60)
        await limits.apply({"WMaxLimPct": 40.0})
        assert exports(site) == [("modbus-wmaxlim", 4000.0)]
        await limits.apply({"WMaxLimPct": 30.0})
        assert exports(site) == [("modbus-wmaxlim", 3000.0)]
        assert site.desk.exports()[0].end_at is not None
        power = SetPoint(bus, clock=clock, unit=1, control="active-power", reversion_s=60)
        await power.apply({"WSet": 2000.0})
        assert exports(site) == [("modbus-wset", 2000.0), ("modbus-wmaxlim", 3000.0)]
        await power.release()
        await limits.release()
        assert exports(site) == []


async def test_a_command_of_both_blocks_is_none(peer: Rtu) -> None:
    assert await peer.write(BLOCK - 1, [0, 0]) == 2
