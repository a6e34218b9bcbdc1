"""The operator's Modbus server as its RTU sees it, on real sockets and a real store."""

import asyncio
import socket
import ssl
import struct
from ipaddress import ip_network
from pathlib import Path

import pytest
import sunspec2.modbus.client as oracle

from agent.core.rtu_registers import ADDRESSES, BASE, COUNT
from agent.grid import rtu_server
from agent.grid.rtu_server import Access, RtuServer
from agent.grid.wire import SiteSnapshot
from agent.modbus import ModbusBus
from sterna.clock import SystemClock
from sterna.errors import ConfigError, TransientError
from sterna.tls import mutual_tls
from tests.agent.grid.rtu_certs import Authority, utf8
from tests.agent.grid.rtu_rig import ALL, BLOCK, HOST, LOOPBACK, Rtu, Site, meter, power, rtu, wide

EXAMPLES = Path(__file__).parents[3] / "examples"
INIT, UNLIMITED, LIMITED, FAILSAFE = range(4)
MODBUS, FROM_FAILSAFE = 1, 6
ACCEPTED, REJECTED, STARTED, SUCCEEDED = 1, 2, 3, 4


async def told(peer: Rtu, *names: str) -> tuple[object, ...]:
    block = await peer.block()
    return tuple(block[name] for name in names)


async def test_a_day_with_an_rtu(site: Site, peer: Rtu) -> None:
    assert await told(peer, "State", "Src", "AckStatus", "CmdSeq") == (INIT, FROM_FAILSAFE, None, 0)
    await peer.beat()
    assert await told(peer, "State") == (INIT,)
    assert await peer.limit(3000, duration_s=60, ramp_s=5) is None
    assert await told(peer, "State", "Src", "AckSeq", "AckStatus") == (LIMITED, MODBUS, 1, ACCEPTED)
    await site.desk.tick()
    site.clock.advance(20)
    names = ("ImpLimW", "ImpLimRvrtTms", "ImpLimRmpTms", "ImpLimEna", "ImpLimRvrtRem", "AckStatus")
    assert await told(peer, *names) == (3000, 60, 5, 1, 40, STARTED)
    site.clock.advance(40)
    await site.desk.tick()
    assert await told(peer, "State", "Src", "ImpLimEna", "AckSeq", "AckStatus") == (
        UNLIMITED,
        0,
        0,
        1,
        SUCCEEDED,
    )
    site.clock.advance(61)
    assert await told(peer, "State", "Src", "CtlHb") == (FAILSAFE, FROM_FAILSAFE, 1)
    await peer.beat()
    assert await told(peer, "State") == (FAILSAFE,)
    assert await peer.limit(None) is None
    assert await told(peer, "State", "AckSeq") == (UNLIMITED, 2)


async def test_either_heartbeat_counts_and_a_stuck_counter_does_not(site: Site, peer: Rtu) -> None:
    await peer.beat()
    await peer.limit(9000)
    for count in range(1, 4):
        site.clock.advance(100)
        assert await peer.write(ADDRESSES[715] + 5, wide(count)) is None
    assert await told(peer, "State") == (LIMITED,)
    site.clock.advance(100)
    assert await peer.write(ADDRESSES[715] + 5, wide(3)) is None
    assert await peer.write(BLOCK + 4, wide(1)) is None
    site.clock.advance(20)
    assert await told(peer, "State") == (FAILSAFE,)


