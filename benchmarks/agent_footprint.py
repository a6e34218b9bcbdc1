"""What an idle agent costs: memory and CPU of its process tree, jobs and their shims left out.

Thin: the shipped daemon, at 1 Hz with one simulated meter over Modbus, a real broker and an mTLS session with
a coordinator that acknowledges. Full: everything on, see `footprint_full.py`, and collectd beside it in the
same seconds, null where it is not installed. Everything but the agent runs outside the measured tree.

    scripts/bench agent-footprint --profile thin|full [--seconds 60] [--warm-up 20]

The last line is one JSON object.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import footprint_full as full

from sterna import pki
from sterna.clock import SystemClock
from sterna.identity import Identity, Role, load_credentials
from tests.agent.uplink.standin import Coordinator
from tests.brokers import Broker
from tests.ports import free_port

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


def as_installed() -> None:
    """Give the daemons the bytecode that an installed package comes with.

    Compiling at every start leaves holes in the heap that no operator would have.
    """
    root = Path(__file__).resolve().parents[1]
    packages = [str(root / name) for name in ("agent", "coordinator", "sterna")]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *packages], check=True)


def as_in_the_unit() -> dict[str, str]:
    """Return our environment with what the agent's unit sets for Python."""
    unit = Path(__file__).resolve().parents[1] / "systemd" / "sterna-agent.service"
    told = (line.removeprefix("Environment=") for line in unit.read_text().splitlines())
    return os.environ | dict(line.split("=", 1) for line in told if line.startswith("PYTHON"))


