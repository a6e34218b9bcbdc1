"""Cut off: the coordinator is away for longer than a lease, and the grid speaks meanwhile."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from sterna.v1 import fleet_pb2, job_pb2
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.daemons import until
from tests.system.dso import BASE_LOAD_W, CLOCK, Dso, dso, metered, plant_argv
from tests.system.harness import IDLE_W, JOB_POWER_W, Admin, System, Training
from tests.system.judging import judge

pytestmark = [pytest.mark.procs, pytest.mark.broker]

LEASE_S = 4.0
GAP_S = 3 * LEASE_S
TOLERANCE_W = 50.0
# One job's full draw does not fit below it, so it bites whether one or both of them run.
LIMIT_W = BASE_LOAD_W + IDLE_W + 0.5 * JOB_POWER_W


@pytest.fixture
def system(tmp_path: Path, broker: Broker) -> Iterator[System]:
    port = free_port()
    system = System(
        folder=tmp_path,
        sites=("north",),
        coordinator={"lease": {"ttl_s": LEASE_S, "skew_s": 1.0, "kill_grace_s": 2.0}},
        agents={"north": metered(tmp_path, "north", port, broker)},
    )
    system.daemons.add("plant", *plant_argv(tmp_path, "north", port, pv_w=0.0))
    try:
        yield system
    finally:
        system.daemons.end_all()


async def test_both_policies_while_the_grid_limits(system: System, broker: Broker) -> None:
    # The paces make both outlast the gap: at a cap the fake GPU draws less, the trainers do not slow down.
    stay = Training(name="stay", home="north", steps=700, seed=8)
    leave = Training(
        name="leave", home="north", steps=250, seed=9, on_partition=job_pb2.ON_PARTITION_STOP, stop_grace_s=5
    )
    system.start()
    async with dso(broker, "north") as operator, system.admin() as admin:
        await admin.connected()
        await _released(operator)
        jobs = {await admin.submit(training): training for training in (stay, leave)}
        for job_id, training in jobs.items():
            await admin.trained(job_id, training, 25)
        (stay_id, leave_id) = jobs
        (stayed,) = system.trainers(stay_id)
        gone_at = CLOCK.now()
        assert system["coordinator"].stop() == 0

        limit = await operator.send(operator.command(LIMIT_W))
        await _stopped_with_a_checkpoint(system, admin, leave_id, leave)
        await _obeyed(operator, limit)
        left_s = GAP_S - (CLOCK.now() - gone_at).total_seconds()
        await asyncio.sleep(max(0.0, left_s))  # the gap itself is what is tested
        assert [one.pid for one in system.trainers(stay_id)] == [stayed.pid], "the job that stays goes on"
        await _obeyed(operator, limit)

        system["coordinator"].start()
        back_at = CLOCK.now()
        await admin.connected()
        await _told_afterwards(system, gone_at, back_at)
        assert [one.pid for one in system.trainers(stay_id)] == [stayed.pid], "nor is it touched afterwards"
        await operator.send(operator.command(None))
        for job_id, training in jobs.items():
            job = await judge(system, admin, job_id, training)
            assert job.state == fleet_pb2.JOB_STATE_COMPLETED
        assert operator.last("status")["breaches"] == 0


async def _released(operator: Dso) -> None:
    """Bring the site from INIT to no limit, its meters read."""
    await until(lambda: operator.last("telemetry").get("q") == "OK", within_s=20, what="a good balance")
    await operator.send(operator.command(None))
    await until(lambda: operator.last("status").get("state") == "UNLIMITED", within_s=10, what="no limit")


async def _stopped_with_a_checkpoint(system: System, admin: Admin, job_id: str, training: Training) -> None:
    """Wait for the end of a job whose lease has run out; nothing of what it trained may be unsealed."""
    await admin.until(lambda: not system.trainers(job_id), within_s=LEASE_S + 10, what="the end of the lease")
    trained = max(entry.step for entry in system.entries(training))
    assert trained < training.steps, "the job was too short to be cut off"
    await until(
        lambda: max(system.sealed(job_id).values(), default=0) == trained,
        within_s=10,
        what=f"a sealed checkpoint of step {trained}",
    )


async def _obeyed(operator: Dso, command_id: str) -> None:
    """Wait until the site's own meter is below the limit, and see that it stays there."""

    def below() -> bool:
        return float(operator.last("telemetry")["gridW"]) <= LIMIT_W + TOLERANCE_W

    await until(below, within_s=12, what="an import below the limit")
    assert {"ACCEPTED", "STARTED"} & {ack["status"] for ack in operator.acks(command_id)}
    seen = len(operator.of("telemetry"))
    await until(lambda: len(operator.of("telemetry")) >= seen + 3, within_s=8, what="further samples")
    for balance in operator.of("telemetry")[seen:]:
        assert balance["gridW"] <= LIMIT_W + TOLERANCE_W
        assert balance["itW"] > 0, "it is obeyed by less power, not by a meter that is gone"


async def _told_afterwards(system: System, gone_at: datetime, back_at: datetime) -> None:
    """Wait until the coordinator's record has the gap: complete, marked, each sample once."""
    start_at, end_at = gone_at + timedelta(seconds=1), back_at - timedelta(seconds=1)
    wanted = 0.8 * (end_at - start_at).total_seconds()

    def rows() -> list[tuple[int, str, int]]:
        found = system.query(
            "SELECT sequence, measured_at, historical FROM telemetry WHERE site_id = 'north'"
        )
        return [
            (sequence, at, historical)
            for sequence, at, historical in found
            if start_at <= datetime.fromisoformat(at).replace(tzinfo=start_at.tzinfo) <= end_at
        ]

    gap = await until(lambda: found if len(found := rows()) >= wanted else None, within_s=20, what="the gap")
    assert {historical for _, _, historical in gap} == {1}, "telemetry of the gap is marked historical"
    sequences = sorted(sequence for sequence, _, _ in gap)
    assert all(later == earlier + 1 for earlier, later in pairwise(sequences)), (
        "each sample once, none left out"
    )
    live = system.query("SELECT count(*) FROM telemetry WHERE historical = 0 AND site_id = 'north'")
    assert live[0][0] > 0, "and what was sent as it was measured is not"
