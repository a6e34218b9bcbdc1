"""Which jobs run at part power, at which, and what is said of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.core.slowing import DEADBAND_FRAC
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.job import SlowRange
from coordinator.model.view import FleetView, JobView, Phase
from tests.coordinator.core.fleets import fleet, forecast, job, site

HALF = SlowRange(power_frac=0.5, speed_frac=0.8)
SETTINGS = PlannerSettings()
K = DecisionKind


def decide(*jobs: JobView, surplus_w: float | None, slots: int = 8, ok: bool = True) -> dict[str, Decision]:
    place = site("a", surplus_w=surplus_w, slots=slots, slots_held=sum(j.site_id == "a" for j in jobs), ok=ok)
    return all_of(fleet([place], jobs))


def all_of(view: FleetView) -> dict[str, Decision]:
    return {one.job_id: one for one in policy_named("sterna").decide(view, SETTINGS)}


def slowable(job_id: str, at: str | None = "a", **more: object) -> JobView:
    return job(job_id, at, **({"slow": HALF} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("surplus_w", "powers_w"),
    [
        (1000.0, [None, None]),
        (999.0, [None, None]),  # a trifle less is left as it is
        (800.0, [400.0, 400.0]),
        (500.0, [250.0, 250.0]),
        (100.0, [250.0, 250.0]),  # no job goes below its least
        (0.0, [250.0, 250.0]),
        (None, [None, None]),  # what is not known is not zero
    ],
)
def test_jobs_share_what_the_surplus_covers(surplus_w: float | None, powers_w: list[float | None]) -> None:
    made = decide(slowable("1"), slowable("2"), surplus_w=surplus_w)
    assert [one.power_w for one in made.values()] == powers_w
    assert [one.kind for one in made.values()] == [K.STAY if w is None else K.SLOW for w in powers_w]


def test_a_surplus_that_is_not_believed_slows_nobody() -> None:
    assert decide(slowable("1"), surplus_w=0.0, ok=False)["1"].kind is K.STAY


def test_a_decision_says_what_it_costs_and_keeps_its_alternatives() -> None:
    made = decide(slowable("1"), slowable("2"), surplus_w=800.0)["1"]
    assert made.reason == (
        "slowed to 400 of 500 W, 92% of its speed: "
        "the surplus covers 800 of the 1000 W that jobs here would draw"
    )
    assert [one.site_id for one in made.alternatives] == ["a"]


def test_who_reaches_the_end_of_its_range_leaves_less_for_the_others() -> None:
    firm = slowable("2", slow=SlowRange(power_frac=0.9, speed_frac=0.95))
    made = decide(slowable("1"), firm, surplus_w=750.0)
    assert [one.power_w for one in made.values()] == [pytest.approx(300.0), pytest.approx(450.0)]


@pytest.mark.parametrize(
    "other",
    [
        job("2", "a"),  # declares no range: its site's cap would slow it, too
        slowable("2", slack_s=3600.0),
    ],
)
def test_a_site_slows_all_of_its_jobs_or_none(other: JobView) -> None:
    made = decide(slowable("1"), other, surplus_w=600.0)
    assert {one.power_w for one in made.values()} == {None}
    assert K.SLOW not in {one.kind for one in made.values()}


@pytest.mark.parametrize(
    ("more", "power_w"),
    [({"phase": Phase.MIGRATING}, 300.0), ({"phase": Phase.HELD}, 300.0), ({"phase": Phase.PAUSED}, None)],
)
def test_what_others_draw_there_is_not_the_plans_to_change(
    more: dict[str, Phase], power_w: float | None
) -> None:
    made = decide(slowable("1"), job("2", "a", **more), surplus_w=800.0)  # type: ignore[arg-type]
    assert made["1"].power_w == power_w


@pytest.mark.parametrize(
    ("slowed_to_w", "surplus_w", "kind", "power_w"),
    [
        (400.0, 400.0, K.STAY, 400.0),
        (400.0, 400.0 + 0.9 * DEADBAND_FRAC * 500.0, K.STAY, 400.0),
        (400.0, 400.0 + 1.1 * DEADBAND_FRAC * 500.0, K.SLOW, 400.0 + 1.1 * DEADBAND_FRAC * 500.0),
        (400.0, 300.0, K.SLOW, 300.0),
        (400.0, 500.0, K.RESUME, None),
        (400.0, None, K.RESUME, None),
    ],
)
def test_a_slowed_job_is_left_as_it_is_changed_or_let_go(
    slowed_to_w: float, surplus_w: float | None, kind: DecisionKind, power_w: float | None
) -> None:
    made = decide(slowable("1", slowed_to_w=slowed_to_w), surplus_w=surplus_w)["1"]
    assert made.kind is kind
    assert made.power_w == pytest.approx(power_w)
    assert made.reason.startswith("runs at full power again" if kind is K.RESUME else "slowed to")


def test_a_job_that_may_no_longer_be_slowed_gets_its_power_back() -> None:
    assert decide(slowable("1", slow=None, slowed_to_w=300.0), surplus_w=0.0)["1"].kind is K.RESUME


def test_a_job_that_draws_nothing_has_nothing_to_slow() -> None:
    decisions = decide(slowable("1", power_w=0.0), slowable("2"), surplus_w=300.0)
    assert decisions["1"].kind is DecisionKind.STAY
    assert decisions["2"].kind is DecisionKind.SLOW


def test_nobody_is_slowed_while_others_wait_for_its_slot() -> None:
    waits = slowable("2", None)
    made = decide(slowable("1", slowed_to_w=300.0), waits, surplus_w=0.0, slots=1)
    assert made["1"].kind is K.RESUME
    assert made["1"].reason.endswith("others wait for a slot")
    assert made["2"].kind is K.WAIT


def test_a_job_that_starts_begins_as_slow_as_the_others_run() -> None:
    made = decide(slowable("1"), slowable("2", None), surplus_w=800.0)
    assert (made["2"].kind, made["2"].power_w) == (K.START, 400.0)
    assert made["1"].power_w == 400.0


def test_one_that_moves_is_not_slowed_and_leaves_its_share_to_the_others() -> None:
    sunny = forecast(*[5000.0] * 48, slot_s=3600.0)
    dim = forecast(*[500.0] * 48, slot_s=3600.0)
    places = [
        site("a", surplus_w=500.0, windows=dim, slots_held=2),
        site("b", surplus_w=5000.0, windows=sunny),
    ]
    view = fleet(places, [slowable("1"), slowable("2")])
    made = all_of(view)
    kinds = sorted(one.kind.value for one in made.values())
    assert kinds == ["migrate", "stay"]
    assert {one.power_w for one in made.values()} == {None}


jobs = st.builds(
    lambda number, at, power_w, least, speed, slowed, slack_s: job(
        str(number),
        at,
        power_w=power_w,
        slow=None if least is None else SlowRange(power_frac=least, speed_frac=least + (1 - least) * speed),
        slowed_to_w=None if least is None or not slowed or at is None else 0.9 * power_w,
        slack_s=slack_s,
        may_pause=slack_s is not None,
    ),
    st.integers(0, 99),
    st.sampled_from(["a", "b", None]),
    st.floats(10.0, 1000.0),
    st.sampled_from([None, 0.3, 0.5, 0.81]),
    st.floats(0.0, 1.0),
    st.booleans(),
    st.sampled_from([None, 0.0, 50_000.0, 200_000.0]),
)
fleets_of_slowable = st.builds(
    lambda made, surpluses_w: fleet(
        [
            site(name, surplus_w=watts, slots=8, slots_held=sum(one.site_id == name for one in made))
            for name, watts in zip("ab", surpluses_w, strict=True)
        ],
        made,
    ),
    st.lists(jobs, max_size=8, unique_by=lambda one: one.job_id),
    st.tuples(st.none() | st.floats(0.0, 4000.0), st.none() | st.floats(0.0, 4000.0)),
)


@given(fleets_of_slowable)
def test_no_job_is_slowed_beyond_its_range_nor_without_need(view: FleetView) -> None:
    made = all_of(view)
    assert made.keys() == view.jobs.keys()
    at: dict[str, list[str]] = {"a": [], "b": []}
    for one in made.values():
        if one.power_w is not None:
            of = view.jobs[one.job_id]
            assert of.slow is not None
            assert of.slow.power_frac * of.power_w - 1e-6 <= one.power_w <= of.power_w + 1e-6
            at[one.target_site or ""].append(one.job_id)
    for name, slowed in at.items():
        surplus_w = view.sites[name].surplus_w
        assert not slowed or surplus_w is not None
        above_w = sum((made[j].power_w or 0.0) - _least_w(view.jobs[j]) for j in slowed)
        if above_w > 1e-6:  # else they are as slow as they may be
            slack_w = DEADBAND_FRAC * sum(view.jobs[j].power_w for j in slowed)
            assert sum(made[j].power_w or 0.0 for j in slowed) <= (surplus_w or 0.0) + slack_w + 1e-6


def _least_w(one: JobView) -> float:
    assert one.slow is not None
    return one.slow.power_frac * one.power_w


@given(fleets_of_slowable)
def test_what_is_acted_on_is_what_is_told(view: FleetView) -> None:
    policy = policy_named("sterna")
    told = [one for one in policy.decide(view, SETTINGS) if one.kind not in (K.STAY, K.WAIT)]
    acted = policy.act(view, SETTINGS)  # type: ignore[attr-defined]
    plain = [replace(one, alternatives=(), reason="") for one in told]
    assert [replace(one, alternatives=(), reason="") for one in acted] == plain


@given(fleets_of_slowable, st.permutations(["a", "b"]))
def test_the_order_of_sites_and_jobs_changes_nothing(view: FleetView, order: list[str]) -> None:
    turned = replace(
        view,
        sites={name: view.sites[name] for name in order},
        jobs=dict(reversed(list(view.jobs.items()))),
    )
    plain = {job_id: (one.kind, one.target_site, one.power_w) for job_id, one in all_of(view).items()}
    again = {job_id: (one.kind, one.target_site, one.power_w) for job_id, one in all_of(turned).items()}
    assert plain.keys() == again.keys()
    for job_id, (kind, target, power_w) in plain.items():
        assert again[job_id] == (kind, target, pytest.approx(power_w))


@pytest.mark.parametrize(
    ("power_frac", "speed_frac", "fault"),
    [
        (0.6, 0.8, None),
        (0.6, 0.6, None),
        (0.6, 1.0, None),
        (0.0, 0.8, "power_frac"),
        (1.0, 1.0, "power_frac"),
        (float("nan"), 1.0, "power_frac"),
        (0.6, 0.5, "speed_frac"),
        (0.6, 1.1, "speed_frac"),
        (0.6, float("nan"), "speed_frac"),
    ],
)
def test_a_range_says_what_is_wrong_with_it(power_frac: float, speed_frac: float, fault: str | None) -> None:
    found = SlowRange(power_frac=power_frac, speed_frac=speed_frac).faults()
    assert [field for field, _ in found] == ([] if fault is None else [fault])


@pytest.mark.parametrize(
    ("power_frac", "speed_frac"), [(1.0, 1.0), (0.75, 0.9), (0.5, 0.8), (0.2, 0.8), (1.5, 1.0)]
)
def test_speed_is_a_straight_line(power_frac: float, speed_frac: float) -> None:
    assert HALF.speed_at(power_frac) == pytest.approx(speed_frac)
