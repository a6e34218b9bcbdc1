import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.outcome import (
    Completed,
    EndCause,
    Evidence,
    Exit,
    Failed,
    Outcome,
    Result,
    StoppedAt,
    StoppedStale,
    judge_outcome,
)

EXITED = Exit(cause=EndCause.EXITED, code=0)
STOPPED = Exit(cause=EndCause.STOPPED, code=0)


@pytest.mark.parametrize(
    ("name", "evidence", "outcome"),
    [
        (
            "result says done, whatever the code",
            Evidence(
                stop_ordered=True,
                result=Result(completed=True, step=9),
                exit=Exit(cause=EndCause.STOPPED, code=1),
            ),
            Completed(step=9),
        ),
        (
            "result says stopped and its checkpoint is sealed",
            Evidence(stop_ordered=True, result=Result(completed=False, step=9), exit=STOPPED, sealed_step=9),
            StoppedAt(step=9),
        ),
        (
            "a checkpoint that is only said to exist is none",
            Evidence(stop_ordered=True, result=Result(completed=False, step=9), exit=STOPPED, sealed_step=5),
            StoppedStale(step=5, lost_steps=4),
        ),
        (
            "HF with JIT checkpoint: exit 0 after the stop, new checkpoint, no result",
            Evidence(stop_ordered=True, exit=STOPPED, sealed_step=20, sealed_after_stop=True),
            StoppedAt(step=20),
        ),
        (
            "saved after the stop, but steps were done since",
            Evidence(stop_ordered=True, exit=STOPPED, sealed_step=20, sealed_after_stop=True, last_step=22),
            StoppedStale(step=20, lost_steps=2),
        ),
        (
            "Lightning plain: exit 0 after the stop, no checkpoint",
            Evidence(stop_ordered=True, exit=STOPPED, sealed_step=10, last_step=17),
            StoppedStale(step=10, lost_steps=7),
        ),
        (
            "killed after its grace, nothing was ever sealed",
            Evidence(stop_ordered=True, exit=Exit(cause=EndCause.STOPPED, signal=9, killed=True)),
            StoppedStale(step=None, lost_steps=None),
        ),
        (
            "lease over",
            Evidence(stop_ordered=False, exit=Exit(cause=EndCause.LEASE, code=0), sealed_step=3, last_step=3),
            StoppedStale(step=3, lost_steps=0),
        ),
        (
            "exit 0 that nobody asked for",
            Evidence(stop_ordered=False, exit=EXITED, last_step=4),
            Completed(step=4),
        ),
        (
            "exit code",
            Evidence(stop_ordered=False, exit=Exit(cause=EndCause.EXITED, code=1)),
            Failed(reason="exit code 1"),
        ),
        (
            "signal",
            Evidence(stop_ordered=False, exit=Exit(cause=EndCause.EXITED, signal=9)),
            Failed(reason="killed by signal 9"),
        ),
        (
            "no such program",
            Evidence(stop_ordered=False, exit=Exit(cause=EndCause.NOT_STARTED, error="no such file")),
            Failed(reason="could not be started: no such file"),
        ),
        (
            "the shim was lost",
            Evidence(stop_ordered=False, sealed_step=8, last_step=11),
            StoppedStale(step=8, lost_steps=3),
        ),
    ],
)
def test_evidence(name: str, evidence: Evidence, outcome: Outcome) -> None:
    assert judge_outcome(evidence) == outcome, name


steps = st.none() | st.integers(0, 100)


@given(
    stop_ordered=st.booleans(),
    cause=st.sampled_from(EndCause),
    code=st.integers(0, 3),
    sealed=steps,
    last=steps,
    after=st.booleans(),
)
def test_the_exit_code_never_decides_alone_once_a_stop_was_asked_for(
    *, stop_ordered: bool, cause: EndCause, code: int, sealed: int | None, last: int | None, after: bool
) -> None:
    def judged(exit_code: int) -> Outcome:
        return judge_outcome(
            Evidence(
                stop_ordered=stop_ordered,
                exit=Exit(cause=cause, code=exit_code),
                sealed_step=sealed,
                sealed_after_stop=after,
                last_step=last,
            )
        )

    outcome = judged(code)
    if stop_ordered or cause not in (EndCause.EXITED, EndCause.NOT_STARTED):
        assert outcome == judged(code + 1)
        assert isinstance(outcome, (StoppedAt, StoppedStale))
    if isinstance(outcome, StoppedAt):
        assert outcome.step == sealed
