"""Offers on the shipped daemons: from the plan to a real broker, taken up by a limit, and withdrawn."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tests.brokers import Broker
from tests.ports import free_port
from tests.system.daemons import until
from tests.system.dso import Dso, dso, metered, plant_argv
from tests.system.harness import IDLE_W, JOB_POWER_W, OPERATOR, System, Training

pytestmark = [pytest.mark.procs, pytest.mark.broker]

JOBS = 2
VALID_S = 4.0
NOISE_W = 30.0


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Iterator[System]:
    port = free_port()
    system = System(
        folder=tmp_path,
        sites=("west",),
        agents={"west": metered(tmp_path, "west", port, broker)},
        coordinator={"offers": {"durations_s": [900.0, 3600.0], "valid_s": VALID_S}},
    )
    system.daemons.add("plant", *plant_argv(tmp_path, "west", port, pv_w=0.0))
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


@asynccontextmanager
async def hearing_offers(broker: Broker) -> AsyncIterator[list[bytes]]:
    """Listen to the site's offers, also to an empty message, which clears what was retained."""
    heard: list[bytes] = []
    async with aiomqtt.Client(
        broker.host, broker.port, identifier="market", protocol=aiomqtt.ProtocolVersion.V5
    ) as mqtt:
        await mqtt.subscribe(f"dr/v1/{OPERATOR}/west/offers", qos=1)

        async def listen() -> None:
            async for message in mqtt.messages:
                assert isinstance(message.payload, bytes)
                heard.append(message.payload)

        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            yield heard
            listening.cancel()


def told(heard: list[bytes]) -> dict[str, Any]:
    """Return the newest message; one without offers before the first."""
    return dict(json.loads(heard[-1])) if heard and heard[-1] else {"offers": [], "reason": ""}


def both(heard: list[bytes]) -> dict[str, Any] | None:
    """Return the offer of both jobs for a quarter of an hour, once it is told."""
    offers = (one for one in told(heard)["offers"] if one["durationS"] == 900.0)
    return next((one for one in offers if one["jobs"] == JOBS and one["powerW"] > 1.8 * JOB_POWER_W), None)


async def take_up(operator: Dso, offer: dict[str, Any]) -> None:
    """Limit the site to what its offer names, and see it come down to that, within what it can."""
    await operator.send(operator.command(offer["limitW"], rampS=0, durationS=offer["durationS"]))
    await until(
        lambda: 0 < operator.last("telemetry").get("gridW", 0) <= offer["limitW"] + NOISE_W,
        within_s=20,
        what="the import that was offered",
    )
    assert operator.last("status")["unachievable"] is False


async def test_an_offer_is_told_taken_up_and_withdrawn(site: System, broker: Broker) -> None:
    trainings = [Training(name=f"t{number}", home="west", steps=10**7, step_s=0.5) for number in range(JOBS)]
    async with (
        site.admin() as admin,
        dso(broker, "west") as operator,
        hearing_offers(broker) as heard,
    ):
        await admin.connected()
        await operator.send(operator.command(None))
        for training in trainings:
            await admin.submit(training)
        offer = await admin.until(lambda: both(heard), within_s=60, what="an offer of both jobs")
        assert offer["powerW"] <= JOBS * JOB_POWER_W + NOISE_W
        assert offer["consequence"] == "DEFER"
        assert offer["delayJobS"] == JOBS * 900.0
        assert offer["limitW"] >= 1000.0 + IDLE_W - NOISE_W
        known = json.loads(site.cli("offers", "--json"))["data"][0]
        assert known["site_id"] == "west"
        assert any(one["duration_s"] == 900.0 and one["jobs"] == JOBS for one in known["offers"]["offers"])

        await take_up(operator, offer)
        emergency = operator.command(5000.0, rampS=0, reason="ALERT_GRID_EMERGENCY: line down")
        await operator.send(emergency)
        await until(lambda: told(heard)["reason"] == "a grid emergency", within_s=10, what="no offers")
        assert told(heard)["offers"] == []
        await operator.send(operator.command(None))
        await until(lambda: both(heard), within_s=60, what="the offer again, once it is over")

        site["coordinator"].kill()
        await until(lambda: told(heard)["reason"] == "no plan", within_s=3 * VALID_S, what="expiry")
        assert operator.last("status")["achievableMinW"] is not None, "the range is told as ever"
        site["west"].stop()
        await until(lambda: heard[-1] == b"", within_s=10, what="nothing retained by a site that has gone")
