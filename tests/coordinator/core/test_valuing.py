"""Import valued by what it costs at each site and hour: grams of CO2, or money."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.bookings import Bookings
from coordinator.core.horizon import HorizonJudge
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.import_cost import ImportCost
from coordinator.model.view import FleetView, Phase
from tests.coordinator.core.fleets import costs, fleet, forecast, job, site
from tests.coordinator.core.test_planner_laws import fleets, numbers

DARK = forecast(0.0, 0.0, 0.0, slot_s=3600.0)
CLEAN, DIRTY = costs(*[60.0] * 24), costs(*[600.0] * 24)


def dark(here: ImportCost | None, there: ImportCost | None) -> FleetView:
    sites = [site("a", windows=DARK, cost=here), site("b", windows=DARK, cost=there)]
    return fleet(sites, [job("j", "a")])


def decided(view: FleetView) -> Decision:
    return policy_named("sterna").decide(view, PlannerSettings())[0]


@pytest.mark.parametrize(
    ("here", "there", "moves"),
    [
        (DIRTY, CLEAN, True),
        (CLEAN, DIRTY, False),
        (DIRTY, DIRTY, False),
        (DIRTY, costs(*[590.0] * 24), False),  # it does not bring the margin
        (DIRTY, costs(60.0, *[700.0] * 23), True),
        (DIRTY, costs(60.0, *[700.0] * 23, slot_s=60.0), False),  # over before the move is worth it
        (DIRTY, costs(60.0), True),  # what is not known counts as the dearest
        (DIRTY, None, False),
        (None, CLEAN, False),
        (None, None, False),
        (DIRTY, costs(*[60.0] * 24, unit="EUR/kWh"), False),
        (costs(*[0.1] * 24), costs(*[-0.2] * 24), True),  # paid for taking it
        (costs(*[-0.1] * 24), costs(*[-0.1] * 24), False),
        (costs(*[0.0] * 24), costs(*[0.0] * 24), False),
    ],
)
def test_without_surplus_a_job_goes_where_import_costs_less(
    here: ImportCost | None, there: ImportCost | None, moves: bool
) -> None:
    said = decided(dark(here, there))
    assert (said.kind is DecisionKind.MIGRATE) is moves


def test_it_says_what_import_costs_there_and_here() -> None:
    said = decided(dark(DIRTY, CLEAN))
    saved = "b gains the most: 0.808 kg in 3 h, import costs 60 g/kWh there and 600 here"
    assert said.reason.endswith(saved)
    terms = {t.name: t for a in said.alternatives for t in a.terms}
    cost = terms["import_cost"]
    assert (cost.value, cost.limit, cost.unit, cost.satisfied) == (60.0, 600.0, "g/kWh", True)
    # 0.5 kW for three hours at 540 g/kWh less, but for half a minute under way.
    assert (round(terms["saved"].value, 2), terms["saved"].unit) == (0.81, "kg")


def test_energy_and_money_are_told_in_their_units() -> None:
    sunny = forecast(*[500.0] * 24, slot_s=3600.0)
    sites = [site("a", windows=DARK), site("b", surplus_w=500.0, windows=sunny)]
    plain = decided(fleet(sites, [job("j", "a")]))
    assert "gains the most" in plain.reason and "kWh" not in plain.reason
    saved = next(t for a in plain.alternatives for t in a.terms if t.name == "saved")
    assert (round(saved.value, 2), saved.unit) == (1.5, "kWh")
    paid = decided(dark(costs(*[0.6] * 24, unit="EUR/kWh"), costs(*[0.06] * 24, unit="EUR/kWh")))
    assert ": 0.808 EUR in 3 h" in paid.reason


def test_a_move_that_is_demanded_says_what_it_costs_more() -> None:
    sites = [site("a", windows=DARK, cost=CLEAN, draining=True), site("b", windows=DARK, cost=DIRTY)]
    said = decided(fleet(sites, [job("j", "a")]))
    assert said.kind is DecisionKind.MIGRATE
    costs_more = "though it costs 0.811 kg more in 3 h, import costs 600 g/kWh there and 60 here"
    assert said.reason == f"a is draining; b gains the most, {costs_more}"


def test_surplus_is_worth_what_import_costs_there() -> None:
    """Surplus for half of the job in the clean place saves less than none of the import of the dirty one."""
    half = forecast(*[250.0] * 3, slot_s=3600.0)
    sites = [
        site("a", surplus_w=250.0, windows=half, cost=DIRTY),
        site("b", windows=DARK, cost=CLEAN),
        site("c", surplus_w=250.0, windows=half, cost=costs(*[500.0] * 24)),
    ]
    said = decided(fleet(sites, [job("j", "a")]))
    assert said.target_site == "b"


def test_who_finds_surplus_here_stays_whatever_import_costs_elsewhere() -> None:
    sunny = forecast(*[500.0] * 3, slot_s=3600.0)
    sites = [site("a", surplus_w=500.0, windows=sunny, cost=DIRTY), site("b", windows=DARK, cost=CLEAN)]
    said = decided(fleet(sites, [job("j", "a")]))
    assert said.kind is DecisionKind.STAY


def test_a_place_whose_meters_are_silent_is_not_gone_to_for_cheap_import() -> None:
    sites = [site("a", windows=DARK, cost=DIRTY), site("b", surplus_w=None, cost=CLEAN)]
    assert decided(fleet(sites, [job("j", "a")])).kind is DecisionKind.STAY


def test_a_start_away_from_home_is_where_import_costs_least() -> None:
    half = forecast(*[250.0] * 3, slot_s=3600.0)
    sites = [
        site("a", windows=DARK, cost=DIRTY, slots_held=4),
        site("b", surplus_w=250.0, windows=half, cost=costs(*[300.0] * 24)),
        site("c", windows=DARK, cost=CLEAN),
        site("d", surplus_w=None, cost=CLEAN),
        site("e", windows=DARK),
    ]
    said = decided(fleet(sites, [job("j", None, home="a")]))
    assert (said.target_site, said.reason) == ("c", "starts at c, where import costs the least")
    told = {one.site_id: one for one in said.alternatives}
    assert told["b"].rejections == told["d"].rejections == told["e"].rejections == ("c costs as little",)
    cost = next(term for term in told["c"].terms if term.name == "import_cost")
    assert (cost.value, cost.limit, cost.unit) == (60.0, None, "g/kWh")
    free = [replace(one, slots_held=0) for one in sites]
    assert decided(fleet(free, [job("j", None, home="a")])).target_site == "a", "home comes first"


@pytest.mark.parametrize(("there", "target"), [(250.0, "c"), (500.0, "b")])
def test_a_start_weighs_surplus_against_cheap_import(there: float, target: str) -> None:
    sites = [
        site("b", surplus_w=there, windows=forecast(*[there] * 3, slot_s=3600.0), cost=DIRTY),
        site("c", windows=DARK, cost=CLEAN),
    ]
    assert decided(fleet(sites, [job("j", None)])).target_site == target


@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers, cost=st.sampled_from([0.02, 1.0, 600.0]))
def test_where_all_import_costs_the_same_starts_go_by_renewable_seconds(
    view: FleetView, planner: PlannerSettings, cost: float
) -> None:
    plain, same = with_costs(view, None), with_costs(view, costs(*[cost] * 24))
    for one in view.jobs.values():
        by_energy, by_cost = (
            HorizonJudge(each, planner, Bookings(each), reach_frac=0.125) for each in (plain, same)
        )
        covered_s = np.minimum(by_energy.start_worth_s(one), by_energy.reach_s)
        np.testing.assert_allclose(by_cost.start_worth_s(one), covered_s - by_energy.reach_s, atol=1e-6)


def with_costs(view: FleetView, cost: ImportCost | None) -> FleetView:
    sites = {name: replace(one, import_cost=cost) for name, one in view.sites.items()}
    return replace(view, sites=sites)


@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers, cost=st.sampled_from([0.02, 1.0, 600.0]))
def test_where_all_import_costs_the_same_energy_alone_decides(
    view: FleetView, planner: PlannerSettings, cost: float
) -> None:
    running = [one for one in view.jobs.values() if one.phase is Phase.RUNNING]
    plain = with_costs(view, None)
    same = with_costs(view, costs(*[cost] * 24))
    one = HorizonJudge(plain, planner, Bookings(plain), reach_frac=0.125).rate(running)
    other = HorizonJudge(same, planner, Bookings(same), reach_frac=0.125).rate(running)
    drawing = [row for row, one_job in enumerate(running) if one_job.power_w > 1e-3]
    for name in ("gain_s", "stay_s"):
        np.testing.assert_allclose(
            getattr(other, name)[drawing], getattr(one, name)[drawing], rtol=1e-9, atol=1e-6
        )
    assert np.array_equal(one.ends_s, other.ends_s)


@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers, factor=st.sampled_from([0.001, 7.0]))
def test_the_unit_of_costs_decides_nothing(view: FleetView, planner: PlannerSettings, factor: float) -> None:
    def scaled(cost: ImportCost | None) -> ImportCost | None:
        if cost is None:
            return None
        slots = tuple(replace(slot, per_kwh=factor * slot.per_kwh) for slot in cost.slots)
        return replace(cost, slots=slots)

    sites = {name: replace(one, import_cost=scaled(one.import_cost)) for name, one in view.sites.items()}
    running = [one for one in view.jobs.values() if one.phase is Phase.RUNNING]
    one = HorizonJudge(view, planner, Bookings(view), reach_frac=0.125).rate(running)
    two = replace(view, sites=sites)
    other = HorizonJudge(two, planner, Bookings(two), reach_frac=0.125).rate(running)
    np.testing.assert_allclose(other.gain_s, one.gain_s, rtol=1e-6, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers, cheaper=st.sampled_from([0.0, 0.5, 0.99]))
def test_a_place_that_becomes_cheaper_never_gains_a_job_less(
    view: FleetView, planner: PlannerSettings, cheaper: float
) -> None:
    before = with_costs(view, costs(*[400.0] * 24))
    place = sorted(view.sites)[0]
    sites = dict(before.sites)
    sites[place] = replace(sites[place], import_cost=costs(*[400.0 * cheaper] * 24))
    after = replace(before, sites=sites)
    running = [one for one in view.jobs.values() if one.phase is Phase.RUNNING and one.site_id != place]
    one = HorizonJudge(before, planner, Bookings(before), reach_frac=0.125).rate(running)
    other = HorizonJudge(after, planner, Bookings(after), reach_frac=0.125).rate(running)
    known = np.isfinite(one.gain_s[:, 0])
    assert (other.gain_s[known, 0] >= one.gain_s[known, 0] - 1e-6).all()
    assert (other.ends_s >= one.ends_s).all()
