"""What an idle agent costs: memory and CPU of its process tree, jobs and their shims left out.

The agent is the shipped daemon, at 1 Hz with one simulated meter over Modbus, a real broker and an mTLS
session with a coordinator that acknowledges. Everything but the agent runs outside the measured tree.

    scripts/bench agent-footprint --profile thin [--seconds 60] [--warm-up 20]
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sterna import pki
from sterna.clock import SystemClock
from sterna.identity import Identity, Role, load_credentials
from tests.agent.uplink.standin import Coordinator
from tests.brokers import Broker, _free_port

COMMANDS = Path(sys.executable).parent
LEFT_OUT = ("agent.shim", "agent/shim")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SECONDS_MIN_SAMPLES_FRAC = 0.8

CONFIG = """\
fleet = "bench"
site = "north"
state_dir = "{folder}/state"
log_level = "warning"

[tls]
ca = "{ca}"
cert = "{cert}"
key = "{key}"

[coordinator]
address = "127.0.0.1:{coordinator_port}"
id = "main"

[[meters]]
name = "grid"
role = "grid"
host = "127.0.0.1"
port = {meter_port}
unit_id = 2

[gpu]
kind = "fake"
idle_w = 5.0

[grid]
operator = "dso"

[grid.mqtt]
host = "127.0.0.1"
port = {broker_port}
insecure = true
"""


@contextmanager
def spawned(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon with its output on our stderr, and end it."""
    process = subprocess.Popen(argv, stdout=sys.stderr, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tree(root: int) -> list[int]:
    """Process ids of a daemon and its descendants, without shims and what is below them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, pending = [], [root]
    while pending:
        pid = pending.pop()
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if not any(word in command for word in LEFT_OUT):
            found.append(pid)
            pending += children.get(pid, [])
    return found


def memory_kib(pids: list[int]) -> tuple[int, int]:
    """Resident and private memory of the processes, in KiB."""
    rss = uss = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        fields = {words[0]: int(words[1]) for line in lines[1:] if len(words := line.split()) >= 2}
        rss += fields["Rss:"]
        uss += fields["Private_Clean:"] + fields["Private_Dirty:"]
    return rss, uss


def cpu_ticks(pids: list[int]) -> int:
    """User and system time of the processes and of the children that they have reaped."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks


async def until(condition, within_s: float, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.perf_counter() + within_s
    while not condition():
        if time.perf_counter() > deadline:
            raise SystemExit(f"agent-footprint: {what} within {within_s:g} s")
        await asyncio.sleep(0.1)


async def measure(
    agent: subprocess.Popen[bytes], coordinator: Coordinator, seconds: float
) -> dict[str, float]:
    """Watch the tree; the figures of memory are the highest seen."""
    begun, ticks = time.perf_counter(), cpu_ticks(tree(agent.pid))
    samples, rss_kib, uss_kib = len(coordinator.samples), 0, 0
    while time.perf_counter() - begun < seconds:
        await asyncio.sleep(1.0)
        if agent.poll() is not None:
            raise SystemExit("agent-footprint: the agent ended by itself")
        rss, uss = memory_kib(tree(agent.pid))
        rss_kib, uss_kib = max(rss_kib, rss), max(uss_kib, uss)
    elapsed = time.perf_counter() - begun
    if len(coordinator.samples) - samples < SECONDS_MIN_SAMPLES_FRAC * elapsed:
        raise SystemExit("agent-footprint: telemetry did not flow at 1 Hz; the figures would mean nothing")
    used = (cpu_ticks(tree(agent.pid)) - ticks) / TICKS_PER_S
    return {
        "rss_mb": round(rss_kib * 1024 / 1e6, 1),
        "uss_mb": round(uss_kib * 1024 / 1e6, 1),
        "cpu_pct": round(100 * used / elapsed, 2),
        "seconds": round(elapsed, 1),
    }


async def run(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    pki.init(folder / "pki", "bench")
    site = pki.issue(folder / "pki", Role.SITE, "north")
    files = pki.issue(folder / "pki", Role.COORDINATOR, "main")
    coordinator = Coordinator(
        load_credentials(
            ca_file=files.ca_file,
            cert_file=files.cert_file,
            key_file=files.key_file,
            now=SystemClock().now(),
            expected=Identity(fleet="bench", role=Role.COORDINATOR, name="main"),
        )
    )
    await coordinator.start()
    broker = Broker(folder)
    await broker.start()
    meter_port = _free_port()
    config = folder / "agent.toml"
    (folder / "state").mkdir()
    config.write_text(
        CONFIG.format(
            folder=folder,
            ca=site.ca_file,
            cert=site.cert_file,
            key=site.key_file,
            coordinator_port=coordinator.port,
            meter_port=meter_port,
            broker_port=broker.port,
        )
    )
    weather = ("--place", args.place, "--trace-start", args.trace_start, "--pv-w", "5000")
    try:
        with (
            spawned(args.command, "simulate", "--site", "north", *weather, "--port", str(meter_port)),
            spawned(args.command, "run", "--config", str(config)) as agent,
        ):
            await until(lambda: coordinator.samples, 30, "no telemetry came")
            await asyncio.sleep(args.warm_up)
            return await measure(agent, coordinator, args.seconds)
    finally:
        broker.kill()
        await coordinator.stop()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=["thin"], default="thin", help="what the agent is connected to")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch (default %(default)s)")
    parser.add_argument("--warm-up", type=float, default=20.0, help="before that, s (default %(default)s)")
    parser.add_argument("--place", default="greensboro", help="weather (default %(default)s)")
    parser.add_argument("--trace-start", default="1990-06-21T15:00:00Z", help="(default %(default)s)")
    parser.add_argument("--command", default=str(COMMANDS / "sterna-agent"), help="(default %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sterna-footprint-") as folder:
        figures = asyncio.run(run(args, Path(folder)))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
