"""What an accepted order changes in a job's record. Pure; the phase itself comes from the table."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from agent.core.joborders import Accept, remember
from agent.core.jobtable import JobEvent
from agent.model.jobs import Checkpoint, JobPhase
from agent.model.orders import Fetch, Order, Pause, Prepare, Release, Resume, Slow, Start, Stop
from agent.model.records import Hold, JobRecord, Lease, PendingStart


def apply_order(  # noqa: PLR0911 - one way out an action
    record: JobRecord,
    order: Order,
    verdict: Accept,
    *,
    held: Sequence[Checkpoint],
    run_id: str,
    now_s: float,
    now: datetime,
    boot_id: str,
) -> JobRecord:
    """Return the record with an accepted order in it, still in its old phase.

    Parameters
    ----------
    record, order, verdict
        As judged.
    held : sequence of Checkpoint
        The job's sealed checkpoints here, newest first.
    run_id : str
        A fresh name, for the run that a grant may begin.
    now_s : float
        CLOCK_BOOTTIME of the order's receipt: leases, reservations and pauses count from here.
    now : datetime
        The calendar then, for people.
    boot_id : str
        This boot.
    """
    if isinstance(order.action, (Pause, Slow, Resume)):
        return _held(record, order, now_s=now_s, now=now, boot_id=boot_id)
    record = replace(
        record,
        highest_epoch=max(record.highest_epoch, order.epoch),
        applied=remember(record, order),
        boot_id=boot_id,
        migration_id=record.migration_id if verdict.event is None else order.migration_id,
    )
    changes = verdict.event is not None or isinstance(order.action, Fetch)
    match order.action if changes else None:
        case Prepare(spec=spec, checkpoint_bytes=size, expires_after_s=expires_after_s):
            return replace(
                record,
                spec=spec,
                reserved_bytes=size,
                reserved_until_s=now_s + expires_after_s,
                fetch=None,
                message="",
            )
        case Fetch() as fetch:
            return replace(record, fetch=fetch, message="")
        case Start(lease_ttl_s=ttl_s) as start:
            expires_s = None if ttl_s is None else now_s + ttl_s
            lease = Lease(ttl_s=ttl_s, expires_s=expires_s, boot_id=boot_id)
            grant = PendingStart(epoch=order.epoch, start=start, lease=lease)
            return _granted(record, grant, verdict, held, run_id)
        case Stop(reason=reason, cancel=cancel):
            began_s = record.stop_ordered_s if record.phase is JobPhase.STOPPING else now_s
            return replace(
                record,
                stop_reason=reason,
                stop_cancel=cancel or (record.phase is JobPhase.STOPPING and record.stop_cancel),
                stop_ordered_s=began_s,
                pending=None,
                hold=None,
            )
        case Release():
            return replace(
                record,
                fetch=None,
                lease=None,
                reserved_bytes=0,
                reserved_until_s=None,
                message="",
                resume_id=None,
            )
        case _:
            return record


def _held(record: JobRecord, order: Order, *, now_s: float, now: datetime, boot_id: str) -> JobRecord:
    """Take a pause, a slowing or a resume of the plan: known by its sequence, and of no migration."""
    assert isinstance(order.action, (Pause, Slow, Resume))
    highest = max(record.highest_epoch, order.epoch)
    if order.action.sequence <= record.hold_sequence:  # late: only its epoch was news
        return replace(record, highest_epoch=highest)
    hold = None
    if isinstance(order.action, (Pause, Slow)):
        length_s = order.action.expires_after_s
        hold = Hold(
            until_s=now_s + length_s,
            until_at=now + timedelta(seconds=length_s),
            boot_id=boot_id,
            reason=order.action.reason,
            power_w=order.action.power_w if isinstance(order.action, Slow) else None,
        )
    return replace(record, highest_epoch=highest, hold=hold, hold_sequence=order.action.sequence)


def is_held_back(record: JobRecord, now_s: float, boot_id: str) -> bool:
    """Tell whether the plan holds a job back or slows it now."""
    hold = record.hold
    return hold is not None and hold.boot_id == boot_id and now_s < hold.until_s


def _granted(
    record: JobRecord, grant: PendingStart, verdict: Accept, held: Sequence[Checkpoint], run_id: str
) -> JobRecord:
    """Give the job an epoch: to the process that is there, to the one after it, or to a new one."""
    if verdict.event is JobEvent.REGRANT and record.phase is JobPhase.STOPPING:
        return replace(record, pending=grant)
    if verdict.event is JobEvent.REGRANT:
        return replace(record, epoch=grant.epoch, lease=grant.lease)
    # A job that was here before goes on from what it has; only one that was let go of starts afresh.
    fresh = record.phase in (JobPhase.RELEASED, JobPhase.RESERVED)
    return begin(record, grant, held=() if fresh else held, run_id=run_id)


def begin(record: JobRecord, grant: PendingStart, *, held: Sequence[Checkpoint], run_id: str) -> JobRecord:
    """Return the record with the intent to start a process under a new grant.

    Parameters
    ----------
    record : JobRecord
        In a phase from which START is allowed.
    grant : PendingStart
        What was granted.
    held : sequence of Checkpoint
        What it may resume from, newest first, where the grant names none or only an older one.
    run_id : str
        Name of the new run.
    """
    return replace(
        record,
        spec=grant.start.spec,
        epoch=grant.epoch,
        lease=grant.lease,
        run_id=run_id,
        resume_id=_resume_id(record, grant.start.checkpoint_id, held),
        restarts=0,
        pending=None,
        stop_reason="",
        stop_cancel=False,
        stop_ordered_s=None,
        reserved_bytes=0,
        reserved_until_s=None,
        fetch=None,
        start_step=None,
        load_s=None,
        message="",
        hold=None,
    )


def _resume_id(record: JobRecord, named: str | None, held: Sequence[Checkpoint]) -> str | None:
    """Choose what to resume from: what the grant names, unless this site has sealed a later step since.

    The grant may have been made before the last seal was heard of. A destination (HELD) takes what was named:
    what else it has of the job is older, whatever its steps are.
    """
    if not held:
        return named
    if named is None:
        return held[0].checkpoint_id
    known = next((one for one in held if one.checkpoint_id == named), None)
    furthest = max(held, key=lambda one: one.manifest.step)
    if record.phase is JobPhase.HELD or (known and furthest.manifest.step <= known.manifest.step):
        return named
    return furthest.checkpoint_id
