"""Offers: how much, for how long, at what cost; and that an agent which is held to one can keep it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.power_budget import BudgetInputs, decide
from agent.core.power_budget_values import BudgetJob, BudgetSettings, BudgetState
from agent.model import jobs as agent_jobs
from coordinator.core.offers import (
    MoveAway,
    OfferingJob,
    OfferingSite,
    OfferSettings,
    bearable_s,
    is_same,
    offers_of,
    shed_order,
)
from coordinator.model.job import Flexibility
from coordinator.model.offers import Direction, Offer
from tests.agent.core.budget_site import limited, power
from tests.coordinator.core.fleets import NOW

QUARTER, HOUR, FOUR_HOURS = 900.0, 3600.0, 14400.0
SETTINGS = OfferSettings()
F = Flexibility


def job(
    job_id: str = "a", power_w: float = 400.0, tier: Flexibility = F.FLEX_3, **more: object
) -> OfferingJob:
    return replace(OfferingJob(job_id=job_id, power_w=power_w, flexibility=tier), **more)  # type: ignore[arg-type]


def site(*running: OfferingJob, **more: object) -> OfferingSite:
    drawn_w = sum(one.power_w for one in running)
    made = OfferingSite(
        site_id="miami", import_w=drawn_w + 1060.0, compute_w=drawn_w + 60.0, idle_w=60.0, running=running
    )
    return replace(made, **more)  # type: ignore[arg-type]


def falls(at: OfferingSite, length_s: float = QUARTER, settings: OfferSettings = SETTINGS) -> list[Offer]:
    return [
        one
        for one in offers_of(at, NOW, settings).offers
        if one.direction is Direction.DOWN and one.duration_s == length_s
    ]


def test_one_job_gives_way_for_as_long_as_its_tier_bears() -> None:
    made = offers_of(site(job(steps_at_risk=70)), NOW, SETTINGS)
    assert [(one.duration_s, one.power_w) for one in made.offers] == [(QUARTER, 400.0), (HOUR, 400.0)]
    assert made.expires_at == NOW + timedelta(seconds=SETTINGS.valid_s)
    first, second = made.offers
    assert (first.delay_s, first.steps_at_risk, first.shifted_wh, first.extra_wh) == (900.0, 70, 100.0, 0.0)
    assert (second.delay_s, second.shifted_wh, second.jobs, second.moves) == (3600.0, 400.0, 1, 0)
    assert first.offer_id == "miami-20260601T120000-down-900-1"


@pytest.mark.parametrize(
    ("tier", "slack_s", "bears_s"),
    [
        (F.FLEX_0, None, 0.0),
        (F.FLEX_1, None, 1080.0),
        (F.FLEX_2, None, 2700.0),
        (F.FLEX_3, None, 5400.0),
        (F.FLEX_3, 4500.0, 900.0),
        (F.FLEX_3, 1000.0, 0.0),
        (F.FLEX_1, 90_000.0, 1080.0),
    ],
)
def test_what_a_job_bears(tier: Flexibility, slack_s: float | None, bears_s: float) -> None:
    one = job(tier=tier, slack_s=slack_s)
    assert bearable_s(one, SETTINGS) == pytest.approx(bears_s)
    assert bool(falls(site(one))) is (bears_s >= QUARTER)


def test_the_ladder_rises_in_the_agents_order() -> None:
    jobs = (job("a", 100.0, F.FLEX_1), job("b", 200.0, F.FLEX_3), job("c", 300.0, F.FLEX_2))
    made = falls(site(*jobs))
    assert [(one.power_w, one.jobs) for one in made] == [(200.0, 1), (500.0, 2), (600.0, 3)]


def test_it_ends_before_the_first_job_that_cannot_bear_it() -> None:
    tight = job("b", 300.0, F.FLEX_3, slack_s=3700.0, unsaved_s=5.0)
    jobs = (job("a", 200.0, F.FLEX_3, unsaved_s=1.0), tight, job("c", 100.0, F.FLEX_3, unsaved_s=9.0))
    assert [one.power_w for one in falls(site(*jobs))] == [200.0]


def test_a_job_that_can_move_gives_way_for_longer() -> None:
    move = MoveAway(site_id="nome", downtime_s=40.0, extra_wh=7.0)
    (made,) = falls(site(job(move=move)), FOUR_HOURS)
    assert (made.moves, made.delay_s, made.extra_wh) == (1, 340.0, 7.0)
    assert made.shifted_wh == pytest.approx(400.0 * 340.0 / 3600.0)
    slow = MoveAway(site_id="nome", downtime_s=9000.0, extra_wh=7.0)
    assert falls(site(job(move=slow)), FOUR_HOURS) == []
    assert falls(site(job(tier=F.FLEX_0, move=move)), QUARTER) == []


def test_only_what_is_drawn_and_imported_counts() -> None:
    capped = site(job("a"), job("b"), compute_w=460.0, import_w=2000.0)
    assert [one.power_w for one in falls(capped)] == [200.0, 400.0]
    others = site(job("a"), compute_w=460.0, others_w=400.0)
    assert [one.power_w for one in falls(others)] == [200.0]
    assert [one.power_w for one in falls(site(job(), import_w=150.0))] == [150.0]
    assert falls(site(job(), import_w=-500.0)) == []
    assert falls(site(job(), compute_w=30.0)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"blocked": "a grid emergency"}, "a grid emergency"),
        ({"import_w": None}, "the site's import is not measured"),
        ({"compute_w": None}, "what its jobs draw is not measured"),
        ({"running": ()}, "no job there can give way or come forward"),
    ],
)
def test_why_there_is_nothing(changes: dict[str, object], reason: str) -> None:
    made = offers_of(site(job(), **changes), NOW, SETTINGS)
    assert (made.offers, made.reason) == ((), reason)


def test_what_waits_can_come_forward_below_the_limit() -> None:
    waiting = (job("b", 300.0, slack_s=90.0), job("a", 400.0, slack_s=9000.0))
    made = offers_of(site(waiting=waiting, limit_w=1500.0), NOW, OfferSettings(durations_s=(QUARTER,)))
    assert [(one.direction, one.power_w, one.jobs) for one in made.offers] == [
        (Direction.UP, 300.0, 1),
        (Direction.UP, 440.0, 2),
    ]
    assert {one.delay_s for one in made.offers} == {0.0}
    assert made.offers[0].shifted_wh == 75.0
    full = offers_of(site(waiting=waiting, limit_w=1060.0), NOW, SETTINGS)
    assert full.reason == "no job there can give way or come forward"


def test_many_jobs_make_few_offers_the_last_of_all() -> None:
    made = falls(site(*(job(f"j{number}", 100.0) for number in range(9))))
    assert [one.jobs for one in made] == [3, 5, 7, 9]


def test_steps_are_at_risk_unless_one_is_unknown() -> None:
    known, unknown = job("a", steps_at_risk=3), job("b")
    assert [one.steps_at_risk for one in falls(site(known, unknown))] == [3, None]


def test_small_differences_are_none() -> None:
    made = offers_of(site(job()), NOW, SETTINGS)
    later = NOW + timedelta(seconds=10)
    assert is_same(offers_of(site(job(power_w=390.0)), later, SETTINGS), made)
    assert not is_same(offers_of(site(job(power_w=300.0)), later, SETTINGS), made)
    assert not is_same(offers_of(site(), later, SETTINGS), made)
    two = offers_of(site(job("a", 200.0), job("b", 200.0)), later, SETTINGS)
    assert not is_same(two, made)


jobs_at = st.lists(
    st.builds(
        OfferingJob,
        job_id=st.integers(0, 10**6).map(str),
        power_w=st.floats(0.0, 2000.0),
        flexibility=st.sampled_from(F),
        slack_s=st.none() | st.floats(0.0, 2e5),
        unsaved_s=st.none() | st.floats(0.0, 1e5),
        steps_at_risk=st.none() | st.integers(0, 1000),
        move=st.none()
        | st.builds(
            MoveAway, site_id=st.just("nome"), downtime_s=st.floats(0.0, 1e4), extra_wh=st.floats(0.0, 100.0)
        ),
    ),
    max_size=6,
    unique_by=lambda one: one.job_id,
)


@settings(deadline=None)
@given(jobs_at, st.floats(-3000.0, 9000.0), st.floats(0.0, 1.2), st.floats(0.0, 5000.0))
def test_no_offer_promises_more_than_jobs_draw_or_the_site_imports(
    running: list[OfferingJob], import_w: float, share: float, others_w: float
) -> None:
    declared_w = sum(one.power_w for one in running)
    drawn_w = share * (declared_w + others_w)
    at = site(*running, import_w=import_w, compute_w=60.0 + drawn_w, others_w=others_w)
    for one in offers_of(at, NOW, SETTINGS).offers:
        assert 0.0 < one.power_w <= min(drawn_w, declared_w, import_w) + 1e-6
        assert one.delay_s <= one.jobs * one.duration_s or one.moves
        assert one.jobs <= len(running)
        touched = sorted(running, key=shed_order)[: one.jobs]
        assert all(F.FLEX_0 is not each.flexibility for each in touched)


@settings(deadline=None)
@given(jobs_at, st.floats(0.0, 4000.0))
def test_an_offer_that_is_taken_up_is_kept_by_pausing_jobs_that_were_counted(
    running: list[OfferingJob], others_w: float
) -> None:
    running = [one for one in running if one.power_w > 1.0]
    drawn_w = sum(one.power_w for one in running)
    at = site(*running, import_w=others_w + drawn_w + 60.0, compute_w=drawn_w + 60.0)
    known = tuple(
        BudgetJob(
            job_id=one.job_id,
            flexibility=agent_jobs.Flexibility[one.flexibility.name],
            power_w=one.power_w,
            unsaved_s=one.unsaved_s,
        )
        for one in running
    )
    for offer in offers_of(at, NOW, SETTINGS).offers:
        assert at.import_w is not None
        limit_w = at.import_w - offer.power_w + 1e-3  # sums of watts are taken in different orders
        inputs = BudgetInputs(
            now=NOW,
            now_boot_s=100.0,
            envelope=limited(limit_w),
            power=replace(power(others_w, drawn_w + 60.0), measured_at=NOW),
            jobs=known,
            cap=None,
        )
        _, actions = decide(BudgetState(), inputs, BudgetSettings(idle_w=60.0))
        assert actions.predicted_w is not None
        assert not actions.unachievable
        assert actions.predicted_w <= limit_w + 1e-3
        counted = {one.job_id for one in sorted(running, key=shed_order)[: offer.jobs]}
        assert set(actions.pause) <= counted
