"""Energy per interval: counted, integrated, estimated, unknown; and what is conserved."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.metering import MeterLedger, closed, energy, index_of, rebooted, start_of, take
from agent.model.readings import MeterReading, MeterRole, Quality
from agent.model.settlement import EnergyMethod

START = datetime(2026, 3, 30, 12, tzinfo=UTC)
LENGTH_S = 900.0
FIRST = index_of(START, LENGTH_S)
COUNTED, INTEGRATED, ESTIMATED = EnergyMethod.COUNTED, EnergyMethod.INTEGRATED, EnergyMethod.ESTIMATED


def reading(at_s: float, power_w: float, counter_wh: float | None, *, boot_s: float = 0.0) -> MeterReading:
    return MeterReading(
        meter="m",
        role=MeterRole.GRID,
        measured_at=START + timedelta(seconds=at_s),
        measured_boottime_s=at_s - boot_s,
        quality=Quality.OK,
        active_power_w=power_w,
        energy_import_wh=counter_wh,
    )


def metered(
    times_s: Iterable[float],
    power_w: float,
    *,
    counter: str = "fine",
    true_w: float | None = None,
    slow_s: float = 30.0,
    start_wh: float = 1000.4,
) -> Iterator[MeterReading]:
    """Readings of a meter at constant power whose counter is read every `slow_s` in steps of a size."""
    step_wh = {"fine": 0.01, "coarse": 100.0}.get(counter)
    shown, due_s = None, float("-inf")
    for at_s in times_s:
        if step_wh is not None and at_s >= due_s:
            counted = start_wh + (power_w if true_w is None else true_w) * at_s / 3600
            shown, due_s = counted // step_wh * step_wh, at_s + slow_s
        yield reading(at_s, power_w, shown)


def gathered(
    readings: Iterable[MeterReading],
    ledger: MeterLedger | None = None,
    *,
    max_gap_s: float = 10.0,
    first: int = FIRST - 4,
) -> MeterLedger:
    ledger = ledger or MeterLedger()
    for one in readings:
        ledger = take(ledger, one, length_s=LENGTH_S, first=first, max_power_w=1e5, max_gap_s=max_gap_s)
    return ledger


def told(ledger: MeterLedger, number: int) -> tuple[float | None, EnergyMethod | None]:
    found = energy(ledger.imported, FIRST + number, LENGTH_S)[0]
    return found.energy_wh, found.method


@pytest.mark.parametrize(
    ("counter", "method"), [("fine", COUNTED), ("none", INTEGRATED), ("coarse", INTEGRATED)]
)
def test_whole_intervals(counter: str, method: EnergyMethod) -> None:
    ledger = gathered(metered(range(-60, 1860), 1000.0, counter=counter, start_wh=1050.4))
    for number in (0, 1):
        energy_wh, how = told(ledger, number)
        assert energy_wh == pytest.approx(250.0, abs=1.0)
        # A counter of 100 Wh a step is as good as any where it happens to move near both edges.
        assert how is method or (counter, number) == ("coarse", 1)


def test_the_counter_is_right_where_power_is_not() -> None:
    """A meter whose power reads 5 % low beside its own counter."""
    ledger = gathered(metered(range(-60, 1860), 950.0, true_w=1000.0))
    energy_wh, method = told(ledger, 1)
    assert energy_wh == pytest.approx(250.0, abs=0.5), "237.5 by power"
    assert method is COUNTED


def test_a_coarse_counter_keeps_its_sum() -> None:
    readings = metered(range(-3600, 4 * 3600), 950.0, true_w=1000.0, counter="coarse")
    ledger = gathered(readings)
    sums = [told(ledger, number)[0] for number in range(16)]
    assert sum(wh for wh in sums if wh is not None) == pytest.approx(4000.0, abs=30.0), "3800 by power"


@pytest.mark.parametrize(
    ("known_s", "expected"),
    [(899.5, (250.0, INTEGRATED)), (850.0, (250.0, ESTIMATED)), (700.0, (None, None))],
)
def test_a_start_in_an_interval(known_s: float, expected: tuple[float | None, EnergyMethod | None]) -> None:
    first_s = 900.0 - known_s
    times_s = [first_s + number for number in range(int(known_s) + 2)]
    energy_wh, method = told(gathered(metered(times_s, 1000.0, counter="none")), 0)
    assert method is expected[1]
    assert energy_wh == (None if expected[0] is None else pytest.approx(250.0, abs=0.2))


def test_a_gap_within_an_interval_is_bridged_by_the_counter() -> None:
    times_s = [*range(-60, 100), *range(500, 960)]
    assert told(gathered(metered(times_s, 1000.0)), 0) == (pytest.approx(250.0, abs=0.5), COUNTED)
    assert told(gathered(metered(times_s, 1000.0, counter="none")), 0) == (None, None)


def test_a_gap_over_intervals_is_spread_and_says_so() -> None:
    times_s = [*range(-60, 450), *range(2250, 2761)]
    ledger = gathered(metered(times_s, 1000.0))
    assert [told(ledger, number) for number in (0, 1, 2)] == [(pytest.approx(250.0, abs=0.5), ESTIMATED)] * 3
    without = gathered(metered(times_s, 1000.0, counter="none"))
    assert [told(without, number) for number in (0, 1, 2)] == [(None, None)] * 3


def test_a_gap_that_the_counter_tells_of_late() -> None:
    """The slow set of the first reading after a gap is the one from before it."""
    before = list(metered(range(-60, 450), 1000.0))
    stale = before[-1].energy_import_wh
    after = [reading(450 + 200, 1000.0, stale), *metered(range(651, 961), 1000.0)]
    energy_wh, method = told(gathered([*before, *after]), 0)
    assert (energy_wh, method) == (pytest.approx(250.0, abs=0.5), COUNTED)


def test_a_counter_that_stands_still_over_a_gap_counts_nothing() -> None:
    still = [reading(at_s, 0.0, 7.0) for at_s in (*range(-60, 300), *range(800, 960))]
    assert told(gathered(still), 0)[0] == 0.0
    energy_wh, method = told(gathered([reading(at_s, 0.0, 7.0) for at_s in (*range(-60, 300), 1500)]), 0)
    assert (energy_wh, method) == (0.0, ESTIMATED)


def test_a_reset_costs_no_interval() -> None:
    readings = [*metered(range(-60, 400), 1000.0), *metered(range(400, 960), 1000.0, start_wh=-111.0)]
    energy_wh, method = told(gathered(readings), 0)
    assert (energy_wh, method) == (pytest.approx(250.0, abs=1.0), COUNTED), "half a minute of it by power"


def test_a_reboot_is_told_by_the_calendar() -> None:
    ledger = rebooted(gathered(metered(range(-60, 400), 1000.0)))
    after = [reading(at_s, 1000.0, 1000.4 + at_s / 3.6, boot_s=-100_000.0) for at_s in range(600, 960)]
    energy_wh, _ = told(gathered(after, ledger), 0)
    assert energy_wh == pytest.approx(250.0, abs=0.5)
    assert rebooted(MeterLedger()) == MeterLedger()


def test_a_calendar_set_back_puts_energy_into_the_open_interval() -> None:
    readings = list(metered(range(-60, 901), 1000.0, counter="none"))
    ledger = gathered(readings)
    ledger = closed(ledger, FIRST, LENGTH_S)
    shifted = [reading(at_s, 1000.0, None, boot_s=-10.0) for at_s in range(891, 1801)]
    ledger = gathered(shifted, ledger, first=FIRST + 1)
    found = energy(ledger.imported, FIRST + 1, LENGTH_S)[0]
    assert found.known_s == pytest.approx(910.0, abs=1.0)
    assert found.method is ESTIMATED


def test_an_overdraft_is_paid_by_the_next_interval() -> None:
    """A counter that lags behind power: nothing is negative, and the sum is the counter's."""
    counts = [1000.0] * 10 + [1001.0] * 860 + [1002.0] * 30 + [1003.0] * 901
    ledger = gathered(
        reading(at_s, 40.0 if at_s < 870 else 0.0, count) for at_s, count in enumerate(counts, start=0)
    )
    first_wh = told(ledger, 0)[0]
    later = closed(ledger, FIRST, LENGTH_S)
    second_wh = told(later, 1)[0]
    assert first_wh is not None and first_wh >= 0
    assert second_wh is not None and second_wh >= 0
    assert closed(later, FIRST + 1, LENGTH_S).imported.buckets.keys() <= {FIRST + 2}


