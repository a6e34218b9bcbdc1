"""Who the plan holds back or slows where it runs, and what each site must be told for that: level-triggered.

What is wanted comes of the newest tick and is not stored: a restart decides anew, and until its first tick
nothing is said about holds at all. A site that hears nothing more lets its jobs go on when the hold expires.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.core.bookings import rooms_under_limits
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.fleet import Job
from coordinator.model.job import JobPhase, JobReport
from coordinator.model.live import Live, report_of
from coordinator.model.orders import Pause, Resume, Slow
from coordinator.model.view import FleetView, JobView, Phase

LEAST_HOLD_S = 1.0
RENEWED_FRAC = 0.5
"""Share of a hold's length after which it is renewed, by our own clock: the site's may be off."""
_SETTLED = frozenset({JobPhase.RUNNING, JobPhase.PAUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One job that is to stand still, for so long unless that is renewed, and why.

    `power_w`: it is to run, and draw so much at most; None: it is to stand still.
    `renewed_at` is when it was wished for or renewed last, `above` the sequence that its site had accepted
    then: the order stands until a report shows a higher one.
    """

    length_s: float
    reason: str
    renewed_at: datetime
    above: int
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """Every job that is to stand still or to be slow, by id.

    `rooms_w`: what grid limits leave sites for one more job, by the same tick; others have no limit.
    """

    wishes: Mapping[str, Wish] = field(default_factory=dict)
    rooms_w: Mapping[str, float] = field(default_factory=dict)


def holds_of(
    view: FleetView, decisions: Sequence[Decision], hold_s: float, *, before: Holds | None, live: Live
) -> Holds:
    """Return who is to stand still, or to be slow, by the decisions of a tick.

    Parameters
    ----------
    view : FleetView
        What they rest on.
    decisions : sequence of Decision
        Of every job.
    hold_s : float
        Length of a hold; a job with less slack than that is held for no longer than it has.
    before : Holds or None
        What was wished for until now.
    live : Live
        What the sites have accepted so far.
    """
    wishes = {}
    for decision in decisions:
        job = view.jobs.get(decision.job_id)
        if job is not None and _is_wanted(job, decision):
            length_s = max(LEAST_HOLD_S, hold_s if job.slack_s is None else min(hold_s, job.slack_s))
            report = report_of(live, job.site_id, job.job_id)
            fresh = Wish(
                length_s=length_s,
                reason=decision.reason,
                renewed_at=view.now,
                above=report.hold_sequence if report is not None else 0,
                power_w=decision.power_w,
            )
            known = before.wishes.get(job.job_id) if before is not None else None
            stands = known is not None and known.power_w == fresh.power_w and not _runs_out(known, view.now)
            wishes[job.job_id] = known if known is not None and stands else fresh
    return Holds(wishes=wishes, rooms_w=rooms_under_limits(view))


def _is_wanted(job: JobView, decision: Decision) -> bool:
    if decision.power_w is not None:
        return job.phase is Phase.RUNNING and decision.kind in (DecisionKind.SLOW, DecisionKind.STAY)
    stays = decision.kind is DecisionKind.STAY and job.phase is Phase.PAUSED
    return job.slack_s is not None and (stays or decision.kind is DecisionKind.PAUSE)


def hold_orders(job: Job, report: JobReport | None, holds: Holds) -> Iterator[Pause | Slow | Resume]:
    """Return what the site of a job must be told so that it holds it back or slows it, or no longer does.

    Parameters
    ----------
    job : Job
        It has a grant, and no move is under way.
    report : JobReport or None
        The site's newest of it.
    holds : Holds
        Who is to stand still or to be slow.
    """
    if report is None or job.grant is None or report.epoch != job.grant.epoch:
        return
    if report.phase not in _SETTLED:
        return
    wish = holds.wishes.get(job.job_id)
    if wish is None:
        if report.held_until is not None:
            yield Resume(sequence=report.hold_sequence + 1)
        return
    # What the site itself has paused is left alone: it could not run anyway.
    free = report.phase is JobPhase.RUNNING and report.held_until is None
    if not free and (report.held_until is None or report.hold_sequence > wish.above):
        return
    sequence = report.hold_sequence + 1
    if wish.power_w is None:
        yield Pause(sequence=sequence, expires_after_s=wish.length_s, reason=wish.reason)
    else:
        yield Slow(sequence=sequence, expires_after_s=wish.length_s, power_w=wish.power_w, reason=wish.reason)


def _runs_out(wish: Wish, now: datetime) -> bool:
    return (now - wish.renewed_at).total_seconds() >= RENEWED_FRAC * wish.length_s
