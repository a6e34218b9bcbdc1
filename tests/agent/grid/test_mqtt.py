"""The link on a real broker: what a grid operator would see."""

import asyncio
import contextlib
import json
import os
import random
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiomqtt
import pytest

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MAX_REPORTS, MqttLink
from agent.grid.wire import SiteSnapshot, stamp
from agent.model.limits import GridState
from agent.model.readings import Quality, SitePower
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import SystemClock
from sterna.errors import ConfigError
from tests.brokers import Broker
from tests.faults.proxy import proxy_to
from tests.hostile.mutants import junk
from tests.waiting import until

pytestmark = pytest.mark.broker

BASE = "dr/v1/dso/site-a"
CLOCK = SystemClock()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker
    broker.kill()


class Operator:
    """The other side: publishes, and remembers everything that the site says."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.heard: list[tuple[str, dict]] = []
        self._count = 0

    async def listen(self) -> None:
        async for message in self.client.messages:
            self.heard.append((str(message.topic).removeprefix(BASE + "/"), json.loads(message.payload)))

    def of(self, leaf: str) -> list[dict]:
        return [body for name, body in self.heard if name == leaf]

    async def beat(self, *, retain: bool = False) -> None:
        self._count += 1
        body = {"n": self._count, "t": stamp(CLOCK.now())}
        await self.client.publish(f"{BASE}/heartbeat", json.dumps(body), qos=1, retain=retain)

    async def limit(self, seq: int, value_w: float | None, *, retain: bool = True, **more: object) -> None:
        await self.client.publish(
            f"{BASE}/limit", json.dumps(limit(seq, value_w, **more)), qos=1, retain=retain
        )


def limit(seq: int, value_w: float | None, **more: object) -> dict:
    return {
        "v": 1,
        "id": f"c{seq}",
        "seq": seq,
        "issued": stamp(CLOCK.now()),
        "kind": "IMPORT_CAPACITY_LIMIT",
        "active": value_w is not None,
        "valueW": value_w,
        "start": None,
        "durationS": None,
        "rampS": 5,
        "reason": "test",
        **more,
    }


@contextlib.asynccontextmanager
async def operator(broker: Broker) -> AsyncIterator[Operator]:
    async with aiomqtt.Client(
        broker.host, broker.port, identifier="operator", protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        for leaf in ("ack", "status", "telemetry", "heartbeat/site", "report"):
            await client.subscribe(f"{BASE}/{leaf}", qos=1)
        it = Operator(client)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(it.listen())
            yield it
            task.cancel()


@contextlib.asynccontextmanager
async def site(
    broker: Broker, folder: Path, forecasts: list[bytes] | None = None, port: int | None = None
) -> AsyncIterator[tuple[GridDesk, MqttLink]]:
    async def keep(payload: bytes) -> None:
        assert forecasts is not None
        forecasts.append(payload)

    async with Database(folder / "agent.db", MIGRATIONS) as db:
        desk = GridDesk(
            clock=CLOCK,
            store=CommandStore(db, boot_id="boot"),
            operators=("mqtt",),
            settings=FailsafeSettings(failsafe_import_w=4200.0),
            rules=Rules(site="site-a", hard_minimum_w=100.0),
        )
        await desk.recover()
        link = MqttLink(
            host=broker.host,
            port=port or broker.port,
            operator="dso",
            site="site-a",
            client_id="sterna-site-a",
            desk=desk,
            snapshot=lambda: SiteSnapshot(power=power(3000.0), exports=desk.exports()),
            clock=CLOCK,
            on_forecast=keep if forecasts is not None else None,
            telemetry_period_s=0.1,
            status_period_s=0.2,
            heartbeat_period_s=0.2,
            timeout_s=2.0,
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(link.run())
            await until(lambda: link.connected)
            yield desk, link
            task.cancel()


def power(grid_w: float) -> SitePower:
    return SitePower(
        measured_at=CLOCK.now(),
        quality=Quality.OK,
        grid_w=grid_w,
        generation_w=100.0,
        available_w=None,
        battery_w=None,
        compute_w=800.0,
        site_load_w=2300.0,
        surplus_w=0.0,
    )


def statuses(dso: Operator, command_id: str) -> list[str]:
    return [ack["status"] for ack in dso.of("ack") if ack["id"] == command_id]


async def test_a_limit_is_stored_obeyed_acknowledged_and_released(broker: Broker, tmp_path: Path) -> None:
    async with operator(broker) as dso, site(broker, tmp_path) as (desk, _):
        assert desk.envelope().binding.limit_w == 4200.0
        await dso.beat()
        await until(lambda: desk.machines["mqtt"].heard)
        await dso.limit(1, 2500.0, durationS=900)
        await until(lambda: statuses(dso, "c1") == ["ACCEPTED"])
        assert desk.envelope().state is GridState.LIMITED
        await until(lambda: any(s["limitW"] == 2500.0 and s["seq"] == 1 for s in dso.of("status")))
        status = next(s for s in dso.of("status") if s["limitW"] == 2500.0)
        assert 880 < status["remainingS"] <= 900
        assert status["gridW"] == 3000.0
        await desk.tick()
        await until(lambda: statuses(dso, "c1") == ["ACCEPTED", "STARTED"])
        await dso.limit(2, None)
        await until(lambda: statuses(dso, "c2") == ["ACCEPTED"])
        await desk.tick()
        await until(lambda: statuses(dso, "c1")[-1] == "REVOKED" and statuses(dso, "c2")[-1] == "SUCCEEDED")
        assert desk.envelope().state is GridState.UNLIMITED
        assert desk.envelope().binding is None
        await until(lambda: dso.of("telemetry") and dso.of("heartbeat/site"))
        assert dso.of("telemetry")[0]["gridW"] == 3000.0
    async with operator(broker) as dso:
        await until(lambda: dso.of("status"))
        assert dso.of("status")[0] == {"v": 1, "online": False}


async def test_a_limit_of_the_export_is_stored_acknowledged_and_told_beside_that_of_the_import(
    broker: Broker, tmp_path: Path
) -> None:
    async with operator(broker) as dso:
        async with site(broker, tmp_path) as (desk, _):
            await dso.beat()
            await until(lambda: desk.machines["mqtt"].heard)
            await dso.limit(1, 2500.0)
            await dso.limit(7, 1500.0, kind="EXPORT_CAPACITY_LIMIT", durationS=900)
            await until(lambda: statuses(dso, "c7") == ["ACCEPTED"])
            await until(lambda: any(s["exportSeq"] == 7 for s in dso.of("status")))
            status = next(s for s in dso.of("status") if s["exportSeq"] == 7)
            assert (status["exportLimitW"], status["exportLimitSource"]) == (1500.0, "mqtt-export")
            assert 880 < status["exportRemainingS"] <= 900
            assert (status["limitW"], status["limitSource"], status["seq"]) == (2500.0, "mqtt", 1)
            await desk.tick()
            await until(lambda: statuses(dso, "c7") == ["ACCEPTED", "STARTED"])
            await dso.limit(7, 9000.0, kind="EXPORT_CAPACITY_LIMIT")
            await until(lambda: statuses(dso, "c7")[-1] == "REJECTED")
        async with site(broker, tmp_path) as (desk, _):
            assert [limit.limit_w for limit in desk.exports()] == [1500.0], "after a restart"
            await dso.limit(8, None, kind="EXPORT_CAPACITY_LIMIT")
            await until(lambda: statuses(dso, "c8") == ["ACCEPTED"])
            assert desk.exports() == ()
            assert desk.envelope().binding.limit_w == 2500.0


async def test_malformed_payloads_are_answered_where_an_id_can_be_read_and_change_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    payloads = [
        b"\xff\xfe",
        b"{",
        b"[" * 4000,
        b"null",
        b"9" * 8000,
        json.dumps({**limit(5, 1.0), "valueW": -4.0}).encode(),
        json.dumps({**limit(5, 1.0), "valueW": float("nan")}).encode(),
        json.dumps({"id": "c5"}).encode(),
    ]
    async with operator(broker) as dso, site(broker, tmp_path) as (desk, link):
        for leaf in ("limit", "config", "heartbeat"):
            for payload in payloads:
                await dso.client.publish(f"{BASE}/{leaf}", payload, qos=1)
        await until(lambda: len(statuses(dso, "c5")) == 3)
        assert statuses(dso, "c5") == ["REJECTED"] * 3
        assert [ack["reason"].split(":")[0] for ack in dso.of("ack")] == [
            "NEGATIVE_VALUE",
            "NOT_A_NUMBER",
            "WRONG_VERSION",
        ]
        assert link.connected
        assert desk.envelope().state is GridState.INIT
        await dso.beat()
        await dso.limit(6, 50.0)
        await until(lambda: statuses(dso, "c6") == ["REJECTED"])
        await dso.limit(7, 2000.0)
        await until(lambda: statuses(dso, "c7") == ["ACCEPTED"])


async def test_a_retained_stale_command_is_refused_after_a_restart(broker: Broker, tmp_path: Path) -> None:
    old = stamp(CLOCK.now() - timedelta(hours=3))
    async with operator(broker) as dso:
        await dso.limit(9, 90_000.0, issued=old)
        await dso.beat(retain=True)
        async with site(broker, tmp_path) as (desk, _):
            await until(lambda: statuses(dso, "c9") == ["REJECTED"])
            assert "TOO_OLD" in dso.of("ack")[0]["reason"]
            assert not desk.machines["mqtt"].heard, "a retained heartbeat is no sign of life"
            assert desk.envelope().binding.source == "failsafe"


async def test_broker_sigkill_and_restart_the_link_comes_back_and_applies_once(
    broker: Broker, tmp_path: Path
) -> None:
    async with site(broker, tmp_path) as (desk, link):
        async with operator(broker) as dso:
            await dso.beat()
            await until(lambda: desk.machines["mqtt"].heard)
            await dso.limit(1, 2500.0, durationS=900)
            await until(lambda: statuses(dso, "c1") == ["ACCEPTED"])
            again = json.dumps(limit(1, 2500.0, durationS=900))
        broker.kill()
        await until(lambda: not link.connected)
        assert desk.envelope().binding.limit_w == 2500.0, "a dead broker lifts no limit"
        remaining = desk.envelope().binding.end_at
        await broker.start()
        await until(lambda: link.connected, 15)
        async with operator(broker) as dso:
            await dso.client.publish(f"{BASE}/limit", again, qos=1, retain=True)
            # Acks are delivered at least once: the stored one may come again before this one.
            await until(lambda: "REJECTED" in statuses(dso, "c1"))
            assert "REPLAY_OTHER_CONTENT" in dso.of("ack")[-1]["reason"], "issued anew under an old sequence"
            assert abs((desk.envelope().binding.end_at - remaining).total_seconds()) < 0.1
            await dso.limit(2, 2000.0)
            await until(lambda: statuses(dso, "c2") == ["ACCEPTED"])


async def test_a_restarted_agent_resumes_the_limit_and_reacknowledges_the_retained_copy(
    broker: Broker, tmp_path: Path
) -> None:
    async with operator(broker) as dso:
        async with site(broker, tmp_path) as (desk, _):
            await dso.beat()
            await until(lambda: desk.machines["mqtt"].heard)
            body = json.dumps(limit(1, 2500.0, durationS=900))
            await dso.client.publish(f"{BASE}/limit", body, qos=1, retain=True)
            await until(lambda: statuses(dso, "c1") == ["ACCEPTED"])
            ends_at = desk.envelope().binding.end_at
        async with site(broker, tmp_path) as (desk, _):
            binding = desk.envelope().binding
            assert binding.limit_w == 2500.0
            assert abs((binding.end_at - ends_at).total_seconds()) < 0.1
            # The embedded broker keeps retained messages from a session that it resumes; operators send
            # their limit again whenever a site comes online.
            await dso.client.publish(f"{BASE}/limit", body, qos=1, retain=True)
            await until(lambda: any(ack["reason"] == "repeated" for ack in dso.of("ack")))
            assert set(statuses(dso, "c1")) == {"ACCEPTED"}
            assert desk.envelope().state is GridState.INIT, "the old copy is not a following limit"
            await dso.beat()
            await dso.limit(2, 3000.0)
            await until(lambda: desk.envelope().state is GridState.LIMITED)


def lines_to(port: int, stack: contextlib.ExitStack) -> dict[int, socket.socket]:
    """Return a copy of each connection of this process to a port, by its own; the stack closes them."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # a listener, or what read the folder
            if not entry.readlink().name.startswith("socket:"):
                continue
            line = stack.enter_context(socket.socket(fileno=os.dup(int(entry.name))))
            if line.family == socket.AF_INET and line.getpeername()[1] == port:
                found[line.getsockname()[1]] = line
    return found


