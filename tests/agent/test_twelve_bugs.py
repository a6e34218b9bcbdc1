"""Twelve bugs that others had with limits and their loss (reference: evcc's issues), by number.

Each runs over both links on which an operator commands this site: MQTT messages through the production link
into the desk, and Modbus registers over a socket; on a real store and a clock that moves when told to.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest

from agent.core.relay import Contact
from agent.core.rtu_registers import ADDRESSES
from agent.grid import wire
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.grid.relay import RelayWatch, WiredContact
from agent.grid.relay_inputs import FileContact
from agent.grid.wire import SiteSnapshot, Topics, stamp
from agent.model.limits import GridState, LimitKind
from sterna.clock import FakeClock
from tests.agent.grid import operators
from tests.agent.grid.rtu_rig import BLOCK, Rtu, Site, rtu, wide

FAILSAFE_W = 4200.0
BOTH = pytest.mark.parametrize("link", ["mqtt", "modbus"])
INIT, UNLIMITED, LIMITED, FAILSAFE = (
    GridState.INIT,
    GridState.UNLIMITED,
    GridState.LIMITED,
    GridState.FAILSAFE,
)
DAY_S = 86_400.0


class Operator(Protocol):
    """An operator at one end of a link."""

    async def beat(self) -> None:
        """Be alive."""
        ...

    async def limit(self, value_w: float | None, duration_s: float | None = None) -> bool:
        """Command a limit, or with None release it; say whether it was accepted."""
        ...

    async def export(self, value_w: float | None) -> bool:
        """Command a limit of the export, or with None release it; say whether it was accepted."""
        ...

    async def set_failsafe_w(self, value_w: float) -> None:
        """Set the fail-safe limit."""
        ...

    async def told(self) -> tuple[str, str | None, float | None]:
        """Read state, who limits, and the remaining time in seconds."""
        ...


class ViaMqtt:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.count = 0
        self.topics = Topics(operator="dso", site="site-a")
        self.link = MqttLink(
            host="127.0.0.1",
            port=1883,
            operator="dso",
            site="site-a",
            client_id="twelve",
            desk=site.desk,
            snapshot=SiteSnapshot,
            clock=site.clock,
        )

    async def _take(self, leaf: str, message: dict[str, object]) -> None:
        await self.link.take(self.topics.of(leaf), json.dumps(message).encode(), retained=False)

    async def beat(self) -> None:
        self.count += 1
        await self._take("heartbeat", {"n": self.count, "t": stamp(self.site.clock.now())})

    async def limit(self, value_w: float | None, duration_s: float | None = None) -> bool:
        return await self._told("mqtt", value_w, durationS=duration_s)

    async def export(self, value_w: float | None) -> bool:
        return await self._told("mqtt-export", value_w, kind="EXPORT_CAPACITY_LIMIT")

    async def _told(self, source: str, value_w: float | None, **more: object) -> bool:
        seq = (self.site.desk.last_sequence(source) or 0) + 1
        await self._take("limit", operators.limit(seq, value_w, now=self.site.clock.now(), **more))
        return self.site.desk.last_sequence(source) == seq

    async def set_failsafe_w(self, value_w: float) -> None:
        await self._take("config", {"failsafeImportW": value_w})

    async def told(self) -> tuple[str, str | None, float | None]:
        now = self.site.clock.now()
        status = json.loads(
            wire.encode_status(self.site.desk.envelope(now), SiteSnapshot(), sequence=None, now=now)
        )
        return status["state"], status["limitSource"], status["remainingS"]


class ViaModbus:
    def __init__(self, site: Site, peer: Rtu) -> None:
        self.site, self.peer = site, peer
        self.peer.beats = 1000 * int(site.clock.boottime_s())

    async def beat(self) -> None:
        await self.peer.beat()

    async def limit(self, value_w: float | None, duration_s: float | None = None) -> bool:
        seq = (self.site.desk.last_sequence("modbus") or 0) + 1
        whole = None if value_w is None else int(value_w) & 0xFFFFFFFF
        return await self.peer.limit(whole, duration_s=int(duration_s or 0), seq=seq) is None

    async def export(self, value_w: float | None) -> bool:
        place = ADDRESSES[704] + 22
        words = [0] if value_w is None else [1, 1, *wide(int(value_w))]
        return await self.peer.write(place, words) is None

    async def set_failsafe_w(self, value_w: float) -> None:
        assert await self.peer.write(BLOCK + 20, wide(int(value_w))) is None

    async def told(self) -> tuple[str, str | None, float | None]:
        block = await self.peer.block()
        state = ("INIT", "UNLIMITED", "LIMITED", "FAILSAFE")[int(str(block["State"]))]
        remaining_s = block["ImpLimRvrtRem"]
        assert not isinstance(remaining_s, str)
        source = {0: None, 1: "modbus", 2: "mqtt", 6: "failsafe"}[int(str(block["Src"]))]
        return state, source, remaining_s


@asynccontextmanager
async def operated(
    folder: Path,
    link: str,
    clock_from: Site | None = None,
    *,
    failsafe_exports_w: dict[str, float] | None = None,
) -> AsyncIterator[tuple[Site, Operator]]:
    """Start a site with one operator; `clock_from`: the site that runs on from there after a restart."""
    site = Site(folder / "agent.db", operators=(link,))
    site.failsafe_exports_w = failsafe_exports_w or {}
    site.nameplate = replace(site.nameplate, export_w=10_000.0, curtailable=True)
    if clock_from is not None:
        site.clock, site.boot = clock_from.clock, clock_from.boot
    async with site.running() as server:
        if link == "mqtt":
            yield site, ViaMqtt(site)
            return
        async with rtu(server.port) as peer:
            yield site, ViaModbus(site, peer)


def holds(desk: GridDesk) -> tuple[GridState, float | None]:
    """Return the state and the limit that binds."""
    envelope = desk.envelope()
    return envelope.state, None if envelope.binding is None else envelope.binding.limit_w


async def pass_time(site: Site, operator: Operator | None, for_s: float, *, every_s: float = 30.0) -> None:
    """Let time pass, with the operator's heartbeats or without."""
    left_s = for_s
    while left_s > 0:
        step_s = min(every_s, left_s)
        site.clock.advance(step_s)
        left_s -= step_s
        if operator is not None:
            await operator.beat()
        await site.desk.tick()


