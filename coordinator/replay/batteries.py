"""Sites with a battery in replay: what policies are shown of them, and what the batteries really did.

A policy sees the plant with its battery (`coordinator.core.four_moves.firmed`), so that every policy,
forecast and figure works as without. What the batteries did is counted afterwards, from the journal, slot by
slot, with the draw that there really was; it can only be better than what was promised.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
import numpy as np

from coordinator.core.battery import Battery
from coordinator.core.four_moves import Moves, Slot, Worth, allocate, firmed
from coordinator.replay.journal import Interval
from coordinator.replay.metrics import Array, site_draw
from coordinator.replay.world import Plant, World
from sterna.units import joules_to_wh

Positive = Annotated[float, msgspec.Meta(gt=0.0)]


class BatteryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every site has a battery of this size; it is empty when the period begins."""

    capacity_wh: Positive
    charge_w: Positive
    discharge_w: Positive
    round_trip_frac: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]

    def battery(self) -> Battery:
        """Return it as the core takes it."""
        return Battery(
            capacity_wh=self.capacity_wh,
            charge_w=self.charge_w,
            discharge_w=self.discharge_w,
            round_trip_frac=self.round_trip_frac,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What became of the surplus at all sites until the last job ended, and where the draw came from, in Wh.

    `lost_wh` is the batteries' own loss, `held_wh` what is in them at the end, `cycles` how often they were
    emptied whole, a mean over the sites.
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


def balance(world: World, intervals: Iterable[Interval], battery: Battery) -> Balance:
    """Count what batteries did under a journal.

    Parameters
    ----------
    world : World
        Without batteries: the surplus that the plants had.
    intervals : iterable of Interval
        The journal of a replay.
    battery : Battery
        Of every site, empty at the start.
    """
    rows = tuple(intervals)
    power = {task.job_id: task.power_w for task in world.tasks}
    steps = world.step_of(max((row.end_s for row in rows), default=0.0)) + 1
    cuts = [step * world.step_s for step in range(steps + 1)]
    courses = []
    for site in world.sites:
        mine = [row for row in rows if row.site_id == site.site_id]
        courses.append(_course(site, site_draw(mine, power, cuts), battery, world.step_s))

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
    )


def _course(
    site: Plant, draw: tuple[Array, Array], battery: Battery, step_s: float
) -> list[tuple[float, Moves]]:
    """Return every stretch of one site with constant draw and surplus: seconds, and what became of it."""
    edges, drawn_w = draw
    of = np.minimum((edges[:-1] // step_s).astype(int), len(site.surplus_w) - 1)
    stored_wh, course = 0.0, []
    for length_s, step, draw_w in zip(np.diff(edges), of, drawn_w, strict=True):
        slot = Slot(surplus_w=site.surplus_w[step], draw_w=float(draw_w), length_s=float(length_s))
        made = allocate(slot, Worth(), battery, stored_wh)
        stored_wh = made.stored_wh
        course.append((float(length_s), made))
    return course


def table(found: Mapping[tuple[str, str], Sequence[tuple[Balance, float]]]) -> str:
    """Return one Markdown table: a line for each period and policy, means over the offsets.

    Parameters
    ----------
    found : mapping of (period, policy) to pairs
        What the batteries did, and the energy of the network in Wh, which no battery covers.
    """
    head = (
        "period",
        "policy",
        "non-renewable with batteries, kWh",
        "through batteries, kWh",
        "lost in them, kWh",
        "full cycles a site",
        "left over, kWh",
    )
    lines = [head, ("---", "---", *["---:"] * (len(head) - 2))]
    for (period, policy), pairs in found.items():
        made = [one for one, _ in pairs]
        lines.append(
            (
                period,
                policy,
                f"{_mean([one.imported_wh + network for one, network in pairs]) / 1e3:.0f}",
                f"{_mean([one.given_wh for one in made]) / 1e3:.0f}",
                f"{_mean([one.lost_wh for one in made]) / 1e3:.0f}",
                f"{_mean([one.cycles for one in made]):.1f}",
                f"{_mean([one.curtailed_wh for one in made]) / 1e3:.0f}",
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