class Noted(list[bytes]):
    """Forecasts, and for each whether the kernel confirms at once what has come by then."""

    line: socket.socket
    prompt: list[int]

    def append(self, payload: bytes) -> None:
        super().append(payload)
        self.prompt.append(self.line.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))


async def test_nothing_that_came_waits_for_its_confirmation(broker: Broker, tmp_path: Path) -> None:
    noted = Noted()
    noted.prompt = []
    async with operator(broker) as dso:
        stack = contextlib.ExitStack()
        others = lines_to(broker.port, stack)
        async with site(broker, tmp_path, noted):
            lines = lines_to(broker.port, stack)
            (noted.line,) = (line for port, line in lines.items() if port not in others)
            await dso.beat()
            for sequence in range(1, 21):
                # The answer makes the kernel put off the next confirmation, in the hope of one more.
                await dso.limit(sequence, 3000.0)
                await until(lambda: len(dso.of("ack")) >= sequence)  # noqa: B023
                await dso.client.publish("plant/v1/site-a/forecast", b"{}", qos=0)
                await until(lambda: len(noted) >= sequence)  # noqa: B023
            stack.close()
    assert noted.prompt == [1] * 20


async def test_operator_settings_and_forecasts_arrive(broker: Broker, tmp_path: Path) -> None:
    forecasts: list[bytes] = []
    async with operator(broker) as dso:
        async with site(broker, tmp_path, forecasts) as (desk, _):
            await dso.client.publish(
                f"{BASE}/config", b'{"failsafeImportW": 1500, "heartbeatTimeoutS": 60}', 1
            )
            await until(lambda: desk.envelope().binding.limit_w == 1500.0)
            await dso.client.publish(f"{BASE}/config", b'{"failsafeImportW": 2000, "failsafeMinS": 60}', 1)
            await dso.client.publish("plant/v1/site-a/forecast", b"{}", qos=1)
            await until(lambda: forecasts == [b"{}"])
            assert desk.operators.in_force("mqtt").failsafe_import_w == 1500.0, (
                "one bad field refuses them all"
            )
        async with site(broker, tmp_path, forecasts) as (desk, _):
            assert desk.envelope().binding.limit_w == 1500.0
            assert desk.operators.in_force("mqtt").heartbeat_timeout_s == 60.0


