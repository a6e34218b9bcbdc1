import pytest

from agent.core.jobtable import LIVE, SLOT_HOLDING, TABLE, JobEvent, next_phase
from agent.model.jobs import JobPhase as P
from sterna.errors import IllegalTransitionError

E = JobEvent


@pytest.mark.parametrize(
    ("role", "path"),
    [
        (
            "destination",
            [
                (E.PREPARE, P.RESERVED),
                (E.FETCH, P.FETCHING),
                (E.FETCHED, P.HELD),
                (E.START, P.STARTING),
                (E.STARTED, P.RUNNING),
                (E.COMPLETED, P.COMPLETED),
                (E.RELEASE, P.RELEASED),
            ],
        ),
        (
            "source",
            [
                (E.START, P.STARTING),
                (E.STARTED, P.RUNNING),
                (E.STOP, P.STOPPING),
                (E.STOPPED, P.SEALED),
                (E.RELEASE, P.RELEASED),
            ],
        ),
        (
            "compensated",
            [
                (E.START, P.STARTING),
                (E.STARTED, P.RUNNING),
                (E.STOP, P.STOPPING),
                (E.REGRANT, P.STOPPING),
                (E.STOPPED, P.SEALED),
                (E.START, P.STARTING),
            ],
        ),
        (
            "ladder",
            [(E.START, P.STARTING), (E.STARTED, P.RUNNING), (E.PAUSE, P.PAUSED), (E.RESUME, P.RUNNING)],
        ),
        ("failed fetch", [(E.PREPARE, P.RESERVED), (E.FETCH, P.FETCHING), (E.FETCH_FAILED, P.RESERVED)]),
        ("lost shim", [(E.START, P.STARTING), (E.STARTED, P.RUNNING), (E.RUN_LOST, P.STARTING)]),
    ],
)
def test_paths(role: str, path: list[tuple[JobEvent, P]]) -> None:
    phase = P.RELEASED
    for event, expected in path:
        phase = next_phase(phase, event)
        assert phase is expected, role


@pytest.mark.parametrize("phase", P)
@pytest.mark.parametrize("event", E)
def test_what_is_not_in_the_table_raises(phase: P, event: JobEvent) -> None:
    if (phase, event) in TABLE:
        assert next_phase(phase, event) is TABLE[phase, event]
    else:
        with pytest.raises(IllegalTransitionError, match=f"{event.name} in {phase.name}"):
            next_phase(phase, event)


def test_a_process_begins_only_where_none_is() -> None:
    assert not {phase for phase, event in TABLE if event is E.START} & LIVE
    assert {phase for (phase, _), after in TABLE.items() if after in LIVE and phase not in LIVE} == {
        phase for phase, event in TABLE if event is E.START
    }


def test_a_live_process_is_never_let_go_of() -> None:
    assert not [(phase, event) for phase, event in TABLE if event is E.RELEASE and phase in LIVE]
    assert LIVE < SLOT_HOLDING


def test_every_phase_but_the_first_can_be_left() -> None:
    assert {phase for phase, _ in TABLE} == set(P)
    assert set(TABLE.values()) == set(P)
