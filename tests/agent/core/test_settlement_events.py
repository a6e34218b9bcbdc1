"""Which intervals are an event, and the arithmetic of what it is settled at."""

from datetime import UTC, date, datetime, timedelta

import pytest

from agent.core.baselines import Baseline, NoBaseline
from agent.core.settlement_events import (
    GridEvent,
    Interval,
    binding,
    by_workload,
    events,
    loads,
    settled,
)
from agent.model.settlement import LimitUse

START = datetime(2026, 3, 30, 12, tzinfo=UTC)
LENGTH_S = 900.0


def interval(
    number: int, source: str = "", command_id: str = "", import_wh: float | None = 100.0
) -> Interval:
    return Interval(
        start_at=START + timedelta(seconds=number * LENGTH_S),
        length_s=LENGTH_S,
        import_wh=import_wh,
        source=source,
        command_id=command_id,
        counterfactual_w=None if import_wh is None else 1000.0,
    )


def use(source: str, command_id: str, held_s: float, limit_w: float = 500.0) -> LimitUse:
    return LimitUse(source=source, command_id=command_id, limit_w=limit_w, held_s=held_s)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([], ("", "")),
        ([use("local", "", 900.0)], ("", "")),
        ([use("openadr", "default@open", 900.0)], ("", "")),
        ([use("mqtt", "c1", 44.0)], ("", "")),
        ([use("mqtt", "c1", 45.0)], ("mqtt", "c1")),
        ([use("mqtt", "c1", 300.0), use("openadr", "e1@1", 600.0)], ("openadr", "e1@1")),
        ([use("mqtt", "c1", 300.0, 900.0), use("mqtt", "c2", 300.0, 800.0)], ("mqtt", "c2")),
        ([use("failsafe", "", 900.0)], ("failsafe", "")),
    ],
)
def test_whose_interval_it_is(limits: list[LimitUse], expected: tuple[str, str]) -> None:
    assert binding(limits, LENGTH_S) == expected


def names(intervals: list[Interval]) -> list[tuple[str, str, int]]:
    return [(event.source, event.event_id, len(event.intervals)) for event in events(intervals)]


def test_a_run_of_one_source_is_one_event_named_by_its_first_command() -> None:
    run = [interval(0), interval(1, "mqtt", "c1"), interval(2, "mqtt", "c2"), interval(3)]
    assert names([*run, interval(4, "mqtt", "c3")]) == [("mqtt", "c1", 2), ("mqtt", "c3", 1)]
    assert names([interval(1, "mqtt", "c1"), interval(3, "mqtt", "c2")]) == [
        ("mqtt", "c1", 1),
        ("mqtt", "c2", 1),
    ], "a hole ends it"


def test_openadr_events_keep_their_ids() -> None:
    run = [interval(n, "openadr", f"{'ab'[n > 1]}@{n}") for n in range(4)]
    assert names(run) == [("openadr", "a", 2), ("openadr", "b", 2)]
    assert names([interval(0, "mqtt", "x"), interval(1, "openadr", "a@1")]) == [
        ("mqtt", "x", 1),
        ("openadr", "a", 1),
    ]


def test_what_holds_longer_than_a_day_is_the_rule() -> None:
    assert names([interval(n, "mqtt", "c1") for n in range(96)]) == [("mqtt", "c1", 96)]
    assert names([interval(n, "mqtt", "c1") for n in range(97)]) == []


def test_fail_safe_is_no_event_and_yet_not_as_usual() -> None:
    series = [interval(0), interval(1, "failsafe"), interval(2, "mqtt", "c1"), interval(3, import_wh=None)]
    found = events(series)
    assert [event.event_id for event in found] == ["c1"]
    assert [(load.power_w, load.excluded) for load in loads(series, found)] == [
        (400.0, False),
        (400.0, True),
        (400.0, True),
        (None, False),
    ]


def event(*energies_wh: float | None) -> GridEvent:
    (found,) = events([interval(n, "mqtt", "c1", wh) for n, wh in enumerate(energies_wh)])
    return found


def test_reduction_is_what_was_not_drawn_and_never_a_debt() -> None:
    answer = Baseline(powers_w=(1000.0, 1000.0, 1000.0), days=(date(2026, 3, 27),), adjustment="x 1.0000")
    lines = settled(event(100.0, 300.0, None), "10-of-10", answer)
    assert [(line.baseline_w, line.delta_wh, line.delivered_wh) for line in lines] == [
        (1000.0, -150.0, 150.0),
        (1000.0, 50.0, 0.0),
        (1000.0, None, None),
    ]
    assert {(line.days, line.adjustment) for line in lines} == {(("2026-03-27",), "x 1.0000")}


def test_no_baseline_is_written_down_with_its_reason() -> None:
    lines = settled(event(100.0, 100.0), "match-day", NoBaseline(reason="too few"))
    assert [(line.baseline_w, line.delivered_wh, line.reason) for line in lines] == [
        (None, None, "too few")
    ] * 2


def test_the_workload_is_a_method_of_its_own() -> None:
    first, second = by_workload(event(100.0, None))
    assert (first.baseline_w, first.delivered_wh, first.reason) == (1000.0, 150.0, "")
    assert (second.baseline_w, second.delivered_wh) == (None, None)
    assert second.reason == "not known for most of the interval"
