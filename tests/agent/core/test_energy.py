"""Energy: counters that wrap, reset and pause; integration; conservation; quality to the end."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.energy import WRAPS_WH, EnergyStep, EnergyTrack, imbalance_fault, step, total
from agent.model.readings import MeterReading, MeterRole, Quality

START = datetime(2026, 3, 30, 12, tzinfo=UTC)
MAX_W = 10_000.0


def reading(
    at_s: float,
    power_w: float | None = 0.0,
    *,
    imported: float | None = None,
    exported: float | None = None,
    quality: Quality = Quality.OK,
    role: MeterRole = MeterRole.GRID,
    booted_s: float = 0.0,
) -> MeterReading:
    return MeterReading(
        meter="m",
        role=role,
        measured_at=START + timedelta(seconds=at_s),
        measured_boottime_s=at_s - booted_s,
        quality=quality,
        active_power_w=power_w,
        energy_import_wh=imported,
        energy_export_wh=exported,
    )


def steps(readings: Sequence[MeterReading], *, max_gap_s: float = 10.0) -> list[EnergyStep]:
    track, done = EnergyTrack(), []
    for one in readings:
        track, found = step(track, one, max_power_w=MAX_W, max_gap_s=max_gap_s)
        if found is not None:
            done.append(found)
    return done


def amounts(
    readings: Sequence[MeterReading],
) -> list[tuple[float | None, Quality, float | None, Quality]]:
    return [
        (s.imported.energy_wh, s.imported.quality, s.exported.energy_wh, s.exported.quality)
        for s in steps(readings)
    ]


OK, EST, BAD = Quality.OK, Quality.ESTIMATED, Quality.BAD


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((0, 3600.0, {}), (1, 3600.0, {}), (1.0, EST, 0.0, EST)),
        ((0, -3600.0, {}), (1, -3600.0, {}), (0.0, EST, 1.0, EST)),
        ((0, 3600.0, {}), (1, -3600.0, {}), (0.25, EST, 0.25, EST)),
        ((0, 0.0, {}), (1, 7200.0, {}), (1.0, EST, 0.0, EST)),
        ((0, 3600.0, {}), (11, 3600.0, {}), (None, BAD, None, BAD)),
        ((0, 0.0, {"imported": 100.0}), (1, 0.0, {"imported": 102.0}), (2.0, OK, 0.0, EST)),
        ((0, 0.0, {"imported": 100.0}), (3600, 0.0, {"imported": 5100.0}), (5000.0, OK, None, BAD)),
        ((0, 0.0, {"imported": 2.0**32 - 2}), (1, 0.0, {"imported": 1.0}), (3.0, OK, 0.0, EST)),
        ((0, 0.0, {"imported": 1e10 - 100}), (1, 0.0, {"imported": 0.0}), (100.0, OK, 0.0, EST)),
        ((0, 3600.0, {"imported": 5e6}), (1, 3600.0, {"imported": 3.0}), (1.0, EST, 0.0, EST)),
        ((0, 3600.0, {"imported": 5.0}), (1, 3600.0, {"imported": 5e6}), (1.0, EST, 0.0, EST)),
        ((0, 9000.0, {"imported": 5.0}), (1, 9000.0, {}), (0.0, OK, 0.0, EST)),
        ((0, 0.0, {"exported": 5.0}), (1, 0.0, {"exported": 6.0}), (0.0, EST, 1.0, OK)),
    ],
    ids=[
        "in", "out", "through zero", "ramp", "gap without counter", "counter", "counter over a gap",
        "wrap at 32 bits", "wrap of a display", "reset", "jump", "counter pauses", "one direction counted",
    ],
)  # fmt: skip
def test_one_step(before: tuple, after: tuple, expected: tuple) -> None:
    pair = [reading(at_s, power_w, **more) for at_s, power_w, more in (before, after)]
    (got,) = amounts(pair)
    assert got == pytest.approx(expected) if None not in expected else got == expected


def test_a_counter_that_is_read_seldom_brings_what_it_counted() -> None:
    counters = [1000.0] * 30 + [1300.0] * 30 + [1600.0]
    readings = [reading(n, 9000.0, imported=value) for n, value in enumerate(counters)]
    summed = total(steps(readings))
    assert (summed.imported_wh, summed.quality) == (600.0, EST)
    assert summed.estimated_wh == 0.0, "only the direction without a counter is estimated, at 0 Wh"


def test_a_reset_costs_one_step_and_the_new_count_goes_on() -> None:
    readings = [
        reading(n, 3600.0, imported=v, exported=9.0) for n, v in enumerate([500.0, 501.0, 0.5, 1.5, 2.5])
    ]
    summed = total(steps(readings))
    assert summed.imported_wh == pytest.approx(4.0)
    assert (summed.estimated_wh, summed.quality) == (pytest.approx(1.0), EST)


def test_a_glitch_is_not_energy() -> None:
    values = [500.0, 501.0, 4e9, 503.0, 504.0]
    summed = total(steps([reading(n, 3600.0, imported=v, exported=9.0) for n, v in enumerate(values)]))
    assert summed.imported_wh == pytest.approx(4.0)


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.BAD, Quality.ESTIMATED])
def test_readings_that_are_not_good_are_bridged(quality: Quality) -> None:
    readings = [
        reading(0, 3600.0, imported=100.0),
        reading(1, None if quality is BAD else 1e9, imported=1e9, quality=quality),
        reading(2, 3600.0, imported=102.0),
    ]
    (only,) = steps(readings)
    assert (only.duration_s, only.imported.energy_wh, only.imported.quality) == (2.0, 2.0, OK)


def test_a_reboot_is_bridged_by_the_calendar_and_the_counters() -> None:
    readings = [reading(5000, 100.0, imported=100.0), reading(5100, 100.0, imported=150.0, booted_s=5090)]
    (only,) = steps(readings)
    assert (only.duration_s, only.imported.energy_wh, only.imported.quality) == (100.0, 50.0, OK)
    assert (only.exported.energy_wh, only.exported.quality) == (None, BAD)


def test_a_calendar_that_stepped_back_over_a_reboot_starts_anew() -> None:
    assert steps([reading(5000, 1.0), reading(4000, 1.0, booted_s=3990)]) == []


def test_the_same_reading_twice_is_nothing() -> None:
    assert len(steps([reading(0), reading(1), reading(1), reading(2)])) == 2


def test_production_leaves_the_device() -> None:
    pair = [reading(n, 3600.0, role=MeterRole.GENERATION) for n in (0, 1)]
    assert amounts(pair) == [(0.0, EST, 1.0, EST)]
    counted = [reading(n, 3600.0, role=MeterRole.GENERATION, exported=7.0 + n) for n in (0, 1)]
    assert amounts(counted) == [(0.0, EST, 1.0, OK)]


def test_unknown_time_is_told() -> None:
    summed = total(
        steps([reading(0, 3600.0), reading(1, 3600.0), reading(100, 3600.0), reading(101, 3600.0)])
    )
    assert (summed.unknown_s, summed.duration_s, summed.quality) == (99.0, 101.0, BAD)
    assert summed.imported_wh == pytest.approx(2.0)
    assert total([]).quality is OK


POWERS = st.lists(st.floats(-MAX_W, MAX_W), min_size=2, max_size=30)


@given(POWERS)
def test_net_energy_is_the_integral(powers: list[float]) -> None:
    summed = total(steps([reading(n, power) for n, power in enumerate(powers)]))
    net_wh = sum((a + b) / 2 for a, b in pairwise(powers)) / 3600
    assert summed.imported_wh - summed.exported_wh == pytest.approx(net_wh, abs=1e-6)
    assert summed.imported_wh >= 0 and summed.exported_wh >= 0
    assert summed.estimated_wh == pytest.approx(summed.imported_wh + summed.exported_wh)


@given(
    st.floats(0, 4e9),
    st.lists(st.floats(0, MAX_W / 3600), min_size=1, max_size=50),
    st.sampled_from(WRAPS_WH),
)
def test_counted_energy_is_conserved_over_wraps_and_left_out_readings(
    first_wh: float, increments_wh: list[float], wrap_wh: float
) -> None:
    counts = [first_wh]
    for increment in increments_wh:
        counts.append(counts[-1] + increment)
    offset = max(0.0, wrap_wh - counts[-1] + sum(increments_wh) / 2)  # so that it wraps on the way
    shown = [(count + offset) % wrap_wh for count in counts]
    readings = [reading(n, 0.0, imported=value, exported=0.0) for n, value in enumerate(shown)]
    fine = total(steps(readings))
    coarse = total(steps([readings[0], readings[-1]]))
    expected = counts[-1] - counts[0]
    assert fine.imported_wh == pytest.approx(expected, abs=1e-2 + 1e-9 * wrap_wh)
    assert coarse.imported_wh == pytest.approx(expected, abs=1e-2 + 1e-9 * wrap_wh)


@given(st.lists(st.tuples(st.floats(-2e4, 2e4), st.one_of(st.none(), st.floats(0, 1e12))), max_size=40))
def test_no_counter_makes_more_energy_than_can_flow(rows: list[tuple[float, float | None]]) -> None:
    readings = [reading(n, power, imported=counter) for n, (power, counter) in enumerate(rows)]
    for index, one in enumerate(steps(readings)):
        energy_wh = one.imported.energy_wh
        assert energy_wh is not None and 0 <= energy_wh <= (index + 2) * 2e4 / 3600 + 1000


def test_conservation() -> None:
    site = {"tolerance_frac": 0.02, "tolerance_wh": 10.0}
    assert (
        imbalance_fault(grid_wh=-500, generation_wh=2000, battery_wh=300, consumption_wh=1200, **site) is None
    )
    assert (
        imbalance_fault(grid_wh=-500, generation_wh=2000, battery_wh=300, consumption_wh=1230, **site) is None
    )
    fault = imbalance_fault(grid_wh=500, generation_wh=2000, battery_wh=300, consumption_wh=1200, **site)
    assert fault == "2500 Wh came in and 1500 Wh were used: more than 60 Wh apart"
