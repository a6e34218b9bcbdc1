"""The energy ledger: every metered watt-second is somebody's, and what nobody knows stays unknown."""

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.energy_ledger import (
    Course,
    Entry,
    MeterSample,
    Stay,
    added,
    book,
    metered_course,
    weights,
)
from coordinator.core.ledger import PowerSample
from tests.coordinator.core.fleets import NOW

HOUR = 3600.0
watts = st.one_of(st.none(), st.floats(0, 1e5))


def sample(
    at_s: float, surplus_w: float | None, compute_w: float | None, estimated: bool = False
) -> MeterSample:
    power = PowerSample(at=NOW + timedelta(seconds=at_s), surplus_w=surplus_w, compute_w=compute_w)
    return MeterSample(power=power, estimated=estimated)


def course(*samples: MeterSample, hold_s: float = HOUR, carbon: float | None = None) -> Course:
    return metered_course(
        samples, start_at=NOW, end_at=NOW + timedelta(hours=1), hold_s=hold_s, carbon_g_per_kwh=carbon
    )


def stay(job_id: str, start_s: float, end_s: float, weight_w: float = 100.0) -> Stay:
    return Stay(job_id=job_id, start_s=start_s, end_s=end_s, weight_w=weight_w)


ALONE = [stay("a", 0, HOUR)]


@pytest.mark.parametrize(
    ("samples", "stays", "expected"),
    [
        ([], [], {"": Entry(unmetered_s=HOUR)}),
        ([], ALONE, {"a": Entry(unmetered_s=HOUR)}),
        ([sample(0, 900, 500)], ALONE, {"a": Entry(renewable_wh=500)}),
        ([sample(0, 300, 500)], ALONE, {"a": Entry(renewable_wh=300, nonrenewable_wh=200)}),
        # Unknown surplus: drawn, and from nobody knows where.
        ([sample(0, None, 500)], ALONE, {"a": Entry(unattributed_wh=500)}),
        ([sample(0, 900, None)], ALONE, {"a": Entry(unmetered_s=HOUR)}),
        # Metered for half the time, and for the other half nobody looked.
        ([sample(1800, 900, 500)], ALONE, {"a": Entry(renewable_wh=250, unmetered_s=1800)}),
        # A sample before the interval reaches into it; of two at one instant the later holds.
        ([sample(-60, 0, 500), sample(0, 0, 1), sample(0, 0, 500)], ALONE, {"a": Entry(nonrenewable_wh=500)}),
        ([sample(-60, 0, 500)], ALONE, {"a": Entry(nonrenewable_wh=500 * 59 / 60, unmetered_s=60)}),
        ([sample(0, 0, 500, True)], ALONE, {"a": Entry(nonrenewable_wh=500, estimated_wh=500)}),
        # Two jobs share by weight what is drawn while both are there; alone a job has it all.
        (
            [sample(0, 200, 400)],
            [stay("a", 0, HOUR, 100), stay("b", 1800, HOUR, 300)],
            {
                "a": Entry(renewable_wh=100 + 25, nonrenewable_wh=100 + 25),
                "b": Entry(renewable_wh=75, nonrenewable_wh=75),
            },
        ),
        # While nobody is there, nobody drew it.
        (
            [sample(0, 0, 100)],
            [stay("a", 900, 1800), stay("a", 2700, 9999)],
            {"a": Entry(nonrenewable_wh=50), "": Entry(nonrenewable_wh=50)},
        ),
        ([sample(0, 0, 100)], [stay("a", -50, 0), stay("b", HOUR, 9999)], {"": Entry(nonrenewable_wh=100)}),
        # A meter that reads less than nothing is noise around nothing.
        ([sample(0, 100, -3)], ALONE, {"a": Entry()}),
    ],
)
def test_book(samples: list[MeterSample], stays: list[Stay], expected: dict[str, Entry]) -> None:
    got = book(course(*samples), stays)
    assert set(got) == set(expected)
    for job_id, entry in expected.items():
        for name in ("renewable_wh", "nonrenewable_wh", "unattributed_wh", "estimated_wh", "unmetered_s"):
            assert getattr(got[job_id], name) == pytest.approx(getattr(entry, name), abs=1e-9), (job_id, name)


