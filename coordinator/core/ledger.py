"""Where the energy came from: watts over time, split into renewable and not (DESIGN 3).

The same split counts a live fleet (`energy_ledger`) and a replayed one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sterna.units import joules_to_wh

Array = NDArray[np.float64]
Figure = TypeVar("Figure", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSample:
    """Power at a site at one instant; None is unknown.

    `compute_w`: what Sterna's nodes draw, >= 0. `surplus_w`: what was left over for them, >= 0.
    """

    at: datetime
    surplus_w: float | None
    compute_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy drawn, in Wh."""

    renewable_wh: float = 0.0
    nonrenewable_wh: float = 0.0

    @property
    def total_wh(self) -> float:
        """Return all energy, in Wh."""
        return self.renewable_wh + self.nonrenewable_wh

    def __add__(self, other: "Energy") -> "Energy":
        return Energy(
            renewable_wh=self.renewable_wh + other.renewable_wh,
            nonrenewable_wh=self.nonrenewable_wh + other.nonrenewable_wh,
        )


def account_steps(edges_s: Array, surplus_w: Array, compute_w: Array) -> Energy:
    """Return the energy of one site over constant stretches, all of them known, at once.

    Parameters
    ----------
    edges_s : array
        Shape (K + 1): where the stretches begin and the last one ends, in seconds, rising.
    surplus_w, compute_w : array
        Shape (K): watts in each stretch, >= 0.
    """
    lengths_s = np.diff(edges_s)
    from_sources_w = renewable_w(compute_w, surplus_w, grid_renewable_frac=0.0)
    return Energy(
        renewable_wh=joules_to_wh(float(np.sum(from_sources_w * lengths_s))),
        nonrenewable_wh=joules_to_wh(float(np.sum((compute_w - from_sources_w) * lengths_s))),
    )


def renewable_w(drawn_w: Figure, surplus_w: Figure, grid_renewable_frac: float) -> Figure:
    """Return how much of a draw is renewable: what the surplus covers, and the grid's share of the rest."""
    covered_w = np.minimum(drawn_w, np.maximum(0.0, surplus_w))
    total_w: Figure = covered_w + (drawn_w - covered_w) * grid_renewable_frac
    return total_w
