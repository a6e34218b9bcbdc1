"""The agent's half of a migration (DESIGN 7): one table, (phase, event) → phase.

Owns which phase may follow which. A pair that is not in the table raises and changes nothing.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from agent.model.jobs import JobPhase as P
from sterna.errors import IllegalTransitionError


class JobEvent(Enum):
    """What can happen to a job at a site."""

    PREPARE = "ordered to hold a slot"
    RESERVATION_EXPIRED = "the reservation ran out"
    FETCH = "ordered to fetch its checkpoint"
    FETCHED = "the checkpoint is here, verified"
    FETCH_FAILED = "the fetch was given up"
    START = "granted an epoch"
    REGRANT = "granted a higher epoch while its process lives"
    STARTED = "the process runs"
    PAUSE = "suspended by the power ladder, or by the plan"
    RESUME = "resumed by the power ladder"
    STOP = "ordered to stop"
    STOPPED = "nothing runs, what could be sealed is sealed"
    RUN_LOST = "the shim was lost; the process is to be started again under the same epoch"
    COMPLETED = "the training is done"
    FAILED = "the program failed"
    RELEASE = "ordered to let go"


E = JobEvent

TABLE: Mapping[tuple[P, JobEvent], P] = MappingProxyType(
    {
        (P.RELEASED, E.PREPARE): P.RESERVED,
        (P.RELEASED, E.START): P.STARTING,
        # destination
        (P.RESERVED, E.PREPARE): P.RESERVED,
        (P.RESERVED, E.RESERVATION_EXPIRED): P.RELEASED,
        (P.RESERVED, E.FETCH): P.FETCHING,
        (P.RESERVED, E.START): P.STARTING,
        (P.RESERVED, E.RELEASE): P.RELEASED,
        (P.FETCHING, E.FETCHED): P.HELD,
        (P.FETCHING, E.FETCH_FAILED): P.RESERVED,
        (P.FETCHING, E.RELEASE): P.RELEASED,
        (P.HELD, E.FETCH): P.FETCHING,
        (P.HELD, E.START): P.STARTING,
        (P.HELD, E.RELEASE): P.RELEASED,
        # a process is wanted or there
        (P.STARTING, E.REGRANT): P.STARTING,
        (P.STARTING, E.STARTED): P.RUNNING,
        (P.STARTING, E.RUN_LOST): P.STARTING,
        (P.STARTING, E.STOP): P.STOPPING,
        (P.STARTING, E.STOPPED): P.SEALED,
        (P.STARTING, E.COMPLETED): P.COMPLETED,
        (P.STARTING, E.FAILED): P.FAILED,
        (P.RUNNING, E.REGRANT): P.RUNNING,
        (P.RUNNING, E.PAUSE): P.PAUSED,
        (P.RUNNING, E.RUN_LOST): P.STARTING,
        (P.RUNNING, E.STOP): P.STOPPING,
        (P.RUNNING, E.STOPPED): P.SEALED,
        (P.RUNNING, E.COMPLETED): P.COMPLETED,
        (P.RUNNING, E.FAILED): P.FAILED,
        (P.PAUSED, E.REGRANT): P.PAUSED,
        (P.PAUSED, E.RESUME): P.RUNNING,
        (P.PAUSED, E.RUN_LOST): P.STARTING,
        (P.PAUSED, E.STOP): P.STOPPING,
        (P.PAUSED, E.STOPPED): P.SEALED,
        (P.PAUSED, E.COMPLETED): P.COMPLETED,
        (P.PAUSED, E.FAILED): P.FAILED,
        # source
        (P.STOPPING, E.STOP): P.STOPPING,
        (P.STOPPING, E.REGRANT): P.STOPPING,  # kept as pending: a stop cannot be taken back
        (P.STOPPING, E.STOPPED): P.SEALED,
        (P.STOPPING, E.COMPLETED): P.COMPLETED,
        (P.STOPPING, E.FAILED): P.FAILED,
        (P.SEALED, E.PREPARE): P.RESERVED,
        (P.SEALED, E.START): P.STARTING,
        (P.SEALED, E.RELEASE): P.RELEASED,
        # ended
        (P.COMPLETED, E.RELEASE): P.RELEASED,
        (P.FAILED, E.PREPARE): P.RESERVED,
        (P.FAILED, E.START): P.STARTING,
        (P.FAILED, E.RELEASE): P.RELEASED,
    }
)

LIVE = frozenset({P.STARTING, P.RUNNING, P.PAUSED, P.STOPPING})
"""Phases in which a process is there or may be."""

SLOT_HOLDING = LIVE | {P.RESERVED, P.FETCHING, P.HELD}
"""Phases that take one of the site's slots."""


def next_phase(phase: P, event: JobEvent) -> P:
    """Return the phase that follows.

    Raises
    ------
    IllegalTransitionError
        The table has no such entry.
    """
    try:
        return TABLE[phase, event]
    except KeyError:
        raise IllegalTransitionError(f"job: no entry for {event.name} in {phase.name}") from None
