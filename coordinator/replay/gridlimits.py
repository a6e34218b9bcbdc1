"""Limits of the grid in a replay: what a scenario says of them, and which jobs their sites pause for them.

A limit bounds what the jobs of a site draw beyond its surplus: a trace does not tell what else is there. As
an agent does, a site pauses jobs at once, those that began to run last first, and lets them go on when there
is room, those that have stood still longest first. Seals and loads are not interrupted. Who moves is the
policy's.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Annotated

import msgspec

from coordinator.core.limits import LEAVE_S
from coordinator.model.view import Phase
from coordinator.replay.course import Course
from coordinator.replay.journal import Stage
from coordinator.replay.world import GridLimit, World

_NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]
_AboveZero = Annotated[float, msgspec.Meta(gt=0.0)]
_HAIR_W = 1e-6


class LimitTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit at a site, in seconds from the start of the period; `every_s` None: once.

    `told_s`: so long before its start it is known.
    """

    site: str
    import_w: _NotNegative
    start_s: _NotNegative
    length_s: _AboveZero
    every_s: _AboveZero | None = None
    told_s: _NotNegative = 0.0

    def until(self, end_s: float) -> Iterator[GridLimit]:
        """Yield it, again and again, as far as it begins before an instant."""
        start_s = self.start_s
        while start_s < end_s:
            yield GridLimit(
                told_s=start_s - self.told_s,
                start_s=start_s,
                end_s=start_s + self.length_s,
                import_w=self.import_w,
            )
            if self.every_s is None:
                return
            start_s += self.every_s


def limits_of(tables: Sequence[LimitTable], site_id: str, end_s: float) -> tuple[GridLimit, ...]:
    """Return all limits at a site that begin before an instant, by start."""
    mine = (limit for table in tables if table.site == site_id for limit in table.until(end_s))
    return tuple(sorted(mine, key=lambda limit: (limit.start_s, limit.import_w)))


def _news_of(limit: GridLimit) -> tuple[float, ...]:
    """Return when a policy may answer to a limit otherwise than before."""
    return (limit.told_s, max(limit.told_s, limit.start_s - LEAVE_S), limit.start_s, limit.end_s)


class Keeper:
    """Keeps the jobs of a world to its limits.

    Parameters
    ----------
    world : World
        The world.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._sites = {site.site_id: site for site in world.sites if site.limits}
        every = (limit for site in self._sites.values() for limit in site.limits)
        edges = {edge_s for limit in every for edge_s in _news_of(limit)}
        self._edges = sorted((edge_s for edge_s in edges if edge_s >= 0.0), reverse=True)

    def __bool__(self) -> bool:
        """Tell whether there is any limit."""
        return bool(self._sites)

    @property
    def next_s(self) -> float:
        """Return when a limit is told of, comes near, begins or ends next."""
        return self._edges[-1] if self._edges else inf

    def passes(self, now_s: float) -> bool:
        """Go on to an instant; tell whether something happened to a limit."""
        before = len(self._edges)
        while self._edges and self._edges[-1] <= now_s:
            self._edges.pop()
        return len(self._edges) < before

    def changes(self, now_s: float, present: Iterable[Course]) -> list[tuple[Course, bool]]:
        """Return the jobs that stand still from now on (False), and those that go on (True)."""
        at: dict[str, list[Course]] = {name: [] for name in self._sites}
        for course in present:
            if course.site in at and (course.stage is not None or course.phase is Phase.HELD):
                at[course.site].append(course)
        return [change for name, courses in at.items() for change in self._at(name, courses, now_s)]

    def _at(self, name: str, courses: list[Course], now_s: float) -> Iterator[tuple[Course, bool]]:
        site = self._sites[name]
        left_w = min((limit.import_w for limit in site.limits if limit.holds(now_s)), default=inf)
        left_w += site.surplus_w[self._world.step_of(now_s)]
        mine = [course for course in courses if course.stage is Stage.RUN or course.phase is Phase.HELD]
        left_w -= sum(course.task.power_w for course in courses if course not in mine)
        for course in sorted(mine, key=lambda one: (one.phase is Phase.HELD, one.since_s, one.task.job_id)):
            draw_w = course.task.power_w if course.slow_w is None else course.slow_w
            fits = draw_w <= left_w + _HAIR_W
            if fits:
                left_w -= draw_w
            if fits is (course.phase is Phase.HELD):
                yield course, fits
