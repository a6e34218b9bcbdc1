from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.failsafe import (
    PROTECTED,
    TABLE,
    Event,
    ExitWithoutLimit,
    FailsafeSettings,
    Machine,
    Trigger,
    cold_start,
    step,
)
from agent.model.limits import GridState
from sterna.errors import IllegalTransitionError

STAY = FailsafeSettings(failsafe_import_w=4200.0)
AFTER = replace(STAY, exit_without_limit=ExitWithoutLimit.AFTER_GRACE)
H, L, R, T = Event.HEARTBEAT, Event.LIMIT, Event.RELEASE, Event.TICK
I, U, M, F = GridState.INIT, GridState.UNLIMITED, GridState.LIMITED, GridState.FAILSAFE  # noqa: E741

CASES = {
    "cold start holds the fail-safe": (STAY, [(10, T, I), (119, T, I)]),
    "false_failsafe_10_s_after_boot_21675": (STAY, [(10, T, I), (11, H, I), (12, L, M), (130, T, M)]),
    "no heartbeat since boot": (STAY, [(120, T, F), (10_000, T, F)]),
    "heartbeat alone leaves nothing": (STAY, [(1, H, I), (60, H, I), (170, H, I), (280, H, I)]),
    "a limit alone leaves nothing": (STAY, [(1, L, I), (2, R, I), (121, T, F), (122, L, F), (123, R, F)]),
    "a limit before the heartbeat does not follow it": (STAY, [(1, L, I), (2, H, I), (3, T, I), (4, L, M)]),
    "release follows": (STAY, [(1, H, I), (2, R, U)]),
    "119 s of silence": (STAY, [(1, H, I), (2, R, U), (120, T, U), (120.9, H, U), (240, T, U)]),
    "120 s of silence": (STAY, [(1, H, I), (2, R, U), (121, T, F)]),
    "failsafe_left_on_heartbeat_alone_32492": (
        STAY,
        [(1, H, I), (2, L, M), (200, T, F), (201, H, F), (321, H, F), (441, H, F), (442, L, M)],
    ),
    "never_left_failsafe_until_restart_25545": (STAY, [(200, T, F), (201, H, F), (202, R, U)]),
    "unlimited_after_2_h_outage_29705": (
        AFTER,
        [(1, H, I), (2, R, U), (200, T, F), (7_300, T, F), (90_000, T, F), (1_300_000, T, F)],
    ),
    "limit_writes_reset_the_failsafe_clock_29705": (
        STAY,
        [(1, H, I), (2, L, M), (60, L, M), (110, L, M), (120.5, L, M), (121, T, F), (122, L, F)],
    ),
    "opt-in: out 120 s after the heartbeat is back": (
        AFTER,
        [(200, T, F), (201, H, F), (260, H, F), (320.9, H, F), (321, T, U)],
    ),
    "opt-in: the grace time is over before the next loss": (AFTER, [(200, T, F), (201, H, F), (500, T, F)]),
    "opt-in: a heartbeat lost again starts the grace anew": (
        AFTER,
        [(200, T, F), (201, H, F), (330, H, F), (440, H, F), (449, T, F), (450, T, U)],
    ),
    "loss without a tick between is noticed by the command": (STAY, [(1, H, I), (2, L, M), (500, L, F)]),
    "limits begin and end": (
        STAY,
        [
            (1, Event.LIMIT_BEGAN, I),
            (2, H, I),
            (3, R, U),
            (4, Event.LIMIT_BEGAN, M),
            (5, Event.LIMIT_ENDED, U),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_story(name: str) -> None:
    settings, story = CASES[name]
    machine = cold_start(0.0, settings)
    for at_s, event, expected in story:
        machine = step(machine, event, at_s, settings)
        assert machine.state is expected, (at_s, event)


def test_a_lost_grace_then_lost_heartbeat_enters_failsafe_when_it_fell() -> None:
    settings = replace(AFTER, heartbeat_timeout_s=300.0)
    machine = step(cold_start(0.0, settings), H, 10.0, settings)
    machine = step(machine, T, 1000.0, settings)
    assert machine.state is F
    assert machine.entered_s == 310.0
    assert not machine.heard


def test_a_missing_entry_raises_and_changes_nothing() -> None:
    machine = Machine(state=GridState.AUTONOMOUS, entered_s=0.0)
    for event in (T, H, L, R, Event.LIMIT_BEGAN):
        with pytest.raises(IllegalTransitionError):
            step(machine, event, 5.0, STAY)
    released = step(step(cold_start(0.0, STAY), H, 1.0, STAY), R, 2.0, STAY)
    with pytest.raises(IllegalTransitionError, match="UNLIMITED, limit ended"):
        step(released, Event.LIMIT_ENDED, 3.0, STAY)


def test_no_entry_of_the_table_leaves_protection_by_silence() -> None:
    leaving = {t for (state, t), after in TABLE.items() if state in PROTECTED and after not in PROTECTED}
    assert leaving == {Trigger.LIMIT, Trigger.RELEASE, Trigger.GRACE_OVER}


EVENTS = st.lists(st.tuples(st.integers(0, 300), st.sampled_from([H, L, R, T])), max_size=40)


@given(EVENTS)
def test_law_control_implies_a_heartbeat_within_the_timeout(events: list[tuple[float, Event]]) -> None:
    """A model that knows only the rule: since when is it allowed to be out of protection?"""
    machine, now_s, last_beat_s, confirmed = cold_start(0.0, STAY), 0.0, None, False
    for wait_s, event in events:
        now_s += wait_s
        alive = last_beat_s is not None and now_s - last_beat_s < STAY.heartbeat_timeout_s
        confirmed = confirmed and alive
        if event is H:
            last_beat_s = now_s
        elif event in (L, R) and alive:
            confirmed = True
        machine = step(machine, event, now_s, STAY)
        assert (machine.state not in PROTECTED) == confirmed
