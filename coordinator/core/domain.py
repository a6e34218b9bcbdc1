"""The time side of the feasibility domain (DESIGN 4): plain arithmetic on numbers or on arrays of them.

Owns the terms of a migration, its budget, the inverses and the classes. Knows nothing of energy,
forecasts or reasons. A number and an array of it take the same operations in the same order, so they
agree bit for bit. Who said what (the paper or this project) is in docs/feasibility.md.
"""

from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sterna.units import BITS_PER_BYTE, hours_to_s

Figure = TypeVar("Figure", float, NDArray[np.float64])

SHORT_WINDOW_S = hours_to_s(2.5)
"""The shortest typical window (second-hand: CAISO and grids like it)."""
LONG_WINDOW_S = hours_to_s(9.5)
"""The longest typical window (second-hand)."""


class WorkloadClass(Enum):
    """Where a workload stands in the (S, B) plane."""

    A = "A"
    """Feasible even in the shortest typical window."""
    B = "B"
    """It depends on the window."""
    C = "C"
    """Infeasible even in the longest typical window."""


def transfer_s(checkpoint_bytes: Figure, link_bps: Figure, eta: float) -> Figure:
    """Return T_transfer = 8 S / (eta B), in seconds; `link_bps` above 0, 0 < `eta` <= 1."""
    return checkpoint_bytes * BITS_PER_BYTE / (eta * link_bps)


def migration_s(seal_s: Figure, carried_s: Figure, load_s: Figure, downtime_s: Figure) -> Figure:
    """Return T_mig = T_seal + T_transfer + T_load + T_downtime, in seconds."""
    return seal_s + carried_s + load_s + downtime_s


def budget_s(window_s: Figure, alpha: float) -> Figure:
    """Return what a move may take when `window_s` is left on arrival: less than alpha * window_s."""
    return alpha * window_s


def fixed_end_budget_s(until_end_s: Figure, alpha: float) -> Figure:
    """Return what a move may take when the window ends `until_end_s` from now: alpha / (1 + alpha) of it.

    The same test as `budget_s`, solved for a fixed end: what the move itself takes is lost to the window.
    """
    return alpha / (1.0 + alpha) * until_end_s


def largest_checkpoint_bytes(budget: Figure, overhead_s: Figure, link_bps: Figure, eta: float) -> Figure:
    """Return S_max in bytes: a move is in time when its checkpoint is smaller.

    Parameters
    ----------
    budget : float or array
        What the move may take, in seconds: `budget_s` or `fixed_end_budget_s`.
    overhead_s : float or array
        T_seal + T_load + T_downtime, in seconds.
    link_bps : float or array
        Bits per second, above 0.
    eta : float
        WAN goodput efficiency, 0 < eta <= 1.

    Returns
    -------
    float or array
        Bytes; zero or less: none is small enough.
    """
    return eta * link_bps * (budget - overhead_s) / BITS_PER_BYTE


def smallest_link_bps(budget: float, overhead_s: float, checkpoint_bytes: float, eta: float) -> float | None:
    """Return B_min in bit/s: a move is in time when its link is faster; None: none is fast enough."""
    left_s = budget - overhead_s
    if not left_s > 0.0:
        return None
    return checkpoint_bytes * BITS_PER_BYTE / (eta * left_s)


def classify(
    total_s: float, alpha: float, short_s: float = SHORT_WINDOW_S, long_s: float = LONG_WINDOW_S
) -> WorkloadClass:
    """Return the class of a workload whose migration takes `total_s` seconds.

    A if T_mig < alpha * short_s; C if T_mig >= alpha * long_s; else B.
    """
    if total_s < budget_s(short_s, alpha):
        return WorkloadClass.A
    if total_s >= budget_s(long_s, alpha):
        return WorkloadClass.C
    return WorkloadClass.B
