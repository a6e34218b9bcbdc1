"""Batteries in replay: what is promised is kept, every slot balances, and energy comes of nothing nowhere."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.battery import Battery
from coordinator.core.four_moves import Worth
from coordinator.core.policies import policy_named
from coordinator.model.import_cost import Objective
from coordinator.replay.batteries import Counted, balance, by_price, firm, table
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Interval, Stage
from coordinator.replay.metrics import site_course
from coordinator.replay.record import settings_of
from coordinator.replay.scenariofile import read_scenario
from coordinator.replay.world import Costs, Plant, Signal, Task, World, access_of
from sterna.errors import ConfigError

HOUR = 3600.0
BATTERY = Battery(capacity_wh=1000.0, charge_w=600.0, discharge_w=400.0, round_trip_frac=0.81)


def world(*surplus_w: float, slots: int = 1, power_w: float = 400.0) -> World:
    task = Task(
        job_id="j", home_site="a", submitted_s=0.0, work_s=HOUR, checkpoint_bytes=10**9, power_w=power_w
    )
    return World(
        name="one site",
        start_at=datetime(2022, 4, 1, tzinfo=UTC),
        period_s=len(surplus_w) * HOUR,
        step_s=HOUR,
        sites=(Plant(site_id="a", slots=slots, surplus_w=surplus_w, past_w=(900.0, 0.0)),),
        tasks=(task,),
        wan=access_of({}, None, ["a"]),
        costs=Costs(store_bytes_per_s=1e9, downtime_s=30.0, eta=0.9, network_wh_per_gb=1.9, alpha=0.1),
    )


def row(start_s: float, end_s: float) -> Interval:
    return Interval(job_id="j", site_id="a", start_s=start_s, end_s=end_s, stage=Stage.RUN)


def test_policies_see_the_plant_with_its_battery() -> None:
    seen = firm(world(900.0, 0.0, 0.0, 400.0), BATTERY)
    # 500 W beyond the job's draw go in, a tenth less; a tenth is lost on the way out.
    assert seen.sites[0].surplus_w == pytest.approx((400.0, 400.0, 5.0, 400.0))
    assert seen.sites[0].past_w == pytest.approx((400.0, 400.0))


def test_what_the_batteries_did_is_counted_with_the_real_draw() -> None:
    bare = world(900.0, 0.0, 0.0, 0.0)
    made = balance(bare, [row(HOUR, 2.5 * HOUR)], BATTERY)
    assert made.surplus_wh == pytest.approx(900.0)
    assert (made.consumed_wh, made.charged_wh, made.curtailed_wh) == pytest.approx((0.0, 600.0, 300.0))
    assert (made.drawn_wh, made.given_wh, made.imported_wh) == pytest.approx((600.0, 486.0, 114.0))
    assert (made.lost_wh, made.held_wh, made.cycles) == pytest.approx((114.0, 0.0, 0.54))
    assert balance(bare, [], BATTERY).drawn_wh == 0.0


def test_one_plan_of_sterna_has_all_four_moves() -> None:
    bare = replace(world(0.0, 2000.0, 0.0, 0.0, *[0.0] * 60), hold_back_s=24.0 * HOUR)
    bare = replace(bare, tasks=(replace(bare.tasks[0], work_s=2.0 * HOUR),))
    seen = firm(bare, BATTERY)
    record = run(seen, policy_named("sterna"), settings_of(seen), Perfect(seen), declared=True)
    # It is held back in the dark and brought forward with the sun, and then goes on with what was stored.
    assert [(one.start_s, one.end_s) for one in record.intervals] == [(HOUR, 3.0 * HOUR)]
    made = balance(bare, record.intervals, BATTERY)
    assert made.imported_wh == pytest.approx(0.0)
    assert (made.consumed_wh, made.charged_wh, made.given_wh) == pytest.approx((400.0, 600.0, 400.0))
    assert made.curtailed_wh == pytest.approx(1000.0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.0, 2000.0), min_size=1, max_size=12),
    st.lists(st.tuples(st.floats(0.0, 11.0), st.floats(0.0, 3.0)), max_size=4),
)
def test_every_slot_balances_and_the_promise_is_kept(
    surplus_w: list[float], spans: list[tuple[float, float]]
) -> None:
    bare = world(*surplus_w, slots=max(1, len(spans)))
    rows = [row(HOUR * at, HOUR * min(at + length, len(surplus_w))) for at, length in spans]
    rows = [one for one in rows if one.end_s > one.start_s]
    made = balance(bare, rows, BATTERY)
    assert made.consumed_wh + made.charged_wh + made.curtailed_wh == pytest.approx(made.surplus_wh)
    assert made.consumed_wh + made.given_wh + made.imported_wh == pytest.approx(made.drawn_wh)
    assert made.charged_wh == pytest.approx(made.given_wh + made.lost_wh + made.held_wh)
    assert made.lost_wh >= -1e-6
    seen = firm(bare, BATTERY)
    promised = site_course(seen, seen.sites[0], rows, {"j": 400.0}).energy
    without = site_course(bare, bare.sites[0], rows, {"j": 400.0}).energy
    assert made.imported_wh <= promised.nonrenewable_wh + 1e-6
    assert made.imported_wh <= without.nonrenewable_wh + 1e-6


def test_the_table_has_a_line_for_each_period_and_policy() -> None:
    made = balance(world(900.0, 0.0), [row(HOUR, 2 * HOUR)], BATTERY)
    twice = [Counted(balance=made, network_wh=wh) for wh in (50_000.0, 70_000.0)]
    text = table({("apr", "static", "energy"): twice})
    assert text.splitlines()[2] == "| apr | static | 60 | 0 | 0 | 0.4 | 0 |"
    known, unknown = (
        [replace(one, balance=replace(made, import_cost=cost)) for one in twice] for cost in (2.0, None)
    )
    both = {("apr", "static", "price"): known, ("apr", "static", "energy"): [*known, *unknown]}
    lines = table(both, "EUR").splitlines()
    assert lines[0].endswith("| import, EUR | wear, EUR | both, EUR |")
    assert lines[2:] == [
        "| apr | static | price | 60 | 0 | 0 | 0.4 | 0 | 2.00 | 0.00 | 2.00 |",
        "| apr | static | energy | 60 | 0 | 0 | 0.4 | 0 | – | 0.00 | – |",
    ]


WORN = replace(BATTERY, wear_per_kwh=0.03)  # gives 900 Wh at 400 W: it lasts for two hours


def priced(*per_kwh: float | None, surplus_w: Sequence[float] = ()) -> World:
    bare = world(*surplus_w, *[0.0] * (len(per_kwh) - len(surplus_w)))
    site = replace(bare.sites[0], price=Signal(per_kwh=per_kwh))
    return replace(bare, sites=(site,), currency="EUR", objective=Objective.PRICE)


def test_what_is_stored_is_worth_the_least_of_the_dearest_hours_that_it_lasts_for() -> None:
    place = priced(0.05, 0.2, 0.1, 0.4, *[0.01] * 30, *[0.9] * 10)
    worth = by_price(place, Perfect(place), WORN)
    assert worth(place.sites[0], 0) == Worth(now=0.05, later=0.2)
    assert worth(place.sites[0], 3) == Worth(now=0.4, later=0.01)
    assert worth(place.sites[0], 60) == Worth(), "nothing is told of then"
    unknown = priced(None, 0.2, *[0.1] * 40)
    assert by_price(unknown, Perfect(unknown), WORN)(unknown.sites[0], 0) == Worth()


def test_what_is_stored_is_not_kept_for_hours_before_which_it_is_filled_again() -> None:
    place = priced(0.1, 0.05, 0.3, 0.5, 0.4, *[0.01] * 30, surplus_w=[900.0, 0.0, 0.0, 900.0])
    worth = by_price(place, Perfect(place), WORN)
    assert worth(place.sites[0], 0) == Worth(now=0.1, later=0.05), "for the two hours of dark that follow"
    assert worth(place.sites[0], 1) == Worth(now=0.05, later=0.05)
    assert worth(place.sites[0], 2) == Worth(now=0.3, later=0.3)
    assert worth(place.sites[0], 3) == Worth(now=0.5, later=0.01), "0.4, and then nothing is dear"


def test_a_battery_is_kept_for_the_dear_hours_and_its_wear_is_paid() -> None:
    place = priced(0.1, 0.1, 0.5, 0.5, *[0.02] * 40, surplus_w=[900.0])
    rows = [row(HOUR, 4.0 * HOUR)]  # 400 W for three hours, of which the first is cheap
    greedy = balance(place, rows, WORN)
    paid = balance(place, rows, WORN, by_price(place, Perfect(place), WORN))
    assert (greedy.given_wh, paid.given_wh) == pytest.approx((486.0, 486.0))
    assert greedy.import_cost == pytest.approx(0.5 * (1200.0 - 486.0) / 1e3)
    assert paid.import_cost == pytest.approx((0.1 * 400.0 + 0.5 * (800.0 - 486.0)) / 1e3)
    assert paid.wear_cost == pytest.approx(0.03 * 0.486)


def test_a_battery_that_wears_more_than_import_costs_is_left_alone() -> None:
    place = priced(*[0.02] * 40, surplus_w=[900.0])
    made = balance(place, [row(HOUR, 4.0 * HOUR)], WORN, by_price(place, Perfect(place), WORN))
    assert (made.charged_wh, made.given_wh, made.wear_cost) == (0.0, 0.0, 0.0)


def test_import_without_a_price_has_no_cost() -> None:
    place = priced(0.1, None, 0.1, *[0.1] * 40)
    assert balance(place, [row(HOUR, 2.0 * HOUR)], WORN).import_cost is None
    assert balance(place, [row(2.0 * HOUR, 3.0 * HOUR)], WORN).import_cost == pytest.approx(0.04)


@settings(deadline=None)
@given(
    st.lists(st.floats(0.0, 2000.0), min_size=1, max_size=12),
    st.lists(st.floats(-0.5, 1.0), min_size=48, max_size=48),
    st.lists(st.tuples(st.floats(0.0, 11.0), st.floats(0.0, 3.0)), max_size=4),
)
def test_energy_comes_of_nothing_in_the_order_of_prices_either(
    surplus_w: list[float], prices: list[float], spans: list[tuple[float, float]]
) -> None:
    place = priced(*prices, surplus_w=surplus_w)
    rows = [row(HOUR * at, HOUR * (at + length)) for at, length in spans if length > 0.0]
    made = balance(place, rows, WORN, by_price(place, Perfect(place), WORN))
    assert made.consumed_wh + made.charged_wh + made.curtailed_wh == pytest.approx(made.surplus_wh)
    assert made.consumed_wh + made.given_wh + made.imported_wh == pytest.approx(made.drawn_wh)
    assert made.charged_wh == pytest.approx(made.given_wh + made.lost_wh + made.held_wh, abs=1e-6)
    assert made.import_cost is not None


def test_the_shipped_scenario_has_batteries_of_a_stated_size(tmp_path: Path) -> None:
    scenario = read_scenario("us5-battery")
    assert scenario.battery is not None
    assert scenario.battery.battery() == Battery(
        capacity_wh=16_000.0, charge_w=4000.0, discharge_w=4000.0, round_trip_frac=0.87
    )
    assert read_scenario("us5").battery is None
    assert replace(scenario.battery.battery(), round_trip_frac=1.0).one_way_frac == 1.0
    path = tmp_path / "bad.toml"
    path.write_text('extends = "us5-battery"\n[battery]\nround_trip_frac = 1.2\n')
    with pytest.raises(ConfigError, match=r"battery\.round_trip_frac"):
        read_scenario(str(path))
