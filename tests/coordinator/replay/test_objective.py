"""Replays in which `sterna` saves grams or money: what it is told of them, and what it does."""

from dataclasses import replace

import pytest

from coordinator.core.policies import policy_named
from coordinator.model.import_cost import Objective
from coordinator.replay.evaluation import outcomes
from coordinator.replay.exact import run
from coordinator.replay.foresight import Forecasted, Foresight, MakeForesight, Perfect
from coordinator.replay.journal import Stage
from coordinator.replay.learnt import LearntSource
from coordinator.replay.record import settings_of
from coordinator.replay.world import Signal, World
from tests.coordinator.replay.test_learnt import sunny
from tests.coordinator.replay.worlds import HOUR, needs_data, recorded_world, task, world


def dark(objective: Objective = Objective.CARBON) -> World:
    """Two sites without surplus: the home's import is dirty and cheap, the other's clean and dear."""
    small = world({"a": [0.0], "b": [0.0]}, task(work_s=10 * HOUR))
    hours = len(small.sites[0].surplus_w)
    grams, money = {"a": 600.0, "b": 50.0}, {"a": 0.05, "b": 0.30}
    sites = tuple(
        replace(
            site,
            carbon=Signal(per_kwh=(grams[site.site_id],) * hours, past=(grams[site.site_id],) * 120),
            price=Signal(per_kwh=(money[site.site_id],) * hours, past=(money[site.site_id],) * 120),
        )
        for site in small.sites
    )
    return replace(small, sites=sites, currency="EUR", objective=objective)


@pytest.mark.parametrize(
    ("objective", "home", "ends_at"),
    [
        (Objective.ENERGY, "a", "a"),
        (Objective.CARBON, "a", "b"),
        (Objective.CARBON, "b", "b"),
        (Objective.PRICE, "a", "a"),
        (Objective.PRICE, "b", "a"),
    ],
)
def test_a_job_goes_where_the_objective_has_it_cost_less(
    objective: Objective, home: str, ends_at: str
) -> None:
    place = dark(objective)
    place = replace(place, tasks=(replace(place.tasks[0], home_site=home),))
    record = run(place, policy_named("sterna"), settings_of(place), Perfect(place))
    assert record.intervals[-1].site_id == ends_at and record.intervals[-1].stage is Stage.RUN


@pytest.mark.parametrize("name", ["static", "energy-only", "feasibility-aware"])
def test_other_policies_do_not_look_at_it(name: str) -> None:
    place = dark()
    record = run(place, policy_named(name), settings_of(place), Perfect(place))
    assert {row.site_id for row in record.intervals} == {"a"}


def persistence(place: World) -> Foresight:
    class Silent:
        def forecast(self, now: object, seen: object) -> None:
            return None

    return Forecasted(place, Silent())


@pytest.mark.parametrize("make", [Perfect, LearntSource(leads=24, rehearse=0), persistence])
def test_what_is_foreseen_begins_with_what_is_known_of_the_step(make: MakeForesight) -> None:
    place = dark()
    cost = make(place).import_cost(place.sites[0], 5)
    assert cost is not None and cost.unit == "g/kWh"
    assert cost.slots[0].start_at == place.at(5 * HOUR) and cost.slots[0].per_kwh == 600.0
    assert cost.slots[-1].end_at >= place.at(29 * HOUR)
    plain = replace(place, objective=Objective.ENERGY)
    assert make(plain).import_cost(plain.sites[0], 5) is None


def test_learnt_costs_know_the_day_and_not_the_future() -> None:
    place = dark(Objective.PRICE)
    course = tuple(0.1 + watts / 1e4 for watts in sunny(24 * 9, 0.0))

    def asked(ahead: tuple[float | None, ...]) -> tuple[float, ...]:
        signal = Signal(per_kwh=ahead, past=course * 4)
        made = replace(place, sites=(replace(place.sites[0], price=signal), *place.sites[1:]))
        cost = LearntSource(leads=24, rehearse=0)(made).import_cost(made.sites[0], 5)
        assert cost is not None and cost.unit == "EUR/kWh"
        return tuple(slot.per_kwh for slot in cost.slots)

    told = asked(course)
    assert told == pytest.approx(course[5:30], abs=0.01)
    assert asked((*course[:6], *[9.0] * 100)) == told
    assert asked((*course[:5], None, *course[6:]))[0] == pytest.approx(course[6], abs=0.02)
    assert asked(course[:6]) == told


@needs_data
def test_of_the_recorded_april_grams_are_saved_for_some_kilowatt_hours() -> None:
    place = recorded_world("us5-thin", "apr")
    energy, carbon = (
        list(outcomes(made, ("sterna",), Perfect))[-1].metrics
        for made in (place, replace(place, objective=Objective.CARBON))
    )
    assert energy.carbon_g is not None and carbon.carbon_g is not None
    assert carbon.carbon_g < 0.95 * energy.carbon_g
    assert carbon.nonrenewable_wh > energy.nonrenewable_wh
