"""Plays the demo: waits for the fleet, submits the jobs, follows them to their end, gathers the evidence."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from coordinator.cli import client, watching
from coordinator.cli.demo import world as w
from coordinator.cli.demo.energy import MeterRoll, metered, metered_day, pasts, replayed
from coordinator.cli.demo.fleet import Fleet
from coordinator.cli.demo.foresight import Hindsight
from coordinator.cli.demo.processes import Processes
from coordinator.cli.demo.summary import DemoSummary, limits_obeyed, weights_identical
from coordinator.forecast.learnt import SOURCE as LEARNT
from sterna.clock import Clock
from sterna.errors import PermanentError
from sterna.v1 import fleet_pb2, job_pb2
from sterna.v1 import operator_service_pb2 as api
from sterna.v1.operator_service_pb2_grpc import OperatorServiceStub

READY_WITHIN_S = 60.0
# Jobs are sized to end within the day; a machine that is busy with other things may need longer.
OVERTIME_S = 90.0
REFERENCE_TIMEOUT_S = 300.0
POLL_S = 0.25
REPLAYED = ("static", "feasibility-aware", w.POLICY)

if TYPE_CHECKING:  # a class of the type stubs alone
    from sterna.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub

ENDED = {fleet_pb2.JOB_STATE_COMPLETED, fleet_pb2.JOB_STATE_FAILED, fleet_pb2.JOB_STATE_CANCELLED}

Show = Callable[[api.WatchFleetResponse], None]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was seen of the fleet from outside."""

    roll: MeterRoll
    looks: Counter[str]
    """How often each source's forecast stood, counted per site and snapshot; "" where there was none."""
    snapshot: api.WatchFleetResponse
    migrations: tuple[fleet_pb2.Migration, ...]
    began_at: datetime
    ended_at: datetime
    breaches: int


async def play(
    fleet: Fleet, processes: Processes, *, clock: Clock, show: Show, ready: Callable[[], None]
) -> Outcome:
    """Submit the jobs once the fleet stands, and follow until all have ended.

    Raises
    ------
    PermanentError
        A daemon ended, or the fleet did not come up, or the jobs did not end in time.
    """
    config = client.read_client_config(fleet.client_config)
    async with client.connect(config, fleet.folder) as channel:
        stub = OperatorServiceStub(channel)
        await _until_ready(stub, fleet, processes, clock)
        await asyncio.sleep(max(0.0, (fleet.start_at - clock.now()).total_seconds()))
        ready()
        began_at = clock.now()
        for job in fleet.world.jobs:
            await stub.SubmitJob(_submission(fleet, job), timeout=client.CALL_TIMEOUT_S)
        return await _follow(stub, fleet, processes, began_at=began_at, clock=clock, show=show)


