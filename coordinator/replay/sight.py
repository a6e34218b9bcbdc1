"""What a policy sees of an exact replay: the same `FleetView` that the coordinator makes of live sites."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

from coordinator.core import partial
from coordinator.model.forecast import SurplusForecast
from coordinator.model.import_cost import ImportCost
from coordinator.model.site import ActiveLimit
from coordinator.model.view import FleetView, JobView, LinkView, Phase, SiteView
from coordinator.replay.carriage import Pair
from coordinator.replay.course import Course
from coordinator.replay.foresight import Foresight
from coordinator.replay.group import Group
from coordinator.replay.world import GridLimit, Plant, World


class Sight:
    """Makes views of a world.

    Parameters
    ----------
    world : World
        The world.
    foresight : Foresight
        What is foreseen; asked once for each site and step.
    declared : bool
        Whether jobs declare their work (*clairvoyant*).
    """

    def __init__(self, world: World, foresight: Foresight, *, declared: bool = False) -> None:
        self._world = world
        self._foresight = foresight
        self._declared = declared
        self._idle = {
            pair: LinkView(source=pair[0], destination=pair[1], free_bps=world.wan.pair_bps[pair])
            for pair in permutations([site.site_id for site in world.sites], 2)
        }
        self._submitted_at = {task.job_id: world.at(task.submitted_s) for task in world.tasks}
        # Else a job looks the same until its next stage, and most jobs of most views are in none that is new.
        self._ages = declared or world.hold_back_s is not None
        self._seen: dict[str, tuple[tuple[object, ...], JobView]] = {}
        self._seen_sites: dict[str, tuple[tuple[object, ...], SiteView]] = {}
        self._step = -1
        self._forecasts: dict[str, SurplusForecast | None] = {}
        self._costs: dict[str, ImportCost | None] = {}

    def view(
        self,
        now_s: float,
        present: Iterable[Course],
        queue: Sequence[Course],
        held: Mapping[str, int],
        groups: Mapping[str, Group],
    ) -> FleetView:
        """Return the fleet at an instant.

        Parameters
        ----------
        now_s : float
            Seconds from the start of the world.
        present : iterable of Course
            Jobs that are submitted and not finished.
        queue : sequence of Course
            Those of them that wait and may be started now.
        held : mapping
            Slots held by site, reserved ones included.
        groups : mapping
            The distributed jobs among them, by id.
        """
        step = self._world.step_of(now_s)
        if step != self._step:
            self._step = step
            self._forecasts = {
                site.site_id: self._foresight.forecast(site, step) for site in self._world.sites
            }
            self._costs = {
                site.site_id: self._foresight.import_cost(site, step) for site in self._world.sites
            }
        courses = [course for course in present if course.site is not None]
        promised = _Promised(courses)
        for group in groups.values():
            promised.exchange(group)
        return FleetView(
            now=self._world.at(now_s),
            sites={site.site_id: self._seen_site(site, now_s, held, promised) for site in self._world.sites},
            jobs={course.task.job_id: self._seen_job(course, now_s) for course in (*courses, *queue)},
            links=self._idle | {pair: self._link(pair, promised) for pair in promised.pair_bps},
        )

    def _seen_site(
        self, site: Plant, now_s: float, held: Mapping[str, int], promised: "_Promised"
    ) -> SiteView:
        name, wan, step = site.site_id, self._world.wan, self._step
        up_bps = wan.uplink_bps[name] - promised.up_bps[name]
        down_bps = wan.downlink_bps[name] - promised.down_bps[name]
        told = tuple(limit for limit in site.limits if limit.told_s <= now_s < limit.end_s)
        stands = (step, held[name], up_bps, down_bps, told)
        known = self._seen_sites.get(name)
        if known is None or known[0] != stands:
            known = self._seen_sites[name] = (stands, self._site(site, held[name], (up_bps, down_bps), told))
        return known[1]

    def _limit(self, limit: GridLimit) -> ActiveLimit:
        return ActiveLimit(
            source="scenario",
            command_id="",
            limit_w=limit.import_w,
            start_at=self._world.at(limit.start_s),
            end_at=self._world.at(limit.end_s),
            reason="",
        )

    def _site(
        self, site: Plant, held: int, free_bps: tuple[float, float], told: Iterable[GridLimit]
    ) -> SiteView:
        return SiteView(
            site_id=site.site_id,
            available=True,
            draining=False,
            slots=site.slots,
            slots_held=held,
            surplus_w=site.surplus_w[self._step],
            surplus_quality_ok=True,
            compute_w=None,
            forecast=self._forecasts[site.site_id],
            limits=tuple(self._limit(limit) for limit in told),
            others_w=-site.surplus_w[self._step],
            uplink_free_bps=free_bps[0],
            downlink_free_bps=free_bps[1],
            import_cost=self._costs[site.site_id],
        )

    def _seen_job(self, course: Course, now_s: float) -> JobView:
        if self._ages or course.replica_of is not None:
            return self._job(course, now_s)
        stands = (course.turn, course.sending, course.site, course.bound_for)
        known = self._seen.get(course.job_id)
        if known is None or known[0] != stands:
            known = self._seen[course.job_id] = (stands, self._job(course, course.since_s))
        return known[1]

    def _job(self, course: Course, now_s: float) -> JobView:
        task, costs = course.task, self._world.costs
        store_s = costs.store_s(task.checkpoint_bytes)
        # The planner of production, too, sees a move from the moment on in which something travels ahead.
        phase = course.phase or Phase.QUEUED
        phase = Phase.MIGRATING if course.sending is not None else phase
        # What its site has paused for a limit may be moved at once, but is nobody's to pause or to slow.
        limited = phase is Phase.HELD
        phase = Phase.RUNNING if limited else phase
        running = phase is Phase.RUNNING
        moved_bytes = partial.moved_bytes(task.pieces) if task.pieces else task.checkpoint_bytes
        stop_bytes = partial.effective_bytes(task.pieces) if task.pieces else moved_bytes
        return JobView(
            job_id=task.job_id,
            phase=phase,
            site_id=course.site,
            home_site=task.home_site,
            power_w=task.power_w,
            checkpoint_bytes=moved_bytes,
            seal_s=costs.store_s(task.seal_bytes) if task.pieces else store_s,
            load_s=store_s,
            downtime_s=costs.downtime_s,
            may_migrate=True,
            submitted_at=self._submitted_at[course.job_id],
            resident_since=self._world.at(course.since_s) if running else None,
            min_residence_s=0.0,
            declared_work_s=task.work_s if self._declared else None,
            progressed_s=course.ran_s(now_s),
            slack_s=self._slack_s(course, now_s),
            may_pause=self._world.hold_back_s is not None and not limited,
            slow=None if limited else task.slow,
            slowed_to_w=course.slow_w,
            bound_for=course.bound_for,
            stop_bytes=stop_bytes if stop_bytes < moved_bytes else None,
            replica_of=course.replica_of,
            replication=task.replication,
        )

    def _slack_s(self, course: Course, now_s: float) -> float | None:
        """Return how long a job may still stand still: by its deadline, or by what is known to imply it."""
        if self._world.hold_back_s is None:
            return None
        ran_s = course.ran_s(now_s)
        allowed_s = self._world.hold_back_s + (course.task.work_s if self._declared else ran_s)
        return allowed_s - (now_s - course.task.submitted_s - ran_s)

    def _link(self, pair: Pair, promised: "_Promised") -> LinkView:
        free_bps = self._world.wan.pair_bps[pair] - promised.pair_bps[pair]
        return LinkView(source=pair[0], destination=pair[1], free_bps=max(0.0, free_bps))


class _Promised:
    """What transfers under way, and those whose checkpoint is being sealed, were promised, in bit/s."""

    def __init__(self, courses: Iterable[Course]) -> None:
        self.pair_bps: defaultdict[Pair, float] = defaultdict(float)
        self.up_bps: defaultdict[str, float] = defaultdict(float)
        self.down_bps: defaultdict[str, float] = defaultdict(float)
        for course in courses:
            if course.site is not None and course.bound_for is not None and course.site != course.bound_for:
                self.pair_bps[course.site, course.bound_for] += course.promised_bps
                self.up_bps[course.site] += course.promised_bps
                self.down_bps[course.bound_for] += course.promised_bps

    def exchange(self, group: Group) -> None:
        """Count what the exchanges of a distributed job take on average."""
        for (source, destination), bps in group.traffic_bps():
            self.pair_bps[source, destination] += bps
            self.up_bps[source] += bps
            self.down_bps[destination] += bps
