"""How a run ended, judged by evidence: the result file, then a newly sealed checkpoint, then the exit record.

Never by the exit code alone: trainers exit 0 when they are done, when they stopped with a checkpoint, and
when they stopped without one (reference/migration.md 1).
"""

from dataclasses import dataclass
from enum import Enum


class EndCause(Enum):
    """Why the shim's watch ended."""

    EXITED = "exited"
    STOPPED = "stopped"
    SHUTDOWN = "shutdown"
    LEASE = "lease"
    REVOKED = "revoked"
    NOT_STARTED = "not_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the trainer wrote of its own end."""

    completed: bool
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The shim's record. Either `code` or `signal` is None; both are when nothing was started."""

    cause: EndCause
    code: int | None = None
    signal: int | None = None
    killed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known of a run that has ended.

    `exit` None: the shim was lost. `sealed_step` is the newest sealed checkpoint's; `sealed_after_stop` tells
    that it was saved after the request to stop. `last_step` is the last that the trainer reported.
    """

    stop_ordered: bool
    result: Result | None = None
    exit: Exit | None = None
    sealed_step: int | None = None
    sealed_after_stop: bool = False
    last_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The training is done."""

    step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedAt:
    """Stopped with a sealed checkpoint of its last step."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedStale:
    """Stopped, but the newest sealed checkpoint is older than its last step, or there is none.

    `step` None: it would have to start afresh. `lost_steps` None: not known.
    """

    step: int | None
    lost_steps: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The program failed by itself."""

    reason: str


Outcome = Completed | StoppedAt | StoppedStale | Failed


def judge_outcome(evidence: Evidence) -> Outcome:
    """Say how a run ended.

    Parameters
    ----------
    evidence : Evidence
        What was found in the run directory and the checkpoint store.

    Returns
    -------
    Completed, StoppedAt, StoppedStale or Failed
    """
    result = evidence.result
    if result is not None:
        return Completed(step=result.step) if result.completed else _stopped(evidence, result.step)
    if _was_stopped(evidence):
        if evidence.sealed_after_stop:
            return _stopped(evidence, evidence.last_step)
        return _stale(evidence, evidence.last_step)
    if evidence.exit is None:  # the shim was lost, and its child with it: nobody saw the program fail
        return _stale(evidence, evidence.last_step)
    return _by_exit(evidence.exit, evidence.last_step)


def _by_exit(end: Exit, last_step: int | None) -> Completed | Failed:
    """Judge an end that nobody asked for and of which the trainer said nothing."""
    if end.cause is EndCause.NOT_STARTED:
        return Failed(reason=f"could not be started: {end.error}")
    if end.code == 0:  # no stop was asked for, so this exit 0 can mean only one thing
        return Completed(step=last_step)
    if end.signal is not None:
        return Failed(reason=f"killed by signal {end.signal}")
    return Failed(reason=f"exit code {end.code}")


def _was_stopped(evidence: Evidence) -> bool:
    """Tell whether anybody on our side asked for the end."""
    ours = (EndCause.STOPPED, EndCause.SHUTDOWN, EndCause.LEASE, EndCause.REVOKED)
    return evidence.stop_ordered or (evidence.exit is not None and evidence.exit.cause in ours)


def _stopped(evidence: Evidence, step: int | None) -> StoppedAt | StoppedStale:
    """Judge by what was sealed: a checkpoint that is only said to exist is none."""
    sealed = evidence.sealed_step
    if sealed is None or (step is not None and sealed < step):
        return _stale(evidence, step)
    return StoppedAt(step=sealed)


def _stale(evidence: Evidence, step: int | None) -> StoppedStale:
    sealed = evidence.sealed_step
    lost = None if step is None else max(0, step - (sealed or 0))
    return StoppedStale(step=sealed, lost_steps=lost)