def test_what_is_closed_is_not_opened_again() -> None:
    assert start_of(FIRST, LENGTH_S) == START
    again = gathered(metered(range(-60, 960), 1000.0), first=FIRST)
    assert min(again.imported.buckets) == FIRST, "what lies before the first open one is not kept"


@settings(max_examples=60, deadline=None)
@given(
    powers=st.lists(st.floats(0, 5000), min_size=10, max_size=60),
    slow=st.integers(1, 9),
    grain_wh=st.sampled_from([0.001, 1.0, 10.0]),
    drops=st.sets(st.integers(3, 55), max_size=20),
)
def test_intervals_add_up_to_the_counter(
    powers: list[float], slow: int, grain_wh: float, drops: set[int]
) -> None:
    """Over any load, any grain, any lost readings: what was gathered is what the counter says, to a step."""
    count_wh, shown, rows = 500.0, [], []
    for number, power_w in enumerate(powers):
        if number % slow == 0:
            shown.append(count_wh // grain_wh * grain_wh)
        if number not in drops:
            rows.append(reading(60.0 * number, power_w, shown[-1]))
        count_wh += (power_w + powers[min(number + 1, len(powers) - 1)]) / 2 * 60 / 3600
    ledger = gathered(rows, max_gap_s=90.0)
    got_wh = sum(bucket.energy_wh for bucket in ledger.imported.buckets.values())
    counts = [row.energy_import_wh for row in rows if row.energy_import_wh is not None]
    span_wh = counts[-1] - counts[0]
    slack_wh = 2 * grain_wh + 2 * slow * 5000 / 60 + 1e-6
    assert abs(got_wh - span_wh) <= slack_wh


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 700), st.floats(-5000, 5000)), min_size=2, max_size=40))
def test_no_interval_is_negative_or_longer_than_it_is(rows: list[tuple[int, float]]) -> None:
    at_s, readings = 0, []
    for gap_s, power_w in rows:
        at_s += gap_s
        readings.append(reading(float(at_s), power_w, None))
    ledger = gathered(readings, max_gap_s=300.0)
    for number in range(at_s // 900 + 2):
        for direction in (ledger.imported, ledger.exported):
            found = energy(direction, FIRST + number, LENGTH_S)[0]
            assert found.known_s <= LENGTH_S + 1e-6
            assert found.energy_wh is None or found.energy_wh >= 0