async def test_half_a_command_is_none_and_belongs_to_its_connection(
    site: Site, server: RtuServer, peer: Rtu
) -> None:
    await peer.beat()
    assert await peer.write(BLOCK + 8, wide(2500)) is None
    assert await told(peer, "ImpLimW", "ImpLimEna", "State") == (2500, 0, INIT)
    async with rtu(server.port) as other:
        assert await told(other, "ImpLimW") == (None,)
        assert await other.write(BLOCK + 13, [1]) is None
        assert await other.write(BLOCK + 14, [1]) == 3
        assert await told(other, "AckSeq", "AckStatus", "RejectReason") == (1, REJECTED, 1)
    assert site.desk.last_sequence("modbus") is None
    assert await peer.write(BLOCK + 13, [1]) is None
    answer = await peer.ask(struct.pack(">BHH", 6, BLOCK + 14, 1))
    assert answer == struct.pack(">BHH", 6, BLOCK + 14, 1)
    assert await told(peer, "ImpLimW", "State", "AckSeq", "RejectReason") == (2500, LIMITED, 1, 0)


async def test_what_was_staged_does_not_survive_its_commit(site: Site, peer: Rtu) -> None:
    await peer.beat()
    await peer.limit(2500)
    assert await peer.write(BLOCK + 14, [2]) == 3
    assert await told(peer, "RejectReason", "ImpLimW", "State") == (1, 2500, LIMITED)


async def test_refusals_keep_the_limit_and_say_why(site: Site, peer: Rtu) -> None:
    await peer.beat()
    await peer.limit(2500, seq=10)
    for values, seq, reason in [(99, 11, 5), (0xFFFFFFFB, 11, 4), (2500, 9, 2), (2600, 10, 3), (1, 32778, 2)]:
        assert await peer.limit(values, seq=seq) == 3
        assert await told(peer, "AckSeq", "AckStatus", "RejectReason") == (seq, REJECTED, reason)
        assert await told(peer, "ImpLimW", "ImpLimEna", "CmdSeq", "Src") == (2500, 1, 10, MODBUS)
    assert await peer.limit(2500, seq=10) is None, "the same once more is only acknowledged again"
    assert await told(peer, "AckSeq", "AckStatus") == (10, ACCEPTED)


async def test_a_repeat_does_not_prolong(site: Site, peer: Rtu) -> None:
    await peer.beat()
    await peer.limit(2500, duration_s=60, seq=1)
    site.clock.advance(50)
    await peer.limit(2500, duration_s=60, seq=1)
    assert await told(peer, "ImpLimRvrtRem") == (10,)
    await peer.limit(2500, duration_s=60, seq=2)
    assert await told(peer, "ImpLimRvrtRem") == (60,)


async def test_sequences_go_on_after_65535(site: Site, peer: Rtu) -> None:
    await peer.beat()
    assert await peer.limit(2500, seq=65535) is None
    assert await peer.limit(2600, seq=0) is None
    assert await told(peer, "ImpLimW", "CmdSeq", "AckSeq") == (2600, 0, 0)
    assert site.desk.last_sequence("modbus") == 65536


async def test_settings_are_stored_and_bounded(site: Site, peer: Rtu) -> None:
    assert await peer.write(BLOCK + 20, [*wide(1500), *wide(7300)]) is None
    assert await told(peer, "FsImpLimW", "FsDurMin") == (1500, 7300)
    assert await peer.write(BLOCK + 22, wide(7199)) == 3
    assert await peer.write(BLOCK + 22, wide(86_401)) == 3
    assert await peer.write(BLOCK + 20, wide(0xFFFFFFFE)) == 3
    assert await peer.write(BLOCK + 20, wide(1600)) is None
    assert await told(peer, "FsImpLimW", "FsDurMin") == (1600, 7300)
    binding = site.desk.envelope().binding
    assert binding is not None
    assert binding.limit_w == 1600.0


async def test_a_restart_restores_limit_remaining_time_sequence_and_settings(site: Site) -> None:
    async with site.running() as server, rtu(server.port) as peer:
        await peer.beat()
        await peer.limit(3000, duration_s=600, seq=41)
        await peer.write(BLOCK + 20, wide(1500))
        await site.desk.tick()
    site.clock.advance(100)
    async with site.running() as server, rtu(server.port) as peer:
        names = ("State", "ImpLimW", "ImpLimRvrtRem", "CmdSeq", "AckSeq", "AckStatus", "FsImpLimW", "CtlHb")
        assert await told(peer, *names) == (INIT, 3000, 500, 41, 41, STARTED, 1500, 0)
        await peer.beat()
        assert await peer.limit(2900, seq=40) == 3
        assert await peer.limit(2900, seq=42) is None
        assert await told(peer, "State", "ImpLimW") == (LIMITED, 2900)


