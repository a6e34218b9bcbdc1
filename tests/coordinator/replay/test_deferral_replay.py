"""Deferral in replay: its bound, its laws in made worlds, and what it makes of the recorded ones."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.policies import policy_named, policy_names
from coordinator.replay.bound import bound_wh
from coordinator.replay.deferral_bound import deferred_bound_wh
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.learnt import LearntSource
from coordinator.replay.metrics import Metrics, measure
from coordinator.replay.record import Record, settings_of
from coordinator.replay.verify import recompute
from coordinator.replay.world import World
from sterna.errors import CorruptError, PermanentError
from tests.coordinator.replay.worlds import HOUR, needs_data, recorded_world, task, world

DAY = 24 * HOUR


def replay(place: World, name: str = "sterna", *, declared: bool = True) -> Record:
    return run(place, policy_named(name), settings_of(place), Perfect(place), declared=declared)


def dawn() -> World:
    """Dark for six hours, then four hours that carry one job, then dark."""
    return world(
        {"a": [0.0] * 6 + [500.0] * 4 + [0.0] * 14, "b": [0.0] * 24},
        task("1", "a", work_s=4 * HOUR),
        hold_back_s=DAY,
    )


@pytest.mark.parametrize("declared", [True, False])
def test_a_job_is_held_until_the_sun_is_up(declared: bool) -> None:
    intervals = replay(dawn(), declared=declared).intervals
    assert [(row.start_s, row.end_s) for row in intervals] == [(6 * HOUR, 10 * HOUR)]
    assert measure(dawn(), intervals).nonrenewable_wh == 0.0
    assert measure(dawn(), replay(dawn(), "static").intervals).nonrenewable_wh == 2000.0


def test_a_job_pauses_through_a_dark_hour_and_keeps_its_slot() -> None:
    watts = [500.0, 0.0, 500.0, *[0.0] * 21]
    place = world({"a": watts, "b": [0.0] * 24}, task("1", "a", work_s=2 * HOUR), slots=1, hold_back_s=DAY)
    intervals = replay(place).intervals
    assert [(row.start_s, row.end_s) for row in intervals] == [(0.0, HOUR), (2 * HOUR, 3 * HOUR)]
    assert measure(place, intervals).slots_held == pytest.approx(3 / 24)
    assert recompute(place, intervals) == measure(place, intervals)
    with pytest.raises(CorruptError, match="stood still"):
        recompute(replace(place, hold_back_s=None), intervals)


def test_an_end_that_a_pause_has_put_off_asks_nobody() -> None:
    watts = [500.0, 0.0, 500.0, *[0.0] * 21]
    place = world({"a": watts, "b": [0.0] * 24}, task("1", "a", work_s=1.5 * HOUR), hold_back_s=DAY)
    made = replay(place)
    assert [(row.start_s, row.end_s) for row in made.intervals] == [(0.0, HOUR), (2 * HOUR, 2.5 * HOUR)]
    assert made.asked == 3  # at each hour, and not at 1.5 h, when it would have ended


def test_the_bound_holds_work_back_and_meets_deadlines() -> None:
    assert deferred_bound_wh(dawn()) == pytest.approx(0.0)
    # Four hours of allowance end two hours into the sun: the job must begin in the dark.
    assert deferred_bound_wh(replace(dawn(), hold_back_s=0.0)) == pytest.approx(1000.0)
    assert deferred_bound_wh(replace(dawn(), hold_back_s=None)) == 0.0
    crowd = world({"a": [0.0] * 24}, *(task(str(n)) for n in range(9)), slots=1, hold_back_s=0.0)
    with pytest.raises(PermanentError, match="deadlines cannot all be met"):
        deferred_bound_wh(crowd)
    with pytest.raises(PermanentError, match="surplus is known for"):
        deferred_bound_wh(replace(dawn(), hold_back_s=1000 * HOUR))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    surplus_w = {
        site: draw(st.lists(st.sampled_from([0.0, 300.0, 500.0, 1700.0]), min_size=30, max_size=30))
        for site in "abc"
    }
    times = sorted(draw(st.lists(st.floats(0.0, 6 * HOUR), min_size=1, max_size=7)))
    tasks = [
        task(
            str(number),
            draw(st.sampled_from("abc")),
            at_s=at_s,
            work_s=draw(st.floats(60.0, 5 * HOUR)),
            size_gb=draw(st.sampled_from([1, 16, 100])),
        )
        for number, at_s in enumerate(times)
    ]
    return world(surplus_w, *tasks, slots=draw(st.integers(1, 3)), link_bps=8e9, eta=0.9, hold_back_s=DAY)


@settings(max_examples=40, deadline=None)
@given(day=worlds(), declared=st.booleans(), name=st.sampled_from(policy_names()))
def test_no_policy_breaks_a_slot_or_ends_late_and_both_counts_agree(
    day: World, declared: bool, name: str
) -> None:
    intervals = replay(day, name, declared=declared).intervals
    first, second = measure(day, intervals), recompute(day, intervals)
    for figure in Metrics.__dataclass_fields__:
        assert getattr(first, figure) == pytest.approx(getattr(second, figure)), figure
    if name == "sterna":
        assert first.late == 0
        assert first.nonrenewable_wh >= deferred_bound_wh(day) - 1e-3


@settings(max_examples=40, deadline=None)
@given(day=worlds(), more=st.floats(0.0, 12 * HOUR))
def test_more_allowance_never_makes_the_bound_worse(day: World, more: float) -> None:
    longer = replace(day, hold_back_s=DAY + more)
    assert deferred_bound_wh(longer) <= deferred_bound_wh(day) + 1e-3
    roomy = replace(day, sites=tuple(replace(site, slots=len(day.tasks)) for site in day.sites))
    assert deferred_bound_wh(roomy) <= bound_wh(roomy) + 1e-3


@needs_data
@pytest.mark.long
@pytest.mark.parametrize(
    ("scenario", "period", "percent"),
    [
        ("us5-defer", "apr", 95.3),
        ("us5-defer", "jan", 57.8),
        ("us5-defer", "jul", 48.9),
        ("us5-thin-defer", "apr", 100.0),
        ("us5-thin-defer", "jul", 92.0),
    ],
)
def test_the_bound_is_that_of_the_reference(scenario: str, period: str, percent: float) -> None:
    day = recorded_world(scenario, period)
    static = measure(day, replay(day, "static").intervals)
    assert 100 * (1 - deferred_bound_wh(day) / static.nonrenewable_wh) == pytest.approx(percent, abs=0.051)


@needs_data
@pytest.mark.long
@pytest.mark.parametrize(("scenario", "share"), [("us5-defer", 0.75), ("us5-thin-defer", 0.85)])
def test_declared_work_on_learnt_forecasts_comes_close_to_the_bound(scenario: str, share: float) -> None:
    day = recorded_world(scenario, "apr")
    static = measure(day, replay(day, "static").intervals)
    found = run(day, policy_named("sterna"), settings_of(day), LearntSource()(day), declared=True)
    ours = measure(day, found.intervals)
    assert ours.late == 0
    gained_wh = static.nonrenewable_wh - ours.nonrenewable_wh
    assert gained_wh >= share * (static.nonrenewable_wh - deferred_bound_wh(day))
