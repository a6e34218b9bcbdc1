"""Slowed jobs in replay: what they draw and do, the second opinion on it, and the recorded scenario."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.policies import policy_named
from coordinator.model.job import SlowRange
from coordinator.replay.accounts import accounts
from coordinator.replay.evaluation import least_wh_of
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Stage, read_journal, write_journal
from coordinator.replay.metrics import measure
from coordinator.replay.record import Record, settings_of
from coordinator.replay.scenariofile import read_scenario
from coordinator.replay.verify import recompute
from coordinator.replay.world import World, check
from sterna.errors import ConfigError, CorruptError
from tests.coordinator.replay.test_parts import PAIR
from tests.coordinator.replay.worlds import HOUR, needs_data, recorded_world, task, world

HALF = SlowRange(power_frac=0.5, speed_frac=0.75)


def replay(place: World, *, declared: bool = False) -> Record:
    return run(place, policy_named("sterna"), settings_of(place), Perfect(place), declared=declared)


def dim() -> World:
    """An hour that carries one and a half jobs, then full sun; elsewhere it is dark."""
    return world(
        {"a": [750.0, *[1000.0] * 23], "b": [0.0] * 24},
        task("1", "a", work_s=2 * HOUR, slow=HALF),
        task("2", "a", work_s=2 * HOUR, slow=HALF),
    )


def test_jobs_share_a_surplus_that_is_too_small_for_both_and_end_later() -> None:
    place = dim()
    made = replay(place)
    # At 375 of 500 W a job makes 0.875 of its speed: 450 s of work are left over from the first hour.
    assert [(row.job_id, row.start_s, row.end_s, row.power_w) for row in made.intervals] == [
        ("1", 0.0, HOUR, 375.0),
        ("2", 0.0, HOUR, 375.0),
        ("1", HOUR, pytest.approx(2.125 * HOUR), None),
        ("2", HOUR, pytest.approx(2.125 * HOUR), None),
    ]
    metrics = measure(place, made.intervals)
    assert metrics.nonrenewable_wh == 0.0
    assert metrics.total_wh == pytest.approx(750.0 + 2 * 500.0 * 1.125)
    assert recompute(place, made.intervals) == metrics
    booked = accounts(place, made.intervals)
    assert sum(one.entry.drawn_wh for one in booked.values()) == pytest.approx(metrics.total_wh)


def test_a_journal_tells_what_slowed_jobs_drew(tmp_path) -> None:  # type: ignore[no-untyped-def]
    place, path = dim(), tmp_path / "decisions.jsonl"
    write_journal(path, place, replay(place).intervals)
    lines = path.read_text().splitlines()
    assert lines[0].endswith('"state": "run", "power_w": 375.0}')
    assert lines[-1].endswith('"state": "run"}')
    assert [row.power_w for row in read_journal(path, place)] == [375.0, 375.0, None, None]


@pytest.mark.parametrize(
    ("power_w", "fault"),
    [(None, "ran "), (400.0, "ran "), (249.0, "drew 249 W"), (501.0, "drew 501 W"), (-1.0, "drew -1 W")],
)
def test_a_row_that_claims_another_power_is_refused(power_w: float | None, fault: str) -> None:
    place = dim()
    rows = [replace(row, power_w=power_w) if row.power_w else row for row in replay(place).intervals]
    with pytest.raises(CorruptError, match=fault):
        recompute(place, rows)


def test_nobody_but_a_job_that_runs_and_may_can_be_slow() -> None:
    place = dim()
    rows = replay(place).intervals
    with pytest.raises(CorruptError, match="drew 375 W"):
        recompute(replace(place, tasks=tuple(replace(t, slow=None) for t in place.tasks)), rows)
    moved = world({"a": [500.0, 0.0], "b": [0.0, *[500.0] * 9]}, task("1", "a", work_s=3 * HOUR, slow=HALF))
    rows = replay(moved).intervals
    spoilt = [replace(row, power_w=400.0) if row.stage is Stage.SEAL else row for row in rows]
    with pytest.raises(CorruptError, match="drew 400 W"):
        recompute(moved, spoilt)


def test_a_window_is_what_covers_full_power() -> None:
    """A move to where jobs can only run slowed meets no window: it is an overrun all the same."""
    place = world(
        {"a": [500.0, 0.0, *[0.0] * 8], "b": [0.0, *[400.0] * 9]},
        task("1", "a", work_s=3 * HOUR, slow=HALF),
    )
    rows = replay(place).intervals
    assert measure(place, rows).migrations == recompute(place, rows).migrations
    assert measure(place, rows).overruns == measure(place, rows).migrations


def test_slowing_uses_slack_and_ends_in_time() -> None:
    place = world(
        {"a": [400.0] * 24, "b": [0.0] * 24}, task("1", "a", work_s=4 * HOUR, slow=HALF), hold_back_s=2 * HOUR
    )
    rows = replay(place, declared=True).intervals
    assert rows[0].power_w == 400.0
    assert measure(place, rows).late == 0
    assert recompute(place, rows) == measure(place, rows)


watts = st.lists(st.sampled_from([0.0, 200.0, 450.0, 700.0, 1000.0, 2500.0]), min_size=6, max_size=6)


@settings(max_examples=60)
@given(
    watts,
    watts,
    st.lists(st.tuples(st.floats(0, 5 * HOUR), st.floats(600.0, 4 * HOUR)), min_size=1, max_size=5),
    st.sampled_from([HALF, SlowRange(power_frac=0.81, speed_frac=0.936), None]),
    st.sampled_from([None, 4 * HOUR]),
)
def test_every_journal_stands_up_to_the_second_opinion(
    a: list[float],
    b: list[float],
    asked: list[tuple[float, float]],
    slow: SlowRange | None,
    hold_back_s: float | None,
) -> None:
    tasks = [
        task(str(n), "ab"[n % 2], at_s=at_s, work_s=work_s, slow=slow)
        for n, (at_s, work_s) in enumerate(sorted(asked))
    ]
    place = world({"a": a, "b": b}, *tasks, hold_back_s=hold_back_s)
    rows = replay(place, declared=True).intervals
    counted, again = measure(place, rows), recompute(place, rows)
    assert (counted.migrations, counted.overruns, counted.late) == (
        again.migrations,
        again.overruns,
        again.late,
    )
    assert counted.nonrenewable_wh == pytest.approx(again.nonrenewable_wh)
    assert counted.total_wh == pytest.approx(again.total_wh)


@settings(max_examples=60)
@given(
    watts, st.floats(600.0, 8 * HOUR), st.sampled_from([HALF, SlowRange(power_frac=0.81, speed_frac=0.936)])
)
def test_slowing_never_costs_energy_of_the_grid(here: list[float], work_s: float, slow: SlowRange) -> None:
    """What a slowed job does not draw is the grid's alone, and more than what it draws for longer."""
    able = world({"a": here}, task("1", "a", work_s=work_s, slow=slow))
    plain = world({"a": here}, task("1", "a", work_s=work_s))
    slowed, full = (measure(place, replay(place).intervals) for place in (able, plain))
    assert slowed.nonrenewable_wh <= full.nonrenewable_wh + 1e-6
    assert slowed.total_wh <= full.total_wh + 1e-6


def test_nobody_knows_a_bound_for_jobs_that_may_be_slowed() -> None:
    assert least_wh_of(dim()) is None


def test_a_scenario_with_an_impossible_range_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "odd.toml"
    path.write_text('name = "odd"\nextends = "us5"\n[slow]\npower_frac = 0.8\nspeed_frac = 0.7\n')
    with pytest.raises(ConfigError, match=r"odd: slow\.speed_frac: expected 0\.8 \(power_frac\) to 1"):
        read_scenario(str(path))


def test_replicas_are_not_slowed() -> None:
    place = dim()
    odd = replace(place, tasks=(replace(place.tasks[0], replication=PAIR),))
    with pytest.raises(ConfigError, match="replicas cannot be slowed"):
        check(odd)


@pytest.mark.long
@needs_data
def test_the_recorded_scenario_draws_less_for_little_time() -> None:
    slow, full = recorded_world("us5-slow", "apr", 0), recorded_world("us5", "apr", 0)
    found = measure(slow, replay(slow).intervals)
    plain = measure(full, replay(full).intervals)
    assert found.nonrenewable_wh < 0.95 * plain.nonrenewable_wh
    assert found.mean_completion_s < 1.03 * plain.mean_completion_s
