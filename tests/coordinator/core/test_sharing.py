"""How moves share a link, and in what order a draining site empties."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import sharing
from coordinator.core.feasibility_aware import FeasibilityAwarePolicy
from coordinator.core.policy import PlannerSettings, Policy
from coordinator.core.sterna_policy import SternaPolicy
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.fleet import FleetState, Migration, MigrationState
from coordinator.model.view import FleetView, JobView, LinkView, Phase
from tests.coordinator.core.fleets import GBPS, fleet, forecast, job, site

M = MigrationState
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
POLICIES = [FeasibilityAwarePolicy(), SternaPolicy()]


def a_move(name: str, state: M, reserved_bps: float | None, *, source: str = "west") -> Migration:
    return Migration(
        migration_id=name,
        job_id=f"job-{name}",
        source_site=source,
        destination_site="east",
        state=state,
        epoch=1,
        planned_at=NOW,
        reason="",
        predicted_s=None,
        reserved_bps=reserved_bps,
    )


def fleet_of(*moves: Migration) -> FleetState:
    return FleetState(migrations={one.migration_id: one for one in moves})


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([a_move("a", M.TRANSFERRING, 100.0)], {"a": 100.0}),
        ([a_move("a", M.TRANSFERRING, None)], {}),
        ([a_move("a", M.TRANSFERRING, 60.0), a_move("b", M.PLANNED, 40.0)], {"a": 100.0, "b": 40.0}),
        ([a_move("a", M.TRANSFERRING, 60.0), a_move("b", M.PRESTAGING, 40.0)], {"a": 60.0, "b": 40.0}),
        (
            [
                a_move("a", M.TRANSFERRING, 50.0),
                a_move("b", M.PRESTAGING, 25.0),
                a_move("c", M.STOPPING, 25.0),
            ],
            {"a": pytest.approx(200 / 3), "b": pytest.approx(100 / 3), "c": 25.0},
        ),
        # What is committed needs its rate no more, what takes another link never lends.
        ([a_move("a", M.TRANSFERRING, 60.0), a_move("b", M.STARTING, 40.0)], {"a": 60.0}),
        (
            [a_move("a", M.TRANSFERRING, 60.0), a_move("b", M.PLANNED, 40.0, source="north")],
            {"a": 60.0, "b": 40.0},
        ),
    ],
)
def test_what_nobody_uses_is_lent(moves: list[Migration], expected: dict[str, float]) -> None:
    assert sharing.allotted_bps(fleet_of(*moves)) == expected


@given(
    st.lists(
        st.tuples(st.sampled_from(list(M)), st.floats(1.0, 1e10), st.sampled_from(["west", "north"])),
        max_size=8,
    )
)
def test_rates_that_cross_sum_to_what_is_reserved(moves: list[tuple[M, float, str]]) -> None:
    state = fleet_of(*(a_move(str(i), s, bps, source=w) for i, (s, bps, w) in enumerate(moves)))
    rates = sharing.allotted_bps(state)
    for source in ("west", "north"):
        mine = [one for one in state.migrations.values() if one.source_site == source]
        held = sum(one.reserved_bps or 0.0 for one in mine if one.migration_id in rates)
        crossing = [rates[one.migration_id] for one in mine if one.state in sharing.CROSSING]
        assert not crossing or sum(crossing) == pytest.approx(held)
        assert all(
            rates[one.migration_id] >= (one.reserved_bps or 0.0) for one in mine if one.migration_id in rates
        )


@pytest.mark.parametrize(
    ("transfer_s", "overhead_s", "expected"),
    [(60.0, 0.0, 1), (60.0, 59.0, 2), (60.0, 61.0, 3), (1.0, 60.0, 4), (0.0, 5.0, 1), (float("nan"), 5.0, 1)],
)
def test_enough_lanes_to_keep_a_link_busy(transfer_s: float, overhead_s: float, expected: int) -> None:
    assert sharing.lanes(transfer_s, overhead_s) == expected


@pytest.mark.parametrize(
    ("free", "lanes", "taken", "waiting", "expected"),
    [
        (100.0, 2, 0, 5, 50.0),
        (50.0, 2, 1, 4, 50.0),
        (0.0, 2, 2, 3, 0.0),
        (100.0, 4, 0, 1, 100.0),
        (50.0, 4, 1, 1, 50.0),
        (30.0, 2, 1, 1, 30.0),  # another group has some of it
        (1e-9, 2, 1, 1, 0.0),  # a sum of fractions is no rate
        (100.0, 0, 0, 2, 0.0),
    ],
)
def test_shares_of_a_link(free: float, lanes: int, taken: int, waiting: int, expected: float) -> None:
    rate = sharing.share_bps(100.0, free, lanes_in_all=lanes, taken=taken, waiting=waiting)
    assert rate == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(1.0, 5e3), st.floats(1.0, 3e3)), min_size=1, max_size=6))
def test_no_other_order_draws_less_while_jobs_wait(jobs: list[tuple[float, float]]) -> None:
    def drawn_ws(order: tuple[tuple[float, float], ...]) -> float:
        done_s, total_ws = 0.0, 0.0
        for power_w, transfer_s in order:
            done_s += transfer_s
            total_ws += power_w * done_s
        return total_ws

    chosen = tuple(sorted(jobs, key=lambda one: -sharing.saved_w(one[0], 1.0, one[1])))
    assert drawn_ws(chosen) <= min(map(drawn_ws, permutations(jobs))) * (1 + 1e-9)


def leaving(jobs: list[JobView], *, slots: int = 8, under_way: int = 0, whole_bps: float = GBPS) -> FleetView:
    free_bps = whole_bps * (1 - under_way / 2)
    return fleet(
        [
            site("west", draining=True, slots=10, slots_held=10),
            site("east", surplus_w=9e3, windows=forecast(*[9e3] * 100), slots=slots),
        ],
        [
            *jobs,
            *(
                job(f"gone-{index}", "west", phase=Phase.MIGRATING, bound_for="east")
                for index in range(under_way)
            ),
        ],
        links=[LinkView(source="west", destination="east", free_bps=free_bps, whole_bps=whole_bps)],
    )


def moves_of(decisions: tuple[Decision, ...]) -> dict[str, float | None]:
    return {one.job_id: one.reserved_bps for one in decisions if one.kind is DecisionKind.MIGRATE}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda one: one.name)
class TestDrain:
    def test_two_share_a_link_when_loading_takes_no_longer_than_crossing(self, policy: Policy) -> None:
        jobs = [job(f"j{index}", "west", power_w=100.0 + index) for index in range(4)]  # 8 s, and 4 s besides
        decisions = policy.decide(leaving(jobs), PlannerSettings())
        assert moves_of(decisions) == {"j2": GBPS / 2, "j3": GBPS / 2}
        told = {one.job_id: one for one in decisions}
        assert told["j2"].reason.endswith("it shares the link with 1 more; 2 still to leave")
        assert told["j3"].reason.endswith("; 3 still to leave")
        assert told["j0"].reason == "west is draining, but waits for its turn: 2 on their way"
        assert told["j3"].predicted_s == pytest.approx(8.0 + 4.0 + 8.0)

    def test_who_saves_most_for_its_time_on_the_link_goes_first(self, policy: Policy) -> None:
        jobs = [
            job("big", "west", power_w=800.0, checkpoint_bytes=40_000_000_000),
            job("small", "west", power_w=100.0, checkpoint_bytes=1_000_000_000),
            job("middle", "west", power_w=500.0, checkpoint_bytes=10_000_000_000),
        ]
        decisions = policy.decide(leaving(jobs, slots=1), PlannerSettings())
        assert moves_of(decisions).keys() == {"small"}

    def test_one_that_is_alone_gets_all_of_the_link(self, policy: Policy) -> None:
        assert moves_of(policy.decide(leaving([job("j", "west")]), PlannerSettings())) == {"j": GBPS}

    def test_the_next_one_gets_the_share_of_one_that_has_left(self, policy: Policy) -> None:
        jobs = [job(f"j{index}", "west") for index in range(3)]
        decisions = policy.decide(leaving(jobs, under_way=1), PlannerSettings())
        assert moves_of(decisions) == {"j0": GBPS / 2}
        assert not moves_of(policy.decide(leaving(jobs, under_way=2), PlannerSettings()))

    def test_a_site_that_does_not_drain_is_planned_as_ever(self, policy: Policy) -> None:
        view = leaving([job(f"j{index}", "west") for index in range(4)])
        west = replace(view.sites["west"], draining=False, available=True)
        decisions = policy.decide(replace(view, sites={**view.sites, "west": west}), PlannerSettings())
        assert list(moves_of(decisions).values()) == [GBPS]
