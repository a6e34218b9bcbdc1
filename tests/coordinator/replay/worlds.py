"""Worlds for the replay's tests: small made ones, and the recorded ones where the data is."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from coordinator.core.partial import Piece
from coordinator.model.job import SlowRange
from coordinator.model.replication import Replication
from coordinator.replay.scenariofile import ScenarioFile, Traces, read_scenario, read_traces, world_of
from coordinator.replay.world import Costs, Plant, Task, World, access_of

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data, which is not here")

START = datetime(2022, 4, 1, tzinfo=UTC)
HOUR = 3600.0
GB = 1_000_000_000


def task(
    job_id: str = "1",
    home: str = "a",
    *,
    at_s: float = 0.0,
    work_s: float = 2 * HOUR,
    size_gb: int = 1,
    power_w: float = 500.0,
    pieces: Sequence[Piece] = (),
    replication: Replication | None = None,
    slow: SlowRange | None = None,
) -> Task:
    return Task(
        job_id=job_id,
        home_site=home,
        submitted_s=at_s,
        work_s=work_s,
        checkpoint_bytes=size_gb * GB,
        power_w=power_w,
        pieces=tuple(pieces),
        replication=replication,
        slow=slow,
    )


def world(
    surplus_w: Mapping[str, Sequence[float]],
    *tasks: Task,
    slots: int = 2,
    link_bps: float = 8e9,
    access_bps: float | None = None,
    tail: int = 200,
    eta: float = 1.0,
    hold_back_s: float | None = None,
) -> World:
    """Hourly surplus by site, dark for `tail` hours after; a GB seals, crosses and loads in 1 s each."""
    return World(
        name="made",
        start_at=START,
        period_s=24 * HOUR,
        step_s=HOUR,
        sites=tuple(
            Plant(site_id=name, slots=slots, surplus_w=(*watts, *[0.0] * tail))
            for name, watts in surplus_w.items()
        ),
        tasks=tasks,
        wan=access_of(
            {(a, b): link_bps for a in surplus_w for b in surplus_w if a != b}, access_bps, surplus_w
        ),
        costs=Costs(store_bytes_per_s=1e9, downtime_s=30.0, eta=eta, network_wh_per_gb=1.9, alpha=0.1),
        hold_back_s=hold_back_s,
    )


@cache
def recorded(name: str) -> tuple[ScenarioFile, Traces]:
    scenario = read_scenario(name)
    return scenario, read_traces(scenario, DATA)


def recorded_world(name: str, period: str, offset: int = 0) -> World:
    return world_of(*recorded(name), period, offset)
