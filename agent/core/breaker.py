"""How long a shared bus waits for each of its units, and how often it tries one that is dead.

The rule that keeps one dead unit from delaying its neighbours: a request may take the full timeout while
nobody else wants the bus; as soon as somebody does, it gets its *patience* and no more. Patience follows from
how fast the unit answered before, so a slow device is not cut off, and a dead one costs its neighbours one
short wait a probe. Decisions only; the waiting is `agent.devices.bus_shared`'s.
"""

from dataclasses import dataclass, replace

FAILURES_TO_OPEN = 3
PROBE_MIN_S = 1.0
# Several answers may be slower than the slowest one lately; a unit that never answered gets less.
PATIENCE_FACTOR, STRANGER_FACTOR = 5.0, 2.0
# The slowest answer is forgotten slowly, so that one hiccup does not make the bus patient for ever.
FORGET_FRAC = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitHealth:
    """What the bus remembers of one unit."""

    failures: int = 0
    """Requests in a row without an answer."""
    slowest_s: float | None = None
    """About the slowest answer lately, seconds; None: it never answered."""
    closed_until_s: float | None = None
    """Boottime before which it is not asked; None: it may be asked."""

    @property
    def trusted(self) -> bool:
        """Whether it answered the last time; others go after it in the queue."""
        return self.slowest_s is not None and self.failures == 0


def heard(health: UnitHealth, *, answer_s: float) -> UnitHealth:
    """Take an answer, or a refusal, which is one too."""
    remembered_s = 0.0 if health.slowest_s is None else (1 - FORGET_FRAC) * health.slowest_s
    return UnitHealth(slowest_s=max(remembered_s, answer_s))


def unheard(health: UnitHealth, *, now_s: float, quarantine_s: float, probe_max_s: float) -> UnitHealth:
    """Take a request without an answer.

    Parameters
    ----------
    health : UnitHealth
        As before it.
    now_s : float
        Boottime.
    quarantine_s : float
        For so long its late answer may still come and be taken for another's (RTU has no transaction ids).
    probe_max_s : float
        Longest time between two probes of a unit that stays dead.
    """
    failures = health.failures + 1
    pause_s = quarantine_s
    if failures >= FAILURES_TO_OPEN:
        doublings = min(failures - FAILURES_TO_OPEN, 16)
        pause_s = max(quarantine_s, min(PROBE_MIN_S * 2.0**doublings, probe_max_s))
    return replace(health, failures=failures, closed_until_s=now_s + pause_s if pause_s > 0 else None)


def refused_for_s(health: UnitHealth, *, now_s: float) -> float:
    """Return the seconds for which the unit is not to be asked; 0: ask."""
    return 0.0 if health.closed_until_s is None else max(0.0, health.closed_until_s - now_s)


def patience_s(health: UnitHealth, *, bus_slowest_s: float | None, floor_s: float, timeout_s: float) -> float:
    """Return how long a request may keep others waiting.

    Parameters
    ----------
    health : UnitHealth
        Of the unit that is asked.
    bus_slowest_s : float or None
        About the slowest answer of any unit of the bus; None: none answered yet.
    floor_s : float
        Least patience, > 0.
    timeout_s : float
        The full timeout, >= floor_s.
    """
    if health.trusted and health.slowest_s is not None:
        usual_s = PATIENCE_FACTOR * health.slowest_s
    else:
        usual_s = STRANGER_FACTOR * (bus_slowest_s or 0.0)
    return min(max(floor_s, usual_s), timeout_s)
