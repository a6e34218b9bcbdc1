"""A site that starts without some of what it needs, and gets it later: real daemons, seen from outside."""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sterna.v1 import fleet_pb2
from tests.agent.devices.sysfs_trees import orin_nano
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.daemons import Daemon, until
from tests.system.dso import Dso, dso, metered, plant_argv
from tests.system.harness import Admin, System

SITE = "west"
METER, BROKER, COORDINATOR, GPU, TIME = PARTS = ("meter", "broker", "coordinator", "gpu", "time")
SUBSETS = [set(some) for n in range(len(PARTS) + 1) for some in itertools.combinations(PARTS, n)]
NAMED = {
    METER: "meter quality  meter=",
    BROKER: "no link to the grid operator's broker",
    COORDINATOR: "no session with the coordinator",
    GPU: "the GPU is not there; looking for it",
    TIME: "the clock is not synchronised",
}
"""What the agent's log says of each that is missing."""
FAILSAFE_W = 4000.0
GPU_POWER_W = 7.56
LIMITS_W = itertools.count(4100, 10)
ASK_PERIOD_S = 0.5
PATIENCE_S = 60.0


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251


@dataclass(slots=True, kw_only=True)
class Times:
    """Seconds until the agent was ready, until it had named each lack, and until each came to count."""

    ready_s: float
    named_s: dict[str, float] = field(default_factory=dict)
    recovered_s: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Place:
    """A site, its plant, broker, coordinator, GPU and time service; each may come late."""

    folder: Path
    broker: Broker
    system: System
    plant_port: int
    notify: socket.socket
    returned_s: dict[str, float] = field(default_factory=dict)

    @property
    def agent(self) -> Daemon:
        return self.system[SITE]

    async def bring(self, parts: Iterable[str]) -> None:
        """Let parts come; each counts as there once it accepts connections, or its files lie."""
        comes = {
            METER: self._bring_plant,
            BROKER: self.broker.start,
            COORDINATOR: self._bring_coordinator,
            GPU: self._bring_gpu,
            TIME: self._bring_time,
        }

        async def bring(part: str) -> None:
            await comes[part]()
            self.returned_s[part] = _now_s()

        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(bring(part))

    async def _bring_plant(self) -> None:
        self.system["plant"].start()
        await _accepts(self.plant_port)

    async def _bring_coordinator(self) -> None:
        self.system["coordinator"].start()
        await _accepts(self.system.port)

    async def _bring_gpu(self) -> None:
        # Whole at once, as a driver brings it: a tree that is half there is another test's business.
        orin_nano(self.folder / "coming").rename(self.folder / "node")

    async def _bring_time(self) -> None:
        (self.folder / "clock-kept").touch()

    async def start_agent(self) -> float:
        """Start the agent; return the seconds until it told that it is READY."""
        begun_s = _now_s()
        ready = asyncio.Event()

        def read() -> None:
            if b"READY=1" in self.notify.recv(4096):
                ready.set()

        # Read to the end, as systemd does: whoever notifies a full socket waits.
        asyncio.get_running_loop().add_reader(self.notify.fileno(), read)
        self.agent.start()
        async with asyncio.timeout(PATIENCE_S):
            await ready.wait()
        return _now_s() - begun_s

    async def named(self, part: str, since_s: float) -> float:
        """Wait until the agent's log names what is missing; return the seconds that it took."""
        await until(lambda: NAMED[part] in self._log(), within_s=PATIENCE_S, what=f"{part} named in the log")
        return _now_s() - since_s

    def _log(self) -> str:
        return self.agent.said().replace('"', "")


async def _accepts(port: int) -> None:
    async def look() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        return False

    await until(look, within_s=PATIENCE_S, what=f"port {port}")


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    """Lay out the site; nothing runs yet."""
    brokers = folder / "broker"
    brokers.mkdir()
    broker, port, fleet_port = Broker(brokers), free_port(), free_port()
    tables = metered(folder, SITE, port, broker, failsafe_import_w=FAILSAFE_W)
    tables["grid"] |= {"trust_clock": "file", "trust_clock_file": "clock-kept"}
    tables["gpu"] = {"kind": "jetson", "root": "node", "idle_w": 5.0, "max_w": 40.0}
    tables["gpu"]["calibration"] = {"mode": "off"}
    tables["coordinator"] = {"address": f"127.0.0.1:{fleet_port}"}  # and no shorter back-off than the default
    system = System(folder=folder, sites=(SITE,), agents={SITE: tables}, port=fleet_port)
    system.daemons.add("plant", *plant_argv(folder, SITE, port))
    system[SITE].argv = ("/usr/bin/env", f"NOTIFY_SOCKET={folder / 'notify'}", *system[SITE].argv)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(folder / "notify"))
        notify.setblocking(False)
        try:
            yield Place(folder, broker, system, port, notify)
        finally:
            asyncio.get_running_loop().remove_reader(notify.fileno())
            system.daemons.end_all()
            broker.kill()


