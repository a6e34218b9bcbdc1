"""What limits of the grid leave for jobs: up to which draw a site may take one more, by when it arrives.

A limit bounds the site's import: what the jobs and everything else there draw, less what the plant there
gives. So all jobs together may draw the limit less the import without them, which is below zero where
there is a surplus. For the time ahead the surplus counts as the lowest of its median forecast, never as more
than now. Where the import is not measured, a limit leaves nothing: unknown is never unlimited.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

import numpy as np
from numpy.typing import NDArray

from coordinator.model.decision import Term
from coordinator.model.forecast import SurplusForecast
from coordinator.model.site import ActiveLimit
from coordinator.model.view import FleetView, SiteView

Array = NDArray[np.float64]

AHEAD_S = 3600.0
"""A limit that begins so soon after a job has arrived counts against it: less would not be worth a start."""
LEAVE_S = 1800.0
"""So long before a limit begins jobs leave a site where they would have to stand still under it."""
HAIR_W = 1e-6  # sums of watts are taken in different orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One limit as it bounds all jobs of a site together, from `start_s` until `end_s`, from now.

    `now_w` is what it would leave now, `most_w` what it leaves from then on for an hour; -inf: what the site
    imports besides is not measured.
    """

    start_s: float
    end_s: float
    now_w: float
    most_w: float
    limit_w: float

    @property
    def from_start_w(self) -> float:
        """Return what it leaves as soon as it holds: now, where it does."""
        return self.now_w if self.start_s <= 0.0 else self.most_w

    @property
    def lasts_s(self) -> float:
        """Return for how long it holds from now on, in seconds."""
        return self.end_s - max(0.0, self.start_s)

    def meets(self, arrives_s: float) -> bool:
        """Tell whether it counts against a job that arrives then; NaN, an unknown time: it does."""
        return not (self.end_s <= arrives_s or self.start_s >= arrives_s + AHEAD_S)


class Ceilings:
    """The bounds of every site.

    Parameters
    ----------
    view : FleetView
        The fleet at one instant.
    names : sequence of str
        Its sites in the order of columns.
    """

    def __init__(self, view: FleetView, names: Sequence[str]) -> None:
        self._now, self._names = view.now, names
        self._bounds = {
            column: bounds_of(view.sites[name], view.now)
            for column, name in enumerate(names)
            if view.sites[name].limits
        }
        layers = max((len(bounds) for bounds in self._bounds.values()), default=0)
        self._limited = np.zeros(len(names), dtype=np.bool_)
        self._layers = np.empty((layers, 3, len(names)))
        self._layers[:] = [[0.0], [0.0], [inf]]  # a limit that is over
        for column, bounds in self._bounds.items():
            self._limited[column] = True
            for layer, bound in enumerate(bounds):
                self._layers[layer, :, column] = (bound.start_s, bound.end_s, bound.most_w)

    def __bool__(self) -> bool:
        """Tell whether any site has a limit."""
        return bool(self._bounds)

    def binding(self, column: int, arrives_s: float) -> Bound | None:
        """Return the limit that leaves least to a job that arrives then; None: there is none."""
        met = [bound for bound in self._bounds.get(column, ()) if bound.meets(arrives_s)]
        return min(met, key=lambda bound: bound.most_w, default=None)

    def most_w(self, columns: NDArray[np.intp], arrives_s: Array, ahead_s: float = AHEAD_S) -> Array:
        """Return up to which draw of all jobs sites may take one; inf: no limit.

        Parameters
        ----------
        columns : array
            Shape (S): which sites.
        arrives_s : array
            Shape (..., S): when a job would arrive, in seconds from now; NaN: not known.
        ahead_s : float
            Limits count that begin so soon after that.
        """
        most = np.full(arrives_s.shape, inf)
        some = np.flatnonzero(self._limited[columns])
        at, least = arrives_s[..., some], most[..., some]
        for start_s, end_s, bound_w in self._layers[:, :, columns[some]]:
            over = (end_s <= at) | (start_s >= at + ahead_s)
            np.minimum(least, np.where(over, inf, bound_w), out=least)
        most[..., some] = least
        return most

    def pressing(self, column: int, draw_w: float) -> Bound | None:
        """Return the limit that leaves less than a draw, of those in force and to begin within `LEAVE_S`.

        Of several the one that holds longest; None: none does, or the import is not measured.
        """
        short = (
            bound
            for bound in self._bounds.get(column, ())
            if bound.start_s <= LEAVE_S and -inf < bound.from_start_w < draw_w - HAIR_W
        )
        return max(short, key=lambda bound: bound.lasts_s, default=None)

    def now_w(self, column: int) -> float:
        """Return what the limits in force leave for all jobs of a site; inf: no limit, -inf: not known."""
        return min((bound.now_w for bound in self._in_force(column)), default=inf)

    def _in_force(self, column: int) -> list[Bound]:
        return [bound for bound in self._bounds.get(column, ()) if bound.start_s <= 0.0]

    def against(self, column: int, drawn_w: float, power_w: float, arrives_s: float) -> str:
        """Say why a site cannot take a job beside others, and what would change that; "": it can."""
        bound = self.binding(column, arrives_s)
        if bound is None or drawn_w + power_w <= bound.most_w + HAIR_W:
            return ""
        name = self._names[column]
        if bound.most_w == -inf:
            return (
                f"what the grid limit of {bound.limit_w:.0f} W at {name} leaves is not known: "
                "the import there is not measured"
            )
        when = f" from {self._at(bound.start_s)} on" if bound.start_s > 0.0 else ""
        mends = [
            f"after {self._at(end_s)}" for end_s in self._fits_after(column, drawn_w + power_w, arrives_s)
        ]
        mends.append(f"with a limit of {bound.limit_w + drawn_w + power_w - bound.most_w:.0f} W")
        return (
            f"the grid limit at {name} leaves {max(0.0, bound.most_w - drawn_w):.0f} W{when}, the job draws "
            f"{power_w:.0f} W; would fit {' or '.join(mends)}"
        )

    def _fits_after(self, column: int, need_w: float, arrives_s: float) -> list[float]:
        """Return the first instant from which on all limits leave a need, if it is known, from now."""
        ends_s = sorted(b.end_s for b in self._bounds[column] if arrives_s < b.end_s < inf)
        found = ((end_s, self.binding(column, end_s)) for end_s in ends_s)
        return [end_s for end_s, bound in found if bound is None or need_w <= bound.most_w + HAIR_W][:1]

    def _at(self, offset_s: float) -> str:
        return f"{self._now + timedelta(seconds=offset_s):%Y-%m-%d %H:%M} UTC"


