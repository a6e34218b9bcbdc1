"""The operator's page: a real server, a real coordinator's service behind it, HTTP as a browser speaks it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, which
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar

from coordinator.cli import document
from coordinator.cli.page.guard import Guard
from coordinator.cli.page.serve import ASSETS, served
from coordinator.cli.watching import changed
from coordinator.service.operator_fake import FakeDesk
from sterna.errors import ConfigError
from sterna.identity import Role
from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api
from tests.conftest import Fleet
from tests.coordinator.cli.conftest import WITHIN_S, Configure, ctrl_c, next_line, run, start
from tests.coordinator.service import operator_world as world

LOOPBACK = ("127.0.0.1", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """A browser that has opened the printed address."""

    guard: Guard
    session: ClientSession

    async def get(self, path: str) -> ClientResponse:
        return await self.session.get(self.guard.origin + path)

    async def post(self, path: str, body: object = None, *, origin: str = "") -> ClientResponse:
        headers = {"Origin": origin or self.guard.origin}
        return await self.session.post(self.guard.origin + path, json=body or {}, headers=headers)


@pytest.fixture
async def browser(config: Path) -> AsyncIterator[Browser]:
    # An address without a name is no host of cookies for aiohttp, unless told.
    async with served(config, LOOPBACK) as guard, ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        opened = await session.get(guard.address)
        assert opened.status == 200
        assert str(opened.url) == f"{guard.origin}/", "the key stays in the address"
        yield Browser(guard=guard, session=session)


async def next_event(answer: ClientResponse, name: str) -> Any:
    """Return the next server-sent event of a name."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if await answer.content.readline() == f"event: {name}\n".encode():
                data = await answer.content.readline()
                return json.loads(data.removeprefix(b"data: "))


async def test_the_fleet_comes_at_once_and_whenever_it_changes(browser: Browser) -> None:
    events = await browser.get("/fleet")
    first = await next_event(events, "fleet")
    assert first["kind"] == "fleet"
    assert {site["site_id"] for site in first["data"]["sites"]} == {"kiel", "malaga", "miami"}
    assert await next_event(events, "waiting") == ""
    assert any("miami" in line for line in await next_event(events, "warnings"))
    assert (await browser.post("/sites/kiel/drain")).status == 200
    changes = await next_event(events, "changes")
    assert kiel(changes)["draining"]
    assert [site["site_id"] for site in changes["data"]["sites"]] == ["kiel"], "what stands was sent again"


def kiel(fleet: dict[str, Any]) -> dict[str, Any]:
    """Return one site of a document."""
    return next(site for site in fleet["data"]["sites"] if site["site_id"] == "kiel")


async def test_what_the_operator_decides_reaches_the_coordinator(browser: Browser, desk: FakeDesk) -> None:
    explained = await (await browser.get(f"/jobs/{world.RUNNING}/explanation")).json()
    assert explained["data"]["decision"]["reason"] == "no move is feasible"
    moved = await browser.post(f"/jobs/{world.RUNNING}/migration", {"destination": "malaga", "force": True})
    assert (await moved.json())["data"]["migration"]["destination_site"] == "malaga"
    assert (await browser.post(f"/jobs/{world.QUEUED}/end")).status == 200
    assert desk.picture().state.jobs[world.QUEUED].cancelling
    await browser.post("/sites/kiel/drain")
    assert desk.picture().state.sites["kiel"].draining
    await browser.post("/sites/kiel/resume")
    assert not desk.picture().state.sites["kiel"].draining


async def test_a_refusal_is_told_in_the_words_of_the_command(browser: Browser) -> None:
    unknown = await browser.post("/sites/atlantis/drain")
    assert unknown.status == 404
    assert "atlantis" in await unknown.text()
    infeasible = await browser.post(f"/jobs/{world.RUNNING}/migration", {"destination": "miami"})
    assert infeasible.status == 409
    assert "mended by" in await infeasible.text()
    wrong = await browser.post(f"/jobs/{world.RUNNING}/migration", {"to": "miami"})
    assert wrong.status == 400
    assert "to" in await wrong.text()


async def test_a_viewer_looks_and_may_not_act(configure: Configure) -> None:
    config = configure(role=Role.VIEWER)
    async with served(config, LOOPBACK) as guard, ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        await session.get(guard.address)
        browser = Browser(guard=guard, session=session)
        await next_event(await browser.get("/fleet"), "fleet")
        refused = await browser.post("/sites/kiel/drain")
        assert refused.status == 403
        assert "operator" in await refused.text()


async def test_nobody_else_gets_in(browser: Browser, desk: FakeDesk) -> None:
    origin = browser.guard.origin
    async with ClientSession() as stranger:
        for path in ("/", "/fleet", "/?key=guess", "/assets/main.js"):
            assert (await stranger.get(origin + path)).status == 403, path
    elsewhere = await browser.session.get(f"{origin}/", headers={"Host": "rebound.example:8600"})
    assert elsewhere.status == 403
    foreign = await browser.post("/sites/kiel/drain", origin="https://elsewhere.example")
    assert foreign.status == 403
    assert not desk.picture().state.sites["kiel"].draining


