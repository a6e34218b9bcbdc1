"""Where the energy came from: metered watts over time, split into renewable and not (DESIGN 3).

The same code counts a live fleet and a replayed one. A sample holds until the next (a step function),
for `hold_s` at most: beyond that nothing is known and nothing is counted, but the gap is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
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

    `compute_w`: what Sterna's nodes draw, >= 0. `surplus_w`: what was left over for them, >= 0; where it
    is unknown, none of the draw counts as renewable.
    """

    at: datetime
    surplus_w: float | None
    compute_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy drawn, in Wh, and the time for which nobody knows it, in seconds."""

    renewable_wh: float = 0.0
    nonrenewable_wh: float = 0.0
    unmetered_s: float = 0.0

    @property
    def total_wh(self) -> float:
        """Return all energy that was metered, in Wh."""
        return self.renewable_wh + self.nonrenewable_wh

    @property
    def renewable_frac(self) -> float | None:
        """Return the renewable share, 0 to 1; None when nothing was drawn."""
        return self.renewable_wh / self.total_wh if self.total_wh > 0.0 else None

    def __add__(self, other: "Energy") -> "Energy":
        return Energy(
            renewable_wh=self.renewable_wh + other.renewable_wh,
            nonrenewable_wh=self.nonrenewable_wh + other.nonrenewable_wh,
            unmetered_s=self.unmetered_s + other.unmetered_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """A site's account so far: its energy and the sample that still holds."""

    hold_s: float
    """For how long a sample says something, > 0."""
    grid_renewable_frac: float = 0.0
    """Renewable share of what is imported, 0 to 1; 0 when it is not known."""
    energy: Energy = field(default_factory=Energy)
    last: PowerSample | None = None

    def add(self, sample: PowerSample) -> "Ledger":
        """Return the account after one more sample.

        One that is earlier than the last changes nothing; one of the same instant replaces it.
        """
        if self.last is None:
            return self._with(self.energy, sample)
        elapsed_s = (sample.at - self.last.at).total_seconds()
        if elapsed_s < 0.0:
            return self
        return self._with(self.energy + self._drawn(self.last, elapsed_s), sample)

    def _with(self, energy: Energy, last: PowerSample) -> "Ledger":
        return Ledger(
            hold_s=self.hold_s, grid_renewable_frac=self.grid_renewable_frac, energy=energy, last=last
        )

    def _drawn(self, sample: PowerSample, elapsed_s: float) -> Energy:
        held_s = min(elapsed_s, self.hold_s) if sample.compute_w is not None else 0.0
        drawn_w = max(0.0, sample.compute_w or 0.0)
        covered_w = float(renewable_w(drawn_w, sample.surplus_w or 0.0, self.grid_renewable_frac))
        return Energy(
            renewable_wh=joules_to_wh(covered_w * held_s),
            nonrenewable_wh=joules_to_wh((drawn_w - covered_w) * held_s),
            unmetered_s=elapsed_s - held_s,
        )


def account(samples: Iterable[PowerSample], *, hold_s: float, grid_renewable_frac: float = 0.0) -> Energy:
    """Return the energy of one site over its samples in order of time; see `Ledger`."""
    ledger = Ledger(hold_s=hold_s, grid_renewable_frac=grid_renewable_frac)
    for sample in samples:
        ledger = ledger.add(sample)
    return ledger.energy


def account_steps(
    edges_s: Array, surplus_w: Array, compute_w: Array, grid_renewable_frac: float = 0.0
) -> Energy:
    """Return the energy of one site over constant stretches, all of them known, at once.

    Parameters
    ----------
    edges_s : array
        Shape (K + 1): where the stretches begin and the last one ends, in seconds, rising.
    surplus_w, compute_w : array
        Shape (K): watts in each stretch, >= 0.
    grid_renewable_frac : float
        Renewable share of what is imported, 0 to 1.
    """
    lengths_s = np.diff(edges_s)
    from_sources_w = renewable_w(compute_w, surplus_w, grid_renewable_frac)
    return Energy(
        renewable_wh=joules_to_wh(float(np.sum(from_sources_w * lengths_s))),
        nonrenewable_wh=joules_to_wh(float(np.sum((compute_w - from_sources_w) * lengths_s))),
    )


def renewable_w(drawn_w: Figure, surplus_w: Figure, grid_renewable_frac: float) -> Figure:
    """Return how much of a draw is renewable: what the surplus covers, and the grid's share of the rest."""
    covered_w = np.minimum(drawn_w, np.maximum(0.0, surplus_w))
    total_w: Figure = covered_w + (drawn_w - covered_w) * grid_renewable_frac
    return total_w
