"""From a limit published over MQTT to the cap written and the metered power inside of it.

Latency: a broker (Mosquitto where it is installed), the shipped agent with three simulated meters over Modbus
at 1 Hz, and the shipped `sterna-power`, each a process of its own with the priority that its unit gives it,
while one process per core burns CPU. The operator publishes a limit; the agent stores it, caps, and
acknowledges; `sterna-power` writes `max_freq` in a tree laid out as an Orin's sysfs, and yet another process,
woken by inotify, stamps the new value. The clock stops there. Each event is a fall from full clocks; the rise
after it is not timed. At every ack the agent's own database is opened to see that the command is in it. The
two ends of the measurement, publisher and watcher, run ahead of the rest where they may, and so does the
broker: it is the operator's, on a machine that trains nothing. `--broker-waits` leaves it among the burners.

Settling: random limits for sites with the modelled GPU, whose draw a simulated plant meters (`dr_settle.py`).

    scripts/bench dr-latency [--events 1000] [--limits 1000] [--sites 8] [--burners N]

The last line is one JSON object.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dr_settle

from tests.agent.devices.sysfs_trees import orin_nano
from tests.brokers import MOSQUITTO, Broker
from tests.ports import free_port
from tests.system.daemons import Daemons, until
from tests.system.dso import BASE_LOAD_W, Dso, dso, metered, plant_argv
from tests.system.harness import write

SITE = "north"
GPU = "17000000.gpu"
IDLE_W, MAX_W = 5.0, 25.0
STEPS_HZ = (
    306_000_000,
    408_000_000,
    510_000_000,
    612_000_000,
    714_000_000,
    816_000_000,
    918_000_000,
    1_020_000_000,
)
WITHIN_S = 10.0
RISE_WITHIN_S = 60.0
"""A meter that a busy machine keeps from answering rests for a while, and nothing rises without it."""
LONGEST_REST_S = 0.4
SEED = 20261123
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112

WATCHER = r"""
import ctypes, os, struct, sys, time
path = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
queue = libc.inotify_init()
if queue < 0 or libc.inotify_add_watch(queue, path.encode(), 2) < 0:  # IN_MODIFY
    sys.exit("no inotify")
file = os.open(path, os.O_RDONLY)
last = os.pread(file, 64, 0).split()
print("ready", flush=True)
while os.read(queue, 65536):
    stamp_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    value = os.pread(file, 64, 0).split()
    if value != last:
        last = value
        os.write(1, b"%d %s\n" % (stamp_ns, b" ".join(value)))
"""
BURNER = "while True: pass"


class Watched:
    """The clock file as the watching process sees it: every change, and a bell for each."""

    def __init__(self, pid: int, pipe: IO[bytes]) -> None:
        self.pid = pid
        self._pipe = pipe.fileno()
        self._rest = b""
        self.changes: list[tuple[int, int]] = []
        self.bell = asyncio.Event()

    def attach(self) -> None:
        asyncio.get_running_loop().add_reader(self._pipe, self._take)

    def detach(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe)

    def _take(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._pipe, 65536)).split(b"\n")
        for line in lines:
            stamp_ns, value = line.split()
            self.changes.append((int(stamp_ns), int(value)))
            self.bell.set()

    async def below(self, hz: int, since: int) -> int:
        """Stamp of the first change after `since` changes to less than `hz`."""
        return await self._first(lambda value: value < hz, since, WITHIN_S)

    async def at(self, hz: int, since: int) -> int:
        return await self._first(lambda value: value == hz, since, RISE_WITHIN_S)

    async def _first(self, wanted: Any, since: int, within_s: float) -> int:
        async with asyncio.timeout(within_s):
            while True:
                self.bell.clear()
                for stamp_ns, value in self.changes[since:]:
                    if wanted(value):
                        return stamp_ns
                await self.bell.wait()


@contextmanager
def process(*argv: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(argv, start_new_session=True, **options)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def lay_out(folder: Path, memory: Path, broker: Broker, meter_port: int) -> Path:
    """The tree, and the agent's configuration for it; returns the clock file."""
    orin_nano(memory / "machine")
    devfreq = memory / "machine/sys/class/devfreq" / GPU
    (devfreq / "available_frequencies").write_text(" ".join(map(str, STEPS_HZ)) + "\n")
    site = metered(folder, SITE, meter_port, broker, heartbeat_timeout_s=120.0)
    site["gpu"] = {
        "kind": "jetson",
        "idle_w": IDLE_W,
        "max_w": MAX_W,
        "root": str(memory / "machine"),
        "power_socket": str(folder / "power.sock"),
    }
    site["power"] = {"ramp_up_w_per_s": 1e6, "resume_hold_s": 0.0}
    write(
        folder / "agent.toml",
        {"fleet": "bench", "site": SITE, "state_dir": str(folder / "state"), "insecure": True, **site},
    )
    return devfreq / "max_freq"


