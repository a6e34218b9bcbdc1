"""The stand-in for a grid operator, with a key, on a real broker and a site that wants signatures."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.grid.wire import SiteSnapshot
from agent.model.limits import GridState
from agent.simulator.operator import GridOperator, load_signer
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import SystemClock
from tests.agent.grid.operators import Signer, seal
from tests.brokers import Broker

pytestmark = pytest.mark.broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker
    broker.kill()


@pytest.mark.parametrize("knows_the_key", [True, False])
async def test_a_site_that_knows_its_key_is_greeted_with_a_heartbeat_and_a_release(
    broker: Broker, tmp_path: Path, knows_the_key: bool
) -> None:
    signer, clock, journal = Signer(), SystemClock(), tmp_path / "journal"
    operator = GridOperator(
        name="dso",
        sites=["site-a"],
        limit_after_s=1000.0,
        limit_before_s=2000.0,
        limit_s=10.0,
        shed_frac=0.5,
        journal=journal,
        sign=load_signer(signer.write_private(tmp_path / "dso.key")),
    )
    async with Database(tmp_path / "agent.db", MIGRATIONS) as db:
        desk = GridDesk(
            clock=clock,
            store=CommandStore(db, boot_id="boot"),
            operators=("mqtt",),
            settings=FailsafeSettings(failsafe_import_w=4200.0),
            rules=Rules(site="site-a"),
            seals={"mqtt": seal(signer if knows_the_key else Signer())},
        )
        await desk.recover()
        link = MqttLink(
            host=broker.host,
            port=broker.port,
            operator="dso",
            site="site-a",
            client_id="sterna-site-a",
            desk=desk,
            snapshot=SiteSnapshot,
            clock=clock,
            status_period_s=0.2,
        )
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(link.run()),
                group.create_task(operator.run(broker.host, broker.port)),
            ]
            word = "ACCEPTED" if knows_the_key else "REJECTED"
            async with asyncio.timeout(15):
                while word not in acked(journal):  # noqa: ASYNC110 - a file tells
                    await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
        assert desk.envelope().state is (GridState.UNLIMITED if knows_the_key else GridState.INIT)


def acked(journal: Path) -> list[str]:
    rows = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    return [row["status"] for row in rows if row["event"] == "ack"]
