"""The fail-safe machine of one operator's link (EEBus LPC), as one table.

Owns when a site is under control, when it must hold its fail-safe limit, and what ends that. It refuses to
know limits themselves (`agent.core.limits`) and never leaves INIT or FAILSAFE because time has passed,
unless the operator of the site has opted in (`ExitWithoutLimit.AFTER_GRACE`).
"""

import math
from dataclasses import dataclass, replace
from enum import Enum

from agent.model.limits import GridState
from sterna.errors import IllegalTransitionError


class ExitWithoutLimit(Enum):
    """What INIT and FAILSAFE do when heartbeats are back and no limit follows (LPC-921)."""

    STAY = "stay"
    AFTER_GRACE = "after_120_s"


class Event(Enum):
    """What the machine is told."""

    TICK = "tick"
    HEARTBEAT = "heartbeat"
    LIMIT = "limit"
    """The operator wrote a new limit that was accepted and stored."""
    RELEASE = "release"
    """The operator wrote a new release that was accepted and stored."""
    LIMIT_BEGAN = "limit began"
    """A stored limit of this operator is in force now and none was before."""
    LIMIT_ENDED = "limit ended"
    """The last limit of this operator that was in force has ended."""


class Trigger(Enum):
    """What the table is keyed by: an event, refined by whether heartbeats are heard and deadlines over."""

    TICK = "tick"
    HEARTBEAT = "heartbeat"
    LIMIT = "limit"
    RELEASE = "release"
    UNHEARD_LIMIT = "limit without heartbeat"
    UNHEARD_RELEASE = "release without heartbeat"
    LIMIT_BEGAN = "limit began"
    LIMIT_ENDED = "limit ended"
    HEARTBEAT_LOST = "heartbeat lost"
    GRACE_OVER = "no limit within the grace time"


_S, _T = GridState, Trigger

TABLE: dict[tuple[GridState, Trigger], GridState] = {
    (_S.INIT, _T.TICK): _S.INIT,
    (_S.INIT, _T.HEARTBEAT): _S.INIT,
    (_S.INIT, _T.LIMIT): _S.LIMITED,
    (_S.INIT, _T.RELEASE): _S.UNLIMITED,
    (_S.INIT, _T.UNHEARD_LIMIT): _S.INIT,
    (_S.INIT, _T.UNHEARD_RELEASE): _S.INIT,
    (_S.INIT, _T.HEARTBEAT_LOST): _S.FAILSAFE,
    (_S.INIT, _T.GRACE_OVER): _S.UNLIMITED,
    (_S.UNLIMITED, _T.TICK): _S.UNLIMITED,
    (_S.UNLIMITED, _T.HEARTBEAT): _S.UNLIMITED,
    (_S.UNLIMITED, _T.LIMIT): _S.LIMITED,
    (_S.UNLIMITED, _T.RELEASE): _S.UNLIMITED,
    (_S.UNLIMITED, _T.LIMIT_BEGAN): _S.LIMITED,
    (_S.UNLIMITED, _T.HEARTBEAT_LOST): _S.FAILSAFE,
    (_S.LIMITED, _T.TICK): _S.LIMITED,
    (_S.LIMITED, _T.HEARTBEAT): _S.LIMITED,
    (_S.LIMITED, _T.LIMIT): _S.LIMITED,
    (_S.LIMITED, _T.RELEASE): _S.UNLIMITED,
    (_S.LIMITED, _T.LIMIT_ENDED): _S.UNLIMITED,
    (_S.LIMITED, _T.HEARTBEAT_LOST): _S.FAILSAFE,
    (_S.FAILSAFE, _T.TICK): _S.FAILSAFE,
    (_S.FAILSAFE, _T.HEARTBEAT): _S.FAILSAFE,
    (_S.FAILSAFE, _T.LIMIT): _S.LIMITED,
    (_S.FAILSAFE, _T.RELEASE): _S.UNLIMITED,
    (_S.FAILSAFE, _T.UNHEARD_LIMIT): _S.FAILSAFE,
    (_S.FAILSAFE, _T.UNHEARD_RELEASE): _S.FAILSAFE,
    (_S.FAILSAFE, _T.HEARTBEAT_LOST): _S.FAILSAFE,
    (_S.FAILSAFE, _T.GRACE_OVER): _S.UNLIMITED,
}