async def test_the_answer_comes_after_the_store(
    site: Site, peer: Rtu, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, gate, asked = site.store.accept, asyncio.Event(), asyncio.Event()

    async def slow(*words: object) -> None:
        asked.set()
        await gate.wait()
        await accept(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(site.store, "accept", slow)
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(peer.limit(3000, seq=1))
        await asked.wait()
        assert not answer.done()
        assert site.desk.newest("modbus") is None
        gate.set()
    assert answer.result() is None
    assert site.desk.newest("modbus") is not None


async def test_a_full_disk_is_a_device_failure_and_nothing_holds(
    site: Site, peer: Rtu, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*words: object) -> None:
        raise TransientError("database or disk is full")

    monkeypatch.setattr(site.store, "accept", full)
    monkeypatch.setattr(site.store, "keep_config", full)
    monkeypatch.setattr(site.store, "pending_acks", full)
    await peer.beat()
    assert await peer.limit(3000) == 4
    assert await told(peer, "AckStatus", "RejectReason", "ImpLimEna", "State") == (REJECTED, 7, 0, INIT)
    assert await peer.write(BLOCK + 20, wide(1500)) == 4
    assert await told(peer, "FsImpLimW") == (4200,)


async def test_without_a_calendar_it_can_still_be_limited_and_released(site: Site, peer: Rtu) -> None:
    site.synced = False
    await peer.beat()
    assert await peer.limit(3000) is None
    assert await peer.limit(None) is None
    assert await told(peer, "State") == (UNLIMITED,)


async def test_acks_do_not_pile_up(site: Site, peer: Rtu) -> None:
    await peer.beat()
    for seq in range(1, 30):
        await peer.limit(3000, seq=seq)
        await peer.limit(3000, seq=seq)
    async with asyncio.timeout(5):
        while await site.store.pending_acks("modbus", 1):  # noqa: ASYNC110 - polls with a deadline
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("pdu", "unit", "answer"),
    [
        (struct.pack(">BHH", 3, BASE - 1, 1), 1, "8302"),
        (struct.pack(">BHH", 3, BASE + COUNT - 1, 2), 1, "8302"),
        (struct.pack(">BHH", 3, BASE, 0), 1, "8303"),
        (struct.pack(">BHH", 3, BASE, 2), 1, "030453756e53"),
        (struct.pack(">BHH", 3, BASE, 2), 2, "830b"),
        (struct.pack(">BHH", 4, BASE, 2), 1, "8401"),
        (struct.pack(">BHH", 6, BLOCK + 2, 1), 1, "8602"),
        (struct.pack(">BHH", 6, BLOCK + 8, 1), 1, "8602"),
        (struct.pack(">BHHBHH", 16, BLOCK + 24, 2, 4, 0, 1), 1, "9002"),
        (struct.pack(">BHHBH", 16, BLOCK + 14, 2, 2, 1), 1, "9003"),
        (struct.pack(">BHHBHH", 16, ADDRESSES[704] + 14, 2, 4, 1, 50), 1, "9002"),
        (b"\x2b\x0e\x01\x00", 1, "ab01"),
        (b"\x83", 1, "8301"),
    ],
)
async def test_everything_else_is_an_exception(
    site: Site, peer: Rtu, pdu: bytes, unit: int, answer: str
) -> None:
    assert (await peer.ask(pdu, unit)).hex() == answer
    assert site.desk.last_sequence("modbus") is None


async def test_requests_in_one_packet_are_answered_each_in_turn(peer: Rtu) -> None:
    command = [*wide(3000), *wide(0), 0, 1, 1]
    write = struct.pack(">BHHB7H", 16, BLOCK + 8, 7, 14, *command)
    frames = [struct.pack(">HHHB", 500, 0, len(write) + 1, 1) + write]
    frames += [struct.pack(">HHHBBHH", 501 + n, 0, 6, 1, 3, BLOCK + 13, 2) for n in range(20)]
    peer.writer.write(b"".join(frames))
    assert (await peer.answer(500))[0] == 16
    for n in range(20):
        assert await peer.answer(501 + n) == struct.pack(">BBHH", 3, 4, 1, 1)


async def test_frames_byte_by_byte(peer: Rtu) -> None:
    for byte in struct.pack(">HHHBBHH", 9, 0, 6, 1, 3, BASE, 1):
        peer.writer.write(bytes((byte,)))
        await peer.writer.drain()
        await asyncio.sleep(0)
    assert await peer.answer(9) == b"\x03\x02Su"


READ_ONLY = Access(clients=LOOPBACK)


async def test_nobody_writes_who_was_not_named(site: Site) -> None:
    site.operators = ()
    async with site.running(access=READ_ONLY) as server, rtu(server.port) as peer:
        assert await peer.limit(1) == 2
        assert await peer.write(BLOCK + 4, wide(1)) == 2
        assert await told(peer, "State", "W") == (4, 3980)
        assert site.desk.last_sequence("modbus") is None


async def test_a_stranger_is_turned_away(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    strict = Access(clients=(ip_network("192.0.2.0/24"),), writers=LOOPBACK)
    async with site.running(access=strict) as server:
        for _ in range(3):
            reader, writer = await asyncio.open_connection(HOST, server.port)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                writer.write(struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, BASE, 1))
                await reader.readexactly(1)
            writer.close()
    assert sum("stranger" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("address", "networks", "inside"),
    [
        ("192.0.2.7", ("192.0.2.0/29",), True),
        ("192.0.2.8", ("192.0.2.0/29",), False),
        ("::ffff:192.0.2.7", ("192.0.2.0/29",), True),
        ("fe80::1%eth0", ("fe80::/10",), True),
        ("192.0.2.7", (), False),
    ],
)
def test_allow_lists(address: str, networks: tuple[str, ...], inside: bool) -> None:
    assert Access(clients=[ip_network(n) for n in networks]).may_connect(address) is inside


async def test_the_longest_silent_makes_room(site: Site, server: RtuServer) -> None:
    async with rtu(server.port) as first, rtu(server.port) as second:
        assert await first.read(BASE, 1) == [0x5375]
        site.clock.advance(1)
        assert await second.read(BASE, 1) == [0x5375]
        site.clock.advance(1)
        others = [await asyncio.open_connection(HOST, server.port) for _ in range(rtu_server.MAX_CLIENTS - 1)]
        async with asyncio.timeout(5):
            assert await first.reader.read(1) == b""
        assert await second.read(BASE, 1) == [0x5375]
        for _, writer in others:
            writer.close()


async def test_an_idle_connection_is_closed(site: Site) -> None:
    async with site.running(idle_s=0.05) as server, rtu(server.port) as peer:
        async with asyncio.timeout(5):
            assert await peer.reader.read(1) == b""


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_wildcard(host: str) -> None:
    server = RtuServer(
        host=host,
        port=0,
        unit=1,
        registers=None,
        access=ALL,
        clock=SystemClock(),  # type: ignore[arg-type]
    )
    with pytest.raises(ConfigError, match="explicit"):
        server.bind()


async def test_a_taken_port_is_named(server: RtuServer) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        other = RtuServer(
            host=HOST,
            port=taken.getsockname()[1],
            unit=1,
            registers=server.registers,
            access=ALL,
            clock=SystemClock(),
        )
        with pytest.raises(ConfigError, match=f"{HOST}:{other.port}: cannot bind"):
            other.bind()


async def test_what_pysunspec2_finds(
    site: Site, server: RtuServer, peer: Rtu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sunspec2.device.model_defs_path", ["", str(EXAMPLES), *_oracle_paths()])
    site.snapshot = SiteSnapshot(power=power(-7350.0), achievable_min_w=0.0)
    site.readings = [meter(frequency_hz=49.97, energy_import_wh=12.0, energy_export_wh=5e6)]
    await peer.beat()
    await peer.limit(3000, duration_s=60)
    device = await asyncio.to_thread(_scan, server.port)
    assert [key for key in device.models if isinstance(key, int)] == [1, 701, 702, 713, 704, 715, 64900]
    der, limit = device.models[701][0], device.models[64900][0]
    assert (der.W.cvalue, der.Hz.cvalue, der.TotWhInj.cvalue) == (7350, 49.97, 5_000_000)
    assert der.VA.cvalue is None
    assert device.common[0].SN.value == "site-a"
    assert device.DERCapacity[0].WChaRteMaxRtg.cvalue == 11_000
    assert (limit.ImpLimW.value, limit.State.value, limit.W.value) == (3000, LIMITED, -7350)
    limit.ImpLimW.value, limit.ImpLimRvrtTms.value, limit.ImpLimRmpTms.value = 2000, 0, 0
    limit.ImpLimEna.value, limit.CmdSeq.value = 1, 2
    await asyncio.to_thread(limit.write)
    assert await told(peer, "ImpLimW", "AckSeq") == (2000, 2)
    await asyncio.to_thread(device.close)


def _oracle_paths() -> list[str]:
    import sunspec2.device

    return list(sunspec2.device.model_defs_path)


def _scan(port: int) -> oracle.SunSpecModbusClientDeviceTCP:
    device = oracle.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr=HOST, ipport=port)
    device.scan()
    return device


async def test_what_pymodbus_reads(server: RtuServer) -> None:
    async with ModbusBus(HOST, server.port, clock=SystemClock()) as bus:
        assert await bus.read_holding(1, BASE, 2) == (0x5375, 0x6E53)
        assert await bus.read_holding(1, BASE + COUNT - 2, 2) == (0xFFFF, 0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def context(authority: Authority, name: str, *roles: bytes, server: bool = False) -> ssl.SSLContext:
    cert_file, key_file = authority.issue(name, *roles)
    return mutual_tls(
        "modbus tls", ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file, server=server
    )


async def test_tls_writes_by_role(site: Site, authority: Authority) -> None:
    ours = context(authority, "site", server=True)
    async with site.running(tls=ours) as server:
        async with rtu(server.port, context(authority, "scada", utf8("operator"))) as peer:
            await peer.beat()
            assert await peer.limit(3000) is None
            assert await told(peer, "ImpLimW") == (3000,)
        for name, roles in (("viewer", (utf8("viewer"),)), ("nobody", ())):
            async with rtu(server.port, context(authority, name, *roles)) as peer:
                assert await told(peer, "ImpLimW") == (3000,)
                assert await peer.limit(9000) == 2
    assert site.desk.last_sequence("modbus") == 1


async def test_tls_turns_away_who_shows_no_certificate_of_the_ca(
    site: Site, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    bare = ssl.create_default_context(cafile=str(authority.ca_file))
    foreign = ssl.create_default_context(cafile=str(authority.ca_file))
    foreign.load_cert_chain(*other.issue("scada", utf8("operator")))
    async with site.running(tls=context(authority, "site", server=True)) as server:
        for tls in (bare, foreign):
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                async with rtu(server.port, tls) as peer:
                    await peer.read(BASE, 1)
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            async with rtu(server.port) as plain:
                await plain.read(BASE, 1)
        async with rtu(server.port, context(authority, "again", utf8("operator"))) as peer:
            assert await peer.read(BASE, 1) == [0x5375]
