"""The daemon as a VEN: a limit published by a VTN binds, and its end lets go, over real HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from agent.grid.wire import stamp
from agent.simulator.vtn import SimulatedVtn
from tests.system.daemons import until
from tests.system.dso import CLOCK
from tests.system.harness import System

pytestmark = pytest.mark.procs

SECRET = "of the tests"


@pytest.fixture
async def vtn() -> AsyncIterator[SimulatedVtn]:
    vtn = SimulatedVtn(client_id="ven-a", client_secret=SECRET)
    await vtn.start()
    yield vtn
    await vtn.stop()


@pytest.fixture
def fleet(tmp_path: Path, vtn: SimulatedVtn) -> Iterator[System]:
    secret = tmp_path / "vtn-secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    openadr = {
        "url": vtn.url,
        "client_id": "ven-a",
        "client_secret_file": "vtn-secret",
        "poll_period_s": 1.0,
        "subscription_w": 9000.0,
    }
    grid: dict[str, object] = {"operator": "none", "failsafe_import_w": 4000.0, "openadr": openadr}
    grid["trust_clock"] = "always"
    surplus = {"price_below_per_kwh": 0.0, "price_w": 5000.0}
    system = System(folder=tmp_path, sites=("west",), agents={"west": {"grid": grid, "surplus": surplus}})
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


async def test_a_vtn_limits_the_site_and_lets_go(vtn: SimulatedVtn, fleet: System) -> None:
    program = await vtn.put_program({"programName": "envelope", "objectType": "PROGRAM"})
    async with fleet.admin() as admin:

        async def limit_w() -> float | None:
            site = await admin.site("west")
            return site.grid_status.limit_w if site and site.grid_status.HasField("limit_w") else None

        async def holds(expected_w: float) -> bool:
            return await limit_w() == expected_w

        await until(lambda: holds(9000.0), within_s=20, what="the subscription, once the VTN was heard")
        await vtn.put_event(
            {
                "programID": program,
                "objectType": "EVENT",
                "intervalPeriod": {"start": stamp(CLOCK.now() - timedelta(seconds=1)), "duration": "PT6S"},
                "intervals": [
                    {"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [2.5]}]},
                ],
            }
        )
        await until(lambda: holds(2500.0), within_s=5, what="the limit of the event")
        await until(lambda: holds(9000.0), within_s=10, what="the subscription after the event")
        assert fleet["west"].running


async def test_energy_at_a_negative_price_counts_as_surplus(vtn: SimulatedVtn, fleet: System) -> None:
    program = await vtn.put_program({"programName": "tariff", "objectType": "PROGRAM"})
    begins = CLOCK.now() - timedelta(seconds=1)
    prices = (-0.02, -0.01, 0.2)
    await vtn.put_event(
        {
            "programID": program,
            "objectType": "EVENT",
            "intervalPeriod": {"start": stamp(begins), "duration": "PT1H"},
            "intervals": [
                {"id": number, "payloads": [{"type": "PRICE", "values": [price]}]}
                for number, price in enumerate(prices)
            ],
        }
    )
    async with fleet.admin() as admin:

        async def window_h() -> float | None:
            site = await admin.site("west")
            if site is None or not site.HasField("window_end_at"):
                return None
            end_at = site.window_end_at.ToDatetime(tzinfo=UTC)
            return round((end_at - begins).total_seconds() / 3600, 2)

        async def declared() -> bool:
            site = await admin.site("west")
            return site is not None and len(site.grid_status.declared) == 1

        await until(declared, within_s=20, what="what the price makes of the site")
        site = await admin.site("west")
        assert site is not None
        (told,) = site.grid_status.declared
        assert (told.surplus_w, told.source) == (5000.0, "openadr price")
        assert (told.end_at.ToDatetime(tzinfo=UTC) - begins).total_seconds() == pytest.approx(7200, abs=1)
        # No meter says anything here; the promise alone opens a window, as far as a forecast reaches.
        await until(lambda: _is_open(window_h), within_s=10, what="a window")
        assert fleet["west"].running


async def _is_open(window_h: Callable[[], Awaitable[float | None]]) -> bool:
    return await window_h() is not None