@BOTH
async def test_01_duration_absent_treated_as_zero_32492(tmp_path: Path, link: str) -> None:
    async with operated(tmp_path, link) as (site, operator):
        await operator.beat()
        assert await operator.limit(3000.0)
        for after_s in (10.0, 3600.0, 7200.0):
            await pass_time(site, operator, after_s)
            assert holds(site.desk) == (LIMITED, 3000.0)
        assert (await operator.told())[2] is None


@BOTH
async def test_02_failsafe_left_on_heartbeat_alone_32492(tmp_path: Path, link: str) -> None:
    async with operated(tmp_path, link) as (site, operator):
        await operator.beat()
        assert await operator.limit(None)
        await pass_time(site, None, 120.0)
        assert holds(site.desk) == (FAILSAFE, FAILSAFE_W)
        await pass_time(site, operator, 3600.0)
        assert holds(site.desk) == (FAILSAFE, FAILSAFE_W)


@BOTH
@pytest.mark.parametrize("value_w", [None, 9000.0])
async def test_03_never_left_failsafe_until_restart_25545_25578(
    tmp_path: Path, link: str, value_w: float | None
) -> None:
    async with operated(tmp_path, link) as (site, operator):
        await operator.beat()
        await pass_time(site, None, 3600.0)
        assert await operator.limit(value_w), "a command is taken, and stored"
        assert holds(site.desk)[0] is FAILSAFE, "but without a heartbeat it does not end the fail-safe"
        await operator.beat()
        assert holds(site.desk)[0] is FAILSAFE, "nor does a heartbeat after it"
        assert await operator.limit(value_w)
        assert holds(site.desk) == (UNLIMITED if value_w is None else LIMITED, value_w)


@BOTH
async def test_04_unlimited_after_two_hours_of_outage_29705(tmp_path: Path, link: str) -> None:
    async with operated(tmp_path, link) as (site, operator):
        await operator.beat()
        assert await operator.limit(None)
        for days in (2 / 24, 1, 14):
            await pass_time(site, None, days * DAY_S, every_s=3600.0)
            assert holds(site.desk) == (FAILSAFE, FAILSAFE_W)


@BOTH
async def test_05_limit_writes_reset_the_failsafe_clock_29705(tmp_path: Path, link: str) -> None:
    async with operated(tmp_path, link) as (site, operator):
        await operator.beat()
        for _ in range(11):
            assert await operator.limit(5000.0)
            await pass_time(site, None, 11.0)
        assert holds(site.desk) == (FAILSAFE, FAILSAFE_W)


@BOTH
async def test_06_false_failsafe_ten_seconds_after_boot_21675(tmp_path: Path, link: str) -> None:
    async with operated(tmp_path, link) as (before, operator):
        await operator.beat()
        assert await operator.limit(9000.0)
        await pass_time(before, operator, 300.0)
    before.boot = "next boot"
    before.clock = FakeClock(before.clock.now() + timedelta(hours=1), boottime_s=5.0)
    async with operated(tmp_path, link, before) as (site, operator):
        await pass_time(site, None, 10.0)
        assert site.desk.machines[link].state is INIT
        await pass_time(site, None, 50.0)
        await operator.beat()
        assert await operator.limit(9000.0)
        await pass_time(site, operator, 119.0)
        assert holds(site.desk) == (LIMITED, 9000.0)


