"""The ledger of a replay agrees with its table to the last digit, and its grams with plain arithmetic."""

import csv
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.energy_ledger import Entry, MeterSample, Stay, book, metered_course
from coordinator.core.ledger import PowerSample
from coordinator.core.policies import policy_named
from coordinator.replay.accounts import accounts, write_accounts
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Interval, Stage
from coordinator.replay.metrics import measure
from coordinator.replay.record import settings_of
from coordinator.replay.verify import recompute
from coordinator.replay.world import Signal
from tests.coordinator.replay.worlds import HOUR, needs_data, recorded_world, task, world


@needs_data
@pytest.mark.parametrize("policy", ["static", "energy-only"])
@pytest.mark.parametrize("scenario", ["us5", "us5-thin"])
def test_a_recorded_month_agrees_with_its_table(policy: str, scenario: str) -> None:
    made = recorded_world(scenario, "apr")
    record = run(made, policy_named(policy), settings_of(made), Perfect(made))
    metrics = measure(made, record.intervals)
    booked = accounts(made, record.intervals)
    total = sum((account.entry for account in booked.values()), start=Entry())
    assert total.renewable_wh == pytest.approx(metrics.absorbed_wh, rel=1e-11)
    assert total.nonrenewable_wh == pytest.approx(metrics.nonrenewable_wh - metrics.network_wh, rel=1e-11)
    assert (total.unattributed_wh, total.unmetered_s, total.estimated_wh) == (0.0, 0.0, 0.0)
    assert "" not in {job_id for _, job_id in booked}
    # Every hour of every site has a carbon intensity in this trace, of some hundred grams.
    assert total.carbon_unknown_wh == 0.0
    assert 100 < total.carbon_g / total.nonrenewable_wh * 1e3 < 900
    assert metrics.carbon_g == pytest.approx(total.carbon_g, rel=1e-11)
    assert metrics.cost is None


def test_grams_and_costs_are_hour_by_hour(tmp_path: Path) -> None:
    made = world({"a": [300.0, 0.0, 1000.0]}, task(work_s=3 * HOUR), task("2", work_s=HOUR, at_s=2 * HOUR))
    rows = [
        Interval("1", "a", 0.0, 3 * HOUR, Stage.RUN),
        Interval("2", "a", 2 * HOUR, 3 * HOUR, Stage.RUN),
    ]
    place = replace(
        made.sites[0],
        carbon=Signal(per_kwh=(400.0, None), past=(9999.0,)),
        price=Signal(per_kwh=(-0.25, 0.5)),
    )
    made = replace(made, sites=(place,), currency="EUR")
    booked = accounts(made, rows)
    first = booked["a", "1"].entry
    assert (first.renewable_wh, first.nonrenewable_wh) == pytest.approx((300 + 500, 200 + 500))
    assert (first.carbon_g, first.carbon_unknown_wh) == pytest.approx((80.0, 500.0))
    assert booked["a", "1"].cost == pytest.approx(-0.25 * 0.2 + 0.5 * 0.5)
    # All that the second drew was surplus: nothing emitted or paid, and nothing unknown about it.
    assert (booked["a", "2"].entry.known_carbon_g, booked["a", "2"].cost) == (0.0, 0.0)
    counted, again = measure(made, rows), recompute(made, rows)
    assert counted.carbon_g is None and again.carbon_g is None
    assert counted.cost == pytest.approx(0.2) and again.cost == pytest.approx(0.2)
    write_accounts(tmp_path / "ledger.csv", booked)
    with (tmp_path / "ledger.csv").open() as file:
        found = {row["job"]: row for row in csv.DictReader(file)}
    assert found["1"]["carbon_g"] == "" and float(found["2"]["carbon_g"]) == 0.0
    assert float(found["1"]["nonrenewable_wh"]) == pytest.approx(700.0)
    assert float(found["1"]["cost"]) == pytest.approx(0.2)


