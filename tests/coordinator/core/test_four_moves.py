"""Batteries and the four moves: energy is conserved, no move takes too much, the worthiest comes first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.battery import Battery
from coordinator.core.four_moves import Moves, Slot, Worth, allocate, firmed
from sterna.units import joules_to_wh

HOUR = 3600.0
BATTERY = Battery(capacity_wh=4000.0, charge_w=2000.0, discharge_w=1500.0, round_trip_frac=0.81)
EVEN = Worth()


def slot(surplus_w: float, draw_w: float, backlog_w: float = 0.0) -> Slot:
    return Slot(surplus_w=surplus_w, draw_w=draw_w, backlog_w=backlog_w, length_s=HOUR)


def brief(moves: Moves) -> tuple[float, ...]:
    figures = (
        moves.consume_w,
        moves.charge_w,
        moves.accelerate_w,
        moves.curtail_w,
        moves.discharge_w,
        moves.import_w,
        moves.stored_wh,
    )
    return tuple(round(figure, 6) for figure in figures)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("capacity_wh", 0.0),
        ("charge_w", -1.0),
        ("discharge_w", -1.0),
        ("round_trip_frac", 0.0),
        ("round_trip_frac", 1.1),
        ("wear_per_kwh", -0.1),
    ],
)
def test_a_battery_must_be_possible(field: str, value: float) -> None:
    figures = {"capacity_wh": 1.0, "charge_w": 1.0, "discharge_w": 1.0, field: value}
    with pytest.raises(ValueError, match=f"^{field} "):
        Battery(**figures)


def test_what_a_battery_takes_and_gives() -> None:
    assert BATTERY.takes_w(0.0, HOUR) == 2000.0
    assert BATTERY.takes_w(3100.0, HOUR) == pytest.approx(1000.0), "a tenth is lost on the way in"
    assert BATTERY.takes_w(4000.0, HOUR) == 0.0
    assert BATTERY.gives_w(4000.0, HOUR) == 1500.0
    assert BATTERY.gives_w(1000.0, HOUR) == pytest.approx(900.0), "a tenth is lost on the way out"
    assert BATTERY.gives_w(0.0, HOUR) == 0.0
    assert BATTERY.after(0.0, charge_w=1000.0, discharge_w=0.0, length_s=HOUR) == pytest.approx(900.0)


@pytest.mark.parametrize(
    ("given_slot", "worth", "battery", "stored_wh", "moves"),
    [
        # Consume now, then bring work forward, then charge, then curtail.
        (slot(500, 800), EVEN, None, 0.0, (500, 0, 0, 0, 0, 300, 0)),
        (slot(900, 800), EVEN, None, 0.0, (800, 0, 0, 100, 0, 0, 0)),
        (slot(1500, 800, 400), EVEN, None, 0.0, (800, 0, 400, 300, 0, 0, 0)),
        (slot(1500, 800, 400), EVEN, BATTERY, 0.0, (800, 300, 400, 0, 0, 0, 270)),
        (slot(9000, 800, 400), EVEN, BATTERY, 0.0, (800, 2000, 400, 5800, 0, 0, 1800)),
        (slot(9000, 800), EVEN, BATTERY, 4000.0, (800, 0, 0, 8200, 0, 0, 4000)),
        # What is missing comes out of the battery, then from the grid.
        (slot(100, 800), EVEN, BATTERY, 4000.0, (100, 0, 0, 0, 700, 0, 3222.222222)),
        (slot(0, 2000), EVEN, BATTERY, 4000.0, (0, 0, 0, 0, 1500, 500, 2333.333333)),
        (slot(0, 800), EVEN, BATTERY, 0.0, (0, 0, 0, 0, 0, 800, 0)),
        # Dear evenings: what is stored is kept for them, and work is brought forward before jobs are fed.
        (slot(0, 800), Worth(now=0.1, later=0.4), BATTERY, 4000.0, (0, 0, 0, 0, 0, 800, 4000)),
        (slot(1000, 800, 400), Worth(now=0.1, later=0.4), BATTERY, 0.0, (0, 600, 400, 0, 0, 800, 540)),
        # A grid that pays more for export than a later hour is worth.
        (
            slot(2000, 800, 400),
            Worth(now=0.4, later=0.1, export=0.2),
            BATTERY,
            0.0,
            (800, 0, 0, 1200, 0, 0, 0),
        ),
        # Nothing is worth anything: negative prices leave the draw to the grid.
        (slot(500, 800), Worth(now=-0.1, later=-0.1, export=-0.2), None, 0.0, (0, 0, 0, 500, 0, 800, 0)),
    ],
)
def test_the_worthiest_move_comes_first(
    given_slot: Slot, worth: Worth, battery: Battery | None, stored_wh: float, moves: tuple[float, ...]
) -> None:
    assert brief(allocate(given_slot, worth, battery, stored_wh)) == pytest.approx(moves)


def test_wear_that_costs_more_than_it_saves_leaves_the_battery_alone() -> None:
    worn = Battery(capacity_wh=4000.0, charge_w=2000.0, discharge_w=1500.0, wear_per_kwh=2.0)
    assert brief(allocate(slot(1000, 0), EVEN, worn)) == (0, 0, 0, 1000, 0, 0, 0)
    assert brief(allocate(slot(0, 1000), EVEN, worn, 3000.0)) == (0, 0, 0, 0, 0, 1000, 3000)


def test_worth_in_money_counts_carbon() -> None:
    worth = Worth.of(
        price=0.2,
        later_price=0.3,
        export_price=0.05,
        carbon_g_per_kwh=500,
        later_carbon_g_per_kwh=100,
        per_kg=0.1,
    )
    assert (worth.now, worth.later, worth.export) == pytest.approx((0.25, 0.31, 0.05))


batteries = st.builds(
    Battery,
    capacity_wh=st.floats(1.0, 5e4),
    charge_w=st.floats(0.0, 1e4),
    discharge_w=st.floats(0.0, 1e4),
    round_trip_frac=st.floats(0.1, 1.0),
    wear_per_kwh=st.floats(0.0, 1.0),
)
watts = st.floats(0.0, 2e4)
worths = st.builds(Worth, now=st.floats(-1.0, 2.0), later=st.floats(-1.0, 2.0), export=st.floats(-1.0, 1.0))
slots = st.builds(
    Slot, surplus_w=watts, draw_w=watts, backlog_w=watts, length_s=st.sampled_from((60.0, 900.0, HOUR))
)


@settings(deadline=None)
@given(st.lists(slots, min_size=1, max_size=8), worths, st.none() | batteries, st.floats(0.0, 1.0))
def test_energy_is_conserved_in_every_slot(
    day: list[Slot], worth: Worth, battery: Battery | None, full_frac: float
) -> None:
    stored_wh = full_frac * battery.capacity_wh if battery is not None else 0.0
    for one in day:
        made = allocate(one, worth, battery, stored_wh)
        taken_w = made.consume_w + made.charge_w + made.accelerate_w + made.curtail_w
        assert taken_w == pytest.approx(one.surplus_w, abs=1e-6)
        assert made.consume_w + made.discharge_w + made.import_w == pytest.approx(one.draw_w, abs=1e-6)
        assert min(brief(made)) >= 0.0
        assert made.accelerate_w <= one.backlog_w
        if battery is None:
            assert (made.charge_w, made.discharge_w, made.stored_wh) == (0.0, 0.0, 0.0)
            continue
        assert made.charge_w <= battery.charge_w and made.discharge_w <= battery.discharge_w
        assert made.charge_w == 0.0 or made.discharge_w == 0.0
        in_wh = joules_to_wh(made.charge_w * one.length_s) * battery.one_way_frac
        out_wh = joules_to_wh(made.discharge_w * one.length_s) / battery.one_way_frac
        assert made.stored_wh == pytest.approx(stored_wh + in_wh - out_wh, abs=1e-6)
        assert -1e-9 <= made.stored_wh <= battery.capacity_wh + 1e-9
        stored_wh = made.stored_wh


@settings(deadline=None)
@given(st.lists(st.tuples(watts, st.floats(0.0, 1.0)), min_size=1, max_size=24), watts, batteries)
def test_what_a_firmed_surplus_promises_is_there_whatever_the_jobs_draw(
    day: list[tuple[float, float]], full_w: float, battery: Battery
) -> None:
    surplus_w = tuple(one for one, _ in day)
    promised_w = firmed(surplus_w, full_w, battery, HOUR)
    stored_wh = 0.0
    for (there_w, share), shaped_w in zip(day, promised_w, strict=True):
        draw_w = share * full_w
        free = Battery(
            capacity_wh=battery.capacity_wh,
            charge_w=battery.charge_w,
            discharge_w=battery.discharge_w,
            round_trip_frac=battery.round_trip_frac,
        )
        made = allocate(slot(there_w, draw_w), EVEN, free, stored_wh)
        stored_wh = made.stored_wh
        assert made.consume_w + made.discharge_w >= min(draw_w, shaped_w) - 1e-6
    spent_wh = sum(surplus_w) - sum(promised_w)
    assert spent_wh >= -1e-6, "no energy comes of nothing"
