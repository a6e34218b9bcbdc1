"""Events as they are told one after the other, each against the state that those before it made."""

from coordinator.core.fleet import apply
from coordinator.model.events import Event
from coordinator.model.fleet import FleetState, Job, Migration


class Story:
    """Collects events and keeps the state up to date, so that a decision may depend on the one before.

    Parameters
    ----------
    state : FleetState
        Where the story begins.
    """

    def __init__(self, state: FleetState) -> None:
        self.state = state
        self._events: list[Event] = []

    def tell(self, *events: Event) -> None:
        """Add events; raises IllegalTransitionError, with nothing added, when one does not fit."""
        for event in events:
            self.state = apply(self.state, event)
            self._events.append(event)

    @property
    def events(self) -> tuple[Event, ...]:
        """Return what was told so far."""
        return tuple(self._events)

    def job(self, job_id: str) -> Job:
        """Return a job as it stands now in the story."""
        return self.state.jobs[job_id]

    def migration_of(self, job_id: str) -> Migration | None:
        """Return the active migration of a job as it stands now."""
        return self.state.migration_of(self.state.jobs[job_id])
