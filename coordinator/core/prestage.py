"""Whether a checkpoint is sent ahead while training goes on, and whether to stop once it has arrived.

What was sent ahead need not cross again at the stop, and its transfer measures the link before anything is
given up for it. Pure; the machine is in `coordinator.core.migration`.
"""

from dataclasses import dataclass
from datetime import datetime

from coordinator.core import domain, feasibility
from coordinator.core.feasibility import Infeasible, Move, Tolerance
from coordinator.core.view import ViewSettings, job_view
from coordinator.model.fleet import FleetState, JobState, Migration
from coordinator.model.job import Checkpoint, newest


@dataclass(frozen=True, slots=True, kw_only=True)
class PrestageSettings:
    """When sending ahead is worth it, and what the plan is held to afterwards.

    `view` has the defaults for what is not measured. A transfer that would keep the job down for less than
    `least_transfer_s` seconds is not worth a second one; over a link that nobody has measured, one of less
    than `least_bytes` is not.
    """

    view: ViewSettings
    tolerance: Tolerance
    least_transfer_s: float = 10.0
    least_bytes: int = 64_000_000


def to_send_ahead(state: FleetState, migration: Migration, settings: PrestageSettings) -> Checkpoint | None:
    """Choose the checkpoint to send while the job goes on; None: it is stopped at once.

    Parameters
    ----------
    state : FleetState
        What is known.
    migration : Migration
        PREPARED.
    settings : PrestageSettings
        The bounds.
    """
    job = state.jobs[migration.job_id]
    held = newest(job.copies.get(migration.source_site, ()))
    if held is None or job.state is not JobState.RUNNING:  # a suspended job loses nothing more by its stop
        return None
    if any(
        held.checkpoint_id == copy.checkpoint_id for copy in job.copies.get(migration.destination_site, ())
    ):
        return None
    measured = state.links.get((migration.source_site, migration.destination_site))
    if measured is None:
        return held if held.size_bytes >= settings.least_bytes else None
    rate_bps = min(measured.goodput_bps, migration.reserved_bps or measured.goodput_bps)
    carried_s = domain.transfer_s(held.size_bytes, rate_bps, 1.0)
    return held if carried_s >= settings.least_transfer_s else None


def obstacle_to_stop(
    state: FleetState,
    migration: Migration,
    goodput_bps: float | None,
    now: datetime,
    settings: PrestageSettings,
) -> str:
    """Judge the move again with the link as measured a moment ago; empty when the job may be stopped.

    Parameters
    ----------
    state, migration, settings
        As above; a move without a window (a drain, an operator's word) is not held to one.
    goodput_bps : float or None
        Of the transfer that has just ended; None: what was known before.
    now : datetime
        The instant.
    """
    if migration.window_end_at is None:
        return ""
    measured = state.links.get((migration.source_site, migration.destination_site))
    if goodput_bps is None and measured is not None:
        goodput_bps = measured.goodput_bps
    if goodput_bps is None:
        return ""
    job = job_view(state, state.jobs[migration.job_id], settings.view)
    answer = feasibility.assess(
        Move(
            checkpoint_bytes=job.stop_bytes or job.checkpoint_bytes,
            ahead_bytes=0.0,  # it has been sent, whatever becomes of the move
            # Goodput is what arrived: the share that the link loses is in it already.
            link_bps=goodput_bps / settings.tolerance.eta,
            seal_s=job.seal_s,
            load_s=job.load_s,
            downtime_s=job.downtime_s,
            until_window_end_s=(migration.window_end_at - now).total_seconds(),
            job_power_w=job.power_w,
            source_power_w=job.power_w,
            destination_power_w=job.power_w,
        ),
        settings.tolerance,
    )
    if not isinstance(answer, Infeasible):
        return ""
    return "no longer worth it: " + "; ".join(reason.sentence for reason in answer.reasons)


def window_closed(migration: Migration, now: datetime) -> bool:
    """Tell whether the window that a move was made for has ended before its checkpoint has arrived."""
    return migration.window_end_at is not None and now >= migration.window_end_at
