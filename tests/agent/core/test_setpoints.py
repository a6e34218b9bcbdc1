"""Set-points of plants and batteries: tables of single decisions, and laws on whole courses."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.setpoints import (
    ChargeSurplus,
    ExportLimit,
    Fixed,
    SetState,
    Sight,
    decide,
    least_export_w,
    sight_of,
    wish_of,
    within_limits,
)
from agent.model.readings import MeterReading, MeterRole, Quality

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
LIMIT = ExportLimit(rated_w=20_000.0, export_limit_w=5_000.0, band_w=200.0, rise_w_per_s=100.0, grace_s=30.0)
CHARGE = ChargeSurplus(
    control="active-power",
    max_charge_w=5_000.0,
    min_charge_w=300.0,
    band_w=100.0,
    rise_w_per_s=500.0,
    grace_s=30.0,
)


def state(power_w: float | None, *, at_s: float = 99.0, known_s: float = 99.0) -> SetState:
    return SetState(power_w=power_w, at_s=at_s, known_s=known_s)


@pytest.mark.parametrize(
    ("before_w", "grid_w", "plant_w", "after_w"),
    [
        (None, -8_000.0, 10_000.0, 6_800.0),  # load 2 kW: 7 kW allowed, the band below
        (None, 14_000.0, 1_000.0, None),  # load 15 kW: the whole plant may run
        (None, 13_000.0, 1_000.0, 18_800.0),
        (6_800.0, -4_800.0, 6_800.0, 6_800.0),  # in the band: nothing moves
        (7_000.0, -5_000.0, 7_000.0, 7_000.0),  # at its upper edge
        (7_001.0, -5_001.0, 7_001.0, 6_800.0),  # above: down at once
        (6_800.0, -300.0, 6_800.0, 6_900.0),  # a load came: up by the ramp
        (19_950.0, 15_000.0, 5_000.0, None),  # the rating is reached: free again
        (19_950.0, 0.0, 15_000.0, 19_800.0),  # at the rating, not above it: still capped
        (3_000.0, -9_000.0, 3_000.0, 0.0),  # others export too: never below zero
    ],
)
def test_an_export_limit(
    before_w: float | None, grid_w: float, plant_w: float, after_w: float | None
) -> None:
    after = decide(LIMIT, state(before_w), Sight(grid_w=grid_w, device_w=plant_w), now_s=100.0)
    assert after == SetState(power_w=after_w, at_s=100.0, known_s=100.0)


@pytest.mark.parametrize(
    ("before_w", "grid_w", "battery_w", "after_w"),
    [
        (None, -350.0, 0.0, None),  # not enough to begin
        (None, -400.0, 0.0, 300.0),
        (None, -4_000.0, 0.0, 800.0),  # begins low, by the ramp
        (800.0, -3_000.0, 800.0, 1_300.0),
        (3_000.0, -100.0, 3_000.0, 3_000.0),  # in the band
        (3_000.0, 50.0, 3_000.0, 2_850.0),  # importing: down at once
        (3_000.0, 2_650.0, 3_000.0, 300.0),
        (3_000.0, 2_750.0, 3_000.0, None),
        (4_900.0, -9_000.0, 4_900.0, 5_000.0),
    ],
)
def test_charging_from_surplus(
    before_w: float | None, grid_w: float, battery_w: float, after_w: float | None
) -> None:
    after = decide(CHARGE, state(before_w), Sight(grid_w=grid_w, device_w=battery_w), now_s=100.0)
    assert after.power_w == after_w


@pytest.mark.parametrize("missing", ["grid_w", "device_w"])
@pytest.mark.parametrize(
    ("rule", "before_w", "blind_s", "after_w"),
    [
        (LIMIT, 9_000.0, 30.0, 9_000.0),
        (LIMIT, 9_000.0, 31.0, 5_000.0),
        (LIMIT, 3_000.0, 31.0, 3_000.0),
        (LIMIT, None, 31.0, 5_000.0),
        (LIMIT, None, 30.0, None),
        (CHARGE, 900.0, 30.0, 900.0),
        (CHARGE, 900.0, 31.0, None),
    ],
)
def test_meters_that_fall_silent(
    missing: str,
    rule: ExportLimit | ChargeSurplus,
    before_w: float | None,
    blind_s: float,
    after_w: float | None,
) -> None:
    sight = Sight(**({"grid_w": 1.0, "device_w": 1.0} | {missing: None}))
    after = decide(rule, state(before_w, known_s=100.0), sight, now_s=100.0 + blind_s)
    assert (after.power_w, after.known_s) == (after_w, 100.0)


def test_a_start_without_meters_has_its_grace() -> None:
    blind = Sight(grid_w=None, device_w=None)
    first = decide(LIMIT, SetState(), blind, now_s=50.0)
    assert first == SetState(power_w=None, at_s=50.0, known_s=50.0)
    assert decide(LIMIT, first, blind, now_s=81.0).power_w == 5_000.0


def test_what_carries_a_decision() -> None:
    assert wish_of(LIMIT, state(5_000.0)) == {"WMaxLimPct": 25.0}
    assert wish_of(LIMIT, state(None)) is None
    assert wish_of(CHARGE, state(900.0)) == {"WSet": -900.0}
    rates = ChargeSurplus(
        control="storage-rates",
        max_charge_w=4_000.0,
        min_charge_w=1.0,
        band_w=0.0,
        rise_w_per_s=1.0,
        grace_s=1.0,
    )
    assert wish_of(rates, state(1_000.0)) == {"InWRte": 25.0, "OutWRte": -25.0}
    fixed = Fixed(values={"SetOp": 1.0})
    assert wish_of(fixed, decide(fixed, SetState(), Sight(grid_w=None, device_w=None), now_s=1.0)) == {
        "SetOp": 1.0
    }


def reading(meter: str, power_w: float | None, quality: Quality = Quality.OK) -> MeterReading:
    return MeterReading(
        meter=meter,
        role=MeterRole.GRID,
        measured_at=AT,
        measured_boottime_s=1.0,
        quality=quality,
        active_power_w=power_w,
    )


METERS = {"a": MeterRole.GRID, "b": MeterRole.GRID, "pv": MeterRole.GENERATION}


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([reading("a", 1.0), reading("b", 2.0), reading("pv", 9.0)], (3.0, 9.0)),
        ([reading("a", 1.0), reading("pv", 9.0)], (None, 9.0)),
        ([reading("a", 1.0), reading("b", 2.0, Quality.STALE), reading("pv", 9.0)], (None, 9.0)),
        ([reading("a", 1.0), reading("b", 2.0), reading("pv", None, Quality.BAD)], (3.0, None)),
        ([], (None, None)),
    ],
)
def test_only_good_readings_count(
    readings: list[MeterReading], expected: tuple[float | None, float | None]
) -> None:
    sight = sight_of({one.meter: one for one in readings}, METERS, "pv")
    assert (sight.grid_w, sight.device_w) == expected
    assert sight_of({}, {}, "pv").grid_w is None


LOADS = st.lists(st.floats(0.0, 30_000.0), min_size=1, max_size=40)


@given(LOADS, st.floats(0.0, 20_000.0))
def test_after_each_decision_the_plant_may_not_export_more_than_the_limit(
    loads: list[float], sun_w: float
) -> None:
    now, plant_w = SetState(), sun_w
    for second, load_w in enumerate(loads):
        now = decide(LIMIT, now, Sight(grid_w=load_w - plant_w, device_w=plant_w), now_s=float(second))
        plant_w = sun_w if now.power_w is None else min(sun_w, now.power_w)
        assert plant_w - load_w <= LIMIT.export_limit_w + 1e-6
        assert now.power_w is None or 0 <= now.power_w < LIMIT.rated_w


@given(LOADS, st.floats(0.0, 20_000.0))
def test_charging_never_makes_the_site_import(loads: list[float], sun_w: float) -> None:
    now, battery_w = SetState(), 0.0
    for second, load_w in enumerate(loads):
        grid_w = load_w + battery_w - sun_w
        now = decide(CHARGE, now, Sight(grid_w=grid_w, device_w=battery_w), now_s=float(second))
        battery_w = now.power_w or 0.0
        assert battery_w <= max(0.0, sun_w - load_w) + 1e-6 and battery_w <= CHARGE.max_charge_w


@given(st.floats(0.0, 15_000.0), st.floats(-150.0, 150.0))
def test_a_restless_load_does_not_move_a_set_point(load_w: float, wobble_w: float) -> None:
    first = decide(LIMIT, SetState(), Sight(grid_w=load_w - 10_000.0, device_w=10_000.0), now_s=0.0)
    if first.power_w is not None and load_w + 400.0 < 15_000.0:
        sight = Sight(grid_w=load_w + wobble_w - 10_000.0, device_w=10_000.0)
        assert decide(LIMIT, first, sight, now_s=1.0).power_w == first.power_w


@pytest.mark.parametrize(
    ("told", "expected_w"),
    [([], 5000.0), ([9000.0], 5000.0), ([3000.0, 4000.0], 3000.0), ([0.0], 0.0)],
)
def test_an_operators_limit_only_lowers_the_configured_one(told: list[float], expected_w: float) -> None:
    rule = within_limits(LIMIT, told)
    assert isinstance(rule, ExportLimit)
    assert rule.export_limit_w == expected_w
    assert within_limits(Fixed(values={"WMaxLimPct": 50.0}), told) == Fixed(values={"WMaxLimPct": 50.0})


@pytest.mark.parametrize(
    ("grid_w", "plants_w", "least_w"),
    [
        (-5_000.0, [4_000.0], 1_000.0),
        (-5_000.0, [4_000.0, 3_000.0], 0.0),
        (2_000.0, [4_000.0], 0.0),
        (None, [4_000.0], None),
        (-5_000.0, [4_000.0, None], None),
        (-5_000.0, [], None),
    ],
)
def test_the_export_that_is_left_with_the_plants_off(
    grid_w: float | None, plants_w: list[float | None], least_w: float | None
) -> None:
    plants = [reading("inverter", made_w) for made_w in plants_w]
    assert least_export_w(grid_w, plants) == least_w
    assert least_export_w(grid_w, [*plants, None]) is None, "one has not spoken yet"
    silent = [reading("inverter", 0.0, Quality.STALE)]
    assert least_export_w(grid_w, silent) is None, "what it said last says nothing of now"
