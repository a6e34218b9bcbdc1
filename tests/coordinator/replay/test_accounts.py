"""The ledger of a replay agrees with its table to the last digit, and its grams with plain arithmetic."""

import csv
import gzip
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.energy_ledger import Entry, MeterSample, Stay, book, metered_course
from coordinator.core.ledger import PowerSample
from coordinator.core.policies import policy_named
from coordinator.replay.accounts import accounts, carbon_of, write_accounts
from coordinator.replay.exact import run, settings_of
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Interval, Stage
from coordinator.replay.metrics import measure
from sterna.errors import ConfigError
from tests.coordinator.replay.worlds import DATA, HOUR, START, needs_data, recorded_world, task, world

TRACE = DATA / "renewable" / "eia930_8ba_generation_ci_2022_q1-q3_hourly.csv.gz"


@needs_data
@pytest.mark.parametrize("policy", ["static", "energy-only"])
@pytest.mark.parametrize("scenario", ["us5", "us5-thin"])
def test_a_recorded_month_agrees_with_its_table(policy: str, scenario: str) -> None:
    made = recorded_world(scenario, "apr")
    record = run(made, policy_named(policy), settings_of(made), Perfect(made))
    metrics = measure(made, record.intervals)
    carbon = carbon_of(made, TRACE)
    booked = accounts(made, record.intervals, carbon)
    total = sum(booked.values(), start=Entry())
    assert total.renewable_wh == pytest.approx(metrics.absorbed_wh, rel=1e-11)
    assert total.nonrenewable_wh == pytest.approx(metrics.nonrenewable_wh - metrics.network_wh, rel=1e-11)
    assert (total.unattributed_wh, total.unmetered_s, total.estimated_wh) == (0.0, 0.0, 0.0)
    assert "" not in {job_id for _, job_id in booked}
    # Every hour of every site has a carbon intensity in this trace, of some hundred grams.
    assert total.carbon_unknown_wh == 0.0
    assert 100 < total.carbon_g / total.nonrenewable_wh * 1e3 < 900


def test_grams_are_hour_by_hour(tmp_path: Path) -> None:
    made = world({"a": [300.0, 0.0, 1000.0]}, task(work_s=3 * HOUR), task("2", work_s=HOUR, at_s=2 * HOUR))
    rows = [
        Interval("1", "a", 0.0, 3 * HOUR, Stage.RUN),
        Interval("2", "a", 2 * HOUR, 3 * HOUR, Stage.RUN),
    ]
    trace = tmp_path / "trace.csv.gz"
    with gzip.open(trace, "wt") as file:
        file.write("ts_utc,ba,ci_g_per_kwh\n")
        for hour, grams in ((-1, "9999"), (0, "400"), (1, "")):
            file.write(f"{(START + timedelta(hours=hour)).isoformat()},a,{grams}\n")
        file.write(f"{START.isoformat()},elsewhere,1\n")
    booked = accounts(made, rows, carbon_of(made, trace))
    first = booked["a", "1"]
    assert (first.renewable_wh, first.nonrenewable_wh) == pytest.approx((300 + 500, 200 + 500))
    assert (first.carbon_g, first.carbon_unknown_wh) == pytest.approx((80.0, 500.0))
    # All that the second drew was surplus: nothing emitted, and nothing unknown about it.
    assert booked["a", "2"].known_carbon_g == 0.0
    write_accounts(tmp_path / "ledger.csv", booked)
    with (tmp_path / "ledger.csv").open() as file:
        found = {row["job"]: row for row in csv.DictReader(file)}
    assert found["1"]["carbon_g"] == "" and float(found["2"]["carbon_g"]) == 0.0
    assert float(found["1"]["nonrenewable_wh"]) == pytest.approx(700.0)


def test_a_trace_without_carbon_says_nothing_of_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("ts_utc,ba\n2022-04-01T00:00:00Z,a\n")
    made = world({"a": [0.0]}, task())
    assert carbon_of(made, trace) == {}
    booked = accounts(made, [Interval("1", "a", 0.0, HOUR, Stage.RUN)])
    assert booked["a", "1"].known_carbon_g is None
    assert accounts(made, []) == {}
    with pytest.raises(ConfigError, match=r"nothing\.csv"):
        carbon_of(made, tmp_path / "nothing.csv")


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
    told = {job_id: entry for (_, job_id), entry in accounts(made, rows).items()}
    assert set(live) == set(told)
    for job_id, entry in told.items():
        for figure in fields(Entry):
            assert getattr(live[job_id], figure.name) == pytest.approx(
                getattr(entry, figure.name), rel=1e-9, abs=1e-6
            ), (job_id, figure.name)
