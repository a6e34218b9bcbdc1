"""Surplus with a site's battery in it: what a plan may count on, and when on nothing."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.battery import Battery
from coordinator.core.firming import with_battery
from coordinator.core.fleet import fold
from coordinator.core.four_moves import firmed
from coordinator.core.view import ViewSettings, build_view
from coordinator.model.site import SiteBattery
from coordinator.model.view import SiteView
from tests.coordinator.core.fleets import NOW, forecast, site
from tests.coordinator.core.histories import NOW as THEN
from tests.coordinator.core.histories import SPEC, at_work, here, sample, seen

HOUR = 3600.0
POWER_W = 500.0
HALF = SiteBattery(
    soc_frac=0.6,
    capacity_wh=2500.0,
    available_wh=1500.0,
    max_charge_w=400.0,
    max_discharge_w=300.0,
    reserve_wh=500.0,
    serves_site=True,
)
ONE_WAY = Battery(capacity_wh=1.0, charge_w=1.0, discharge_w=1.0).one_way_frac


def place(*watts: float, load_w: float | None = 0.0, slots: int = 2) -> SiteView:
    plain = site("a", surplus_w=watts[0], windows=forecast(*watts, slot_s=HOUR), slots=slots)
    return replace(plain, site_load_w=load_w)


def medians(seen_as: SiteView) -> list[float]:
    assert seen_as.forecast is not None
    return [slot.p50_w for slot in seen_as.forecast.slots]


def test_it_gives_what_jobs_could_draw_until_it_is_empty() -> None:
    found = with_battery(place(0.0, 0.0, 0.0, 0.0, 0.0), HALF, POWER_W, NOW)
    left_w = 1000.0 * ONE_WAY - 3 * 300.0  # of what is above its reserve, on its way out
    assert medians(found) == pytest.approx([300.0, 300.0, 300.0, left_w, 0.0])
    assert found.surplus_w == pytest.approx(300.0)


def test_it_takes_what_no_job_could_draw_until_it_is_full() -> None:
    found = with_battery(place(1400.0, 1100.0, 1500.0, 1500.0, 1500.0), HALF, POWER_W, NOW)
    room_w = 1000.0 / ONE_WAY - 400.0 - 100.0 - 400.0
    assert medians(found) == pytest.approx([1000.0, 1000.0, 1100.0, 1500.0 - room_w, 1500.0])


def test_the_site_itself_comes_before_jobs() -> None:
    found = with_battery(place(0.0, 0.0, 100.0, load_w=200.0), HALF, POWER_W, NOW)
    assert medians(found) == pytest.approx([100.0, 100.0, 400.0]), "where there is surplus it lacks nothing"
    assert medians(with_battery(place(0.0, 0.0, load_w=300.0), HALF, POWER_W, NOW)) == [0.0, 0.0]


def test_a_part_of_a_slot_and_slots_that_are_over() -> None:
    plain = place(0.0, 0.0, 0.0, 0.0, 0.0)
    found = with_battery(plain, HALF, POWER_W, NOW + timedelta(hours=1, minutes=30))
    left_w = 1000.0 * ONE_WAY - 2.5 * 300.0
    assert medians(found) == pytest.approx([300.0, 300.0, 300.0, left_w])


@pytest.mark.parametrize(
    ("seen_as", "battery", "power_w"),
    [
        (place(0.0, 0.0), replace(HALF, serves_site=False), POWER_W),
        (place(0.0, 0.0), replace(HALF, available_wh=None), POWER_W),
        (place(0.0, 0.0), replace(HALF, capacity_wh=None), POWER_W),
        (place(0.0, 0.0), replace(HALF, reserve_wh=None), POWER_W),
        (place(0.0, 0.0), replace(HALF, reserve_wh=2500.0), POWER_W),
        (place(0.0, 0.0), replace(HALF, max_charge_w=None), POWER_W),
        (place(0.0, 0.0), replace(HALF, max_discharge_w=None), POWER_W),
        (place(0.0, 0.0, load_w=None), HALF, POWER_W),
        (replace(place(0.0, 0.0), surplus_w=None), HALF, POWER_W),
        (replace(place(0.0, 0.0), surplus_quality_ok=False), HALF, POWER_W),
        (replace(place(0.0, 0.0), forecast=None), HALF, POWER_W),
        (replace(place(0.0, 0.0), forecast=forecast(0.0, start_s=60.0)), HALF, POWER_W),
        (replace(place(0.0, 0.0), forecast=forecast(0.0, start_s=-HOUR)), HALF, POWER_W),
        (place(0.0, 0.0), HALF, 0.0),
    ],
)
def test_what_is_not_known_is_not_counted_on(seen_as: SiteView, battery: SiteBattery, power_w: float) -> None:
    assert with_battery(seen_as, battery, power_w, NOW) is seen_as


watts = st.floats(0.0, 5e3)
days = st.lists(watts, min_size=1, max_size=24)


@given(days, st.floats(1.0, 2e4), watts, watts)
def test_an_empty_battery_promises_what_it_does_in_replay(
    day: list[float], capacity_wh: float, charge_w: float, discharge_w: float
) -> None:
    empty = replace(
        HALF,
        capacity_wh=capacity_wh,
        available_wh=0.0,
        reserve_wh=0.0,
        max_charge_w=charge_w,
        max_discharge_w=discharge_w,
    )
    battery = Battery(capacity_wh=capacity_wh, charge_w=charge_w, discharge_w=discharge_w)
    found = with_battery(place(*day), empty, POWER_W, NOW)
    assert medians(found) == pytest.approx(firmed(tuple(day), 2 * POWER_W, battery, HOUR), abs=1e-6)


@given(days, st.lists(watts, min_size=24, max_size=24), st.floats(0.0, 2500.0))
def test_more_surplus_or_charge_never_promises_less(
    day: list[float], more: list[float], available_wh: float
) -> None:
    plain = place(*day)
    assert plain.forecast is not None
    courses = np.array([day, [one + other for one, other in zip(day, more, strict=False)]])
    drawn = replace(plain, forecast=replace(plain.forecast, paths_w=courses))
    found = with_battery(drawn, replace(HALF, available_wh=available_wh), POWER_W, NOW).forecast
    assert found is not None and found.paths_w is not None
    assert (found.paths_w[1] >= found.paths_w[0] - 1e-6).all()
    assert found.paths_w[0] == pytest.approx([slot.p50_w for slot in found.slots])
    fuller = with_battery(drawn, HALF, POWER_W, NOW).forecast
    assert fuller is not None and fuller.paths_w is not None
    sign = 1.0 if available_wh <= 1500.0 else -1.0
    assert (sign * (fuller.paths_w - found.paths_w) >= -1e-6).all()


def test_the_planner_is_shown_a_site_with_its_battery() -> None:
    telling = replace(sample(surplus_w=0.0), site_load_w=0.0, battery=HALF)
    live = here()
    live = {**live, "a": replace(live["a"], sample=telling)}
    ahead = {
        "a": replace(
            forecast(0.0, 0.0, slot_s=HOUR),
            slots=tuple(
                replace(slot, start_at=slot.start_at - NOW + THEN, end_at=slot.end_at - NOW + THEN)
                for slot in forecast(0.0, 0.0, slot_s=HOUR).slots
            ),
        )
    }
    shown = build_view(fold([*seen("a"), *at_work()]), live, ahead, THEN, ViewSettings()).sites["a"]
    assert shown.surplus_w == pytest.approx(min(300.0, shown.slots * SPEC.power_w))
    silent = {**live, "a": replace(live["a"], sample=replace(telling, battery=None))}
    assert (
        build_view(fold([*seen("a"), *at_work()]), silent, ahead, THEN, ViewSettings()).sites["a"].surplus_w
        == 0.0
    )
