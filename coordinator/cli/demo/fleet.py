"""The demo's fleet on disk and as processes: certificates, configurations, daemons. Thin: `world` decides."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from coordinator.cli.demo import world as w
from coordinator.cli.demo.processes import Processes
from sterna import pki
from sterna.errors import PermanentError
from sterna.identity import Role

FLEET = "demo"
OPERATOR = "dso"
# The heartbeats of the demo's grid operator come every 10 s; the fail-safe itself is left at its defaults.
PAST_TIMEOUT_S = 60.0
FAILSAFE_IMPORT_W = w.BASE_LOAD_W + 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Where everything of one demo lies."""

    folder: Path
    world: w.World
    start_at: datetime
    coordinator_port: int
    broker_port: int
    plant_ports: Mapping[str, int]

    @property
    def client_config(self) -> Path:
        """Configuration for the `sterna` command while the demo runs."""
        return self.folder / "client.toml"

    @property
    def database(self) -> Path:
        """The coordinator's database."""
        return self.folder / "coordinator" / "coordinator.db"

    @property
    def journal(self) -> Path:
        """What the grid operator sent and heard."""
        return self.folder / "operator.jsonl"

    def past(self, site: w.DemoSite) -> Path:
        """Return the path of a site's surplus in the days before."""
        return self.folder / f"{site.site_id}-past.csv"

    def step_log(self, job: w.DemoJob) -> Path:
        """Return the path of a job's own step log."""
        return self.folder / "steps" / f"{job.name}.jsonl"

    def final(self, job: w.DemoJob) -> Path:
        """Return the path of a job's final weights."""
        return self.folder / "final" / f"{job.name}.npz"

    def trainer_argv(self, job: w.DemoJob, *, step_s: float, step_log: Path, final: Path) -> list[str]:
        """Return the command that trains a job; the same inside and outside Sterna but for its paths."""
        return [
            sys.executable,
            "-m",
            "agent.simulator.trainer",
            *("--seed", str(job.seed), "--steps", str(job.steps), "--params", str(w.PARAMETERS)),
            *("--step-s", str(step_s), "--checkpoint-every", str(w.CHECKPOINT_EVERY_STEPS)),
            *("--step-log", str(step_log), "--final", str(final)),
        ]


