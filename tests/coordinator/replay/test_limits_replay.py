"""Limits of the grid in replay: who stands still, starts and goes elsewhere for them; the second opinion."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.policies import policy_named, policy_names
from coordinator.model.replication import Replication
from coordinator.replay.evaluation import outcomes, table
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.gridlimits import LimitTable, limits_of
from coordinator.replay.journal import Stage
from coordinator.replay.metrics import measure
from coordinator.replay.record import Record, settings_of
from coordinator.replay.scenariofile import read_scenario
from coordinator.replay.verify import recompute
from coordinator.replay.world import GridLimit, World, check
from sterna.errors import ConfigError, CorruptError
from tests.coordinator.replay.worlds import HOUR, needs_data, recorded_world, task, world

every_policy = pytest.mark.parametrize("name", policy_names())


def limit(import_w: float, start_h: float, end_h: float, told_h: float = 0.0) -> GridLimit:
    return GridLimit(
        told_s=(start_h - told_h) * HOUR, start_s=start_h * HOUR, end_s=end_h * HOUR, import_w=import_w
    )


def limited(place: World, limits: Mapping[str, Sequence[GridLimit]]) -> World:
    return replace(
        place,
        sites=tuple(replace(one, limits=tuple(limits.get(one.site_id, ()))) for one in place.sites),
    )


def replay(place: World, name: str = "sterna", *, declared: bool = False) -> Record:
    return run(place, policy_named(name), settings_of(place), Perfect(place), declared=declared)


@every_policy
def test_a_site_pauses_what_a_limit_leaves_no_room_for(name: str) -> None:
    place = limited(
        world({"a": [0.0] * 24}, task("1"), task("2", at_s=60.0, work_s=HOUR)),
        {"a": [limit(500.0, 0.5, 2.5)]},
    )
    made = replay(place, name)
    assert [(row.job_id, row.start_s, row.end_s) for row in made.intervals] == [
        ("2", 60.0, 0.5 * HOUR),
        ("1", 0.0, 2.0 * HOUR),
        ("2", 2.0 * HOUR, 2.5 * HOUR + 60.0),
    ]
    assert measure(place, made.intervals).stood_s == pytest.approx(1.5 * HOUR)
    assert recompute(place, made.intervals).stood_s == pytest.approx(1.5 * HOUR)


@every_policy
def test_surplus_is_no_import(name: str) -> None:
    place = limited(world({"a": [600.0] * 24}, task("1")), {"a": [limit(0.0, 0.0, 24.0)]})
    assert [(row.start_s, row.end_s) for row in replay(place, name).intervals] == [(0.0, 2.0 * HOUR)]


@pytest.mark.parametrize(
    ("name", "site_id", "start_s"),
    [
        ("static", "a", 2 * HOUR),
        ("feasibility-aware", "b", 0.0),
        ("energy-only", "b", 0.0),
        ("sterna", "b", 0.0),
    ],
)
def test_a_job_starts_where_there_is_room_or_waits(name: str, site_id: str, start_s: float) -> None:
    place = limited(
        world({"a": [0.0] * 24, "b": [0.0] * 24}, task("1", "a")), {"a": [limit(400.0, 0.5, 2.0, told_h=1.0)]}
    )
    (row,) = replay(place, name).intervals
    assert (row.site_id, row.start_s) == (site_id, start_s)


@pytest.mark.parametrize("name", ["feasibility-aware", "sterna"])
def test_a_limit_moves_a_job_away_at_once_and_it_does_not_come_back_under_it(name: str) -> None:
    # Both sites are in the sun, so that nothing but the limit moves anybody.
    place = limited(
        world(
            {"a": [500.0] * 24, "b": [2000.0] * 24}, task("1", work_s=8 * HOUR), task("2", work_s=8 * HOUR)
        ),
        {"a": [limit(0.0, 1.0, 6.0)]},
    )
    free = limited(place, {})
    assert replay(place, name).intervals != replay(free, name).intervals
    rows = replay(place, name).intervals
    (seal,) = [row for row in rows if row.stage is Stage.SEAL]
    assert seal.site_id == "a" and seal.start_s <= HOUR
    there = [row for row in rows if row.site_id == "b" and row.stage is Stage.RUN]
    assert max(row.end_s for row in there) == max(row.end_s for row in rows), "it ends where it went"
    recompute(place, rows)


def test_who_may_wait_is_held_to_limits_too() -> None:
    place = limited(
        world({"a": [500.0] * 24}, task("1"), task("2"), hold_back_s=24 * HOUR), {"a": [limit(0.0, 0.0, 3.0)]}
    )
    rows = replay(place, declared=True).intervals
    recompute(place, rows)
    assert max(row.end_s for row in rows) >= 4 * HOUR


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = ["a", "b", "c"]
    watts = st.sampled_from([0.0, 300.0, 700.0, 2000.0])
    surplus_w = {name: draw(st.lists(watts, min_size=12, max_size=12)) for name in names}
    tasks = [
        task(
            str(n),
            draw(st.sampled_from(names)),
            at_s=600.0 * n,
            work_s=draw(st.sampled_from([900.0, 2 * HOUR, 5 * HOUR])),
            size_gb=draw(st.sampled_from([1, 40])),
            power_w=draw(st.sampled_from([250.0, 500.0])),
        )
        for n in range(draw(st.integers(1, 6)))
    ]
    some = st.builds(
        lambda import_w, start_h, hours, told_h: limit(import_w, start_h, start_h + hours, told_h),
        st.sampled_from([0.0, 250.0, 600.0]),
        st.sampled_from([0.0, 0.3, 1.0, 4.5]),
        st.sampled_from([0.01, 1.0, 3.7]),
        st.sampled_from([0.0, 2.0]),
    )
    place = world(surplus_w, *tasks, hold_back_s=draw(st.sampled_from([None, None, 12 * HOUR])))
    return limited(place, {name: draw(st.lists(some, max_size=2)) for name in names})


@every_policy
@settings(max_examples=25, deadline=None)
@given(place=worlds())
def test_no_limit_is_exceeded_and_all_work_is_done(name: str, place: World) -> None:
    made = replay(place, name, declared=place.hold_back_s is not None)
    metrics = measure(place, made.intervals)
    again = recompute(place, made.intervals)  # refuses what runs beyond a limit, or does not get its work
    assert again.stood_s == pytest.approx(metrics.stood_s)
    assert again.nonrenewable_wh == pytest.approx(metrics.nonrenewable_wh)


def test_the_second_opinion_sees_who_ran_beyond_a_limit_and_who_stood_still_without_one() -> None:
    free = world({"a": [0.0] * 24}, task("1"), task("2"))
    under = limited(free, {"a": [limit(900.0, 1.0, 1.5)]})
    with pytest.raises(CorruptError, match=r"a: 1000 W of 900 W under a limit at 3600\.000 s"):
        recompute(under, replay(free, "static").intervals)
    with pytest.raises(CorruptError, match="stood still at 3600"):
        recompute(free, replay(under, "static").intervals)


def test_the_table_says_how_long_jobs_stood_still() -> None:
    place = limited(world({"a": [0.0] * 24}, task("1")), {"a": [limit(0.0, 1.0, 1.5)]})
    found = list(outcomes(place, ["static"], Perfect))
    said = table({"made": found}).splitlines()
    assert "stood still, h" in said[0]
    assert said[2].endswith("| 0.5 |")


def test_a_table_of_a_file_repeats_its_limit() -> None:
    daily = LimitTable(site="a", import_w=5.0, start_s=HOUR, length_s=60.0, every_s=24 * HOUR, told_s=600.0)
    once = LimitTable(site="a", import_w=7.0, start_s=2 * HOUR, length_s=60.0)
    other = LimitTable(site="b", import_w=9.0, start_s=0.0, length_s=60.0)
    found = limits_of([daily, once, other], "a", 48 * HOUR)
    assert [(one.told_s, one.start_s, one.end_s, one.import_w) for one in found] == [
        (HOUR - 600.0, HOUR, HOUR + 60.0, 5.0),
        (2 * HOUR, 2 * HOUR, 2 * HOUR + 60.0, 7.0),
        (25 * HOUR - 600.0, 25 * HOUR, 25 * HOUR + 60.0, 5.0),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[limits]]\nsite = "X"\nimport_w = 1.0\nstart_s = 0.0\nlength_s = 1.0', "limits: X is no site"),
        ('[[limits]]\nsite = "CISO"\nimport_w = -1.0\nstart_s = 0.0\nlength_s = 1.0', "import_w"),
        ('[[limits]]\nsite = "CISO"\nimport_w = 1.0\nstart_s = 0.0\nlength_s = 0.0', "length_s"),
        (
            "[battery]\n"
            + Path("coordinator/replay/scenarios/us5-battery.toml")
            .read_text(encoding="utf-8")
            .split("[battery]")[1]
            + '\n[[limits]]\nsite = "CISO"\nimport_w = 1.0\nstart_s = 0.0\nlength_s = 1.0',
            "limits: not together with a battery",
        ),
    ],
)
def test_a_file_says_what_is_wrong_with_its_limits(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nextends = "us5"\n{text}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=fault):
        read_scenario(str(path))


def test_replicas_keep_to_no_limit_and_say_so() -> None:
    shared = Replication(least=1, most=1, sync_bytes=0, round_s=60.0, efficiency=(1.0,))
    place = limited(world({"a": [0.0] * 24}, task("1", replication=shared)), {"a": [limit(0.0, 1.0, 1.5)]})
    with pytest.raises(ConfigError, match="limits: replicas keep to none"):
        check(place)


@needs_data
def test_the_shipped_scenario_limits_every_evening() -> None:
    place = recorded_world("us5-limits", "apr")
    for site in place.sites:
        month = [one for one in site.limits if one.start_s < place.period_s]
        assert len(month) == 28
        assert {one.import_w for one in month} == {1000.0}
        assert {one.end_s - one.start_s for one in month} == {4 * HOUR}