async def test_07_heartbeat_routed_to_another_device_31561(tmp_path: Path) -> None:
    site = Site(tmp_path / "agent.db", operators=("mqtt", "modbus"))
    async with site.running() as server, rtu(server.port) as first, rtu(server.port) as second:
        over_mqtt, over_modbus = ViaMqtt(site), ViaModbus(site, first)
        for operator in (over_mqtt, over_modbus):
            await operator.beat()
            assert await operator.limit(None)
        second.beats = first.beats
        for _ in range(3):
            await pass_time(site, ViaModbus(site, second), 50.0)
        states = {source: machine.state for source, machine in site.desk.machines.items()}
        assert states == {"mqtt": FAILSAFE, "modbus": UNLIMITED}, "each heartbeat counts for its own link"
        assert holds(site.desk) == (FAILSAFE, FAILSAFE_W)


async def test_08_relay_value_stale_forever_32132(tmp_path: Path) -> None:
    site, value = Site(tmp_path / "agent.db", operators=("relay",)), tmp_path / "value"
    async with site.running():
        contact = WiredContact(contact=Contact(name="w4", limit_w=1500.0), input=FileContact(value))
        watch = RelayWatch(desk=site.desk, source="relay", contacts=[contact], clock=site.clock)

        async def look(for_s: float) -> tuple[GridState, float | None]:
            for _ in range(int(for_s)):
                site.clock.advance(1.0)
                await watch.step()
            return holds(site.desk)

        value.write_text("1")
        assert await look(3) == (UNLIMITED, None)
        value.unlink()
        assert await look(121) == (FAILSAFE, FAILSAFE_W)
        value.write_text("garbage")
        assert await look(600) == (FAILSAFE, FAILSAFE_W)
        value.write_text("1")
        assert await look(3) == (UNLIMITED, None)


@BOTH
async def test_09_failsafe_config_not_applied_to_all_limit_kinds_33301(tmp_path: Path, link: str) -> None:
    assert len(LimitKind) == 2, "a new kind needs its own fail-safe here"
    async with operated(tmp_path, link) as (before, operator):
        await operator.beat()
        assert await operator.limit(None)
        await operator.set_failsafe_w(2500.0)
        await pass_time(before, None, 120.0)
        assert holds(before.desk) == (FAILSAFE, 2500.0)
    async with operated(tmp_path, link, before) as (site, operator):
        assert holds(site.desk) == (INIT, 2500.0), "in every state that holds it, and after a restart"
        await operator.set_failsafe_w(2600.0)
        assert holds(site.desk) == (INIT, 2600.0), "at once"


@BOTH
async def test_09_the_export_has_its_own_failsafe_33301(tmp_path: Path, link: str) -> None:
    exports_w = {link: 1500.0}
    async with operated(tmp_path, link, failsafe_exports_w=exports_w) as (before, operator):
        assert [limit.limit_w for limit in before.desk.exports()] == [1500.0]
        await operator.beat()
        assert await operator.limit(None)
        assert [limit.limit_w for limit in before.desk.exports()] == [1500.0], "that was on the import"
        assert await operator.export(None)
        assert before.desk.exports() == ()
        await pass_time(before, None, 120.0)
        assert [limit.limit_w for limit in before.desk.exports()] == [1500.0]
        assert await operator.export(4000.0)
        assert before.desk.exports()[0].limit_w == 1500.0, "without a heartbeat a command ends nothing"
    async with operated(tmp_path, link, before, failsafe_exports_w=exports_w) as (site, _):
        assert [limit.limit_w for limit in site.desk.exports()] == [1500.0, 4000.0]


@BOTH
async def test_10_operator_never_states_a_limit_on_connect_32491(tmp_path: Path, link: str) -> None:
    async with operated(tmp_path, link) as (site, operator):
        await pass_time(site, operator, DAY_S, every_s=60.0)
        assert holds(site.desk) == (INIT, FAILSAFE_W)
        assert await operator.told() == ("INIT", "failsafe", None), "and the operator can read why"


@BOTH
@pytest.mark.parametrize("value_w", [-1.0, -5000.0])
async def test_11_negative_limit_accepted_25545(tmp_path: Path, link: str, value_w: float) -> None:
    async with operated(tmp_path, link) as (site, operator):
        await operator.beat()
        assert await operator.limit(5000.0)
        assert not await operator.limit(value_w)
        assert holds(site.desk) == (LIMITED, 5000.0)
        assert await operator.export(4000.0)
        assert not await operator.export(value_w)
        assert [limit.limit_w for limit in site.desk.exports()] == [4000.0]


@BOTH
async def test_12_no_remaining_time_published_31153(tmp_path: Path, link: str) -> None:
    async with operated(tmp_path, link) as (site, operator):
        await operator.beat()
        assert await operator.limit(5000.0, 900.0)
        assert await operator.told() == ("LIMITED", link, 900.0)
        await pass_time(site, operator, 300.0)
        site.clock.step_calendar(-3600.0)
        assert await operator.told() == ("LIMITED", link, 600.0), "whatever the calendar does"