PROTECTED = frozenset({GridState.INIT, GridState.FAILSAFE})
"""States in which the fail-safe limit holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailsafeSettings:
    """What the site, or its operator within bounds, has set.

    `failsafe_import_w` is grid import in watts, >= 0. `heartbeat_timeout_s` is silence until FAILSAFE (LPC:
    120). `failsafe_min_s` is published only: time alone never ends the fail-safe limit. `grace_s` counts
    from the heartbeat that came back, for `ExitWithoutLimit.AFTER_GRACE`. `ramp_s` is how long the site may
    take to come down to the fail-safe limit.
    """

    failsafe_import_w: float
    heartbeat_timeout_s: float = 120.0
    failsafe_min_s: float = 7200.0
    exit_without_limit: ExitWithoutLimit = ExitWithoutLimit.STAY
    grace_s: float = 120.0
    ramp_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where one operator's link stands; every `_s` is CLOCK_BOOTTIME seconds.

    `heartbeat_deadline_s`: when the link counts as lost; None when nothing is awaited. `heard` tells whether
    a heartbeat was heard and has not timed out. `exit_deadline_s`: when the grace time ends; None: never.
    """

    state: GridState
    entered_s: float
    heard: bool = False
    heartbeat_deadline_s: float | None = None
    exit_deadline_s: float | None = None


def cold_start(now_boot_s: float, settings: FailsafeSettings) -> Machine:
    """Return the machine of a daemon that has just started: INIT, holding the fail-safe limit."""
    return Machine(
        state=GridState.INIT,
        entered_s=now_boot_s,
        heartbeat_deadline_s=now_boot_s + settings.heartbeat_timeout_s,
    )


def due_s(machine: Machine) -> float:
    """Return when, on CLOCK_BOOTTIME, time alone changes the machine; inf: never."""
    deadlines_s = (machine.heartbeat_deadline_s, machine.exit_deadline_s)
    return min((deadline_s for deadline_s in deadlines_s if deadline_s is not None), default=math.inf)


def step(machine: Machine, event: Event, now_boot_s: float, settings: FailsafeSettings) -> Machine:
    """Let deadlines that are over take effect, then the event.

    Parameters
    ----------
    machine : Machine
        Where the link stood.
    event : Event
        What happened; commands only after they were stored.
    now_boot_s : float
        CLOCK_BOOTTIME now, in seconds.
    settings : FailsafeSettings
        In force now.

    Returns
    -------
    Machine
        Where it stands.

    Raises
    ------
    IllegalTransitionError
        The table has no entry; nothing was changed.
    """
    machine = _expire(machine, now_boot_s, settings)
    trigger = _TRIGGERS[event]
    if machine.state in PROTECTED:
        if not machine.heard:
            trigger = _UNHEARD.get(trigger, trigger)
        if trigger in (Trigger.LIMIT_BEGAN, Trigger.LIMIT_ENDED):
            return machine  # the fail-safe limit holds whatever the timeline does
    machine = _move(machine, trigger, now_boot_s)
    if trigger is Trigger.HEARTBEAT:
        machine = _hear(machine, now_boot_s, settings)
    return machine


def _expire(machine: Machine, now_boot_s: float, settings: FailsafeSettings) -> Machine:
    """Apply the deadlines that lie behind us, in the order in which they fell."""
    lost_s, exit_s = machine.heartbeat_deadline_s, machine.exit_deadline_s
    if exit_s is not None and exit_s <= now_boot_s and (lost_s is None or exit_s < lost_s):
        machine = _move(machine, Trigger.GRACE_OVER, exit_s)
    if lost_s is not None and lost_s <= now_boot_s:
        machine = replace(
            _move(machine, Trigger.HEARTBEAT_LOST, lost_s),
            heard=False,
            heartbeat_deadline_s=None,
            exit_deadline_s=None,
        )
    return machine


def _hear(machine: Machine, now_boot_s: float, settings: FailsafeSettings) -> Machine:
    """Only a heartbeat moves the heartbeat's deadline; only the first one back starts the grace time."""
    exit_s = machine.exit_deadline_s
    if machine.state in PROTECTED and settings.exit_without_limit is ExitWithoutLimit.AFTER_GRACE:
        exit_s = now_boot_s + settings.grace_s if exit_s is None else exit_s
    return replace(
        machine,
        heard=True,
        heartbeat_deadline_s=now_boot_s + settings.heartbeat_timeout_s,
        exit_deadline_s=exit_s,
    )


def _move(machine: Machine, trigger: Trigger, at_s: float) -> Machine:
    state = TABLE.get((machine.state, trigger))
    if state is None:
        raise IllegalTransitionError(f"fail-safe machine: no entry for {machine.state.name}, {trigger.value}")
    if state is machine.state:
        return machine
    exit_s = machine.exit_deadline_s if state in PROTECTED else None
    return replace(machine, state=state, entered_s=at_s, exit_deadline_s=exit_s)


_TRIGGERS = {
    Event.TICK: Trigger.TICK,
    Event.HEARTBEAT: Trigger.HEARTBEAT,
    Event.LIMIT: Trigger.LIMIT,
    Event.RELEASE: Trigger.RELEASE,
    Event.LIMIT_BEGAN: Trigger.LIMIT_BEGAN,
    Event.LIMIT_ENDED: Trigger.LIMIT_ENDED,
}
_UNHEARD = {Trigger.LIMIT: Trigger.UNHEARD_LIMIT, Trigger.RELEASE: Trigger.UNHEARD_RELEASE}
