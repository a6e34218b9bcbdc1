"""From what an ended run left behind to what becomes of the job."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.jobtable import JobEvent
from agent.core.outcome import (
    Completed,
    EndCause,
    Evidence,
    Failed,
    Outcome,
    StoppedAt,
    judge_outcome,
)
from agent.jobs.runner import Snapshot
from agent.model.jobs import Checkpoint, JobPhase
from agent.model.records import JobRecord

RESTARTS = 3
"""Times that a process is started again under one epoch after its shim was lost."""

_CAUSES = {
    EndCause.LEASE: "the lease expired",
    EndCause.SHUTDOWN: "the machine or its operator ended it",
    EndCause.REVOKED: "its run directory was taken away",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What happened to the job, and one sentence about it ("" when there is nothing to say)."""

    event: JobEvent
    message: str


def judge_run(
    record: JobRecord,
    seen: Snapshot,
    checkpoints: Sequence[Checkpoint],
    *,
    sealed_after_stop: bool,
    may_restart: bool,
) -> Verdict:
    """Judge an ended run.

    Parameters
    ----------
    record : JobRecord
        As it is now.
    seen : Snapshot
        The last look at the run directory.
    checkpoints : sequence of Checkpoint
        Sealed ones, newest first, after the last seal.
    sealed_after_stop : bool
        Whether one of them was saved after the request to stop.
    may_restart : bool
        Whether the grant still holds: same boot, lease not over.
    """
    outcome = judge_outcome(
        Evidence(
            stop_ordered=record.phase is JobPhase.STOPPING,
            result=seen.result,
            exit=seen.exit,
            sealed_step=checkpoints[0].manifest.step if checkpoints else None,
            sealed_after_stop=sealed_after_stop,
            last_step=seen.progress.step,
        )
    )
    if isinstance(outcome, Completed):
        return Verdict(event=JobEvent.COMPLETED, message="")
    if isinstance(outcome, Failed):
        return Verdict(event=JobEvent.FAILED, message=outcome.reason)
    cause = seen.exit.cause if seen.exit is not None else None
    wanted = record.phase is JobPhase.STOPPING or cause in _CAUSES
    if not wanted and may_restart and record.restarts < RESTARTS:
        return Verdict(event=JobEvent.RUN_LOST, message=_join("started again", _why(cause), outcome))
    return Verdict(event=JobEvent.STOPPED, message=_join(_ended(record, cause), "", outcome))


def distrusted(seen: Snapshot, boot_id: str) -> str:
    """Say why what an ended run left unsealed cannot be trusted; empty: it can.

    After a power cut a file that nobody synced may have its full length and nothing in it. One that was
    written before an orderly end of the machine is as it was.

    Parameters
    ----------
    seen : Snapshot
        The last look at the run directory.
    boot_id : str
        This boot.
    """
    if seen.identity is None or seen.identity.boot_id == boot_id:
        return ""
    if seen.exit is not None and seen.exit.cause is EndCause.SHUTDOWN:
        return ""
    return "it was written before the machine went down, and may be torn"


def resume_instead(record: JobRecord, checkpoints: Sequence[Checkpoint]) -> str | None:
    """Return what a run goes on from whose checkpoint turned out corrupt; None: it is not ours to say.

    A run that was lost is started again by the site itself, from the newest that is left here. Where the
    coordinator named the checkpoint, it knows other copies.

    Parameters
    ----------
    record : JobRecord
        Of the run.
    checkpoints : sequence of Checkpoint
        Those that are left, newest first.
    """
    left = [checkpoint.checkpoint_id for checkpoint in checkpoints]
    if record.restarts == 0 or record.resume_id is None or record.resume_id in left:
        return None
    return left[0] if left else None


def _ended(record: JobRecord, cause: EndCause | None) -> str:
    if record.phase is JobPhase.STOPPING:
        return "cancelled" if record.stop_cancel else ""
    return _CAUSES.get(cause, _why(cause)) if cause is not None else _why(cause)


def _why(cause: EndCause | None) -> str:
    return "its shim was lost" if cause is None else "the program stopped by itself"


def _join(first: str, second: str, outcome: Outcome) -> str:
    stale = ""
    if not isinstance(outcome, StoppedAt) and not isinstance(outcome, (Completed, Failed)):
        lost = "an unknown number of" if outcome.lost_steps is None else outcome.lost_steps
        stale = f"{lost} steps were not in a checkpoint" if outcome.lost_steps != 0 else ""
    return "; ".join(part for part in (first, second, stale) if part)
