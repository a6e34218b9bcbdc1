"""Sites with a battery in replay: what policies are shown of them, and what the batteries really did.

A policy sees the plant with its battery (`coordinator.core.four_moves.firmed`), so that every policy,
forecast and figure works as without. What the batteries did is counted afterwards, from the journal, slot by
slot, with the draw that there really was; it can only be better than what was promised.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import msgspec
import numpy as np

from coordinator.core.battery import Battery
from coordinator.core.four_moves import Moves, Slot, Worth, allocate, firmed
from coordinator.forecast.series import SECONDS_PER_DAY
from coordinator.model.forecast import SurplusForecast
from coordinator.replay import markdown
from coordinator.replay.foresight import Foresight
from coordinator.replay.journal import Interval
from coordinator.replay.metrics import charged, site_draw
from coordinator.replay.world import Plant, World
from sterna.units import joules_to_wh, wh_to_joules

Positive = Annotated[float, msgspec.Meta(gt=0.0)]


class BatteryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every site has a battery of this size; it is empty when the period begins."""

    capacity_wh: Positive
    charge_w: Positive
    discharge_w: Positive
    round_trip_frac: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    wear_per_kwh: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    """What a kilowatt-hour given costs the battery, in the currency of the scenario's prices."""

    def battery(self) -> Battery:
        """Return it as the core takes it."""
        return Battery(
            capacity_wh=self.capacity_wh,
            charge_w=self.charge_w,
            discharge_w=self.discharge_w,
            round_trip_frac=self.round_trip_frac,
            wear_per_kwh=self.wear_per_kwh,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What became of the surplus at all sites until the last job ended, and where the draw came from, in Wh.

    `lost_wh` is the batteries' own loss, `held_wh` what is in them at the end, `cycles` how often they were
    emptied whole, a mean over the sites. In the world's currency: `import_cost` of what was imported, None
    where part of that has no price, and `wear_cost` of what was given.
    """

    surplus_wh: float
    drawn_wh: float
    consumed_wh: float
    charged_wh: float
    given_wh: float
    curtailed_wh: float
    imported_wh: float
    lost_wh: float
    held_wh: float
    cycles: float
    import_cost: float | None = None
    wear_cost: float = 0.0


Worths = Callable[[Plant, int], Worth]
"""What moves are worth at a site in a step of its world."""


def plain(_site: Plant, _step: int) -> Worth:
    """Return what counts renewable energy alone."""
    return Worth()


def by_price(world: World, foresight: Foresight, battery: Battery) -> Worths:
    """Return what counts money, by prices and surplus as they are foreseen.

    What is stored is for the dearest hours, as many as a full battery lasts for, until surplus beyond all
    jobs fills it again, within a day; it is worth the least of their prices. Where the price of a step is not
    known, energy alone counts.

    Parameters
    ----------
    world : World
        Whose objective is the price.
    foresight : Foresight
        What is foreseen in it.
    battery : Battery
        Of every site.
    """
    power_w = max((task.power_w for task in world.tasks), default=0.0)
    lasts_s = wh_to_joules(battery.capacity_wh) * battery.one_way_frac / max(battery.discharge_w, 1.0)
    most = max(1, round(lasts_s / world.step_s))
    known: dict[tuple[str, int], Worth] = {}

    def worth(site: Plant, step: int) -> Worth:
        key = (site.site_id, step)
        if key not in known:
            told, ahead = foresight.import_cost(site, step), foresight.forecast(site, step)
            prices = [] if told is None else told.slots[: max(1, round(SECONDS_PER_DAY / world.step_s))]
            if not prices or prices[0].start_at != world.at(step * world.step_s):
                return known.setdefault(key, Worth())
            filled = [_fills(ahead, slot.start_at, site.slots * power_w) for slot in prices]
            filled[0] = site.surplus_w[min(step, len(site.surplus_w) - 1)] > site.slots * power_w
            first = filled.index(False) if False in filled else 0
            last = filled.index(True, first) if True in filled[first:] else len(prices)
            dearest = sorted((slot.per_kwh for slot in prices[first:last] or prices), reverse=True)
            known[key] = Worth(now=prices[0].per_kwh, later=dearest[:most][-1])
        return known[key]

    return worth


def _fills(ahead: SurplusForecast | None, at: datetime, full_w: float) -> bool:
    """Tell whether more surplus is expected at an instant than all jobs of a site could draw."""
    slots = ahead.slots if ahead is not None else ()
    return any(slot.start_at <= at < slot.end_at and slot.p50_w > full_w for slot in slots)


def firm(world: World, battery: Battery) -> World:
    """Return the world as policies see it where every site has a battery."""
    power_w = max((task.power_w for task in world.tasks), default=0.0)
    return replace(world, sites=tuple(_firm(site, power_w, battery, world.step_s) for site in world.sites))


def _firm(site: Plant, power_w: float, battery: Battery, step_s: float) -> Plant:
    full_w = site.slots * power_w
    return replace(
        site,
        surplus_w=firmed(site.surplus_w, full_w, battery, step_s),
        past_w=firmed(site.past_w, full_w, battery, step_s),
    )


def balance(world: World, intervals: Iterable[Interval], battery: Battery, worths: Worths = plain) -> Balance:
    """Count what batteries did under a journal.

    Parameters
    ----------
    world : World
        Without batteries: the surplus that the plants had.
    intervals : iterable of Interval
        The journal of a replay.
    battery : Battery
        Of every site, empty at the start.
    worths : callable
        By what each slot's moves are put in order.
    """
    rows = tuple(intervals)
    power = {task.job_id: task.power_w for task in world.tasks}
    steps = world.step_of(max((row.end_s for row in rows), default=0.0)) + 1
    cuts = [step * world.step_s for step in range(steps + 1)]
    courses = []
    import_cost = 0.0
    for site in world.sites:
        mine = [row for row in rows if row.site_id == site.site_id]
        edges, drawn_w = site_draw(mine, power, cuts)
        of = (edges[:-1] // world.step_s).astype(int)
        course = _course(site, zip(np.diff(edges), of, drawn_w, strict=True), battery, worths)
        imported_j = np.array([length_s * made.import_w for length_s, made in course])
        import_cost += charged(imported_j, site.price, of)
        courses.append(course)

    def total(name: str) -> float:
        return joules_to_wh(sum(s * float(getattr(made, name)) for course in courses for s, made in course))

    surplus_wh = sum(total(name) for name in ("consume_w", "charge_w", "accelerate_w", "curtail_w"))
    consumed_wh, charged_wh, given_wh = total("consume_w"), total("charge_w"), total("discharge_w")
    imported_wh = total("import_w")
    held_wh = sum(course[-1][1].stored_wh for course in courses if course)
    return Balance(
        surplus_wh=surplus_wh,
        drawn_wh=consumed_wh + given_wh + imported_wh,
        consumed_wh=consumed_wh,
        charged_wh=charged_wh,
        given_wh=given_wh,
        curtailed_wh=total("curtail_w"),
        imported_wh=imported_wh,
        lost_wh=charged_wh - given_wh - held_wh,
        held_wh=held_wh,
        cycles=given_wh / battery.one_way_frac / battery.capacity_wh / max(1, len(world.sites)),
        import_cost=None if np.isnan(import_cost) else import_cost,
        wear_cost=battery.wear_per_kwh * given_wh / 1e3,
    )


def _course(
    site: Plant, stretches: Iterable[tuple[float, int, float]], battery: Battery, worths: Worths
) -> list[tuple[float, Moves]]:
    """Return what became of stretches of constant draw and surplus: seconds, and the moves."""
    stored_wh, course = 0.0, []
    for length_s, step, draw_w in stretches:
        surplus_w = site.surplus_w[min(step, len(site.surplus_w) - 1)]
        slot = Slot(surplus_w=surplus_w, draw_w=float(draw_w), length_s=float(length_s))
        made = allocate(slot, worths(site, step), battery, stored_wh)
        stored_wh = made.stored_wh
        course.append((float(length_s), made))
    return course


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What batteries did under one journal; `network_wh` is the energy of moves, which no battery covers."""

    balance: Balance
    network_wh: float


def table(found: Mapping[tuple[str, str, str], Sequence[Counted]], currency: str = "") -> str:
    """Return one Markdown table, means over the offsets; with money where import has prices.

    Parameters
    ----------
    found : mapping of (period, policy, order) to sequence of Counted
        A line each.
    currency : str
        Of prices and wear; empty: there are none.
    """
    head = (
        "period",
        "policy",
        *(("order",) if currency else ()),
        "non-renewable with batteries, kWh",
        "through batteries, kWh",
        "lost in them, kWh",
        "full cycles a site",
        "left over, kWh",
        *((f"import, {currency}", f"wear, {currency}", f"both, {currency}") if currency else ()),
    )
    lines = []
    for (period, policy, order), counted in found.items():
        made = [one.balance for one in counted]
        nonrenewable_wh = _mean([one.balance.imported_wh + one.network_wh for one in counted])
        line = (
            period,
            policy,
            *((order,) if currency else ()),
            f"{nonrenewable_wh / 1e3:.0f}",
            f"{_mean([one.given_wh for one in made]) / 1e3:.0f}",
            f"{_mean([one.lost_wh for one in made]) / 1e3:.0f}",
            f"{_mean([one.cycles for one in made]):.1f}",
            f"{_mean([one.curtailed_wh for one in made]) / 1e3:.0f}",
        )
        lines.append((*line, *(_money(made) if currency else ())))
    return markdown.table(head, lines, texts=3 if currency else 2)


def _money(made: Sequence[Balance]) -> tuple[str, str, str]:
    """Return what import and wear cost, and both; unknown where part of the import has no price."""
    wear = _mean([one.wear_cost for one in made])
    costs = [one.import_cost for one in made if one.import_cost is not None]
    if len(costs) < len(made):
        return "–", f"{wear:.2f}", "–"
    return f"{_mean(costs):.2f}", f"{wear:.2f}", f"{_mean(costs) + wear:.2f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
