"""DESIGN 7's invariants, after every step of random histories."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.core.fleet import fold
from coordinator.core.grants import LeaseBook, LeaseMargins
from coordinator.core.progress import next_events
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, Grant, Job, MigrationState
from coordinator.model.live import Live
from tests.coordinator.core.simulation import NextEvents, Simulation, Violation


def run(simulation: Simulation, steps: int) -> Simulation:
    for _ in range(steps):
        simulation.step()
    simulation.settle()
    simulation.check_settled()
    assert fold(simulation.history) == simulation.state
    return simulation


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), steps=st.integers(50, 400))
def test_no_invariant_is_ever_broken(seed: int, steps: int) -> None:
    run(Simulation(seed), steps)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_invariant_is_ever_broken_in_many_histories() -> None:
    for seed in range(5000):
        run(Simulation(seed), 400)


def test_histories_are_eventful() -> None:
    """The checks are worth something only if the histories go through the whole machine."""
    ends: set[MigrationState] = set()
    kinds: set[str] = set()
    for seed in range(20):
        simulation = run(Simulation(seed), 300)
        ends |= {one.state for one in simulation.state.migrations.values()}
        kinds |= {type(event).__name__ for event in simulation.history}
    assert ends == {MigrationState.DONE, MigrationState.ABORTED}
    assert "MigrationSentAhead" in kinds
    assert {"MigrationCommitted", "MigrationFailed", "JobRequeued", "JobEnded", "SiteFenced"} <= kinds


def commits_unverified(
    state: FleetState, job_id: str, live: Live, now: datetime, **settings: Any
) -> tuple[ev.Event, ...]:
    """Break invariant 5: commit while the transfer is still running."""
    job = state.jobs[job_id]
    migration = state.migration_of(job)
    if migration is not None and migration.state is MigrationState.TRANSFERRING:
        verified = ev.MigrationAdvanced(
            at=now, migration_id=migration.migration_id, event=ev.MigrationEvent.VERIFY
        )
        return (verified,)
    return next_events(state, job_id, live, now, **settings)


def restarts_at_once(
    state: FleetState, job_id: str, live: Live, now: datetime, **settings: Any
) -> tuple[ev.Event, ...]:
    """Break invariant 4: take a silent site's job away without waiting for its lease."""
    job = state.jobs[job_id]
    silent = job.owner_site is not None and not (job.owner_site in live and live[job.owner_site].connected)
    if job.grant is not None and silent and job.migration_id is None:
        return (ev.JobRequeued(at=now, job_id=job_id, epoch=job.epoch + 1, message="silence"),)
    return next_events(state, job_id, live, now, **settings)


class HastyBook(LeaseBook):
    """Break invariant 1: no lease is ever waited for."""

    def free_at_s(self, job: Job) -> float | None:
        grant: Grant | None = job.grant
        return None if grant is None or grant.lease_ttl_s is None else 0.0


@pytest.mark.parametrize("broken", [restarts_at_once, commits_unverified])
def test_a_broken_rule_is_found(broken: NextEvents) -> None:
    with pytest.raises(Violation):
        for seed in range(200):
            run(Simulation(seed, next_step=broken), 400)


def test_a_hasty_lease_is_found() -> None:
    with pytest.raises(Violation):
        for seed in range(200):
            run(Simulation(seed, book=lambda: HastyBook(LeaseMargins())), 400)
