"""The exact replay: the rules of the scenario README, one by one, and the figures that it states."""

from dataclasses import replace

import pytest

from coordinator.core.policies import policy_named
from coordinator.replay.bound import bound_wh
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Stage
from coordinator.replay.metrics import measure
from coordinator.replay.record import Record, settings_of
from coordinator.replay.world import World
from sterna.errors import ConfigError, PermanentError
from tests.coordinator.replay.worlds import HOUR, needs_data, recorded_world, task, world


def replay(day: World, name: str) -> Record:
    return run(day, policy_named(name), settings_of(day), Perfect(day))


def rows(record: Record, job_id: str = "1") -> list[tuple[str, str, float, float]]:
    found = [row for row in record.intervals if row.job_id == job_id]
    return [(row.stage.value, row.site_id, row.start_s, row.end_s) for row in found]


HANDOVER = {"a": [500.0, 0.0, 0.0, 0.0], "b": [0.0, 500.0, 500.0, 500.0]}


def test_a_move_is_seal_transfer_load_and_the_work_is_kept() -> None:
    day = world(HANDOVER, task(size_gb=6))
    got = replay(day, "energy-only")
    # 6 GB: 6 s to seal, 6 s at 8 Gbit/s, 6 s to load and 30 s of downtime.
    assert rows(got) == [
        ("run", "a", 0.0, HOUR),
        ("seal", "a", HOUR, HOUR + 6.0),
        ("load", "b", HOUR + 12.0, HOUR + 48.0),
        ("run", "b", HOUR + 48.0, 2 * HOUR + 48.0),
    ]
    figures = measure(day, got.intervals)
    assert figures.nonrenewable_wh == pytest.approx(500 * 6 / 3600 + 6 * 1.9)
    assert figures.total_wh == pytest.approx(500 * (2 * HOUR + 6 + 36) / 3600 + 6 * 1.9)
    assert figures.absorbed_wh == pytest.approx(500 * (2 * HOUR + 36) / 3600)
    assert (figures.migrations, figures.overruns) == (1, 0)
    assert figures.mean_completion_s == pytest.approx(2 * HOUR + 48.0)
    # Run, seal and load where they are; the slot at b from the start of the seal to that of the load.
    assert figures.slots_held == pytest.approx((2 * HOUR + 6 + 36 + 12) / (24 * HOUR))


def test_moves_that_reserve_nothing_share_the_link() -> None:
    day = world(
        {"a": [1000.0, 0.0, 0.0], "b": [0.0, 1000.0, 1000.0]}, task("1", size_gb=6), task("2", size_gb=6)
    )
    got = replay(day, "energy-only")
    assert rows(got, "1") == rows(got, "2")
    # 6 s to seal, and 12 on the link instead of 6.
    assert rows(got)[2][:3] == ("load", "b", HOUR + 18.0)


def test_static_waits_for_its_home_while_others_take_any_slot() -> None:
    day = world({"a": [0.0], "b": [0.0]}, task("1", work_s=HOUR), task("2", at_s=60.0, work_s=HOUR), slots=1)
    assert rows(replay(day, "static"), "2") == [("run", "a", HOUR, 2 * HOUR)]
    for name in ("energy-only", "feasibility-aware"):
        assert rows(replay(day, name), "2") == [("run", "b", 60.0, 60.0 + HOUR)]


def test_a_full_fleet_is_served_in_order_of_submission() -> None:
    tasks = [task(str(n), at_s=float(n), work_s=(1 + n) * HOUR) for n in range(4)]
    got = replay(world({"a": [0.0], "b": [0.0]}, *tasks, slots=1), "energy-only")
    assert rows(got, "0") == [("run", "a", 0.0, HOUR)]
    assert rows(got, "1") == [("run", "b", 1.0, 1.0 + 2 * HOUR)]
    assert rows(got, "2") == [("run", "a", HOUR, 4 * HOUR)]
    assert rows(got, "3") == [("run", "b", 1.0 + 2 * HOUR, 1.0 + 6 * HOUR)]


def test_a_job_that_arrives_as_a_slot_is_freed_takes_it() -> None:
    day = world({"a": [0.0], "b": [0.0]}, task("1", work_s=HOUR), task("2", at_s=HOUR), slots=1)
    assert rows(replay(day, "static"), "2")[0][:3] == ("run", "a", HOUR)


