"""The link under a broker that is killed again and again, and under none at all for very long."""

import asyncio
import contextlib
import json
import logging
import random
import socket
import time
from collections import Counter
from pathlib import Path

import aiomqtt
import pytest

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.limits import HeldCommand
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.grid.wire import SiteSnapshot, stamp
from agent.model.grid import Ack
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.cancellation import heed
from sterna.clock import SystemClock
from tests.agent.grid.operators import BASE, limit
from tests.brokers import Broker
from tests.hostile.barrage import rss_kib

pytestmark = pytest.mark.broker

CLOCK = SystemClock()
KILLS, FEW_KILLS = 200, 2
RESUBSCRIBED_WITHIN_S = 10.0
REFUSALS, FEW_REFUSALS = 100_000, 300
GROWTH_KIB = 5 * 1024


class CountingStore(CommandStore):
    """Counts how often each command was stored."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, boot_id="boot")
        self.applied: Counter[str] = Counter()

    async def accept(
        self, held: HeldCommand, digest: str, ack: Ack, after: HeldCommand | None = None
    ) -> None:
        """Store and count."""
        await super().accept(held, digest, ack, after)
        self.applied[held.command.command_id] += 1


def make_desk(store: CommandStore) -> GridDesk:
    return GridDesk(
        clock=CLOCK,
        store=store,
        operators=("mqtt",),
        settings=FailsafeSettings(failsafe_import_w=4200.0),
        rules=Rules(site="site-a"),
    )


def make_link(desk: GridDesk, port: int, **more: object) -> MqttLink:
    return MqttLink(
        host="127.0.0.1",
        port=port,
        operator="dso",
        site="site-a",
        client_id="sterna-site-a",
        desk=desk,
        snapshot=SiteSnapshot,
        clock=CLOCK,
        **more,  # type: ignore[arg-type]
    )


async def settled(client: aiomqtt.Client, payload: bytes, command_id: str) -> None:
    """Say a command again, as an operator does, until it is answered with its acceptance or its place."""

    async def say() -> None:
        while True:
            beat = {"n": int(CLOCK.boottime_s() * 1000), "t": stamp(CLOCK.now())}
            await client.publish(f"{BASE}/heartbeat", json.dumps(beat), qos=1)
            await client.publish(f"{BASE}/limit", payload, qos=1, retain=True)
            heed()
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as group:
        saying = group.create_task(say())
        async for message in client.messages:
            ack = json.loads(message.payload)
            if ack["id"] == command_id:
                assert ack["status"] != "REJECTED", ack
                break
        saying.cancel()


async def kills(folder: Path, count: int) -> dict[str, object]:
    """Kill the broker around `count` commands; return what it took to come back."""
    broker = Broker(folder)
    await broker.start()
    try:
        return await killed(broker, folder, count)
    finally:
        broker.kill()


async def killed(broker: Broker, folder: Path, count: int) -> dict[str, object]:
    rng, back_s = random.Random(5), []
    async with Database(folder / "agent.db", MIGRATIONS) as db:
        store = CountingStore(db)
        desk = make_desk(store)
        await desk.recover()
        link = make_link(desk, broker.port)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(link.run())
            for seq in range(1, count + 1):
                payload = json.dumps(limit(seq, 1000.0 + seq, now=CLOCK.now())).encode()
                with contextlib.suppress(aiomqtt.MqttError, ExceptionGroup):
                    async with asyncio.timeout(1), client(broker) as dying:
                        await dying.publish(f"{BASE}/limit", payload, qos=1, retain=True)
                        await asyncio.sleep(
                            rng.choice((0, 0.001, 0.005, 0.02))
                        )  # the kill's place, not a wait
                broker.kill()
                await until_gone(link)
                await broker.start()
                back_at = time.perf_counter()
                async with asyncio.timeout(RESUBSCRIBED_WITHIN_S):
                    await until_linked(link)
                back_s.append(time.perf_counter() - back_at)
                async with asyncio.timeout(30), client(broker) as operator:
                    await operator.subscribe(f"{BASE}/ack", qos=1)
                    await settled(operator, payload, f"c{seq}")
                assert desk.last_sequence("mqtt") == seq
            running.cancel()
    assert store.applied == {f"c{seq}": 1 for seq in range(1, count + 1)}
    return {"kills": count, "applied_once": len(store.applied), "worst_back_s": round(max(back_s), 2)}


def client(broker: Broker) -> aiomqtt.Client:
    return aiomqtt.Client(broker.host, broker.port, identifier="dso", protocol=aiomqtt.ProtocolVersion.V5)


async def until_gone(link: MqttLink) -> None:
    async with asyncio.timeout(30):
        while link.connected:  # noqa: ASYNC110 - the broker's end is seen by the link alone
            await asyncio.sleep(0.005)


async def until_linked(link: MqttLink) -> None:
    while not link.connected:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_a_few_kills(tmp_path: Path) -> None:
    figures = await kills(tmp_path, FEW_KILLS)
    assert figures["applied_once"] == FEW_KILLS


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_two_hundred_kills(tmp_path: Path) -> None:
    print(json.dumps(await kills(tmp_path, KILLS)))


async def refusals(folder: Path, count: int) -> dict[str, float]:
    """Have the link refused `count` times by a port that nobody listens on, without a pause."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, and it refuses
        async with Database(folder / "agent.db", MIGRATIONS) as db:
            link = make_link(
                make_desk(CommandStore(db, boot_id="boot")), taken.getsockname()[1], backoff_s=(0, 0)
            )
            async with asyncio.TaskGroup() as group:
                running = group.create_task(link.run())
                await until_tried(link, count // 10)
                settled_kib, started = rss_kib(), time.perf_counter()
                await until_tried(link, count)
                grown_kib = rss_kib() - settled_kib
                running.cancel()
            return {
                "refusals": link.attempts,
                "grown_kib": grown_kib,
                "per_s": round(0.9 * count / (time.perf_counter() - started)),
            }


async def until_tried(link: MqttLink, count: int) -> None:
    while link.attempts < count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_few_refusals(tmp_path: Path) -> None:
    figures = await refusals(tmp_path, FEW_REFUSALS)
    assert figures["refusals"] >= FEW_REFUSALS


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_a_hundred_thousand_refusals(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    figures = await refusals(tmp_path, REFUSALS)
    print(json.dumps(figures))
    assert figures["grown_kib"] <= GROWTH_KIB