async def comes_back(folder: Path, missing: set[str], *, absent_s: float) -> Times:
    """Start a site without some parts, let them come after a while, and tell how long everything took."""
    async with place(folder) as at, AsyncExitStack() as stack:
        await at.bring(part for part in PARTS if part not in missing)
        operator = None if BROKER in missing else await stack.enter_async_context(dso(at.broker, SITE))
        begun_s = _now_s()
        times = Times(ready_s=await at.start_agent())
        pid = at.agent.process and at.agent.process.pid
        for part in sorted(missing):
            times.named_s[part] = await at.named(part, begun_s)
        if TIME in missing and operator is not None:
            await _refused_for_the_clock(operator)
        await asyncio.sleep(max(0.0, absent_s - (_now_s() - begun_s)))
        await at.bring(missing)
        operator = operator or await stack.enter_async_context(dso(at.broker, SITE))
        admin = await stack.enter_async_context(at.system.admin())
        times.recovered_s = await _recovered(at, operator, admin, missing)
        assert at.agent.running and at.agent.process and at.agent.process.pid == pid
        assert at.agent.said().count("ready  tasks=") == 1, "it has not been started anew"
        return times


async def _recovered(at: Place, operator: Dso, admin: Admin, missing: set[str]) -> dict[str, float]:
    """Wait until every part counts, the ones that were never away too; return when the others did."""

    async def site() -> fleet_pb2.Site | None:
        return await admin.site(SITE)

    async def metering() -> bool:
        balance = operator.last("telemetry")
        return balance.get("q") == "OK" and None not in (balance["gridW"], balance["pvW"])

    async def linked() -> bool:
        return operator.last("status").get("online") is True

    async def connected() -> bool:
        found = await site()
        return found is not None and found.connected

    async def gpu_read() -> bool:
        found = await site()
        return found is not None and any(abs(gpu.power_w - GPU_POWER_W) < 0.1 for gpu in found.telemetry.gpus)

    looks = {METER: metering, BROKER: linked, COORDINATOR: connected, GPU: gpu_read}
    found: dict[str, float] = {}

    async def wait(part: str) -> None:
        if part == TIME:
            await _more_is_taken(operator)
        else:
            await admin.until(looks[part], within_s=PATIENCE_S, what=f"{part} after its return")
        found[part] = _now_s() - at.returned_s[part]

    async with asyncio.TaskGroup() as group:
        for part in PARTS:
            group.create_task(wait(part))
    return {part: found[part] for part in PARTS if part in missing}


async def _refused_for_the_clock(operator: Dso) -> None:
    """Ask for more power than the fail-safe leaves: not as long as nobody knows what time it is."""
    asked: list[str] = []

    async def answered() -> list[str]:
        # Again and again: READY does not wait for the broker, and what comes before the site listens is lost.
        asked.append(await operator.send(operator.command(float(next(LIMITS_W)))))
        return [ack["reason"] for one in asked for ack in operator.acks(one)]

    reasons = await until(answered, within_s=PATIENCE_S, what="an answer", poll_s=ASK_PERIOD_S)
    assert all(reason.startswith("CLOCK_UNSYNCHRONISED") for reason in reasons)


async def _more_is_taken(operator: Dso) -> None:
    """Ask for more power than the fail-safe leaves until it is granted."""
    asked: list[str] = []

    async def granted() -> bool:
        asked.append(await operator.send(operator.command(float(next(LIMITS_W)))))
        answers = [ack for one in asked for ack in operator.acks(one)]
        return any(ack["status"] in ("ACCEPTED", "STARTED") for ack in answers)

    await until(granted, within_s=PATIENCE_S, what="a limit that is accepted", poll_s=ASK_PERIOD_S)