@contextmanager
def spawned(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon with its output on our stderr, and end it."""
    process = subprocess.Popen(argv, stdout=sys.stderr, start_new_session=True, env=as_in_the_unit())
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
    roots: Mapping[str, int], progress: Callable[[], Sequence[float]], seconds: float
) -> dict[str, dict[str, float]]:
    """Watch each tree; the figures of memory are the highest seen.

    `progress` counts what each part of the agent has done: about one a second, or the figures mean nothing.
    """
    begun, before = time.perf_counter(), progress()
    ticks = {name: cpu_ticks(tree(pid)) for name, pid in roots.items()}
    highest = dict.fromkeys(roots, (0, 0))
    while time.perf_counter() - begun < seconds:
        await asyncio.sleep(1.0)
        for name, pid in roots.items():
            rss, uss = memory_kib(tree(pid))
            if not rss:
                raise SystemExit(f"agent-footprint: {name} ended by itself")
            highest[name] = max(highest[name][0], rss), max(highest[name][1], uss)
    elapsed = time.perf_counter() - begun
    done = [now - then for now, then in zip(progress(), before, strict=True)]
    if min(done) < SECONDS_MIN_SAMPLES_FRAC * elapsed:
        raise SystemExit(
            f"agent-footprint: {done} in {elapsed:.0f} s, not 1 Hz; the figures would mean nothing"
        )
    return {
        name: {
            "rss_mb": round(highest[name][0] * 1024 / 1e6, 1),
            "uss_mb": round(highest[name][1] * 1024 / 1e6, 1),
            "cpu_pct": round(100 * (cpu_ticks(tree(pid)) - ticks[name]) / TICKS_PER_S / elapsed, 2),
            "seconds": round(elapsed, 1),
        }
        for name, pid in roots.items()
    }


async def thin(args: argparse.Namespace, folder: Path) -> dict[str, float]:
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
    meter_port = free_port()
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
            found = await measure({"agent": agent.pid}, lambda: [len(coordinator.samples)], args.seconds)
            return found["agent"]
    finally:
        broker.kill()
        await coordinator.stop()


def lay_out(args: argparse.Namespace, folder: Path, broker: Broker) -> tuple[dict[str, int], list[list[str]]]:
    """Write every file of the full profile; returns the ports, and the agent's company as commands."""
    names = ("coordinator", "meter", "rtu", "metrics", "vtn")
    ports = {name: free_port() for name in names}
    told = {f"{name}_port": port for name, port in ports.items()} | {"broker_port": broker.port}
    pki.init(folder / "pki", "bench")
    (folder / "state").mkdir()
    (folder / "secret").touch(mode=0o600)
    (folder / "secret").write_text(full.CLIENT_SECRET)
    (folder / "events.json").write_text(full.events())
    for role, name, file, text in (
        (Role.SITE, full.SITE, "agent.toml", full.agent_config(ports["meter"])),
        (Role.COORDINATOR, "main", "coordinator.toml", full.COORDINATOR_CONFIG),
    ):
        files = pki.issue(folder / "pki", role, name)
        paths = {"ca": files.ca_file, "cert": files.cert_file, "key": files.key_file, "folder": folder}
        (folder / file).write_text(text.format(**paths, **told))
    plant = [args.command, "simulate", "--site", full.SITE, "--place", args.place, "--load-meter"]
    plant += ["--trace-start", args.trace_start, "--pv-w", "5000", "--port", str(ports["meter"])]
    vtn = [args.command, "simulate-vtn", "--port", str(ports["vtn"]), "--client-id", "ven"]
    vtn += ["--client-secret-file", str(folder / "secret"), "--events", str(folder / "events.json")]
    vtn += ["--broker", f"{broker.host}:{broker.port}"]
    coordinator = [str(COMMANDS / "sterna-coordinator"), "run", "--config", str(folder / "coordinator.toml")]
    return ports, [plant, vtn, coordinator]


async def everything(args: argparse.Namespace, folder: Path) -> dict[str, float | None]:
    """Measure the agent with everything on, and collectd on the same registers."""
    broker = Broker(folder)
    await broker.start()
    try:
        ports, company = lay_out(args, folder, broker)
        with ExitStack() as stack:
            for argv in company:
                stack.enter_context(spawned(*argv))
            agent = stack.enter_context(spawned(args.command, "run", "--config", str(folder / "agent.toml")))
            found = await beside_collectd(args, folder, broker, ports, {"agent": agent.pid})
    finally:
        broker.kill()
    collectd = found.get("collectd", {})
    return {
        **found["agent"],
        "collectd_rss_mb": collectd.get("rss_mb"),
        "collectd_cpu_pct": collectd.get("cpu_pct"),
    }


async def beside_collectd(
    args: argparse.Namespace, folder: Path, broker: Broker, ports: dict[str, int], roots: dict[str, int]
) -> dict[str, dict[str, float]]:
    """Wait until everything is at work, start collectd where there is one, and measure both."""
    async with full.company(broker=broker, rtu_port=ports["rtu"], metrics_port=ports["metrics"]) as company:
        await until(lambda: company.whole, 60, "not every part came to work")
        with ExitStack() as stack:
            collectd = full.collectd_argv(folder, ports["meter"])
            if collectd is not None:
                roots["collectd"] = stack.enter_context(spawned(*collectd)).pid
            await asyncio.sleep(args.warm_up)
            found = await measure(roots, lambda: [*company.polls, company.rtu_rounds], args.seconds)
        values = full.collectd_values(folder)
        if collectd is not None and values < args.seconds:
            raise SystemExit(f"agent-footprint: collectd wrote {values} values; its figures mean nothing")
        print(
            f"{company.scrapes} scrapes, {company.rtu_rounds} rounds of the RTU, {values} values of collectd",
            file=sys.stderr,
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--profile", choices=["thin", "full"], default="thin", help="what the agent is connected to"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch (default %(default)s)")
    parser.add_argument("--warm-up", type=float, default=20.0, help="before that, s (default %(default)s)")
    parser.add_argument("--place", default="greensboro", help="weather (default %(default)s)")
    parser.add_argument("--trace-start", default="1990-06-21T15:00:00Z", help="(default %(default)s)")
    parser.add_argument("--command", default=str(COMMANDS / "sterna-agent"), help="(default %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sterna-footprint-") as folder:
        as_installed()
        profile = thin if args.profile == "thin" else everything
        figures = asyncio.run(profile(args, Path(folder)))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
