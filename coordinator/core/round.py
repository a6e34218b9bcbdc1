"""One round of the driver, as a pure function: everything that is due now, for every job.

Level-triggered throughout: the newest reports are judged again, machines take their own steps, stays that
last too long are given up, leases that have certainly run out are ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.core.endings import GrantSettings
from coordinator.core.prestage import PrestageSettings
from coordinator.core.progress import MigrationTimeouts, expiry_events, next_events, timeout_events
from coordinator.core.reports import events_for_report
from coordinator.core.story import Story
from coordinator.model.events import Event
from coordinator.model.fleet import FleetState
from coordinator.model.live import Live, report_of

STEPS_MAX = 20
"""More own steps of one job in one round than the table has are a fault of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundInputs:
    """What a round goes by besides the state.

    `in_state_s` has how long each active migration has been in its state; `expired` the jobs whose owner is
    silent and whose lease has certainly run out.
    """

    live: Live
    now: datetime
    grants: GrantSettings
    timeouts: MigrationTimeouts
    prestage: PrestageSettings
    in_state_s: Mapping[str, float] = field(default_factory=dict)
    expired: frozenset[str] = frozenset()


def round_events(state: FleetState, inputs: RoundInputs) -> tuple[Event, ...]:
    """Return everything that is due, in order."""
    story = Story(state)
    for job in state.jobs.values():
        if not job.ended:
            _one(story, job.job_id, inputs)
    return story.events


def _one(story: Story, job_id: str, inputs: RoundInputs) -> None:
    _reports(story, job_id, inputs)
    _time(story, job_id, inputs)
    for _ in range(STEPS_MAX):
        own = next_events(
            story.state,
            job_id,
            inputs.live,
            inputs.now,
            prestage=inputs.prestage,
            settings=inputs.grants,
        )
        if not own:
            return
        story.tell(*own)
        _reports(story, job_id, inputs)
    raise AssertionError(f"job {job_id} takes no end of steps")


def _reports(story: Story, job_id: str, inputs: RoundInputs) -> None:
    said = [
        (site_id, report)
        for site_id in inputs.live
        if (report := report_of(inputs.live, site_id, job_id)) is not None
    ]
    # The highest epoch first: where our memory is older than the fleet, it is known before all else.
    for site_id, report in sorted(said, key=lambda one: -one[1].epoch):
        story.tell(*events_for_report(story.state, site_id, report, inputs.now, inputs.grants))


def _time(story: Story, job_id: str, inputs: RoundInputs) -> None:
    migration = story.migration_of(job_id)
    if migration is not None:
        in_state_s = inputs.in_state_s.get(migration.migration_id, 0.0)
        story.tell(
            *timeout_events(
                story.state,
                migration,
                in_state_s,
                timeouts=inputs.timeouts,
                now=inputs.now,
                settings=inputs.grants,
            )
        )
    if job_id in inputs.expired:
        story.tell(*expiry_events(story.state, story.job(job_id), inputs.now))