def test_plaintext_is_refused_outside_loopback() -> None:
    with pytest.raises(ConfigError, match="loopback"):
        MqttLink(
            host="192.0.2.1",
            port=1883,
            operator="dso",
            site="site-a",
            client_id="x",
            desk=None,  # type: ignore[arg-type]
            snapshot=SiteSnapshot,
            clock=CLOCK,
        )


async def test_each_refusal_is_answered_with_its_reason_and_changes_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    def at(offset_s: float) -> str:
        return stamp(CLOCK.now() + timedelta(seconds=offset_s))

    refused = [
        (limit(1, 5000.0, site="site-b"), "WRONG_SITE: site"),
        (limit(2, 5000.0, issued=at(3600)), "FUTURE_ISSUE: issued"),
        (limit(3, 5000.0, issued=at(-3600)), "TOO_OLD: issued"),
        (limit(4, 5000.0, issued=at(-60), expires=at(-1)), "EXPIRED: expires"),
        (limit(5, 5000.0, issued=at(-200), durationS=100), "EXPIRED: durationS"),
        (limit(9, 5000.0), "STALE_SEQUENCE: seq"),
        ({**limit(10, 5000.0), "id": "c11"}, "REPLAY_OTHER_CONTENT: seq"),
    ]
    async with operator(broker) as dso, site(broker, tmp_path) as (desk, _):
        await dso.beat()
        await until(lambda: desk.machines["mqtt"].heard)
        await dso.limit(10, 2500.0)
        await until(lambda: statuses(dso, "c10") == ["ACCEPTED"])
        before = desk.envelope().limits[0].command_id, desk.envelope().limits[0].limit_w
        for body, reason in refused:
            # Sequences that were used up would be told apart from the other faults.
            seq = body["seq"] if "seq" in reason else 100 + body["seq"]
            await dso.client.publish(f"{BASE}/limit", json.dumps({**body, "seq": seq}), qos=1)
            await until(lambda body=body: "REJECTED" in statuses(dso, body["id"]))  # type: ignore[misc]
            assert dso.of("ack")[-1]["reason"].startswith(reason)
        assert (desk.envelope().limits[0].command_id, desk.envelope().limits[0].limit_w) == before


