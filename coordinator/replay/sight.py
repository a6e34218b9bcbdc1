"""What a policy sees of an exact replay: the same `FleetView` that the coordinator makes of live sites."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

from coordinator.model.forecast import SurplusForecast
from coordinator.model.view import FleetView, JobView, LinkView, Phase, SiteView
from coordinator.replay.carriage import Load, Pair, share_bps
from coordinator.replay.course import Course
from coordinator.replay.foresight import Foresight
from coordinator.replay.journal import Stage
from coordinator.replay.world import Plant, World


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
        self._pairs = list(permutations([site.site_id for site in world.sites], 2))
        self._step = -1
        self._forecasts: dict[str, SurplusForecast | None] = {}

    def view(
        self,
        now_s: float,
        present: Iterable[Course],
        queue: Sequence[Course],
        held: Mapping[str, int],
        transfers: Iterable[Pair],
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
        transfers : iterable of pairs
            Transfers under way.
        """
        step = self._world.step_of(now_s)
        if step != self._step:
            self._step = step
            self._forecasts = {
                site.site_id: self._foresight.forecast(site, step) for site in self._world.sites
            }
        courses = [course for course in present if course.site is not None]
        # A checkpoint that is being sealed will be on its link before any that is sealed from now on.
        sealing = [(c.site, c.bound_for) for c in courses if c.stage is Stage.SEAL]
        load = Load.of([*transfers, *((a, b) for a, b in sealing if a is not None and b is not None)])
        return FleetView(
            now=self._world.at(now_s),
            sites={site.site_id: self._site(site, step, held) for site in self._world.sites},
            jobs={course.task.job_id: self._job(course, now_s) for course in (*courses, *queue)},
            links={pair: self._link(pair, load) for pair in self._pairs},
        )

    def _site(self, site: Plant, step: int, held: Mapping[str, int]) -> SiteView:
        return SiteView(
            site_id=site.site_id,
            available=True,
            draining=False,
            slots=site.slots,
            slots_held=held[site.site_id],
            surplus_w=site.surplus_w[step],
            surplus_quality_ok=True,
            compute_w=None,
            forecast=self._forecasts[site.site_id],
        )

    def _job(self, course: Course, now_s: float) -> JobView:
        task, costs = course.task, self._world.costs
        running = course.phase is Phase.RUNNING
        return JobView(
            job_id=task.job_id,
            phase=course.phase or Phase.QUEUED,
            site_id=course.site,
            home_site=task.home_site,
            power_w=task.power_w,
            checkpoint_bytes=task.checkpoint_bytes,
            seal_s=costs.store_s(task.checkpoint_bytes),
            load_s=costs.store_s(task.checkpoint_bytes),
            downtime_s=costs.downtime_s,
            may_migrate=True,
            submitted_at=self._world.at(task.submitted_s),
            resident_since=self._world.at(course.since_s) if running else None,
            min_residence_s=0.0,
            declared_work_s=task.work_s if self._declared else None,
            progressed_s=course.ran_s(now_s),
            bound_for=course.bound_for,
        )

    def _link(self, pair: Pair, load: Load) -> LinkView:
        source, destination = pair
        return LinkView(
            source=source,
            destination=destination,
            free_bps=share_bps(self._world.wan, load, pair, more=1),
        )
