"""What becomes of a site's surplus in a slot: consume it now, charge it, bring work forward, or curtail it.

The four moves of GridAI (docs/planning.md), each worth something per kilowatt-hour; surplus goes to the
worthiest first. What jobs draw beyond it comes out of the battery while that is worth more now than later,
and from the grid. Owns the order and the balance; which jobs run is the policy's.
"""

from dataclasses import dataclass

from coordinator.core.battery import Battery


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a kilowatt-hour is worth, in one unit: money, grams of CO2, or renewable energy itself.

    Parameters
    ----------
    now : float
        Not imported in this slot.
    later : float
        Not imported in a later slot, as expected: of work that is brought forward, and of what is stored.
    export : float
        Fed into the grid, or curtailed where it cannot be.
    """

    now: float = 1.0
    later: float = 1.0
    export: float = 0.0

    @classmethod
    def of(
        cls,
        *,
        price: float,
        later_price: float,
        export_price: float = 0.0,
        carbon_g_per_kwh: float = 0.0,
        later_carbon_g_per_kwh: float = 0.0,
        per_kg: float = 0.0,
    ) -> "Worth":
        """Return it in money.

        Parameters
        ----------
        price, later_price, export_price : float
            Per kilowatt-hour: of import now and, as expected, later; paid for export.
        carbon_g_per_kwh, later_carbon_g_per_kwh : float
            Of the grid now and, as expected, later.
        per_kg : float
            What a kilogram of CO2 is held to cost.
        """
        return cls(
            now=price + per_kg * carbon_g_per_kwh / 1e3,
            later=later_price + per_kg * later_carbon_g_per_kwh / 1e3,
            export=export_price,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One slot of one site, in watts over `length_s`.

    `surplus_w` is what is left of its sources, `draw_w` what the jobs that run now draw, `backlog_w` what
    work that could wait would draw if it were brought forward.
    """

    surplus_w: float
    draw_w: float
    length_s: float
    backlog_w: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What becomes of the surplus (the first four add up to it), and where the rest of a draw comes from.

    `stored_wh` is what the battery holds at the end of the slot.
    """

    consume_w: float
    charge_w: float
    accelerate_w: float
    curtail_w: float
    discharge_w: float
    import_w: float
    stored_wh: float


def allocate(slot: Slot, worth: Worth, battery: Battery | None, stored_wh: float = 0.0) -> Moves:
    """Return what becomes of a slot.

    Parameters
    ----------
    slot : Slot
        What there is, and what could take it.
    worth : Worth
        What each move is worth. At equal worth consuming comes first, then work, then the battery.
    battery : Battery or None
        Of the site; None: it has none.
    stored_wh : float
        What is in it at the beginning.

    Returns
    -------
    Moves
        No move takes more than it can, and none that is worth less than curtailing takes anything.
    """
    gains = {
        "consume": (worth.now, max(0.0, slot.draw_w)),
        "accelerate": (worth.later, max(0.0, slot.backlog_w)),
        "charge": (0.0, 0.0),
    }
    if battery is not None:
        kept = worth.later * battery.round_trip_frac - battery.wear_per_kwh * battery.round_trip_frac
        gains["charge"] = (kept, battery.takes_w(stored_wh, slot.length_s))
    taken = dict.fromkeys(gains, 0.0)
    left_w = max(0.0, slot.surplus_w)
    # Sorting is stable: what is worth the same stays in the order above.
    for name, (value, most_w) in sorted(gains.items(), key=lambda entry: -entry[1][0]):
        if value >= worth.export and value > 0.0:
            taken[name] = min(left_w, most_w)
            left_w -= taken[name]
    missing_w = max(0.0, slot.draw_w) - taken["consume"]
    discharge_w = 0.0  # it does not give and take at once
    if taken["charge"] == 0.0:
        discharge_w = _discharge_w(slot, worth, battery, stored_wh, missing_w)
    if battery is not None:
        stored_wh = battery.after(
            stored_wh, charge_w=taken["charge"], discharge_w=discharge_w, length_s=slot.length_s
        )
    return Moves(
        consume_w=taken["consume"],
        charge_w=taken["charge"],
        accelerate_w=taken["accelerate"],
        curtail_w=left_w,
        discharge_w=discharge_w,
        import_w=missing_w - discharge_w,
        stored_wh=stored_wh,
    )


def _discharge_w(
    slot: Slot, worth: Worth, battery: Battery | None, stored_wh: float, missing_w: float
) -> float:
    """Return what the battery gives: nothing where what it holds is worth more later."""
    if battery is None or worth.now < worth.later or worth.now <= battery.wear_per_kwh:
        return 0.0
    return min(missing_w, battery.gives_w(stored_wh, slot.length_s))


def firmed(
    surplus_w: tuple[float, ...], full_w: float, battery: Battery, length_s: float
) -> tuple[float, ...]:
    """Return a site's surplus with its battery: what a planner may count on, whatever the jobs there do.

    The battery takes only what is beyond `full_w`, the most that the site's jobs can ever draw, and gives up
    to that; it begins empty. With the jobs' real draw it never holds less: what is promised here is there.

    Parameters
    ----------
    surplus_w : tuple of float
        Watts in slots of one length, >= 0.
    full_w : float
        The most that jobs can draw there, in watts, >= 0.
    battery : Battery
        The site's.
    length_s : float
        Of a slot, above 0.
    """
    stored_wh, shaped = 0.0, []
    for watts in surplus_w:
        charge_w = min(max(0.0, watts - full_w), battery.takes_w(stored_wh, length_s))
        discharge_w = min(max(0.0, full_w - watts), battery.gives_w(stored_wh, length_s))
        stored_wh = battery.after(stored_wh, charge_w=charge_w, discharge_w=discharge_w, length_s=length_s)
        shaped.append(watts - charge_w + discharge_w)
    return tuple(shaped)