async def test_a_command_that_was_sent_while_the_site_was_away_waits_for_it(
    broker: Broker, tmp_path: Path
) -> None:
    async with operator(broker) as dso:
        async with site(broker, tmp_path):
            pass
        await dso.limit(1, 2500.0, retain=False)
        async with site(broker, tmp_path) as (desk, _):
            await until(lambda: desk.envelope().binding.limit_w == 2500.0)
            await until(lambda: statuses(dso, "c1") == ["ACCEPTED"])


async def test_the_broker_says_that_the_site_is_gone_when_its_line_is_cut(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        proxy_to(broker.port) as proxy,
        operator(broker) as dso,
        site(broker, tmp_path, port=proxy.port) as (_, link),
    ):
        await until(lambda: any(status["online"] for status in dso.of("status")))
        proxy.faults.refuse = True
        proxy.reset()
        await until(lambda: dso.of("status")[-1] == {"v": 1, "online": False})
        await until(lambda: not link.connected)
        proxy.faults.refuse = False
        await until(lambda: dso.of("status")[-1]["online"], 15)


async def test_reports_wait_for_the_broker_and_the_oldest_are_forgotten(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        proxy_to(broker.port) as proxy,
        operator(broker) as dso,
        site(broker, tmp_path, port=proxy.port) as (_, link),
    ):
        proxy.faults.refuse = True
        proxy.reset()
        await until(lambda: not link.connected)
        for number in range(MAX_REPORTS + 3):
            link.report(b'{"number":%d}' % number)
        proxy.faults.refuse = False
        await until(lambda: len(dso.of("report")) >= MAX_REPORTS, 15)
        assert [body["number"] for body in dso.of("report")] == list(range(3, MAX_REPORTS + 3))