def test_the_destination_is_held_from_the_start_of_the_seal() -> None:
    # One slot at b: the second job cannot follow while the first is on its way, nor afterwards.
    slots = world(HANDOVER, task("1", size_gb=100), task("2", size_gb=100), slots=2)
    one = world({"a": HANDOVER["a"], "b": HANDOVER["b"]}, task("1", size_gb=100), slots=1)
    assert [row[0] for row in rows(replay(one, "energy-only"))] == ["run", "seal", "load", "run"]
    moved = [row for row in replay(slots, "energy-only").intervals if row.stage is Stage.SEAL]
    assert len(moved) == 1  # 500 W at b are enough for one


def test_a_window_that_is_gone_on_resumption_is_an_overrun() -> None:
    day = world({"a": [500.0, 0.0, 0.0], "b": [0.0, 500.0, 0.0]}, task(size_gb=100, work_s=3 * HOUR))
    short = measure(day, replay(day, "energy-only").intervals)
    # 330 s of a window of 3600 s: too much, since 3270 s are left.
    assert (short.migrations, short.overruns) == (1, 1)
    assert measure(day, replay(day, "feasibility-aware").intervals).migrations == 0


def test_a_policy_that_never_moves_is_not_asked_and_where_nothing_waits_that_changes_nothing() -> None:
    class Asked:
        """The same policy, without saying that it never moves."""

        name = "static"
        decide = policy_named("static").decide

    day = world(
        {"a": [900.0] * 4, "b": [0.0]},
        task("1", "a", work_s=1000.0),
        task("2", "b", at_s=300.0, work_s=5000.0),
        task("3", "a", at_s=9999.0),
        slots=1,
    )
    quick = replay(day, "static")
    asked = run(day, Asked(), settings_of(day), Perfect(day))
    assert (quick.asked, asked.asked > 0) == (0, True)
    assert sorted(quick.intervals, key=lambda row: row.start_s) == sorted(
        asked.intervals, key=lambda row: row.start_s
    )


def test_surplus_that_ends_before_the_jobs_do_is_said() -> None:
    with pytest.raises(PermanentError, match="surplus is known for 7200 s only"):
        replay(world({"a": [0.0], "b": [0.0]}, task(work_s=9 * HOUR), tail=1), "static")


def test_a_world_that_contradicts_itself_is_refused() -> None:
    day = world({"a": [0.0], "b": [0.0]}, task("2", "c", at_s=5.0), task("1", work_s=0.0))
    with pytest.raises(ConfigError) as caught:
        replay(day, "static")
    assert str(caught.value).splitlines() == [
        "made: 2: home c is no site",
        "made: 1: work 0.0 s: expected above 0",
        "made: tasks: not in order of submission",
    ]


@pytest.mark.parametrize("name", ["static", "energy-only", "feasibility-aware", "sterna"])
def test_one_site_alone_is_a_world(name: str) -> None:
    day = world({"a": [500.0, 0.0, 0.0, 0.0]}, task("1"), task("2", at_s=60.0), slots=1)
    assert rows(replay(day, name), "1") == [("run", "a", 0.0, 2 * HOUR)]
    assert rows(replay(day, name), "2") == [("run", "a", 2 * HOUR, 4 * HOUR)]


def test_sites_without_slots_or_none_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="made: a: 0 slots: expected 1 or more"):
        replay(world({"a": [0.0], "b": [0.0]}, task(), slots=0), "static")
    with pytest.raises(ConfigError, match="made: sites: there is none"):
        replay(replace(world({"a": [0.0]}), sites=()), "static")


@needs_data
@pytest.mark.parametrize(
    ("name", "period", "static_kwh", "bound_percent"),
    [
        ("us5", "apr", 2281, 35.5),
        ("us5", "jan", 3296, 28.4),
        ("us5", "jul", 3308, 23.2),
        ("us5-thin", "apr", None, 71.2),
        ("us5-thin", "jan", None, 59.0),
        ("us5-thin", "jul", None, 50.1),
    ],
)
def test_static_and_the_bound_reproduce_the_reference(
    name: str, period: str, static_kwh: float | None, bound_percent: float
) -> None:
    day = recorded_world(name, period)
    figures = measure(day, replay(day, "static").intervals)
    if static_kwh is not None:
        assert figures.nonrenewable_wh / 1e3 == pytest.approx(static_kwh, rel=0.0005)
    assert 100 * (1 - bound_wh(day) / figures.nonrenewable_wh) == pytest.approx(bound_percent, abs=0.051)


@needs_data
def test_the_load_is_as_the_readme_says() -> None:
    day = recorded_world("us5", "apr")
    figures = measure(day, replay(day, "static").intervals)
    assert figures.slots_held / 40 == pytest.approx(0.41, abs=0.005)
    assert figures.jobs == len(day.tasks)
