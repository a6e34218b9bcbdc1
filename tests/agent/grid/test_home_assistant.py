"""The site in Home Assistant, on a real broker: what Home Assistant would find there."""

import asyncio
import contextlib
import json
import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from agent.config import AgentConfig
from agent.core.home_assistant import ENTITIES, Announcement
from agent.grid.home_assistant import HomeAssistant
from sterna.config import parse
from sterna.errors import ConfigError
from tests.brokers import Broker
from tests.faults.proxy import proxy_to

pytestmark = pytest.mark.broker

FIGURES: dict[str, object] = {"grid_w": 12.5, "limit_w": None}
ANNOUNCEMENT = Announcement(site="north", version="1.0", prefix="homeassistant", period_s=0.2)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker
    broker.kill()


def link_to(port: int, *, enabled: bool = True) -> HomeAssistant:
    return HomeAssistant(
        host="127.0.0.1",
        port=port,
        client_id="sterna-north-home-assistant",
        announcement=ANNOUNCEMENT,
        figures=lambda: FIGURES,
        enabled=enabled,
        timeout_s=2.0,
    )


@contextlib.asynccontextmanager
async def running(link: HomeAssistant) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(link.run())
        yield
        task.cancel()


class Household:
    """A subscriber; `kept` are retained messages found at first sight or set since, by topic."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.kept: dict[str, bytes] = {}
        self.states: list[dict[str, object]] = []
        self._client = client
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        async for message in self._client.messages:
            payload = message.payload
            assert isinstance(payload, bytes)
            async with self._news:
                if str(message.topic) == "sterna/north/state":
                    self.states.append(json.loads(payload))
                elif payload:
                    self.kept[str(message.topic)] = payload
                else:
                    self.kept.pop(str(message.topic), None)
                self._news.notify_all()

    async def sees(self, *, available: bytes | None, documents: int) -> None:
        """Wait for it."""

        def is_so() -> bool:
            found = sum(topic.startswith("homeassistant/") for topic in self.kept)
            return self.kept.get("sterna/north/availability") == available and found == documents

        async with asyncio.timeout(15), self._news:
            await self._news.wait_for(is_so)

    async def told(self, more: int) -> None:
        """Wait for more figures."""
        wanted = len(self.states) + more
        async with asyncio.timeout(15), self._news:
            await self._news.wait_for(lambda: len(self.states) >= wanted)


@contextlib.asynccontextmanager
async def household(broker: Broker) -> AsyncIterator[Household]:
    async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        home = Household(client)
        await client.subscribe("homeassistant/#", qos=1)
        await client.subscribe("sterna/#", qos=1)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(home.listen())
            yield home
            task.cancel()


async def test_announced_told_and_offline_after_a_clean_end(broker: Broker) -> None:
    async with household(broker) as home:
        link = link_to(broker.port)
        async with running(link):
            await home.sees(available=b"online", documents=len(ENTITIES))
            await home.told(3)
            assert home.states[-1] == {"grid_w": 12.5, "limit_w": None}
            assert link.connected
        await home.sees(available=b"offline", documents=len(ENTITIES))
    async with household(broker) as later:  # a Home Assistant that starts afterwards finds it all
        await later.sees(available=b"offline", documents=len(ENTITIES))
        assert later.states == []


async def test_a_cut_is_told_by_the_last_will_and_mended(broker: Broker) -> None:
    async with (
        household(broker) as home,
        proxy_to(broker.port) as proxy,
        running(link_to(int(proxy.address.rpartition(":")[2]))),
    ):
        await home.sees(available=b"online", documents=len(ENTITIES))
        proxy.reset()
        await home.sees(available=b"offline", documents=len(ENTITIES))
        await home.sees(available=b"online", documents=len(ENTITIES))
        await home.told(1)


async def test_turned_off_it_takes_everything_back(broker: Broker) -> None:
    async with household(broker) as home:
        async with running(link_to(broker.port)):
            await home.sees(available=b"online", documents=len(ENTITIES))
        async with running(link_to(broker.port, enabled=False)):
            await home.sees(available=None, documents=0)
    async with household(broker) as later, running(link_to(broker.port)):  # and on again
        await later.sees(available=b"online", documents=len(ENTITIES))


async def test_a_broker_that_comes_later(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    async with running(link_to(broker.port)):
        await broker.start()
        try:
            async with household(broker) as home:
                await home.sees(available=b"online", documents=len(ENTITIES))
        finally:
            broker.kill()


def test_plaintext_is_for_loopback_only() -> None:
    with pytest.raises(ConfigError, match="plaintext"):
        HomeAssistant(
            host="192.0.2.1", port=1883, client_id="x", announcement=ANNOUNCEMENT, figures=lambda: FIGURES
        )


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"host": "ha.lan"}, "home_assistant.tls: missing"),
        ({"host": "ha.lan", "insecure": True}, "home_assistant.insecure: plaintext is for loopback only"),
        ({"host": "h", "tls": {"cert": "c"}}, "home_assistant.tls: cert and key go together"),
        ({"host": "h", "tls": {}, "port": 0}, "home_assistant.port: expected 1 to 65535, got 0"),
        ({"host": "h", "tls": {}, "period_s": 0.5}, "home_assistant.period_s: expected 1 to 300"),
        ({"host": "h", "tls": {}, "discovery_prefix": "a/#"}, "home_assistant.discovery_prefix"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], fault: str) -> None:
    base = {"fleet": "f", "site": "s", "state_dir": "state", "grid": {"operator": "none"}}
    with pytest.raises(ConfigError) as raised:
        parse(base | {"home_assistant": given}, AgentConfig, name="agent.toml")
    assert fault in str(raised.value)


def test_the_page_shows_a_configuration_that_is_taken_and_names_every_entity() -> None:
    page = (Path(__file__).parents[3] / "docs" / "home-assistant.md").read_text()
    [shown] = re.findall(r"```toml\n(.*?)```", page, re.S)
    base = {"fleet": "f", "site": "s", "state_dir": "state", "grid": {"operator": "none"}}
    assert parse(base | tomllib.loads(shown), AgentConfig, name="agent.toml").home_assistant is not None
    told = [name.strip() for row in re.findall(r"^\| ([A-Z].*?) \|", page, re.M) for name in row.split(",")]
    assert told == [entity.name for entity in ENTITIES]
