"""The power balance: what counts, what is unknown, and that our own draw never feeds back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.sitepower import frequency_hz, others_w, site_power
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
GRID, GENERATION, LOAD = MeterRole.GRID, MeterRole.GENERATION, MeterRole.LOAD
BATTERY, COMPUTE = MeterRole.BATTERY, MeterRole.COMPUTE
watts = st.floats(0, 1e6)


def balance(
    powers: Mapping[MeterRole, float | tuple[float | None, Quality] | None],
    *,
    available: float | None = None,
    **more: Any,
) -> SitePower:
    readings = {}
    for role, given_ in powers.items():
        power_w, quality = given_ if isinstance(given_, tuple) else (given_, Quality.OK)
        readings[role.value] = MeterReading(
            meter=role.value,
            role=role,
            measured_at=NOW,
            measured_boottime_s=1.0,
            quality=quality if power_w is not None else Quality.BAD,
            active_power_w=power_w,
            available_power_w=available if role is GENERATION else None,
        )
    return site_power(readings, meters={role.value: role for role in powers}, now=NOW, **more)


@pytest.mark.parametrize(
    ("powers", "compute_w", "load_w", "surplus_w"),
    [
        ({GRID: -2000.0, GENERATION: 3000.0}, 0.0, 1000.0, 2000.0),
        ({GRID: -500.0, GENERATION: 3000.0}, 1500.0, 1000.0, 2000.0),
        ({GRID: 1000.0, GENERATION: 0.0}, 0.0, 1000.0, 0.0),
        ({GRID: -1000.0, GENERATION: 3000.0, BATTERY: 1000.0}, 0.0, 1000.0, 2000.0),
        ({GRID: -3000.0, GENERATION: 3000.0, BATTERY: -1000.0}, 0.0, 1000.0, 2000.0),
        ({GRID: -500.0, GENERATION: 3000.0, COMPUTE: 1500.0}, None, 1000.0, 2000.0),
        ({GRID: 99.0, GENERATION: 3000.0, LOAD: 1200.0}, None, 1200.0, 1800.0),
        ({GENERATION: 3000.0, LOAD: 1200.0}, None, 1200.0, 1800.0),
        ({GRID: -2000.0, GENERATION: 3000.0}, None, None, None),
        ({GRID: None, GENERATION: 3000.0}, 0.0, None, None),
        ({GRID: -2000.0, GENERATION: None}, 0.0, None, None),
        ({GRID: -2000.0, GENERATION: 3000.0, BATTERY: None}, 0.0, None, None),
        ({GRID: -2000.0}, 0.0, None, None),
        ({GRID: -2000.0, GENERATION: 3000.0, COMPUTE: None}, 5.0, None, None),
        ({GRID: -2000.0, GENERATION: 3000.0, LOAD: None}, 0.0, None, None),
    ],
)
def test_balance(
    powers: Mapping[MeterRole, float | None],
    compute_w: float | None,
    load_w: float | None,
    surplus_w: float | None,
) -> None:
    site = balance(powers, compute_w=compute_w)
    assert site.site_load_w == load_w
    assert site.surplus_w == surplus_w


@pytest.mark.parametrize(("available", "surplus_w"), [(None, 2000.0), (5000.0, 4000.0), (100.0, 2000.0)])
def test_curtailed_plant_counts_with_what_it_could_give(available: float | None, surplus_w: float) -> None:
    site = balance({GRID: -2000.0, GENERATION: 3000.0}, available=available, compute_w=0.0)
    assert site.surplus_w == surplus_w
    assert site.generation_w == 3000.0


def test_two_plants_add_up_and_one_that_is_silent_makes_it_unknown() -> None:
    def plant(name: str, power_w: float | None, available_w: float | None) -> MeterReading:
        return MeterReading(
            meter=name,
            role=GENERATION,
            measured_at=NOW,
            measured_boottime_s=1.0,
            quality=Quality.OK,
            active_power_w=power_w,
            available_power_w=available_w,
        )

    meters = {"a": GENERATION, "b": GENERATION}
    both = {"a": plant("a", 1000.0, 1500.0), "b": plant("b", 400.0, None)}
    site = site_power(both, meters=meters, now=NOW, compute_w=0.0)
    assert (site.generation_w, site.available_w) == (1400.0, 1900.0)
    one = site_power({"a": both["a"]}, meters=meters, now=NOW, compute_w=0.0)
    assert (one.generation_w, one.available_w, one.quality) == (None, None, Quality.BAD)


@pytest.mark.parametrize(
    ("grid", "generation", "worst"),
    [
        (Quality.OK, Quality.OK, Quality.OK),
        (Quality.STALE, Quality.OK, Quality.STALE),
        (Quality.STALE, Quality.BAD, Quality.BAD),
    ],
)
def test_worst_quality(grid: Quality, generation: Quality, worst: Quality) -> None:
    metered = {GRID: (1.0, grid), GENERATION: (1.0, generation), COMPUTE: (0.0, Quality.OK)}
    assert balance(metered).quality is worst


def test_a_draw_that_no_meter_has_makes_an_estimate() -> None:
    assert balance({GRID: 1.0, GENERATION: 1.0}, compute_w=0.0).quality is Quality.ESTIMATED


def test_a_site_without_meters_knows_nothing() -> None:
    site = site_power({}, meters={}, now=NOW)
    assert (site.quality, site.surplus_w, site.grid_w, site.measured_at) == (Quality.BAD, None, None, NOW)


@given(load=watts, generation=watts, ours=watts, more=watts, battery=st.floats(-1e6, 1e6))
def test_our_own_draw_never_feeds_back(
    load: float, generation: float, ours: float, more: float, battery: float
) -> None:
    def surplus_w(compute_w: float) -> float:
        grid_w = load + compute_w + battery - generation
        site = balance({GRID: grid_w, GENERATION: generation, BATTERY: battery}, compute_w=compute_w)
        assert site.surplus_w is not None
        return site.surplus_w

    assert surplus_w(ours) == pytest.approx(surplus_w(ours + more), abs=1e-3)
    assert surplus_w(ours) == pytest.approx(max(0.0, generation - load), abs=1e-3)


@given(grid=st.floats(-1e6, 1e6), generation=watts, battery=st.floats(-1e6, 1e6), compute=watts)
def test_balance_closes(grid: float, generation: float, battery: float, compute: float) -> None:
    site = balance({GRID: grid, GENERATION: generation, BATTERY: battery}, compute_w=compute)
    assert site.site_load_w is not None
    assert grid + generation == pytest.approx(site.site_load_w + battery + compute, abs=1e-3)
    assert site.surplus_w is not None and site.surplus_w >= 0


@given(generation=watts, load=watts, growth=watts)
def test_more_load_never_means_more_surplus(generation: float, load: float, growth: float) -> None:
    less = balance({GENERATION: generation, LOAD: load + growth}).surplus_w
    more = balance({GENERATION: generation, LOAD: load}).surplus_w
    assert less is not None and more is not None and less <= more


@pytest.mark.parametrize(
    ("powers", "compute_w", "expected_w"),
    [
        ({GRID: 500.0, GENERATION: 0.0}, 400.0, 100.0),
        ({GRID: 500.0, GENERATION: (2000.0, Quality.STALE)}, 400.0, 100.0),
        ({GRID: 500.0, GENERATION: None}, 400.0, 100.0),
        ({GRID: 500.0, GENERATION: 1000.0, LOAD: 1200.0}, 400.0, 200.0),
        ({GRID: 500.0, GENERATION: 1000.0, LOAD: (1200.0, Quality.STALE)}, 400.0, 100.0),
        ({GRID: (500.0, Quality.STALE), GENERATION: 1000.0, LOAD: (1200.0, Quality.STALE)}, 400.0, 200.0),
        ({GRID: 500.0, GENERATION: None}, None, None),
    ],
    ids=["both", "plant stale", "plant silent", "load metered", "load stale", "all stale", "ours unknown"],
)
def test_a_silent_neighbour_does_not_hide_what_the_grid_meter_says(
    powers: dict[MeterRole, Any], compute_w: float | None, expected_w: float | None
) -> None:
    site = balance(powers, compute_w=compute_w)
    assert others_w(site) == expected_w
    assert site.load_metered is (LOAD in powers)
    stale = isinstance(powers[GRID], tuple)
    assert site.import_quality is (Quality.STALE if stale else Quality.OK)


def test_a_site_without_a_grid_meter_has_no_import_to_trust() -> None:
    site = balance({GENERATION: 3000.0, LOAD: 1200.0})
    assert (site.quality, site.import_quality) == (Quality.OK, Quality.BAD)


@pytest.mark.parametrize(
    ("meters", "expected_hz"),
    [
        ({}, None),
        ({"inverter": (GENERATION, 50.1, Quality.OK)}, None),
        ({"b": (GRID, 50.02, Quality.OK), "a": (GRID, 50.01, Quality.OK)}, 50.01),
        ({"b": (GRID, 50.02, Quality.OK), "a": (GRID, None, Quality.OK)}, 50.02),
        ({"a": (GRID, 50.01, Quality.STALE)}, None),
    ],
)
def test_the_frequency_is_that_of_a_grid_meter_that_answers(
    meters: dict[str, tuple[MeterRole, float | None, Quality]], expected_hz: float | None
) -> None:
    readings = [
        MeterReading(
            meter=name,
            role=role,
            measured_at=NOW,
            measured_boottime_s=1.0,
            quality=quality,
            active_power_w=1.0,
            frequency_hz=stated_hz,
        )
        for name, (role, stated_hz, quality) in meters.items()
    ]
    assert frequency_hz(readings) == expected_hz