def test_a_site_without_signals_says_nothing_of_what_its_imports_cost() -> None:
    made = world({"a": [0.0]}, task(work_s=HOUR))
    rows = [Interval("1", "a", 0.0, HOUR, Stage.RUN)]
    booked = accounts(made, rows)
    assert (booked["a", "1"].entry.known_carbon_g, booked["a", "1"].cost) == (None, None)
    assert accounts(made, []) == {}
    for counted in (measure(made, rows), recompute(made, rows)):
        assert (counted.carbon_g, counted.cost) == (None, None)


@given(
    st.lists(st.floats(0, 2000), min_size=6, max_size=6),
    st.lists(
        st.tuples(st.sampled_from("123"), st.integers(0, 300), st.integers(1, 60)), min_size=1, max_size=6
    ),
    st.integers(1, 30),
)
def test_a_replay_that_is_metered_as_a_fleet_is_gives_the_same_account(
    surplus_w: list[float], stretches: list[tuple[str, int, int]], period_min: int
) -> None:
    """What telemetry says of the very same hours, booked as the coordinator books it."""
    made = world({"a": surplus_w}, *(task(name, power_w=100.0 * int(name)) for name in "123"), slots=9)
    rows, ended_s = [], dict.fromkeys("123", 0.0)
    for name, after_min, for_min in stretches:
        start_s = ended_s[name] + 60.0 * after_min
        ended_s[name] = start_s + 60.0 * for_min
        rows.append(Interval(name, "a", start_s, ended_s[name], Stage.RUN))
    span_s = max(ended_s.values())
    # A meter that is read each so many minutes, and whenever anything changes.
    at_s = sorted({*(60.0 * period_min * n for n in range(int(span_s // (60 * period_min)) + 1)),
                   *(HOUR * n for n in range(int(span_s // HOUR) + 1)),
                   *(edge for row in rows for edge in (row.start_s, row.end_s))})  # fmt: skip
    watts = {job.job_id: job.power_w for job in made.tasks}
    samples = [
        MeterSample(
            power=PowerSample(
                at=made.at(now_s),
                surplus_w=made.sites[0].surplus_w[made.step_of(now_s)],
                compute_w=sum(watts[row.job_id] for row in rows if row.start_s <= now_s < row.end_s),
            )
        )
        for now_s in at_s
    ]
    course = metered_course(
        samples, start_at=made.start_at, end_at=made.at(span_s), hold_s=2 * HOUR, carbon_g_per_kwh=None
    )
    stays = [Stay(job_id=r.job_id, start_s=r.start_s, end_s=r.end_s, weight_w=watts[r.job_id]) for r in rows]
    live = {job_id: entry for job_id, entry in book(course, stays).items() if job_id}
    told = {job_id: account.entry for (_, job_id), account in accounts(made, rows).items()}
    assert set(live) == set(told)
    for job_id, entry in told.items():
        for figure in fields(Entry):
            assert getattr(live[job_id], figure.name) == pytest.approx(
                getattr(entry, figure.name), rel=1e-9, abs=1e-6
            ), (job_id, figure.name)


@needs_data
def test_recorded_prices_of_a_month_add_up_whoever_counts() -> None:
    made = recorded_world("us2-prices", "apr")
    record = run(made, policy_named("static"), settings_of(made), Perfect(made))
    counted = measure(made, record.intervals)
    costs = [account.cost for account in accounts(made, record.intervals).values()]
    known = [cost for cost in costs if cost is not None]
    assert made.currency == "USD" and len(known) == len(costs)
    assert counted.cost == pytest.approx(sum(known), rel=1e-9)
    assert counted.cost == pytest.approx(recompute(made, record.intervals).cost, rel=1e-9)
    # What was imported cost some cents a kilowatt-hour, as power does.
    assert counted.cost is not None and 0.02 < counted.cost / counted.nonrenewable_wh * 1e3 < 0.2