def bounds_of(site: SiteView, now: datetime) -> tuple[Bound, ...]:
    """Return what each limit of a site leaves for jobs."""
    return tuple(
        _bound(site, limit, now) for limit in site.limits if limit.end_at is None or limit.end_at > now
    )


def _bound(site: SiteView, limit: ActiveLimit, now: datetime) -> Bound:
    begins_at = max(now, limit.start_at)
    until_at = begins_at + timedelta(seconds=AHEAD_S)
    if limit.end_at is not None:
        until_at = min(until_at, limit.end_at)
    now_w = most_w = -inf
    if site.others_w is not None:
        lowest_w = _lowest_w(site.forecast, now, begins_at, until_at)
        now_w = limit.limit_w - site.others_w
        most_w = min(now_w, limit.limit_w + lowest_w)
    return Bound(
        start_s=(limit.start_at - now).total_seconds(),
        end_s=inf if limit.end_at is None else (limit.end_at - now).total_seconds(),
        now_w=now_w,
        most_w=most_w,
        limit_w=limit.limit_w,
    )


def _lowest_w(
    forecast: SurplusForecast | None, now: datetime, start_at: datetime, until_at: datetime
) -> float:
    """Return the lowest median surplus between two instants, now apart; what no slot covers is none."""
    known_at, least_w = start_at, inf
    for slot in forecast.slots if forecast is not None else ():
        if slot.end_at <= known_at:
            continue
        if slot.start_at > known_at or known_at >= until_at:
            break
        if slot.start_at > now:
            least_w = min(least_w, max(0.0, slot.p50_w))
        known_at = slot.end_at
    return least_w if known_at >= until_at else 0.0


def limit_term(room_w: float, power_w: float) -> Term:
    """Return the term that says whether the limits of a site leave what is to be drawn."""
    enough = power_w <= room_w + HAIR_W
    return Term(
        name="grid_limit",
        value=max(0.0, room_w),
        limit=power_w,
        unit="W",
        satisfied=enough,
        remedy="" if enough else f"{power_w - room_w:.0f} W more under the limit",
    )
