"""The demo's account of its day: what is replayed, what a replayed policy may know, what the summary says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from coordinator.cli.demo import world as w
from coordinator.cli.demo.energy import HOLD_S, metered, metered_day, replayed
from coordinator.cli.demo.foresight import Hindsight
from coordinator.cli.demo.summary import DemoSummary
from coordinator.core.ledger import PowerSample
from coordinator.forecast.kinds import PLANTS
from coordinator.forecast.series import Series
from coordinator.replay.foresight import Perfect

START = datetime(2026, 3, 1, tzinfo=UTC)
WORLD = w.make_world(sites=3, jobs=6, minutes=1.0, seed=1)
PAST_DAYS = 4  # enough for a climatology in which one day more is seen


def surplus_w(site: str, trace_h: float) -> float:
    """Sun in greensboro and miami, wind in sand-point at night: every day alike."""
    by_day = 3000.0 * max(0.0, float(np.sin((trace_h % 24 - 6) / 12 * np.pi)))
    return 3000.0 - by_day if site == "sand-point" else by_day


def rolls(scale: float = 1.0, from_s: float = 0.0) -> dict[str, list[PowerSample]]:
    """Return the day as metered; from an instant on it is another."""
    return {
        site.site_id: [
            PowerSample(
                at=START + timedelta(seconds=float(at_s)),
                surplus_w=surplus_w(site.site_id, at_s / WORLD.day_s * 24)
                * (scale if at_s >= from_s else 1.0),
                compute_w=0.0,
            )
            for at_s in np.arange(0.0, WORLD.day_s, 0.5)
        ]
        for site in WORLD.sites
    }


def pasts() -> dict[str, Series]:
    slots = np.arange(-PAST_DAYS * w.SLOTS_PER_DAY, 0)
    return {
        site.site_id: Series(
            kind=PLANTS[site.plant],
            slot_s=WORLD.slot_s,
            end_at=START,
            values=np.array([surplus_w(site.site_id, (slot + 0.5) * w.SLOT_H) for slot in slots]),
            day_s=WORLD.day_s,
        )
        for site in WORLD.sites
    }


def hindsight(of: dict[str, list[PowerSample]]) -> Hindsight:
    return Hindsight(WORLD, pasts(), of, metered_day(of, WORLD, start_at=START))


def test_no_forecast_knows_what_comes_after_it() -> None:
    """Two days that part at half time have the same forecasts until then, and others afterwards."""
    half_s = WORLD.day_s / 2
    told = [hindsight(rolls()), hindsight(rolls(scale=0.2, from_s=half_s))]
    differ = []
    for tick in range(round(WORLD.day_s / w.TICK_S)):
        for site in metered_day(rolls(), WORLD, start_at=START).sites:
            said = [one.forecast(site, tick) for one in told]
            assert said[0] is not None and said[1] is not None
            if said[0] != said[1]:
                differ.append(tick * w.TICK_S)
    assert differ and min(differ) >= half_s
    assert said[0] is not None and said[0].source == "learnt"


def test_the_same_day_side_by_side() -> None:
    day, told = metered_day(rolls(), WORLD, start_at=START), hindsight(rolls())
    shares = {
        policy: replayed(day, WORLD, policy, told) for policy in ("static", "feasibility-aware", "sterna")
    }
    assert shares["sterna"] > shares["static"]


def test_a_day_is_replayed_as_it_was_metered() -> None:
    def sample(at_s: float, surplus_w: float | None) -> PowerSample:
        return PowerSample(at=START + timedelta(seconds=at_s), surplus_w=surplus_w, compute_w=None)

    seen = {"greensboro": [sample(0.3, 500.0), sample(2.0, None), sample(3.7, 800.0)], "miami": []}
    day = metered_day(seen, WORLD, start_at=START)
    assert [site.surplus_w[:5] for site in day.sites] == [(0.0, 500.0, 0.0, 0.0, 800.0), (0.0,) * 5]
    # A move takes what the live planner is told of moves: sealing, the link, loading and the downtime.
    costs = day.costs
    assert costs.store_s(w.CHECKPOINT_BYTES) + costs.restart_s(w.CHECKPOINT_BYTES) == pytest.approx(
        w.SEAL_S + w.LOAD_S + w.DOWNTIME_S
    )
    assert set(day.wan.pair_bps.values()) == {w.LINK_BPS}


@pytest.mark.parametrize("policy", ["static", "feasibility-aware", "sterna"])
def test_a_day_lasts_until_the_last_of_many_jobs_has_ended(policy: str) -> None:
    crowded = w.make_world(sites=2, jobs=24, minutes=1.0, seed=1)
    dark = {site.site_id: [PowerSample(at=START, surplus_w=0.0, compute_w=0.0)] for site in crowded.sites}
    day = metered_day(dark, crowded, start_at=START)
    assert replayed(day, crowded, policy, Perfect(day)) == 0.0


def test_what_was_metered_is_accounted_for_by_the_ledger_of_production() -> None:
    def sample(at_s: float, surplus_w: float | None, compute_w: float | None) -> PowerSample:
        return PowerSample(at=START + timedelta(seconds=at_s), surplus_w=surplus_w, compute_w=compute_w)

    rolls = {
        "a": [sample(0, 300, 400), sample(2, None, 400), sample(3, 400, None), sample(4, 900, 400)],
        "b": [sample(4, 0, 400)],
    }
    got = metered(rolls, START, START + timedelta(seconds=20))
    seconds = (got.renewable_wh * 3600, got.nonrenewable_wh * 3600, got.unattributed_wh * 3600)
    assert seconds == pytest.approx((2 * 300 + HOLD_S * 400, 2 * 100 + HOLD_S * 400, 400))
    assert got.unmetered_s == pytest.approx(1 + 2 * (20 - 4 - HOLD_S) + 4)


def test_the_kind_of_a_plant_follows_from_its_nameplates() -> None:
    assert [site.plant for site in WORLD.sites] == ["sun", "mixed", "wind"]


SUMMARY = DemoSummary(
    jobs=6,
    jobs_completed=6,
    migrations_completed=5,
    migrations_failed=0,
    steps_lost=0,
    double_runs=0,
    weights_identical=True,
    renewable_share=0.7,
    renewable_share_replayed={"static": 0.5, "feasibility-aware": 0.6, "sterna": 0.65},
    forecasts_learnt_frac=0.98,
    energy_wh=100.0,
    bytes_moved=1,
    downtime_s=(2.0,),
    limit_events=1,
    limit_breaches=0,
    limits_obeyed=1,
    seconds=180.0,
    seed=1,
)


def test_the_summary_has_the_policies_side_by_side() -> None:
    document = SUMMARY.to_json()
    assert document["schema"] == "sterna.demo/1"
    assert document["renewable_share_static"] == 0.5
    assert document["renewable_share_feasibility_aware"] == 0.6
    assert document["renewable_share_sterna_replayed"] == 0.65
    assert "renewable_share_replayed" not in document
    assert "same day     replayed: static 50.0%, feasibility-aware 60.0%, sterna 65.0%" in SUMMARY.lines()
    assert SUMMARY.problems() == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"jobs_completed": 5}, "1 of 6 jobs did not complete"),
        ({"steps_lost": 2}, "2 steps were lost"),
        ({"double_runs": 1}, "1 times a job ran twice at once"),
        ({"weights_identical": False}, "weights differ"),
        ({"limit_breaches": 3}, "the grid limit was breached 3 times"),
    ],
)
def test_what_is_not_as_promised_is_a_problem(changed: dict[str, object], problem: str) -> None:
    found = replace(SUMMARY, **changed).problems()  # type: ignore[arg-type]
    assert len(found) == 1 and found[0].startswith(problem)
