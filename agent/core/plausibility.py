"""What a meter may say before it is believed: bounds of each figure, and of the step between two readings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sterna.units import joules_to_wh


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and greatest value that can be real, both included."""

    low: float
    high: float

    def hold(self, value: float) -> bool:
        """Whether a value is a number within them."""
        return math.isfinite(value) and self.low <= value <= self.high


# Wide enough for any site that we serve; what lies beyond is a wrong table, word order or wire.
BOUNDS: Mapping[str, Bounds] = {
    "frequency_hz": Bounds(10.0, 1000.0),
    "power_factor": Bounds(-1.001, 1.001),
    "soc_frac": Bounds(0.0, 1.0),
    "soh_frac": Bounds(0.0, 1.5),  # new ones may be above their rating
    "capacity_wh": Bounds(0.0, 1e12),
    "battery_w": Bounds(0.0, 1e12),
    "energy_import_wh": Bounds(0.0, 1e15),
    "energy_export_wh": Bounds(0.0, 1e15),
    "energy_total_wh": Bounds(0.0, 1e15),
    **{f"phase{n}_voltage_v": Bounds(0.0, 1e6) for n in (1, 2, 3)},
    **{f"phase{n}_current_a": Bounds(-1e5, 1e5) for n in (1, 2, 3)},
}


def plausible(power_w: float | None, *, max_power_w: float) -> str | None:
    """Say why a power cannot be believed, in one sentence; None when it can.

    Parameters
    ----------
    power_w : float or None
        As decoded; None: the device does not implement it.
    max_power_w : float
        Largest magnitude that the installation can reach, > 0.
    """
    if power_w is None:
        return "the device gives no active power"
    if not math.isfinite(power_w) or abs(power_w) > max_power_w:
        return f"active power {power_w:g} W is beyond {max_power_w:g} W"
    return None


def believable(name: str, value: float | None) -> float | None:
    """Return a side figure when it can be real, else None; power has a rule of its own (`plausible`)."""
    bounds = BOUNDS.get(name)
    if value is None or not math.isfinite(value):
        return None
    return value if bounds is None or bounds.hold(value) else None


def counter_fault(before_wh: float, after_wh: float, *, elapsed_s: float, max_power_w: float) -> str | None:
    """Say why a counter cannot have gone so far, in one sentence; None when it can.

    Parameters
    ----------
    before_wh, after_wh : float
        Two readings of one counter, the later one not smaller.
    elapsed_s : float
        Between them, >= 0.
    max_power_w : float
        Largest power that the installation can reach, > 0.
    """
    counted_wh, possible_wh = after_wh - before_wh, joules_to_wh(max_power_w * elapsed_s)
    # Counters are read in steps, of up to 1 kWh in some meters: one step may fall between two readings.
    if counted_wh > possible_wh + COUNTER_STEP_WH:
        return (
            f"the counter went {counted_wh:g} Wh in {elapsed_s:g} s, at most {possible_wh:g} Wh are possible"
        )
    return None


COUNTER_STEP_WH = 1000.0