def niceness(unit: str) -> int:
    """Return the priority that a daemon's unit gives it."""
    lines = (Path(__file__).resolve().parents[1] / "systemd" / f"{unit}.service").read_text().splitlines()
    return int(next(line.removeprefix("Nice=") for line in lines if line.startswith("Nice=")))


def ahead(unit: str) -> list[str]:
    """What gives a daemon the priority that its unit gives it; without the right to, it says so."""
    return [shutil.which("nice") or "nice", "-n", str(niceness(unit))]


def weigh(pid: int, niceness: int) -> None:
    """Give a session of processes its weight against the others, as `CPUWeight` of its unit does.

    The kernel weighs sessions first where it groups them (sched(7), autogroup), and niceness only within one.
    """
    with suppress(PermissionError, FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


@contextmanager
def instrument(pid: int) -> Iterator[None]:
    """Run a process of the measurement ahead of what is measured; without the right to, as it is."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, -15)
    weigh(pid, -15)
    try:
        yield
    finally:
        weigh(pid, 0)
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, pid, 0)


def is_stored(database: Path, command_id: str) -> bool:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as store:
        return (
            store.execute("SELECT 1 FROM grid_command WHERE command_id = ?", (command_id,)).fetchone()
            is not None
        )


async def acked(operator: Dso, command_id: str) -> None:
    await until(
        lambda: operator.acks(command_id), within_s=WITHIN_S, what=f"the ack of {command_id}", poll_s=0.002
    )


async def one_event(operator: Dso, watched: Watched, limit_w: float, database: Path) -> tuple[float, bool]:
    """Fall from full clocks to a limit, and come back; milliseconds, and whether it was stored at the ack."""
    since = len(watched.changes)
    command = operator.command(limit_w, rampS=0)
    asked_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    await operator.send(command)
    written_ns = await watched.below(STEPS_HZ[-1], since)
    await acked(operator, command["id"])
    stored = is_stored(database, command["id"])
    since = len(watched.changes)
    await operator.send(operator.command(high_w(), rampS=0))
    await watched.at(STEPS_HZ[-1], since)
    return (written_ns - asked_ns) / 1e6, stored


def high_w() -> float:
    """A limit under which full clocks fit, whatever the sky does."""
    return BASE_LOAD_W + 20 * MAX_W


async def measure(operator: Dso, watched: Watched, events: int, database: Path) -> dict[str, Any]:
    chance = random.Random(SEED)
    took_ms, stored = [], 0
    begun_s, samples = time.perf_counter(), len(operator.of("telemetry"))
    for number in range(events):
        # Anywhere from the lowest clock to the highest but one, at any phase of the control and meter loops.
        limit_w = BASE_LOAD_W + chance.uniform(IDLE_W, IDLE_W + (MAX_W - IDLE_W) * 0.85)
        latency_ms, was_stored = await one_event(operator, watched, limit_w, database)
        took_ms.append(latency_ms)
        stored += was_stored
        await asyncio.sleep(chance.uniform(0.0, LONGEST_REST_S))
        if (number + 1) % 100 == 0:
            print(
                f"{number + 1} events, p50 {quantile(took_ms, 0.5):.1f} ms, worst {max(took_ms):.1f} ms",
                flush=True,
            )
    elapsed_s = time.perf_counter() - begun_s
    rate_hz = (len(operator.of("telemetry")) - samples) / elapsed_s
    if rate_hz < 0.8:
        raise SystemExit(
            f"dr-latency: telemetry at {rate_hz:.2f} Hz; metering stood still, the figures mean nothing"
        )
    return {
        "events": events,
        "p50_ms": round(quantile(took_ms, 0.5), 2),
        "p99_ms": round(quantile(took_ms, 0.99), 2),
        "max_ms": round(max(took_ms), 2),
        "stored_at_ack": stored,
        "telemetry_hz": round(rate_hz, 2),
    }


def quantile(values: Sequence[float], frac: float) -> float:
    """The smallest value that is not exceeded by this fraction of all."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * frac // 1).__int__() - 1)]


@asynccontextmanager
async def site(folder: Path, stack: ExitStack, *, broker_waits: bool) -> AsyncIterator[tuple[Dso, Watched]]:
    """All processes but the burners, up to the first status in which the operator's limit holds."""
    broker = Broker(folder)
    await broker.start()
    stack.callback(broker.kill)
    if not broker_waits:
        stack.enter_context(instrument(broker.pid))
    meter_port = free_port()
    # /sys, and /run with what the helper notes, are no files on a disk.
    memory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sterna-dr-", dir=MEMORY)))
    clock_file = lay_out(folder, memory, broker, meter_port)
    command = [
        *ahead("sterna-power"),
        str(Path(sys.executable).parent / "sterna-power"),
        "serve",
        "--socket",
        str(folder / "power.sock"),
    ]
    command += ["--sys", str(memory / "machine/sys"), "--state", str(memory / "held.json"), "--idle-s", "0"]
    noted = stack.enter_context((folder / "power.log").open("wb"))
    weigh(stack.enter_context(process(*command, stderr=noted)).pid, niceness("sterna-power"))
    await until((folder / "power.sock").exists, within_s=WITHIN_S, what="the helper's socket")
    watcher = stack.enter_context(
        process(sys.executable, "-c", WATCHER, str(clock_file), stdout=subprocess.PIPE)
    )
    assert watcher.stdout is not None
    if watcher.stdout.readline() != b"ready\n":
        raise SystemExit("dr-latency: inotify does not work here")
    watched = Watched(watcher.pid, watcher.stdout)
    watched.attach()
    daemons = Daemons(folder)
    stack.callback(daemons.end_all)
    daemons.add("plant", *plant_argv(folder, SITE, meter_port, pv_w=0.0)).start()
    agent = str(Path(sys.executable).parent / "sterna-agent")
    daemon = daemons.add(
        "agent", *ahead("sterna-agent"), agent, "run", "--config", str(folder / "agent.toml")
    )
    daemon.start()
    assert daemon.process is not None
    weigh(daemon.process.pid, niceness("sterna-agent"))
    async with dso(broker, SITE) as operator:
        await until(lambda: operator.of("telemetry"), within_s=60, what="telemetry")
        await operator.send(operator.command(high_w(), rampS=0))
        await until(
            lambda: clock_file.read_text().split() == [str(STEPS_HZ[-1])] and operator.last("status"),
            within_s=60,
            what="full clocks",
        )
        await asyncio.sleep(5)  # the cap has been written once and the site's load has been seen
        yield operator, watched
        watched.detach()


async def latency(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    with ExitStack() as stack:
        async with site(folder, stack, broker_waits=args.broker_waits) as (operator, watched):
            for _ in range(args.burners):
                stack.enter_context(process(sys.executable, "-c", BURNER))
            try:
                with instrument(os.getpid()), instrument(watched.pid):
                    return await measure(operator, watched, args.events, folder / "state/agent.db")
            except TimeoutError as error:
                said = (folder / "agent.log").read_text().splitlines()[-40:]
                status = json.dumps(operator.last("status"))
                raise SystemExit(
                    "\n".join([*said, status, str(watched.changes[-4:]), "no cap in time"])
                ) from error


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1000, help="timed limits (default %(default)s)")
    parser.add_argument(
        "--burners", type=int, default=os.cpu_count() or 1, help="busy processes (%(default)s)"
    )
    parser.add_argument(
        "--broker-waits", action="store_true", help="the broker waits for a core like a training job"
    )
    dr_settle.add_arguments(parser)
    args = parser.parse_args()
    print(f"broker: {MOSQUITTO or 'embedded'}; {os.cpu_count()} cores, {args.burners} burning", flush=True)
    figures: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 1)}  # what else the machine does
    if args.events:
        with tempfile.TemporaryDirectory(prefix="sterna-dr-") as folder:
            figures |= asyncio.run(latency(args, Path(folder)))
    if args.limits:
        figures |= dr_settle.run(args)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