def test_grams_are_those_of_what_was_imported_and_unknown_where_the_intensity_is() -> None:
    got = book(course(sample(0, 300, 500), carbon=400.0), ALONE, grid_renewable_frac=0.25)["a"]
    assert (got.renewable_wh, got.nonrenewable_wh) == pytest.approx((350.0, 150.0))
    # The intensity is the grid's, its renewable share included: all that was imported counts.
    assert got.known_carbon_g == pytest.approx(80.0)
    unknown = book(course(sample(0, 300, 500)), ALONE)["a"]
    assert unknown.known_carbon_g is None
    assert (unknown.carbon_g, unknown.carbon_unknown_wh) == pytest.approx((0.0, 200.0))
    # Nothing imported emits nothing, whatever the intensity.
    assert book(course(sample(0, 900, 500)), ALONE)["a"].known_carbon_g == 0.0
    sourceless = book(course(sample(0, None, 500), carbon=400.0), ALONE)["a"]
    assert sourceless.known_carbon_g is None


def test_accounts_add_up() -> None:
    one = {"a": Entry(renewable_wh=1, unmetered_s=5), "b": Entry(carbon_g=2)}
    got = added([one, {"a": Entry(renewable_wh=2, nonrenewable_wh=3)}])
    assert got == {"a": Entry(renewable_wh=3, nonrenewable_wh=3, unmetered_s=5), "b": Entry(carbon_g=2)}
    assert got["a"].drawn_wh == 6


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, {}),
        ({"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}),
        ({"a": 100.0, "b": 300.0, "c": 0.0}, {"a": 100.0, "b": 300.0, "c": 200.0}),
    ],
)
def test_weights(declared: dict[str, float], expected: dict[str, float]) -> None:
    assert weights(declared) == expected


def counted(samples: list[MeterSample], hold_s: float, grid: float) -> tuple[float, float, float]:
    """Return the site's energy drawn, renewable and of unknown source in its hour, sample by sample."""
    begin_s = [(one.power.at - NOW).total_seconds() for one in samples]
    drawn_wh = renewable_wh = unattributed_wh = 0.0
    for one, (from_s, until_s) in zip(samples, pairwise([*begin_s, HOUR]), strict=True):
        drawn_w, surplus_w = one.power.compute_w or 0.0, one.power.surplus_w
        held_h = min(until_s - from_s, hold_s) / HOUR
        drawn_wh += drawn_w * held_h
        if surplus_w is None:
            unattributed_wh += drawn_w * held_h
        else:
            covered_w = min(drawn_w, surplus_w)
            renewable_wh += (covered_w + grid * (drawn_w - covered_w)) * held_h
    return drawn_wh, renewable_wh, unattributed_wh


@given(
    st.lists(st.tuples(st.floats(0.01, 2000), watts, watts), max_size=12),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(-500, 4000), st.floats(0, 3000), st.floats(0.1, 1e4)),
        max_size=6,
    ),
    st.floats(0, 1),
    st.floats(1, 4000),
)
def test_all_energy_is_somebodys_and_as_much_as_the_sites_account_has(
    steps: list[tuple[float, float | None, float | None]],
    stays: list[tuple[str, float, float, float]],
    grid: float,
    hold_s: float,
) -> None:
    samples, at_s = [], 0.0
    for step_s, surplus_w, compute_w in steps:
        samples.append(sample(at_s, surplus_w, compute_w))
        at_s += step_s
    samples = [one for one in samples if one.power.at < NOW + timedelta(hours=1)]
    there = [stay(job, start_s, start_s + for_s, weight) for job, start_s, for_s, weight in stays]
    total = sum(
        book(course(*samples, hold_s=hold_s), there, grid_renewable_frac=grid).values(), start=Entry()
    )
    drawn_wh, renewable_wh, unattributed_wh = counted(samples, hold_s, grid)
    assert total.drawn_wh == pytest.approx(drawn_wh, rel=1e-9, abs=1e-6)
    assert total.renewable_wh == pytest.approx(renewable_wh, rel=1e-9, abs=1e-6)
    assert total.unattributed_wh == pytest.approx(unattributed_wh, rel=1e-9, abs=1e-6)
    assert (1 - grid) * total.carbon_unknown_wh == pytest.approx(
        (1 - grid) * total.unattributed_wh + total.nonrenewable_wh, rel=1e-6, abs=1e-6
    )


def test_a_course_may_be_made_of_arrays() -> None:
    made = Course(
        edges_s=np.array([0.0, 10.0, 30.0]),
        surplus_w=np.array([5.0, 50.0]),
        compute_w=np.array([10.0, 10.0]),
        carbon_g_per_kwh=np.array([100.0, np.nan]),
        estimated=np.array([False, False]),
    )
    got = book(made, [stay("a", 0, 30)])["a"]
    assert (got.renewable_wh * HOUR, got.nonrenewable_wh * HOUR) == pytest.approx((250.0, 50.0))
    assert got.carbon_g == pytest.approx(50 / HOUR / 1e3 * 100)
    assert got.carbon_unknown_wh == 0.0
