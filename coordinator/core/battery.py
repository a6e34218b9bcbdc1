"""A battery as planning sees it: what it takes, what it gives, and what is left in it afterwards.

Watts are at its terminals; `stored_wh` is what is inside. The loss of a round trip falls half on the way in
and half on the way out. Knows no prices but its own wear, and decides nothing; `four_moves` does.
"""

from dataclasses import dataclass
from math import sqrt

from sterna.units import joules_to_wh, wh_to_joules


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """One battery at a site.

    Parameters
    ----------
    capacity_wh : float
        Usable energy inside, above 0.
    charge_w, discharge_w : float
        The most that it takes and gives, at its terminals, >= 0.
    round_trip_frac : float
        Share of what went in that comes out again, above 0, at most 1.
    wear_per_kwh : float
        What a kilowatt-hour given costs the battery, in the unit of the values that moves are held against.

    Raises
    ------
    ValueError
        A figure is out of its range.
    """

    capacity_wh: float
    charge_w: float
    discharge_w: float
    round_trip_frac: float = 0.87
    wear_per_kwh: float = 0.0

    def __post_init__(self) -> None:
        faults = [
            f"{name} {value}: expected {allowed}"
            for name, value, good, allowed in (
                ("capacity_wh", self.capacity_wh, self.capacity_wh > 0, "above 0"),
                ("charge_w", self.charge_w, self.charge_w >= 0, "0 or more"),
                ("discharge_w", self.discharge_w, self.discharge_w >= 0, "0 or more"),
                (
                    "round_trip_frac",
                    self.round_trip_frac,
                    0 < self.round_trip_frac <= 1,
                    "above 0, at most 1",
                ),
                ("wear_per_kwh", self.wear_per_kwh, self.wear_per_kwh >= 0, "0 or more"),
            )
            if not good
        ]
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def one_way_frac(self) -> float:
        """Return the share that is left of energy on its way in, or out."""
        return sqrt(self.round_trip_frac)

    def takes_w(self, stored_wh: float, length_s: float) -> float:
        """Return the most that it takes over so many seconds, above 0, at its terminals."""
        room_wh = max(0.0, self.capacity_wh - stored_wh)
        return min(self.charge_w, wh_to_joules(room_wh) / self.one_way_frac / length_s)

    def gives_w(self, stored_wh: float, length_s: float) -> float:
        """Return the most that it gives over so many seconds, above 0, at its terminals."""
        return min(self.discharge_w, wh_to_joules(max(0.0, stored_wh)) * self.one_way_frac / length_s)

    def after(self, stored_wh: float, *, charge_w: float, discharge_w: float, length_s: float) -> float:
        """Return what is inside after it was charged and discharged, in Wh, 0 to its capacity."""
        in_wh = joules_to_wh(charge_w * length_s) * self.one_way_frac
        out_wh = joules_to_wh(discharge_w * length_s) / self.one_way_frac
        return min(self.capacity_wh, max(0.0, stored_wh + in_wh - out_wh))