async def _until_ready(
    stub: "OperatorServiceAsyncStub", fleet: Fleet, processes: Processes, clock: Clock
) -> None:
    deadline_s = clock.boottime_s() + READY_WITHIN_S
    waiting = "the coordinator"
    while clock.boottime_s() < deadline_s:
        processes.check()
        try:
            answer = await stub.ListSites(api.ListSitesRequest(), timeout=client.CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        else:
            absent = [site.site_id for site in answer.sites if not _is_ready(site)]
            if not absent and len(answer.sites) == len(fleet.world.sites):
                return
            waiting = ", ".join(absent)
        await asyncio.sleep(POLL_S)
    raise PermanentError(f"the fleet did not come up within {READY_WITHIN_S:.0f} s; waiting for {waiting}")


def _is_ready(site: fleet_pb2.Site) -> bool:
    metered = site.connected and site.telemetry.HasField("surplus_w") and site.grid_status.state != 0
    # Before its first day in the fleet a site has long been learnt; here that takes some seconds.
    return metered and site.forecast_source == LEARNT


def _submission(fleet: Fleet, job: w.DemoJob) -> api.SubmitJobRequest:
    argv = fleet.trainer_argv(job, step_s=w.STEP_S, step_log=fleet.step_log(job), final=fleet.final(job))
    return api.SubmitJobRequest(
        request_id=f"demo-{job.name}",
        spec=job_pb2.JobSpec(
            name=job.name,
            argv=argv,
            stop_grace=Duration(seconds=20),
            power_w=w.JOB_POWER_W,
            checkpoint_bytes=w.CHECKPOINT_BYTES,
            on_partition=job_pb2.ON_PARTITION_KEEP_RUNNING,
            may_migrate=True,
            home_site=job.home_site,
        ),
    )


async def _follow(
    stub: "OperatorServiceAsyncStub",
    fleet: Fleet,
    processes: Processes,
    *,
    began_at: datetime,
    clock: Clock,
    show: Show,
) -> Outcome:
    roll, looks = MeterRoll(idle_w=w.NODE_IDLE_W), Counter[str]()
    deadline_at = began_at + timedelta(seconds=fleet.world.day_s + OVERTIME_S)
    async for snapshot in _snapshots(stub, processes):
        processes.check()
        roll.take(snapshot.sites)
        looks.update(site.forecast_source for site in snapshot.sites)
        show(snapshot)
        now = clock.now()
        ended = [job for job in snapshot.jobs if job.state in ENDED]
        settled = all(migration.HasField("ended_at") for migration in snapshot.migrations)
        if len(ended) == len(fleet.world.jobs) and settled:
            breaches = sum(site.grid_status.breaches for site in snapshot.sites)
            listed = await stub.ListMigrations(api.ListMigrationsRequest(), timeout=client.CALL_TIMEOUT_S)
            return Outcome(
                roll=roll,
                looks=looks,
                snapshot=snapshot,
                migrations=tuple(listed.migrations),
                began_at=began_at,
                ended_at=now,
                breaches=breaches,
            )
        if now > deadline_at:
            stuck = [f"{job.spec.name} ({job.message})" for job in snapshot.jobs if job.state not in ENDED]
            raise PermanentError(f"these jobs did not end in time: {', '.join(stuck) or 'none'}")
    raise AssertionError("snapshots do not end")


async def _snapshots(
    stub: "OperatorServiceAsyncStub", processes: Processes
) -> AsyncIterator[api.WatchFleetResponse]:
    """Yield the fleet after each change, for ever: a coordinator that was killed comes back."""
    while True:
        try:
            async for _, snapshot in watching.watch(stub):
                yield snapshot
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        processes.check()
        await asyncio.sleep(POLL_S)


def judge(fleet: Fleet, outcome: Outcome) -> DemoSummary:
    """Count everything that the demo claims. Trains every job once more, outside Sterna, for the weights."""
    world, snapshot = fleet.world, outcome.snapshot
    evidence = _evidence(fleet)
    rolls = outcome.roll.between(outcome.began_at, outcome.ended_at)
    energy = metered(rolls, outcome.began_at, outcome.ended_at)
    day = metered_day(rolls, world, start_at=outcome.began_at)
    hindsight = Hindsight(world, pasts(fleet, outcome.began_at), rolls, day)
    journal = [json.loads(line) for line in fleet.journal.read_text().splitlines()]
    done = [m for m in outcome.migrations if m.state == fleet_pb2.MIGRATION_STATE_DONE and not m.failure]
    return DemoSummary(
        jobs=len(world.jobs),
        jobs_completed=sum(job.state == fleet_pb2.JOB_STATE_COMPLETED for job in snapshot.jobs),
        migrations_completed=len(done),
        migrations_failed=len(outcome.migrations) - len(done),
        steps_lost=sum(one["steps_lost"] for one in evidence.values()),
        double_runs=sum(one["double_runs"] for one in evidence.values()),
        weights_identical=weights_identical(
            {name: one["digest"] for name, one in evidence.items()}, _reference_digests(fleet)
        ),
        renewable_share=energy.renewable_wh / energy.drawn_wh if energy.drawn_wh else 0.0,
        renewable_share_replayed={name: replayed(day, world, name, hindsight) for name in REPLAYED},
        forecasts_learnt_frac=outcome.looks[LEARNT] / max(1, outcome.looks.total()),
        energy_wh=energy.drawn_wh,
        bytes_moved=sum(m.transferred_bytes for m in outcome.migrations),
        downtime_s=tuple(seconds for one in evidence.values() for seconds in one["downtime_s"]),
        limit_events=sum(row["event"] == "limit" for row in journal),
        limit_breaches=outcome.breaches,
        limits_obeyed=limits_obeyed(journal),
        seconds=(outcome.ended_at - outcome.began_at).total_seconds(),
        seed=world.seed,
    )


def _evidence(fleet: Fleet) -> Mapping[str, Mapping[str, Any]]:
    return _judged([(job.name, fleet.step_log(job), job.steps, fleet.final(job)) for job in fleet.world.jobs])


def _reference_digests(fleet: Fleet) -> dict[str, str]:
    """Train each job without Sterna, unpaced and uninterrupted, and return the digests of its weights."""
    folder = fleet.folder / "reference"
    folder.mkdir(exist_ok=True)
    rows = [
        (job.name, folder / f"{job.name}.jsonl", job.steps, folder / f"{job.name}.npz")
        for job in fleet.world.jobs
    ]
    running = [
        subprocess.Popen(fleet.trainer_argv(job, step_s=0.0, step_log=log, final=final), cwd=folder)
        for job, (_, log, _, final) in zip(fleet.world.jobs, rows, strict=True)
    ]
    for job, process in zip(fleet.world.jobs, running, strict=True):
        if process.wait(REFERENCE_TIMEOUT_S):
            raise PermanentError(f"the reference run of {job.name} ended with {process.returncode}")
    return {name: one["digest"] for name, one in _judged(rows).items()}


def _judged(rows: Sequence[tuple[str, Path, int, Path]]) -> Mapping[str, Mapping[str, Any]]:
    """Have (name, step log, steps, final weights) judged by a process that knows no daemon."""
    triples = [str(part) for _, log, steps, final in rows for part in (log, steps, final)]
    command = [sys.executable, "-m", "agent.simulator.evidence", *triples]
    judged = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {name: one for (name, *_), one in zip(rows, judged, strict=True)}
