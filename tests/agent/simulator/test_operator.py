"""The stand-in for a grid operator, with a key, on a real broker and a site that wants signatures."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.grid.wire import SiteSnapshot
from agent.model.limits import GridState, LimitKind
from agent.simulator.operator import GridOperator, choose_exporter
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import SystemClock
from sterna.signing import load_signing_key
from tests.agent.grid.operators import Signer, seal
from tests.agent.grid.rtu_rig import power
from tests.brokers import Broker

pytestmark = pytest.mark.broker
WITHIN_S = 30.0


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker
    broker.kill()


def make_operator(journal: Path, **more: Any) -> GridOperator:
    """One that has nothing to limit for as long as a test takes, unless told."""
    plan: dict[str, Any] = {
        "limit_after_s": 1000.0,
        "limit_before_s": 2000.0,
        "limit_s": 10.0,
        "shed_frac": 0.5,
    }
    return GridOperator(name="dso", sites=["site-a"], journal=journal, **(plan | more))


@asynccontextmanager
async def obeying(
    operator: GridOperator,
    broker: Broker,
    folder: Path,
    snapshot: Callable[[], SiteSnapshot] = SiteSnapshot,
    **of_desk: Any,
) -> AsyncIterator[GridDesk]:
    """Run an operator and a site that hears it."""
    clock = SystemClock()
    async with Database(folder / "agent.db", MIGRATIONS) as db:
        desk = GridDesk(
            clock=clock,
            store=CommandStore(db, boot_id="boot"),
            operators=("mqtt",),
            settings=FailsafeSettings(failsafe_import_w=4200.0),
            rules=Rules(site="site-a"),
            **of_desk,
        )
        await desk.recover()
        link = MqttLink(
            host=broker.host,
            port=broker.port,
            operator="dso",
            site="site-a",
            client_id="sterna-site-a",
            desk=desk,
            snapshot=snapshot,
            clock=clock,
            status_period_s=0.2,
        )
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(link.run()),
                group.create_task(operator.run(broker.host, broker.port)),
            ]
            async with asyncio.timeout(WITHIN_S):
                yield desk
            for task in tasks:
                task.cancel()


@pytest.mark.parametrize("knows_the_key", [True, False])
async def test_a_site_that_knows_its_key_is_greeted_with_a_heartbeat_and_a_release(
    broker: Broker, tmp_path: Path, knows_the_key: bool
) -> None:
    signer, journal = Signer(), tmp_path / "journal"
    operator = make_operator(journal, sign=load_signing_key(signer.write_private(tmp_path / "dso.key")).sign)
    seals = {"mqtt": seal(signer if knows_the_key else Signer())}
    async with obeying(operator, broker, tmp_path, seals=seals) as desk:
        word = "ACCEPTED" if knows_the_key else "REJECTED"
        while word not in acked(journal):  # noqa: ASYNC110 - a file tells
            await asyncio.sleep(0.02)
    assert desk.envelope().state is (GridState.UNLIMITED if knows_the_key else GridState.INIT)


async def test_a_limit_of_the_export_goes_to_the_site_that_exports_most(
    broker: Broker, tmp_path: Path
) -> None:
    operator = make_operator(
        tmp_path / "journal",
        limit_after_s=0.0,
        limit_before_s=0.0,
        shed_frac=0.75,
        kind=LimitKind.EXPORT_CAPACITY_LIMIT,
    )

    def snapshot() -> SiteSnapshot:
        return SiteSnapshot(power=replace(power(-8000.0), measured_at=SystemClock().now()))

    async with obeying(operator, broker, tmp_path, snapshot, failsafe_exports_w={"mqtt": 500.0}) as desk:
        while [limit.limit_w for limit in desk.exports()] != [2000.0]:  # noqa: ASYNC110 - a peer's
            await asyncio.sleep(0.02)
    assert desk.envelope().state is GridState.UNLIMITED, "both directions are greeted"


async def test_a_broker_that_was_ended_is_dialled_again_and_has_the_limit_again(
    broker: Broker, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    operator = make_operator(
        journal, limit_after_s=0.0, limit_before_s=0.0, limit_s=300.0, kind=LimitKind.EXPORT_CAPACITY_LIMIT
    )

    def snapshot() -> SiteSnapshot:
        return SiteSnapshot(power=replace(power(-8000.0), measured_at=SystemClock().now()))

    async with obeying(operator, broker, tmp_path, snapshot, failsafe_exports_w={"mqtt": 500.0}) as desk:
        while [limit.limit_w for limit in desk.exports()] != [4000.0]:  # noqa: ASYNC110 - a peer's
            await asyncio.sleep(0.02)
        broker.kill()
        await broker.start()
        async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as listener:
            await listener.subscribe("dr/v1/dso/site-a/limit", qos=1)
            async for message in listener.messages:
                if json.loads(message.payload)["valueW"] == 4000:
                    break
        assert [limit.limit_w for limit in desk.exports()] == [4000.0]
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [event["valueW"] for event in events if event["event"] == "limit"] == [4000]


def test_only_an_export_that_is_worth_it_is_limited() -> None:
    told = {"a": {"gridW": -500.0}, "b": {"gridW": -900.0}, "c": {"gridW": None}, "d": {}}
    assert choose_exporter(told, 0.5) == ("b", 450)
    assert choose_exporter({"a": {"gridW": 2000.0}, "b": {"gridW": -99.0}}, 0.5) is None
    assert choose_exporter({}, 0.5) is None


def acked(journal: Path) -> list[str]:
    rows = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    return [row["status"] for row in rows if row["event"] == "ack"]
