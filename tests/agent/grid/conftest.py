"""A desk; a site with the operator's Modbus server, and an RTU at it. A module may have a site of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.grid.rtu_server import RtuServer
from tests.agent.grid.desk_rig import Rig
from tests.agent.grid.rtu_rig import Rtu, Site, rtu


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "agent.db")


@pytest.fixture
async def server(site: Site) -> AsyncIterator[RtuServer]:
    async with site.running() as server:
        yield server


@pytest.fixture
async def peer(server: RtuServer) -> AsyncIterator[Rtu]:
    async with rtu(server.port) as peer:
        yield peer


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "agent.db")
    await rig.start()
    yield rig
    await rig.stop()
