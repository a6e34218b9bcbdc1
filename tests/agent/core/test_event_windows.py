from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.core.event_windows import Closed, Running, follow
from agent.model.limits import LimitCommand, LimitKind

START = datetime(2026, 11, 22, 10, tzinfo=UTC)


def command(number: int) -> LimitCommand:
    return LimitCommand(
        source="mqtt",
        command_id=f"c{number}",
        sequence=number,
        kind=LimitKind.IMPORT_CAPACITY_LIMIT,
        issued_at=START,
        start_at=START,
        end_at=None,
        value_w=3000.0,
        ramp_s=0.0,
        reason="",
    )


ONE, TWO = command(1), command(2)


def story(*steps: tuple[float, LimitCommand | None]) -> list[tuple[str, int, float, float]]:
    """Follow the limits of (seconds, limit); return what was closed as (command, number, from, to)."""
    running: Running | None = None
    closed: list[Closed] = []
    for at_s, limit in steps:
        running, over = follow(running, limit, START + timedelta(seconds=at_s), interval_s=60.0)
        if over is not None:
            closed.append(over)
    return [
        (
            over.command.command_id,
            over.window.id,
            (over.window.start_at - START).total_seconds(),
            (over.window.end_at - START).total_seconds(),
        )
        for over in closed
    ]


def test_nothing_is_reported_without_a_limit() -> None:
    assert story((0, None), (100, None)) == []


def test_an_interval_closes_when_it_is_full_and_when_the_limit_ends() -> None:
    assert story((0, ONE), (59, ONE), (60, ONE), (90, None), (200, None)) == [
        ("c1", 0, 0, 60),
        ("c1", 1, 60, 90),
    ]


def test_a_limit_that_is_replaced_ends_and_the_next_begins() -> None:
    assert story((0, ONE), (30, TWO), (40, None)) == [("c1", 0, 0, 30), ("c2", 0, 30, 40)]


def test_a_limit_that_ends_where_its_interval_began_has_no_interval() -> None:
    assert story((0, ONE), (60, ONE), (60, None)) == [("c1", 0, 0, 60)]


def test_a_calendar_that_is_stepped_makes_no_interval_longer_than_it_may_be() -> None:
    assert story((0, ONE), (10, ONE), (4000, ONE), (4010, None)) == [("c1", 0, 0, 60), ("c1", 1, 4000, 4010)]
    assert story((0, ONE), (-500, ONE), (-490, None)) == [("c1", 0, -500, -490)]


@given(st.lists(st.tuples(st.integers(-100, 100), st.sampled_from([None, ONE, TWO])), max_size=40))
def test_law_intervals_of_a_command_are_numbered_and_neither_empty_nor_too_long(
    steps: list[tuple[int, LimitCommand | None]],
) -> None:
    at_s, told = 0, []
    for by_s, limit in steps:
        at_s += by_s
        told.append((at_s, limit))
    for _, number, start_s, end_s in story(*told):
        assert 0 < end_s - start_s <= 60
        assert number >= 0
