"""The replay: exact energy, the policies of production, and nothing lost between two events."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.replay.engine import perfect_foresight, replay
from coordinator.replay.scenario import ReplayJob, ReplayResult, Scenario, SiteTrace

START = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = 3600.0


def job(job_id: str = "j", home: str | None = "a", **more: object) -> ReplayJob:
    numbers: dict[str, object] = {
        "power_w": 500.0,
        "checkpoint_bytes": 1_000_000_000,
        "seal_s": 10.0,
        "load_s": 20.0,
        "downtime_s": 10.0,
    }
    return ReplayJob(job_id=job_id, home_site=home, **(numbers | more))  # type: ignore[arg-type]


def scenario(
    *jobs: ReplayJob,
    slots: int = 2,
    tick_s: float = 60.0,
    traces: dict[str, list[tuple[float, float | None]]],
) -> Scenario:
    return Scenario(
        start_at=START,
        duration_s=12 * HOUR,
        tick_s=tick_s,
        sites=tuple(SiteTrace(site_id=s, slots=slots, points=tuple(p)) for s, p in traces.items()),
        jobs=jobs,
        links={(a, b): 1e9 for a in traces for b in traces if a != b},
    )


HANDOVER: dict[str, list[tuple[float, float | None]]] = {
    "a": [(0.0, 800.0), (6 * HOUR, 0.0)],
    "b": [(0.0, 0.0), (5 * HOUR, 800.0)],
}


def run(name: str, day: Scenario, **numbers: float) -> ReplayResult:
    return replay(day, policy_named(name), PlannerSettings(**numbers))


def test_static_stays_in_the_dark() -> None:
    got = run("static", scenario(job(), traces=HANDOVER))
    assert got.moves == ()
    assert got.energy.renewable_wh == pytest.approx(6 * 500)
    assert got.energy.nonrenewable_wh == pytest.approx(6 * 500)
    assert got.renewable_frac == pytest.approx(0.5)
    assert got.worked_s == {"j": pytest.approx(12 * HOUR)}


def test_feasibility_aware_follows_the_handover() -> None:
    got = run("feasibility-aware", scenario(job(), traces=HANDOVER))
    (move,) = got.moves
    # The tick at the end of the window sees the depletion; 8 s on the link, 40 s besides.
    assert (move.source, move.destination, move.began_s) == ("a", "b", 6 * HOUR)
    assert move.took_s == pytest.approx(48.0)
    assert got.energy.nonrenewable_wh == pytest.approx(500 * 10 / 3600)  # sealing, in the dark
    assert got.energy.total_wh == pytest.approx(500 * (12 * HOUR - 8) / 3600)
    assert got.worked_s["j"] == pytest.approx(12 * HOUR - 48)
    assert got.bytes_moved == 1_000_000_000


def test_a_move_before_the_end_when_the_planner_sees_it_coming() -> None:
    traces = {"a": [(0.0, 800.0), (6 * HOUR + 30, 0.0)], "b": HANDOVER["b"]}
    got = run("feasibility-aware", scenario(job(), traces=traces))
    assert got.moves[0].began_s == 6 * HOUR
    assert got.energy.nonrenewable_wh == pytest.approx(0.0, abs=1e-6)


def test_work_ends_and_its_slot_serves_the_next() -> None:
    day = scenario(
        job("first", work_s=HOUR), job("second", work_s=HOUR, submitted_s=90.0), slots=1, traces=HANDOVER
    )
    got = run("static", day)
    assert got.completed_s["first"] == pytest.approx(HOUR)
    assert got.completed_s["second"] == pytest.approx(2 * HOUR)
    assert got.energy.total_wh == pytest.approx(1000.0)
    assert run("static", scenario(job(work_s=99 * HOUR), traces=HANDOVER)).completed_s == {"j": None}


def test_nobody_moves_into_what_the_trace_does_not_tell() -> None:
    day = scenario(job(), traces={"a": [(0.0, 800.0), (12 * HOUR - 60, 0.0)], "b": [(0.0, 800.0)]})
    assert run("feasibility-aware", day).moves == ()


def test_a_move_under_way_at_the_end_is_told_as_such() -> None:
    day = scenario(
        job(checkpoint_bytes=4_000_000_000),
        traces={"a": [(0.0, 800.0), (12 * HOUR - 1, 0.0)], "b": [(0.0, 800.0), (24 * HOUR, 0.0)]},
    )
    got = run("feasibility-aware", day)
    assert [(m.source, m.destination, m.began_s, m.took_s) for m in got.moves] == [
        ("a", "b", 12 * HOUR - 60, None)
    ]
    assert got.bytes_moved == 0


def test_unknown_surplus_is_counted_as_none() -> None:
    got = run("static", scenario(job(), traces={"a": [(HOUR, None)]}))
    assert got.renewable_frac == 0.0


def test_foresight_leaves_out_what_is_over_or_unknown() -> None:
    day = scenario(job(), traces={"a": [(0.0, 1.0), (HOUR, None), (2 * HOUR, 2.0), (99 * HOUR, 9.0)]})
    got = perfect_foresight(day.sites[0], day, 1.5 * HOUR)
    assert got is not None
    assert [slot.p50_w for slot in got.slots] == [2.0]
    assert (got.slots[0].end_at - START).total_seconds() == 99 * HOUR


def test_an_hour_squeezed_into_seconds_gives_the_same_share() -> None:
    """Nothing in planner or engine knows how long a window usually is."""
    squeeze = 480.0
    small = Scenario(
        start_at=START,
        duration_s=12 * HOUR / squeeze,
        tick_s=60.0 / squeeze,
        sites=tuple(
            SiteTrace(site_id=s, slots=2, points=tuple((at / squeeze, w) for at, w in p))
            for s, p in HANDOVER.items()
        ),
        jobs=(
            job(
                seal_s=10 / squeeze,
                load_s=20 / squeeze,
                downtime_s=10 / squeeze,
                checkpoint_bytes=8_000_000,
            ),
        ),
        links={("a", "b"): 8e6 * 8 * squeeze / 8.0, ("b", "a"): 1e9},
    )
    large = run("feasibility-aware", scenario(job(), traces=HANDOVER))
    got = run("feasibility-aware", small)
    assert got.renewable_frac == pytest.approx(large.renewable_frac, abs=1e-3)


surplus = st.lists(
    st.tuples(st.floats(0, 11 * HOUR), st.one_of(st.none(), st.floats(0, 2000))), max_size=5
).map(lambda points: sorted({round(at, 3): w for at, w in points}.items()))


@pytest.mark.parametrize("name", ["static", "feasibility-aware"])
@settings(max_examples=25, deadline=None)
@given(
    traces=st.fixed_dictionaries({"a": surplus, "b": surplus, "c": surplus}),
    works=st.lists(st.one_of(st.none(), st.floats(1, 12 * HOUR)), min_size=1, max_size=4),
)
def test_energy_is_conserved(
    name: str, traces: dict[str, list[tuple[float, float | None]]], works: list[float | None]
) -> None:
    homes = ["a", "b", None, "c"]
    day = scenario(
        *(job(f"j{i}", homes[i], work_s=w) for i, w in enumerate(works)), tick_s=600.0, traces=traces
    )
    got = run(name, day)
    arrived = [move for move in got.moves if move.took_s is not None]
    # A finished move draws while it seals and loads, 40 s of its 48; one under way at most as long.
    least_j = 500.0 * (sum(got.worked_s.values()) + 40.0 * len(arrived))
    most_j = least_j + 500.0 * 40.0 * (len(got.moves) - len(arrived))
    assert least_j - 5.0 <= got.energy.total_wh * 3600 <= most_j + 5.0
    for job_id, done_s in got.completed_s.items():
        wanted_s = day.jobs[int(job_id[1:])].work_s
        if done_s is not None and wanted_s is not None:
            assert got.worked_s[job_id] == pytest.approx(wanted_s, abs=1e-5)
    assert (name == "static") <= (not got.moves)


def test_a_policy_that_reserves_nothing_shares_the_links() -> None:
    # Both jobs leave a at once for b: 1 GB each over one link of 1 Gbit/s, so 16 s instead of 8.
    traces: dict[str, list[tuple[float, float | None]]] = {
        "a": [(0.0, 1000.0), (6 * HOUR, 0.0)],
        "b": [(0.0, 1000.0)],
    }
    alone = run("energy-only", scenario(job("j"), traces=traces))
    assert [move.took_s for move in alone.moves] == [pytest.approx(48.0)]
    both = run("energy-only", scenario(job("j"), job("k"), traces=traces))
    assert [move.took_s for move in both.moves] == [pytest.approx(56.0), pytest.approx(56.0)]
    assert both.energy.total_wh == pytest.approx(2 * 500 * (12 * HOUR - 16) / 3600)


@pytest.mark.parametrize("name", ["static", "energy-only", "feasibility-aware", "sterna"])
@pytest.mark.parametrize("sites", [1, 2])
def test_a_fleet_without_links_stays_where_it_is(name: str, sites: int) -> None:
    traces = dict(list(HANDOVER.items())[:sites])
    day = scenario(job(), traces=traces)
    got = run(name, replace(day, links={}))
    assert got.moves == ()
    assert got.energy.total_wh == pytest.approx(500 * 12)
