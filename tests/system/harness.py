"""A small fleet of the shipped daemons below one folder: laid out, started, killed, asked, and judged."""

import hashlib
import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blake3
import grpc.aio
import msgspec
from google.protobuf.duration_pb2 import Duration

from agent.core import manifest as manifests
from agent.core.manifest import Layout
from agent.jobs.transfer_files import ChunkReader
from agent.simulator import steplog
from coordinator.cli import client
from sterna import pki
from sterna.errors import CorruptError
from sterna.identity import Role
from sterna.v1 import fleet_pb2, job_pb2
from sterna.v1 import operator_service_pb2 as api
from sterna.v1.operator_service_pb2_grpc import OperatorServiceStub
from tests.ports import free_port
from tests.system.daemons import COMMANDS, Daemon, Daemons, LateError, Trainer, trainers, until

if TYPE_CHECKING:
    from sterna.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub as Stub

FLEET = "proof"
OPERATOR = "dso"
UP_WITHIN_S = 30.0
JOB_POWER_W = 400.0
IDLE_W = 60.0
LINK_BPS = 4e6
PARAMS = 60_000
"""Weights of the trainer; a checkpoint of them has about 12 bytes each."""
CHECKPOINT_EVERY = 20
STEP_S = 0.03

ENDED = (fleet_pb2.JOB_STATE_COMPLETED, fleet_pb2.JOB_STATE_FAILED, fleet_pb2.JOB_STATE_CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One job: what it trains, and how slowly."""

    name: str
    home: str
    steps: int
    seed: int = 7
    step_s: float = STEP_S
    save_s: float = 0.0
    load_s: float = 0.0
    drop: tuple[str, ...] = ()
    on_partition: "job_pb2.OnPartition" = job_pb2.ON_PARTITION_KEEP_RUNNING
    stop_grace_s: float = 20.0
    power_w: float = JOB_POWER_W
    work_s: float | None = None
    """Running time that its owner declares; None: nobody says."""
    slow: "job_pb2.SlowRange | None" = None
    """How far the plan may slow it; None: not at all."""


@dataclass(slots=True, kw_only=True)
class System:
    """The fleet. Every path is below `folder`; sites are named by the tests."""

    folder: Path
    sites: tuple[str, ...]
    coordinator: Mapping[str, Any] = field(default_factory=dict)
    """Tables of coordinator.toml beside those that every test needs."""
    agents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By site: tables of its agent.toml beside those that every test needs."""
    port: int = 0
    daemons: Daemons = field(init=False)

    def __post_init__(self) -> None:
        self.daemons = Daemons(self.folder)
        self.port = self.port or free_port()
        for name in ("steps", "final"):
            (self.folder / name).mkdir()
        authority = self.folder / "pki"
        pki.init(authority, FLEET)
        pki.issue(authority, Role.COORDINATOR, "main")
        pki.issue(authority, Role.ADMIN, "tests")
        write(self.folder / "coordinator.toml", self._coordinator_config())
        path = str(self.folder / "coordinator.toml")
        self.daemons.add("coordinator", "sterna-coordinator", "run", "--config", path)
        for site in self.sites:
            pki.issue(authority, Role.SITE, site)
            write(self.folder / f"{site}.toml", self.agent_config(site))
            self.daemons.add(site, "sterna-agent", "run", "--config", str(self.folder / f"{site}.toml"))

    def __getitem__(self, name: str) -> Daemon:
        return self.daemons.members[name]

    def _coordinator_config(self) -> dict[str, Any]:
        return {
            "fleet": FLEET,
            "listen": f"127.0.0.1:{self.port}",
            "state_dir": "coordinator",
            "tls": tls("coordinator", "main"),
            "sites": [{"id": site} for site in self.sites],
            "links": {"default_bps": LINK_BPS},
            **self.coordinator,
            # Nothing moves by itself: the tests say what moves, and when.
            "planner": {"policy": "static", "tick_s": 0.2, **self.coordinator.get("planner", {})},
        }

    def agent_config(self, site: str) -> dict[str, Any]:
        """Return a site's configuration as it was given."""
        given = self.agents.get(site, {})
        return {
            "fleet": FLEET,
            "site": site,
            "state_dir": f"state-{site}",
            "tls": tls("site", site),
            "coordinator": {"address": f"127.0.0.1:{self.port}", "backoff_max_s": 2.0},
            "grid": {"operator": "none"},
            "meters": [
                {"name": "grid", "role": "grid", "kind": "fake", "fake_power_w": -5000.0},
                {"name": "inverter", "role": "generation", "kind": "fake", "fake_power_w": 6000.0},
            ],
            "gpu": {"kind": "fake", "idle_w": IDLE_W, "max_w": IDLE_W + 4 * JOB_POWER_W},
            "jobs": {"slots": 4, "checkpoint_interval_s": 0.5},
            "transfer": {"listen": "127.0.0.1:0"},
            **given,
        }

    def start(self) -> None:
        """Start every daemon that does not run."""
        for daemon in self.daemons.members.values():
            if not daemon.running:
                daemon.start()

    @asynccontextmanager
    async def admin(self) -> AsyncIterator["Admin"]:
        """Connect to the coordinator as an administrator."""
        config = client.ClientConfig(
            coordinator=f"127.0.0.1:{self.port}",
            fleet=FLEET,
            tls=client.TlsFiles(**tls("admin", "tests")),
        )
        async with client.connect(config, self.folder) as channel:
            yield Admin(self, OperatorServiceStub(channel))

    def cli(self, *argv: str) -> str:
        """Return what the operator's command prints; it is started as an administrator's."""
        config = {"coordinator": f"127.0.0.1:{self.port}", "fleet": FLEET, "tls": tls("admin", "tests")}
        write(self.folder / "client.toml", config)
        whole = [str(COMMANDS / "sterna"), *argv, "--config", str(self.folder / "client.toml")]
        return subprocess.run(whole, capture_output=True, check=True, timeout=60, text=True).stdout

    @property
    def database(self) -> Path:
        """The coordinator's record."""
        return self.folder / "coordinator" / "coordinator.db"

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the coordinator's record as it is on disk; also while the coordinator is dead."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(sql, values).fetchall()

    def recorded_state(self, job_id: str) -> str:
        """Return the state of a job's newest migration in the coordinator's record; "" before the first."""
        rows = self.query("SELECT state FROM migrations WHERE job_id = ? ORDER BY rowid DESC", job_id)
        return str(rows[0][0]) if rows else ""

    def step_log(self, training: Training) -> Path:
        """Where a job's trainer, wherever it runs, says what it did."""
        return self.folder / "steps" / f"{training.name}.jsonl"

    def final(self, training: Training) -> Path:
        """Where a job's final weights go."""
        return self.folder / "final" / training.name

    def entries(self, training: Training) -> list[steplog.StepEntry]:
        """Return what a job's trainers have logged."""
        log = self.step_log(training)
        return steplog.parse(log.read_text().splitlines()) if log.exists() else []

    def trainers(self, job_id: str) -> list[Trainer]:
        """Return the living trainers of a job, on whatever site."""
        return [one for one in trainers(self.folder) if one.job_id == job_id]

    def sealed(self, job_id: str, sites: Iterable[str] = ()) -> dict[str, int]:
        """Return the sealed checkpoints of a job that are whole, as (id, step); every byte is verified."""
        found = {}
        for site in sites or self.sites:
            folder = self.folder / f"state-{site}" / "checkpoints" / "sealed" / job_id
            for one in folder.iterdir() if folder.exists() else ():
                step = verified_step(one)
                if step is not None:
                    found[one.name] = step
        return found

    def argv(self, training: Training) -> list[str]:
        """Return a job's command."""
        return [
            *(sys.executable, "-m", "agent.simulator.trainer"),
            *("--seed", str(training.seed), "--steps", str(training.steps), "--params", str(PARAMS)),
            *("--checkpoint-every", str(CHECKPOINT_EVERY), "--step-s", str(training.step_s)),
            *("--save-s", str(training.save_s), "--load-s", str(training.load_s)),
            *("--step-log", str(self.step_log(training)), "--final", str(self.final(training))),
            *(part for name in training.drop for part in ("--drop", name)),
        ]


@dataclass(slots=True)
class Admin:
    """What an administrator can see and do."""

    system: System
    stub: "Stub"

    async def answers(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Return the answer of a call; None while the coordinator is away."""
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                return None
            raise

    async def site(self, name: str) -> fleet_pb2.Site | None:
        """Return a site as the coordinator has it."""
        answer = await self.answers(lambda: self.stub.ListSites(api.ListSitesRequest(), timeout=5))
        return next((one for one in answer.sites if one.site_id == name), None) if answer else None

    async def connected(self, *names: str, within_s: float = UP_WITHIN_S) -> None:
        """Wait until the sites, all when none is named, have a session."""

        async def look() -> bool:
            answer = await self.answers(lambda: self.stub.ListSites(api.ListSitesRequest(), timeout=5))
            there = {one.site_id for one in answer.sites if one.connected} if answer else set()
            return set(names or self.system.sites) <= there

        await self.until(look, within_s=within_s, what="a session of every site")

    async def until(self, look: Callable[[], Any], *, within_s: float, what: str) -> Any:
        """Wait; on failure add what the daemons said."""
        try:
            return await until(look, within_s=within_s, what=what)
        except LateError as error:
            raise AssertionError(f"{error}\n{self.system.daemons.tails()}") from error

    async def submit(self, training: Training, *, request_id: str = "") -> str:
        """Submit a job; return its id. The same request is the same job, however often it is made."""
        spec = job_pb2.JobSpec(
            name=training.name,
            argv=self.system.argv(training),
            stop_grace=Duration(seconds=int(training.stop_grace_s)),
            power_w=training.power_w,
            checkpoint_bytes=PARAMS * 12,
            on_partition=training.on_partition,
            may_migrate=True,
            home_site=training.home,
            declared_work=None if training.work_s is None else Duration(seconds=int(training.work_s)),
            slow=training.slow,
        )
        request = api.SubmitJobRequest(
            request_id=request_id or f"{training.name}-{uuid.uuid4().hex}", spec=spec
        )
        answer = await self.stub.SubmitJob(request, timeout=10)
        return answer.job.job_id

    async def job(self, job_id: str) -> fleet_pb2.Job | None:
        """Return a job; None while the coordinator is away."""
        request = api.GetJobRequest(job_id=job_id)
        answer = await self.answers(lambda: self.stub.GetJob(request, timeout=5))
        return answer.job if answer else None

    async def migration(self, job_id: str) -> fleet_pb2.Migration | None:
        """Return a job's newest migration."""
        request = api.ListMigrationsRequest(job_id=job_id)
        answer = await self.answers(lambda: self.stub.ListMigrations(request, timeout=5))
        if not answer:
            return None
        return max(answer.migrations, key=lambda one: one.planned_at.ToNanoseconds(), default=None)

    async def move(self, job_id: str, to: str, *, request_id: str = "") -> None:
        """Order a move by hand; the same request is the same move, however often it is made."""
        request = api.MigrateJobRequest(
            request_id=request_id or uuid.uuid4().hex, job_id=job_id, destination_site=to, force=True
        )
        await self.stub.MigrateJob(request, timeout=10)

    async def trained(self, job_id: str, training: Training, steps: int, *, within_s: float = 20) -> None:
        """Wait until a job's trainers have done some steps, seen at the trainers themselves."""

        async def look() -> bool:
            return max((one.step for one in self.system.entries(training)), default=0) >= steps

        await self.until(look, within_s=within_s, what=f"{steps} steps of {job_id}")

    async def settled(self, job_id: str, *, within_s: float = 30.0) -> fleet_pb2.Job:
        """Wait until a job has one owner, no migration under way, and runs there or has completed."""

        async def look() -> fleet_pb2.Job | None:
            job = await self.job(job_id)
            if job is None or job.migration_id:
                return None
            if job.state == fleet_pb2.JOB_STATE_COMPLETED:
                return job
            alive = self.system.trainers(job_id)
            at_home = len(alive) == 1 and alive[0].site == job.owner_site
            return job if job.state == fleet_pb2.JOB_STATE_RUNNING and at_home else None

        return await self.until(look, within_s=within_s, what=f"one owner of {job_id}")

    async def ended(self, job_id: str, *, within_s: float = 60.0) -> fleet_pb2.Job:
        """Wait until a job has ended."""

        async def look() -> fleet_pb2.Job | None:
            job = await self.job(job_id)
            return job if job is not None and job.state in ENDED else None

        return await self.until(look, within_s=within_s, what=f"the end of {job_id}")


def verified_step(folder: Path) -> int | None:
    """Return the step of a sealed checkpoint, every byte compared with its manifest; None: it is gone."""
    try:
        manifest = manifests.decode((folder / "manifest.json").read_bytes())
        assert manifests.checkpoint_id(manifest) == folder.name, f"{folder} is not named by its manifest"
        layout = Layout.of(manifest)
        reader = ChunkReader(folder / "files", layout)
        buffer = bytearray(manifest.chunk_bytes)
        for index in range(layout.chunks):
            assert blake3.blake3(reader.read(index, buffer)).digest() == manifest.chunk_hashes[index], folder
    except (FileNotFoundError, CorruptError):
        if folder.exists():
            raise
        return None  # it was pruned meanwhile, by one rename
    return manifest.step


_REFERENCES: dict[tuple[int, int], str] = {}


def reference_digest(training: Training, folder: Path) -> str:
    """Return the digest of the weights of the same training outside Sterna, unpaced and undisturbed."""
    key = (training.seed, training.steps)
    if key not in _REFERENCES:
        final = folder / f"reference-{training.seed}-{training.steps}"
        argv = [sys.executable, "-m", "agent.simulator.trainer"]
        argv += ["--seed", str(training.seed), "--steps", str(training.steps), "--params", str(PARAMS)]
        subprocess.run([*argv, "--final", str(final)], check=True, timeout=120, cwd=folder)
        _REFERENCES[key] = hashlib.sha256(final.read_bytes()).hexdigest()
    return _REFERENCES[key]


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a configuration."""
    path.write_bytes(msgspec.toml.encode(document))


def tls(role: str, name: str) -> dict[str, str]:
    """Return the certificate files of a party."""
    return {"ca": "pki/ca.pem", "cert": f"pki/{role}-{name}.pem", "key": f"pki/{role}-{name}-key.pem"}


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
