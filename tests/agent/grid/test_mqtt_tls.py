"""The link over TLS on a real Mosquitto that asks for certificates and signs nobody in without."""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from agent.build.files import broker_tls
from agent.config.mqtt import BrokerTable, BrokerTlsTable
from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.grid.wire import SiteSnapshot, stamp
from agent.model.limits import GridState
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import SystemClock
from sterna.errors import ConfigError
from tests.agent.grid.certificates import Authority
from tests.agent.grid.operators import BASE, Signer, limit, seal
from tests.brokers import MOSQUITTO, Broker
from tests.waiting import until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="the embedded broker asks for no certificates"),
]

CLOCK = SystemClock()


def tls_context(table: BrokerTlsTable, folder: Path) -> ssl.SSLContext:
    context = broker_tls(BrokerTable(host="localhost", tls=table), folder, "grid.mqtt")
    assert context is not None
    return context


class Rig:
    """A broker that knows one authority, and the operator's key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "pki")
        self.operator = Signer()
        cert, key = self.authority.issue("broker")
        self.broker = Broker(
            folder,
            f"user root\ncafile {self.authority.ca}\ncertfile {cert}\nkeyfile {key}\n"
            "require_certificate true\nuse_identity_as_username true\n",
        )

    def table(self, name: str, authority: Authority | None = None) -> BrokerTlsTable:
        """Write the table of a party with a certificate."""
        cert, key = (authority or self.authority).issue(name)
        return BrokerTlsTable(ca=self.authority.ca, cert=cert, key=key)

    @contextlib.asynccontextmanager
    async def site(self, table: BrokerTlsTable) -> AsyncIterator[tuple[GridDesk, MqttLink]]:
        """Run the link of a site."""
        async with Database(self.folder / "agent.db", MIGRATIONS) as db:
            desk = GridDesk(
                clock=CLOCK,
                store=CommandStore(db, boot_id="boot"),
                operators=("mqtt",),
                settings=FailsafeSettings(failsafe_import_w=4200.0),
                rules=Rules(site="site-a"),
                seals={"mqtt": seal(self.operator)},
            )
            await desk.recover()
            link = MqttLink(
                host="localhost",
                port=self.broker.port,
                operator="dso",
                site="site-a",
                client_id="sterna-site-a",
                desk=desk,
                snapshot=SiteSnapshot,
                clock=CLOCK,
                tls_context=tls_context(table, self.folder),
                timeout_s=2.0,
            )
            async with asyncio.TaskGroup() as group:
                running = group.create_task(link.run())
                yield desk, link
                running.cancel()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.broker.start()
    yield rig
    rig.broker.kill()


async def test_a_signed_command_over_mutual_tls(rig: Rig) -> None:
    context = tls_context(rig.table("dso"), rig.folder)
    async with (
        rig.site(rig.table("site-a")) as (desk, link),
        aiomqtt.Client(
            "localhost",
            rig.broker.port,
            identifier="dso",
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=context,
        ) as dso,
    ):
        await dso.subscribe(f"{BASE}/ack", qos=1)
        await until(lambda: link.connected)
        beat = rig.operator.sealed("heartbeat", {"n": 1, "t": stamp(CLOCK.now())})
        await dso.publish(f"{BASE}/heartbeat", beat)
        await until(lambda: desk.machines["mqtt"].heard)
        forged = Signer().sealed("limit", limit(1, 9000.0, now=CLOCK.now()))
        await dso.publish(f"{BASE}/limit", forged, qos=1)
        await dso.publish(
            f"{BASE}/limit", rig.operator.sealed("limit", limit(1, 2500.0, now=CLOCK.now())), qos=1
        )
        answers = []
        async with asyncio.timeout(10):
            async for message in dso.messages:
                answers.append(json.loads(message.payload))
                if len(answers) == 2:
                    break
        assert [(a["status"], a["reason"]) for a in answers] == [
            ("REJECTED", "BAD_SIGNATURE: sig"),
            ("ACCEPTED", ""),
        ]
        assert desk.envelope().state is GridState.LIMITED


@pytest.mark.parametrize("who", ["nobody", "a stranger"])
async def test_who_has_no_certificate_of_the_brokers_authority_gets_no_link_and_is_told(
    rig: Rig, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Authority(rig.folder / "other")
    table = BrokerTlsTable(ca=rig.authority.ca) if who == "nobody" else rig.table("site-a", stranger)
    caplog.set_level(logging.WARNING, "agent.grid.mqtt")
    async with rig.site(table) as (desk, link):
        await until(lambda: link.attempts >= 2)
        assert not link.connected
        assert any(record.message.startswith("no link") for record in caplog.records)
        assert desk.envelope().binding is not None


async def test_a_broker_of_another_authority_is_not_trusted(rig: Rig) -> None:
    other = Authority(rig.folder / "other")
    cert, key = rig.authority.issue("site-a")
    async with rig.site(BrokerTlsTable(ca=other.ca, cert=cert, key=key)) as (_, link):
        await until(lambda: link.attempts >= 2)
        assert not link.connected


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, _ = authority.issue("site-a")
    _, other_key = authority.issue("site-b")
    for table, words in (
        (BrokerTlsTable(ca=Path("none.pem")), "none.pem"),
        (BrokerTlsTable(ca=authority.ca, cert=cert, key=other_key), "site-b-key.pem"),
    ):
        with pytest.raises(ConfigError, match=words):
            tls_context(table, tmp_path)
    assert tls_context(BrokerTlsTable(), tmp_path).verify_mode is ssl.CERT_REQUIRED