def lay_out(folder: Path, world: w.World, *, now: datetime, start_at: datetime) -> Fleet:
    """Write certificates, configurations, and what each site saw in the days before.

    Raises
    ------
    PermanentError
        A past could not be made.
    """
    ports = _free_ports(2 + len(world.sites))
    fleet = Fleet(
        folder=folder,
        world=world,
        start_at=start_at,
        coordinator_port=ports[0],
        broker_port=ports[1],
        plant_ports={site.site_id: port for site, port in zip(world.sites, ports[2:], strict=True)},
    )
    for name in ("steps", "final", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    authority = folder / "pki"
    pki.init(authority, FLEET)
    pki.issue(authority, Role.COORDINATOR, "main")
    pki.issue(authority, Role.ADMIN, "demo")
    for site in world.sites:
        pki.issue(authority, Role.SITE, site.site_id)
        _write(folder / f"{site.site_id}.toml", _agent(fleet, site))
    _write(folder / "coordinator.toml", _coordinator(fleet))
    _write(
        fleet.client_config,
        {
            "coordinator": f"127.0.0.1:{fleet.coordinator_port}",
            "fleet": FLEET,
            "tls": _tls("admin", "demo"),
        },
    )
    _remember(fleet, now)
    (folder / "broker.toml").write_text(_BROKER.format(port=fleet.broker_port))
    return fleet


def start(fleet: Fleet, processes: Processes) -> None:
    """Start every process of the fleet but the grid operator."""
    processes.spawn_daemon(
        "broker", [sys.executable, "-m", "iotcore", "--config", str(fleet.folder / "broker.toml")]
    )
    commands = Path(sys.executable).parent
    coordinator = str(commands / "sterna-coordinator")
    config = str(fleet.folder / "coordinator.toml")
    processes.spawn_daemon("coordinator", [coordinator, "run", "--config", config])
    agent = str(commands / "sterna-agent")
    for site in fleet.world.sites:
        processes.spawn_daemon(f"plant-{site.site_id}", [agent, "simulate", *_plant(fleet, site)])
    for site in fleet.world.sites:
        config = str(fleet.folder / f"{site.site_id}.toml")
        processes.spawn_daemon(f"agent-{site.site_id}", [agent, "run", "--config", config])


def start_operator(fleet: Fleet, processes: Processes) -> None:
    """Start the grid operator; its times count from here."""
    world = fleet.world
    sites = [part for site in world.sites for part in ("--site", site.site_id)]
    processes.spawn(
        "grid-operator",
        [
            str(Path(sys.executable).parent / "sterna-agent"),
            "simulate-operator",
            *("--broker", f"127.0.0.1:{fleet.broker_port}", "--operator", OPERATOR),
            *("--journal", str(fleet.journal), *sites),
            *("--limit-after-s", str(world.limit_after_s), "--limit-before-s", str(world.limit_before_s)),
            *("--limit-s", str(world.limit_s)),
        ],
    )


def _remember(fleet: Fleet, now: datetime) -> None:
    """Have each site's past written by the process that knows the weather."""
    running = {}
    for site in fleet.world.sites:
        command = [sys.executable, "-m", "agent.simulator.past", *_weather(fleet, site)]
        command += ["--until", now.isoformat(), "--days", str(w.PAST_DAYS), "--slot-h", str(w.SLOT_H)]
        running[site.site_id] = subprocess.Popen([*command, "--out", str(fleet.past(site))])
    for site_id, process in running.items():
        if process.wait(PAST_TIMEOUT_S):
            raise PermanentError(f"the past of {site_id} could not be written")


def _weather(fleet: Fleet, site: w.DemoSite) -> list[str]:
    return [
        *("--place", site.place, "--pv-w", str(site.pv_w), "--wind-w", str(site.wind_w)),
        *("--base-load-w", str(w.BASE_LOAD_W), "--speedup", str(fleet.world.speedup)),
        *("--trace-start", site.trace_start_at.isoformat(), "--start-at", fleet.start_at.isoformat()),
    ]


def _agent(fleet: Fleet, site: w.DemoSite) -> dict[str, Any]:
    meters = [
        {
            "name": name,
            "role": role,
            "host": "127.0.0.1",
            "port": fleet.plant_ports[site.site_id],
            "unit_id": unit,
        }
        for name, role, unit in (("inverter", "generation", 1), ("grid", "grid", 2), ("load", "load", 3))
    ]
    return {
        "fleet": FLEET,
        "site": site.site_id,
        "state_dir": site.site_id,
        "tls": _tls("site", site.site_id),
        "coordinator": {"address": f"127.0.0.1:{fleet.coordinator_port}"},
        "grid": {
            "operator": OPERATOR,
            "failsafe_import_w": FAILSAFE_IMPORT_W,
            "trust_clock": "always",  # all of the demo is on one machine, with one clock
            "mqtt": {"host": "127.0.0.1", "port": fleet.broker_port, "insecure": True},
        },
        "meters": meters,
        "gpu": {
            "kind": "fake",
            "idle_w": w.NODE_IDLE_W,
            "max_w": w.NODE_IDLE_W + w.SLOTS * w.JOB_POWER_W,
            "power_path": f"{site.site_id}-compute-w",
        },
        "jobs": {"slots": w.SLOTS, "checkpoint_interval_s": 20.0},
        "transfer": {"listen": "127.0.0.1:0"},
        "power": {"move_after_s": 10.0, "resume_hold_s": 5.0, "ramp_up_w_per_s": 200.0},
    }


def _coordinator(fleet: Fleet) -> dict[str, Any]:
    return {
        "fleet": FLEET,
        "listen": f"127.0.0.1:{fleet.coordinator_port}",
        "state_dir": "coordinator",
        "tls": _tls("coordinator", "main"),
        "sites": [
            {"id": site.site_id, "plant": site.plant, "history": str(fleet.past(site))}
            for site in fleet.world.sites
        ],
        "links": {"default_bps": w.LINK_BPS},
        "planner": {
            "policy": w.POLICY,
            "tick_s": w.TICK_S,
            **fleet.world.planner_numbers,
            "seal_s": w.SEAL_S,
            "load_s": w.LOAD_S,
            "downtime_s": w.DOWNTIME_S,
            "persistence_horizon_s": fleet.world.persistence_s,
        },
        # No plant publishes a forecast here: what a simulator knows of its own future is no forecast.
        "forecast": {
            "sources": ["learnt", "persistence"],
            "slot_s": fleet.world.slot_s,
            "ahead_slots": w.AHEAD_SLOTS,
            "day_s": fleet.world.day_s,
            "budget_s": w.LEARNING_BUDGET_S,
        },
    }


def _plant(fleet: Fleet, site: w.DemoSite) -> list[str]:
    return [
        *("--site", site.site_id, *_weather(fleet, site)),
        *("--port", str(fleet.plant_ports[site.site_id]), "--load-meter"),
        *("--compute-power-path", str(fleet.folder / f"{site.site_id}-compute-w")),
    ]


def _tls(role: str, name: str) -> dict[str, str]:
    return {"ca": "pki/ca.pem", "cert": f"pki/{role}-{name}.pem", "key": f"pki/{role}-{name}-key.pem"}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_bytes(msgspec.toml.encode(document))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


_BROKER = """\
id = 0
[router]
id = 0
max_connections = 200
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""
