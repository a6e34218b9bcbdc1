"""How much of a draw the surplus of a site carries over a stretch ahead: one concave curve a site.

What a job of P watts finds beside others that draw d is ``min(P, max(0, w - d))``, and that is
``min(w, d + P) - min(w, d)``. So with A(x), the energy that x watts can expect in all, the job has
``A(d + P) - A(d)`` whoever the others are: A holds for a whole tick, however many jobs come and go. Where
import costs something, each second of A counts by that.
"""

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from coordinator.core.horizon import WEIGHTS, Outlook

Array = NDArray[np.float64]
Lines = tuple[list[float], list[float]]


class Absorption:
    """A(x) of S sites between now and `until_s`: straight between knots, flat beyond the last.

    Parameters
    ----------
    ahead : Outlook
        The surplus of the sites.
    until_s : float
        Where counting ends, in seconds from now.
    """

    def __init__(self, ahead: Outlook, until_s: float) -> None:
        steps = int((ahead.edges_s[:, :-1] < until_s).sum(axis=1).max(initial=0))
        self._edges_s = ahead.edges_s[:, : steps + 1]
        self._watts = ahead.watts[:, :, :steps]
        begins, ends = self._edges_s[:, :-1], np.minimum(self._edges_s[:, 1:], until_s)
        self._lengths_s = np.maximum(0.0, ends - begins)
        self._costs, self._worths = ahead.costs[:, :steps], ahead.worths[:, :steps]
        self._by_energy = bool((self._costs == 1.0).all())
        seconds = np.concatenate([weight * self._lengths_s * self._worths for weight in WEIGHTS], axis=1)
        watts = np.concatenate(list(self._watts), axis=1)
        order = np.argsort(watts, axis=1, kind="stable")
        watts, seconds = np.take_along_axis(watts, order, 1), np.take_along_axis(seconds, order, 1)
        # Beyond a knot the surplus of its step is used up; that of all higher steps goes on.
        above = seconds.sum(axis=1, keepdims=True) - np.cumsum(seconds, axis=1)
        carried = np.cumsum(seconds * watts, axis=1) + watts * np.maximum(0.0, above)
        nothing = np.zeros((len(watts), 1))
        self.knots_w = np.concatenate([nothing, watts], axis=1)
        self.carried_j = np.maximum.accumulate(np.concatenate([nothing, carried], axis=1), axis=1)
        self._lines: dict[int, Lines] = {}

    def carried(self, column: int, draws_w: Array) -> Array:
        """Return A at one site for many draws, in J."""
        found: Array = np.interp(draws_w, self.knots_w[column], self.carried_j[column])
        return found

    def carried_one(self, column: int, draw_w: float) -> float:
        """Return A at one site for one draw, in J; the same figure as `carried`, but for rounding."""
        lines = self._lines.get(column)
        if lines is None:
            lines = (self.knots_w[column].tolist(), self.carried_j[column].tolist())
            self._lines[column] = lines
        knots, carried = lines
        place = bisect_left(knots, draw_w)
        if place == 0:
            return 0.0
        if place == len(knots):
            return carried[-1]
        low_w, low_j = knots[place - 1], carried[place - 1]
        return low_j + (draw_w - low_w) / (knots[place] - low_w) * (carried[place] - low_j)

    def spared(self, columns: NDArray[np.intp], draws_w: Array, power_w: Array, total_s: Array) -> Array:
        """Return what a job does not pay while it is under way: the import that it would have had there.

        Parameters
        ----------
        columns : array
            Shape (D): sites.
        draws_w : array
            Shape (D): what others draw there.
        power_w : array
            Shape (R, 1): what the jobs draw.
        total_s : array
            Shape (R, D): how long each is under way; NaN counts as 0.

        Returns
        -------
        array
            Shape (R, D) or less, in J: what is not covered at the site in that time, by what import costs.
        """
        spared = np.zeros((1, 1))
        longest_s = np.nanmax(total_s, initial=0.0)
        for step in range(self._lengths_s.shape[1]):
            begins = self._edges_s[columns, step]
            if not (begins < longest_s).any():
                break
            watts = self._watts[:, columns, step]
            if self._is_covered(step, columns, draws_w + power_w.max(initial=0.0)):
                continue
            within = np.clip(np.nan_to_num(total_s) - begins, 0.0, self._lengths_s[columns, step])
            share = np.zeros(total_s.shape)
            # What is measured is one figure in all quantiles.
            rows = zip(WEIGHTS, watts, strict=True) if (watts[0] < watts[-1]).any() else [(1.0, watts[0])]
            for weight, row in rows:
                share += weight * np.clip(row - draws_w, 0.0, power_w)
            cost, worth = self._costs[columns, step], self._worths[columns, step]
            spared = spared + within * (cost * power_w - worth * share)
        return spared

    def _is_covered(self, step: int, columns: NDArray[np.intp], most_w: Array) -> bool:
        """Tell whether jobs import nothing in a step, nor are paid for it.

        Where energy alone counts gates see to it that the first, which is as measured, covers whoever comes.
        """
        if step == 0 and self._by_energy:
            return True
        covered = self._watts[:, columns, step].min(axis=0) >= most_w
        return bool((covered & (self._costs[columns, step] >= 0.0)).all())

    def spared_one(self, column: int, draw_w: float, power_w: float, total_s: float) -> float:
        """Return `spared` for one job at one site."""
        spared_j = 0.0
        for step in range(int(self._by_energy), self._lengths_s.shape[1]):
            begins_s = float(self._edges_s[column, step])
            if not begins_s < total_s:
                break
            within_s = min(total_s - begins_s, float(self._lengths_s[column, step]))
            left = (float(watts) - draw_w for watts in self._watts[:, column, step])
            share_w = sum(w * min(power_w, max(0.0, rest)) for w, rest in zip(WEIGHTS, left, strict=True))
            cost, worth = float(self._costs[column, step]), float(self._worths[column, step])
            spared_j += within_s * (cost * power_w - worth * share_w)
        return spared_j
