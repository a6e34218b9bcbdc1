"""What kills and jobs add up to. Pure: values in, one JSON object out."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agent.simulator.steplog import StepEntry, double_runs, downtimes_s, stints

LOADS = (8.0, 12.0, 16.0, 20.0)
"""Where one range of the machine's load ends and the next begins."""

SUMMED = (
    *("jobs", "jobs_lost", "ran_twice", "took_s"),
    *("handovers", "migrations_committed", "migrations_given_up"),
)
"""What runs are added up by; the rest follows from their kills, or is the same in all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One SIGKILL and what followed.

    `phase` is the state on record of the migration that it was for, right after the kill; ENDED: it came to
    its end in that very moment. `recovery_s` counts from the start of the new process until every migration
    and every job that the dead one had a part in goes on; None: not within the limit.
    """

    victim: str
    phase: str
    hit: int
    """Migrations that the dead process had a part in."""
    recovery_s: float | None
    load: float
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one job went, by its own step log and weights."""

    name: str
    faults: tuple[str, ...]
    ran_twice: int
    worst_steps_lost: int
    """Most steps that one of its processes did again."""
    handovers: int


def judged(
    name: str, entries: Sequence[StepEntry], *, total: int, state: str, digest: str | None, reference: str
) -> Verdict:
    """Judge a job.

    Parameters
    ----------
    name : str
        Its name.
    entries : sequence of StepEntry
        Its step log.
    total : int
        Steps that it has in all.
    state : str
        How it ended, by the coordinator's record.
    digest, reference : str
        Of its final weights, None when there are none, and of those of an undisturbed run.
    """
    faults = []
    if state != "COMPLETED":
        faults.append(f"ended {state}")
    missing = set(range(1, total + 1)) - {entry.step for entry in entries}
    if missing:
        faults.append(f"{len(missing)} steps were never done")
    if digest != reference:
        faults.append("its final weights are not those of an undisturbed run")
    return Verdict(
        name=name,
        faults=tuple(faults),
        ran_twice=double_runs(entries),
        worst_steps_lost=max(rollbacks(entries), default=0),
        handovers=len(downtimes_s(entries)),
    )


def rollbacks(entries: Sequence[StepEntry]) -> list[int]:
    """Return, for each process but the first, how many steps of the one before it did again."""
    return [max(0, earlier.last_step - later.first_step + 1) for earlier, later in pairwise(stints(entries))]


def percentile(values: Sequence[float], frac: float) -> float | None:
    """Return the smallest value that at least `frac` of them do not exceed; None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(frac * len(values)) - 1)]


def tally(kills: Sequence[Kill], verdicts: Sequence[Verdict], *, unfinished: int) -> dict[str, object]:
    """Add up.

    Parameters
    ----------
    kills : sequence of Kill
        All of them.
    verdicts : sequence of Verdict
        Of the jobs that have ended.
    unfinished : int
        Jobs that had every chance to end, and did not.
    """
    known = [kill.recovery_s for kill in kills if kill.recovery_s is not None]
    # One that did not recover is later than any that did.
    recoveries = known + [math.inf] * (len(kills) - len(known))
    lost = [verdict for verdict in verdicts if verdict.faults]

    def seconds(frac: float) -> float | None:
        value = percentile(recoveries, frac)
        return None if value is None or math.isinf(value) else round(value, 2)

    return {
        "kills": len(kills),
        "by_victim": dict(sorted(Counter(kill.victim for kill in kills).items())),
        "by_phase": dict(sorted(Counter(kill.phase for kill in kills).items())),
        "migrations_hit": sum(kill.hit for kill in kills),
        "jobs": len(verdicts) + unfinished,
        "jobs_lost": len(lost) + unfinished,
        "ran_twice": sum(verdict.ran_twice for verdict in verdicts),
        "worst_steps_lost": max((verdict.worst_steps_lost for verdict in verdicts), default=0),
        "not_recovered": len(kills) - len(known),
        "recovery_p50_s": seconds(0.5),
        "recovery_p99_s": seconds(0.99),
        "recovery_max_s": seconds(1.0),
        "faults": [f"{verdict.name}: {fault}" for verdict in lost for fault in verdict.faults]
        + [kill.fault for kill in kills if kill.fault],
        "load": round(sum(kill.load for kill in kills) / len(kills), 1) if kills else None,
        "by_load": by_load(kills),
    }


def together(runs: Sequence[Mapping[str, Any]], kills: Sequence[Kill]) -> dict[str, object]:
    """Add up several runs of one version.

    Parameters
    ----------
    runs : sequence of mapping
        Their results, in the order of their seeds.
    kills : sequence of Kill
        Those of all of them.
    """
    return {
        **tally(kills, (), unfinished=0),
        **{name: sum(run[name] for run in runs) for name in SUMMED},
        "worst_steps_lost": max(run["worst_steps_lost"] for run in runs),
        "faults": [fault for run in runs for fault in run["faults"]],
        "interrupted": any(run["interrupted"] for run in runs),
        **{name: _same(runs, name) for name in ("checkpoint_interval_steps", "cores", "version")},
        "seeds": [run["seed"] for run in runs],
    }


def _same(runs: Sequence[Mapping[str, Any]], name: str) -> object:
    """Return what all of them say."""
    (value,) = {run[name] for run in runs}
    return value


def by_load(kills: Sequence[Kill]) -> list[dict[str, object]]:
    """Return, for each range of the machine's load, how many kills it saw and how long those took.

    What starts anew has to wait for a processor like everybody else.
    """
    found = []
    for over, most in pairwise((-1.0, *LOADS, math.inf)):
        took = [kill.recovery_s for kill in kills if over < kill.load <= most]
        p99_s = percentile([math.inf if seconds is None else seconds for seconds in took], 0.99)
        found.append(
            {
                "load_most": None if math.isinf(most) else most,
                "kills": len(took),
                "recovery_p99_s": None if p99_s is None or math.isinf(p99_s) else round(p99_s, 2),
            }
        )
    return found