async def test_the_page_runs_only_what_it_brings(browser: Browser) -> None:
    page = await browser.get("/")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")
    text = await page.text()
    assert "<script>" not in text and "onclick=" not in text and "https://" not in text
    for asset in ASSETS.iterdir():
        assert (await browser.get(f"/assets/{asset.name}")).status == 200


async def test_only_this_machine_can_be_listened_on(config: Path) -> None:
    refused = await run("page", "--config", str(config), "--listen", "192.0.2.1:8600")
    assert refused.code == 2
    assert "--listen: plaintext is for loopback only" in refused.err


async def test_a_port_that_is_taken_is_named(config: Path, browser: Browser) -> None:
    taken = int(browser.guard.origin.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"127.0.0.1:{taken}: cannot bind: something listens there"):
        async with served(config, ("127.0.0.1", taken)):
            pass


async def test_the_command_prints_the_address_and_ends_at_ctrl_c(config: Path) -> None:
    page = await start("page", "--config", str(config), "--listen", "127.0.0.1:0")
    address = (await next_line(page)).strip()
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        assert "<title>Sterna</title>" in await (await session.get(address)).text()
        await next_event(await session.get(address.partition("?")[0] + "fleet"), "fleet")
        stopped = await ctrl_c(page)
    assert stopped.code == 130
    assert "Traceback" not in stopped.err


async def test_a_coordinator_that_goes_away_is_told_to_the_browser(
    desk: FakeDesk, fleet: Fleet, configure: Configure
) -> None:
    async with AsyncExitStack() as stack:
        coordinator = AsyncExitStack()
        port = await coordinator.enter_async_context(world.serving(desk, fleet))
        guard = await stack.enter_async_context(served(configure(coordinator=f"127.0.0.1:{port}"), LOOPBACK))
        session = await stack.enter_async_context(ClientSession(cookie_jar=CookieJar(unsafe=True)))
        await session.get(guard.address)
        events = await session.get(f"{guard.origin}/fleet")
        await next_event(events, "fleet")
        await coordinator.aclose()
        assert f"coordinator 127.0.0.1:{port}" in await next_event(events, "lost")


async def computed(folder: Path, asset: str, expression: str) -> Any:
    """Return what an expression of one of the page's modules gives in node."""
    module = folder / f"{Path(asset).stem}.mjs"
    copyfile(ASSETS / asset, module)
    script = f"import * as all from '{module}'; console.log(JSON.stringify(all.{expression}))"
    node = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "--eval", script, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WITHIN_S):
        out, _ = await node.communicate()
    return json.loads(out)


needs_node = pytest.mark.skipif(which("node") is None, reason="needs node, which is not here")


@needs_node
@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("duration(59.97)", "1 min 0 s"),
        ("duration(119.7)", "2 min 0 s"),
        ("duration(3599.6)", "1 h 0 min"),
        ("duration(7199)", "2 h 0 min"),
        ("duration(2.5)", "2.5 s"),
        ("duration(null)", "–"),
        ("clock('2026-11-23T06:00:00Z', '2026-11-23T23:00:00Z')", "06:00:00"),
        ("clock('2026-11-24T06:00:00Z', '2026-11-23T23:00:00Z')", "11-24 06:00"),
    ],
)
async def test_times_are_told_as_people_read_them(expression: str, said: str, tmp_path: Path) -> None:
    assert await computed(tmp_path, "format.js", expression) == said


@needs_node
@pytest.mark.parametrize("left", [api.FleetLeft(), api.FleetLeft(job_ids=["b"], migration_ids=["2"])])
async def test_the_browser_puts_changes_together_as_we_do(left: api.FleetLeft, tmp_path: Path) -> None:
    def fleet(*, jobs: str, moves: str, draining: bool, **more: Any) -> api.WatchFleetResponse:
        return api.WatchFleetResponse(
            at={"seconds": 8},
            sites=[fleet_pb2.Site(site_id="kiel", draining=draining)],
            jobs=[fleet_pb2.Job(job_id=name, submitted_at={"seconds": ord(name)}) for name in jobs],
            migrations=[fleet_pb2.Migration(migration_id=name, planned_at={"seconds": 7}) for name in moves],
            **more,
        )

    before = fleet(jobs="abc", moves="21", draining=False)
    change = fleet(jobs="bd", moves="3", draining=True, left=left, policy="sterna")
    said = ", ".join(document.encode("fleet", one, indent=0).decode() + ".data" for one in (before, change))
    out = await computed(tmp_path, "changes.js", f"changed({said})")
    assert out == json.loads(document.encode("fleet", changed(before, change)))["data"]
