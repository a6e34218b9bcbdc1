"""The plant's arithmetic and the error of its forecasts."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.simulator.forecast import ErrorModel, forecast, message
from agent.simulator.plant import Plant, SimTime
from agent.simulator.traces import bundled, parsed

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
DAY = datetime(2023, 3, 30, 3, tzinfo=UTC)
TIME = SimTime(start_at=NOW, trace_start_at=DAY, speedup=480.0)
FLAT = parsed(["pv_cf,wind_cf", "0.5,0.25"], place="flat")
PLANT = Plant(trace=FLAT, pv_w=4000.0, wind_w=2000.0, base_load_w=1000.0)
MIAMI = Plant(trace=bundled("miami"), pv_w=3000.0, wind_w=12000.0, base_load_w=1000.0)
PERFECT = ErrorModel(sigma_start=0, sigma_per_sqrt_hour=0, sigma_max=0)
HOURS = timedelta(hours=24)
HALF = timedelta(minutes=30)


def test_only_the_trace_runs_faster() -> None:
    assert TIME.trace_at(NOW + timedelta(seconds=7.5)) == DAY + timedelta(hours=1)
    assert TIME.trace_at(NOW - timedelta(seconds=99)) == DAY
    assert TIME.real_at(DAY + timedelta(hours=24)) == NOW + timedelta(minutes=3)


def test_state() -> None:
    state = PLANT.state(DAY, compute_w=700.0)
    assert (state.generation_w, state.available_w, state.grid_w) == (2500.0, 2500.0, -800.0)
    curtailed = PLANT.state(DAY, compute_w=700.0, limit_generation_w=1000.0)
    assert (curtailed.generation_w, curtailed.available_w, curtailed.grid_w) == (1000.0, 2500.0, 700.0)


@given(st.floats(0, 366 * 24), st.floats(0, 1e5), st.one_of(st.none(), st.floats(0, 1e5)))
def test_balance_closes(hours: float, compute_w: float, limit_w: float | None) -> None:
    state = MIAMI.state(DAY + timedelta(hours=hours), compute_w=compute_w, limit_generation_w=limit_w)
    assert state.grid_w + state.generation_w == pytest.approx(state.base_load_w + state.compute_w)
    assert 0 <= state.generation_w <= state.available_w <= MIAMI.nameplate_w


def test_a_perfect_forecast_is_the_trace() -> None:
    slots = forecast(MIAMI, TIME, now=NOW, horizon=HOURS, slot=HALF, errors=PERFECT)
    assert len(slots) == 48
    for number, slot in enumerate(slots):
        middle = DAY + HALF * (number + 0.5)
        surplus_w = max(0.0, MIAMI.generation_w(MIAMI.trace.at(middle)) - 1000.0)
        assert slot.p10_w == slot.p50_w == slot.p90_w == pytest.approx(surplus_w)
    assert any(slot.p50_w > 1000 for slot in slots)


@given(st.floats(0, 500), st.integers(0, 50))
def test_slots_meet_and_quantiles_rise(later_s: float, seed: int) -> None:
    now = NOW + timedelta(seconds=later_s)
    slots = forecast(MIAMI, TIME, now=now, horizon=HOURS, slot=HALF, errors=ErrorModel(seed=seed))
    assert slots[0].start_at <= now < slots[0].start_at + timedelta(seconds=slots[0].duration_s)
    for slot, following in pairwise(slots):
        assert slot.start_at + timedelta(seconds=slot.duration_s) == following.start_at
    for slot in slots:
        assert 0 <= slot.p10_w <= slot.p50_w <= slot.p90_w <= MIAMI.nameplate_w


def test_the_same_seed_errs_alike_and_another_does_not() -> None:
    def issue(seed: int) -> list[float]:
        errors = ErrorModel(seed=seed)
        return [s.p50_w for s in forecast(PLANT, TIME, now=NOW, horizon=HOURS, slot=HALF, errors=errors)]

    assert issue(1) == issue(1)
    assert issue(1) != issue(2)


@pytest.mark.parametrize("slot_number", [0, 20])
def test_quantiles_hold_what_they_promise(slot_number: int) -> None:
    truth_w = PLANT.surplus_w(2500.0)
    inside = below = 0
    issues = 2000
    for seed in range(issues):
        errors = ErrorModel(seed=seed, sigma_max=0.15)
        horizon = HALF * (slot_number + 1)
        slot = forecast(PLANT, TIME, now=NOW, horizon=horizon, slot=HALF, errors=errors)[slot_number]
        inside += slot.p10_w <= truth_w <= slot.p90_w
        below += truth_w <= slot.p50_w
    assert 0.77 < inside / issues < 0.83
    assert 0.45 < below / issues < 0.55


def test_the_error_grows_with_lead() -> None:
    slots = forecast(PLANT, TIME, now=NOW, horizon=HOURS, slot=HALF, errors=ErrorModel())
    spread = [(s.p90_w + 1000) / (s.p10_w + 1000) for s in slots]
    assert spread == sorted(spread) and spread[-1] > 1.3 * spread[0]


def test_message_is_what_the_agent_reads() -> None:
    slots = forecast(PLANT, TIME, now=NOW, horizon=timedelta(hours=1), slot=HALF, errors=PERFECT)
    assert json.loads(json.dumps(message(slots, issued_at=NOW))) == {
        "v": 1,
        "issued": "2026-03-30T12:00:00Z",
        "source": "plant",
        "slots": [
            {"start": start, "durationS": 3.75, "surplusW": {"p10": 1500.0, "p50": 1500.0, "p90": 1500.0}}
            for start in ("2026-03-30T12:00:00Z", "2026-03-30T12:00:03.750000Z")
        ],
    }