@contextlib.asynccontextmanager
async def late(broker: Broker, *leaves: str) -> AsyncIterator[list[aiomqtt.Message]]:
    """What somebody hears who comes later: first what was retained."""
    heard: list[aiomqtt.Message] = []
    async with aiomqtt.Client(
        broker.host, broker.port, identifier="late", protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        for leaf in leaves:
            await client.subscribe(f"{BASE}/{leaf}", qos=1)

        async def listen() -> None:
            async for message in client.messages:
                heard.append(message)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(listen())
            yield heard
            task.cancel()


async def test_notices_are_retained_until_they_expire_and_sent_again_in_a_new_session(
    broker: Broker, tmp_path: Path
) -> None:
    offers = b'{"offers":[]}'
    async with contextlib.AsyncExitStack() as stack:
        async with site(broker, tmp_path) as (_, link):
            link.post("offers", b'{"old":true}')
            link.post("offers", offers, 60.0)
            link.post("stale", b'{"stale":true}', 0.0)
            async with late(broker, "offers") as heard:
                await until(lambda: heard and heard[-1].payload == offers)
                properties = heard[-1].properties
                assert properties is not None and 0 < properties.MessageExpiryInterval <= 60
            broker.kill()
            await until(lambda: not link.connected)
            await broker.start()
            heard = await stack.enter_async_context(late(broker, "offers", "stale"))
            await until(lambda: heard and heard[0].payload == offers)
        await until(lambda: any(one.payload == b"" for one in heard if str(one.topic).endswith("offers")))
        stale = [one.payload for one in heard if str(one.topic).endswith("stale")]
        assert b'{"stale":true}' not in stale, "what has expired is not told"


async def test_a_flood_of_junk_neither_ends_the_link_nor_keeps_the_operator_out(
    broker: Broker, tmp_path: Path
) -> None:
    rng = random.Random(11)
    async with operator(broker) as dso, site(broker, tmp_path) as (desk, link):
        attempts = link.attempts
        for _ in range(300):
            leaf = rng.choice(("limit", "heartbeat"))
            await dso.client.publish(f"{BASE}/{leaf}", junk(rng), qos=1)
        await dso.beat()
        await until(lambda: desk.machines["mqtt"].heard)
        await dso.limit(1, 2000.0)
        await until(lambda: statuses(dso, "c1") == ["ACCEPTED"])
        assert link.attempts == attempts, "one session through it all"
