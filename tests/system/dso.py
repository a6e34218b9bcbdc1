"""A grid operator on a real broker: beats, sends limits, and remembers what the sites say."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt

from agent.grid.wire import stamp
from sterna.cancellation import heed
from sterna.clock import SystemClock
from tests.brokers import Broker
from tests.system.harness import OPERATOR

HEARTBEAT_PERIOD_S = 1.0
BASE_LOAD_W = 1000.0
CLOCK = SystemClock()


class Dso:
    """One operator and one site of its."""

    def __init__(self, mqtt: aiomqtt.Client, site: str) -> None:
        self._mqtt = mqtt
        self.site = site
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._sequence = 0
        self._beats = 0

    def of(self, leaf: str) -> list[dict[str, Any]]:
        """Return everything heard on a topic."""
        return [body for name, body in self.heard if name == leaf]

    def last(self, leaf: str) -> dict[str, Any]:
        """Return the newest message of a topic; empty before the first."""
        return next((body for name, body in reversed(self.heard) if name == leaf), {})

    def acks(self, command_id: str) -> list[dict[str, Any]]:
        """Return the answers to one command."""
        return [body for body in self.of("ack") if body["id"] == command_id]

    def command(self, value_w: float | None, **more: object) -> dict[str, Any]:
        """Make a limit command with the next sequence; None releases."""
        self._sequence += 1
        return {
            "v": 1,
            "id": f"{self.site}-{self._sequence}",
            "seq": self._sequence,
            "issued": stamp(CLOCK.now()),
            "kind": "IMPORT_CAPACITY_LIMIT",
            "active": value_w is not None,
            "valueW": value_w,
            "start": None,
            "durationS": None,
            "rampS": 2,
            "reason": "test",
            **more,
        }

    async def send(self, command: dict[str, Any], *, to: str | None = None, retain: bool = False) -> str:
        """Publish a command to the site, or to another one; return its id.

        A beat goes before it: a site that has not heard its operator yet stays as cautious as it began.
        """
        await self._beat()
        topic = f"dr/v1/{OPERATOR}/{to or self.site}/limit"
        await self._mqtt.publish(topic, json.dumps(command), qos=1, retain=retain)
        return str(command["id"])

    async def listen(self) -> None:
        """Take what the site says."""
        base = f"dr/v1/{OPERATOR}/{self.site}/"
        async for message in self._mqtt.messages:
            assert isinstance(message.payload, bytes)
            self.heard.append((str(message.topic).removeprefix(base), json.loads(message.payload)))

    async def beat(self) -> None:
        """Send heartbeats for ever."""
        while True:
            await self._beat()
            heed()
            await asyncio.sleep(HEARTBEAT_PERIOD_S)

    async def _beat(self) -> None:
        self._beats += 1
        body = {"n": self._beats, "t": stamp(CLOCK.now())}
        await self._mqtt.publish(f"dr/v1/{OPERATOR}/{self.site}/heartbeat", json.dumps(body), qos=0)


@contextlib.asynccontextmanager
async def dso(broker: Broker, site: str) -> AsyncIterator[Dso]:
    """Be the operator of a site."""
    async with aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=f"dso-{site}",
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    ) as mqtt:
        for leaf in ("ack", "status", "telemetry"):
            await mqtt.subscribe(f"dr/v1/{OPERATOR}/{site}/{leaf}", qos=1)
        it = Dso(mqtt, site)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(it.listen()), group.create_task(it.beat())]
            yield it
            for task in tasks:
                task.cancel()


def plant_argv(folder: Path, site: str, port: int, *, pv_w: float = 3000.0) -> list[str]:
    """Return the command of a plant on a summer noon, with its fault and compute files."""
    argv = ["sterna-agent", "simulate", "--site", site, "--place", "miami"]
    argv += ["--trace-start", "2021-06-21T17:00:00Z", "--pv-w", str(pv_w), "--base-load-w", str(BASE_LOAD_W)]
    argv += ["--port", str(port), "--load-meter", "--fault-path", str(folder / f"{site}-faults.json")]
    return [*argv, "--compute-power-path", str(folder / f"{site}-compute-w")]


def metered(folder: Path, site: str, port: int, broker: Broker, **grid: object) -> dict[str, Any]:
    """Return the tables of a site with real meters on that plant and this operator."""
    roles = (("inverter", "generation", 1), ("grid", "grid", 2), ("load", "load", 3))
    return {
        "meters": [
            {"name": name, "role": role, "host": "127.0.0.1", "port": port, "unit_id": unit, "timeout_s": 0.5}
            for name, role, unit in roles
        ],
        "grid": {
            "operator": OPERATOR,
            "failsafe_import_w": 4000.0,
            "mqtt": {"host": broker.host, "port": broker.port, "insecure": True},
            "trust_clock": "always",  # whether the machine of the tests keeps its clock is not their business
            **grid,
        },
        "gpu": {
            "kind": "fake",
            "idle_w": 60.0,
            "max_w": 1660.0,
            "power_path": str(folder / f"{site}-compute-w"),
        },
        "power": {"resume_hold_s": 1.0, "ramp_up_w_per_s": 400.0},
    }
