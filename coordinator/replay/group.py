"""What the replicas of one distributed job have done together, and where their round stands.

Between two exchanges each replica trains for a round's time; then all that run exchange, and nobody trains
until the last share has arrived. A replica that comes or goes in a round changes how fast work is done from
then on, and nothing else. Work that is done ends with an exchange, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import inf

from coordinator.core.exchanges import link_share_bytes, ring, training_rate
from coordinator.model.replication import Replication
from coordinator.model.view import Phase
from coordinator.replay.course import Course
from coordinator.replay.transfers import Cause, Transfer
from coordinator.replay.world import Task
from sterna.units import BITS_PER_BYTE

_NO_TIME_S = 1e-6
"""What is left of a round or of work below this is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What crosses one link in an exchange, from `since_s` on."""

    link: tuple[str, str]
    since_s: float
    size_bytes: float


class Group:
    """One distributed job.

    Parameters
    ----------
    task : Task
        The job, with its replication.

    Attributes
    ----------
    members : dict
        Its replicas by id, those that wait, join or load included.
    worked_s : float
        Work done, in seconds of a lone replica.
    awaited : dict
        Shares of an exchange that have not arrived.
    closing : bool
        The last exchange has begun.
    """

    def __init__(self, task: Task) -> None:
        assert task.replication is not None
        self.task = task
        self.replication: Replication = task.replication
        self.members: dict[str, Course] = {}
        self.worked_s = 0.0
        self.awaited: dict[str, Share] = {}
        self.closing = False
        self._numbers = count()
        self._exchanges = count()
        self._round_s = 0.0
        self._settled_s = task.submitted_s

    def founders(self, sites: Sequence[str]) -> list[Course]:
        """Return the first replicas: one at home like any job, the others at the sites that follow it."""
        first = sites.index(self.task.home_site)
        return [
            self.recruit(sites[(first + place) % len(sites)], self.task.submitted_s)
            for place in range(self.replication.least)
        ]

    def recruit(self, home_site: str, now_s: float) -> Course:
        """Return one more replica, which waits."""
        number = next(self._numbers)
        task = replace(self.task, job_id=f"{self.task.job_id}/{number}", home_site=home_site)
        course = Course(replace(task, submitted_s=now_s), self.task.job_id, number)
        self.members[course.task.job_id] = course
        return course

    def running(self) -> list[Course]:
        """Return the replicas that train (or exchange), in order of their sites."""
        found = (course for course in self.members.values() if course.phase is Phase.RUNNING)
        return sorted(found, key=lambda course: course.site or "")

    def sites(self) -> set[str]:
        """Return where replicas are or are bound for."""
        named = {site for course in self.members.values() for site in (course.site, course.bound_for)}
        return {site for site in named if site is not None}

    def may_begin_at(self, site_id: str) -> bool:
        """Tell whether a replica that waits may begin at a site.

        One that starts when others have done some work needs somebody who has the state, one at a time.
        """
        coming = any(course.phase is Phase.MIGRATING for course in self.members.values())
        fresh = self.worked_s == 0.0
        return site_id not in self.sites() and (fresh or (bool(self.running()) and not coming))

    @property
    def done(self) -> bool:
        """Tell whether the work is done."""
        return self.task.work_s - self.worked_s <= _NO_TIME_S

    @property
    def exchange_due(self) -> bool:
        """Tell whether those that run must exchange before they go on, or before the job ends."""
        return not self.awaited and (self.done or self.replication.round_s - self._round_s <= _NO_TIME_S)

    def settle(self, now_s: float) -> None:
        """Count the work since the last look; to be called before anybody comes or goes."""
        if not self.awaited:
            replicas = len(self.running())
            passed_s = now_s - self._settled_s
            self.worked_s += passed_s * training_rate(self.replication, replicas)
            # A lone replica has nobody to exchange with: its round begins when another comes.
            self._round_s = self._round_s + passed_s if replicas > 1 else 0.0
        self._settled_s = now_s

    def next_s(self) -> float:
        """Return when a round or the work ends; infinity: something else has to happen first."""
        replicas = len(self.running())
        if self.awaited or not replicas:
            return inf
        left_s = (self.task.work_s - self.worked_s) / training_rate(self.replication, replicas)
        if replicas > 1:
            left_s = min(left_s, self.replication.round_s - self._round_s)
        return self._settled_s + max(0.0, left_s)

    def exchange(self, now_s: float) -> dict[str, Share]:
        """Begin an exchange and return its shares by key; none where only one replica runs."""
        self.closing = self.done
        self._round_s = 0.0
        links = ring(course.site or "" for course in self.running())
        size_bytes = link_share_bytes(self.replication, len(links))
        number = next(self._exchanges)
        if size_bytes > 0.0:
            self.awaited = {
                f"{self.task.job_id}~{number}~{place}": Share(link=link, since_s=now_s, size_bytes=size_bytes)
                for place, link in enumerate(links)
            }
        return self.awaited

    def arrived(self, key: str, now_s: float) -> Transfer:
        """Take a share as received."""
        share = self.awaited.pop(key)
        return Transfer(
            job_id=self.task.job_id,
            replica=None,
            cause=Cause.SYNC,
            source=share.link[0],
            destination=share.link[1],
            start_s=share.since_s,
            end_s=now_s,
            size_bytes=share.size_bytes,
        )

    def traffic_bps(self) -> tuple[tuple[tuple[str, str], float], ...]:
        """Return what exchanges take of each link on average, in bit/s, rounds without a pause."""
        links = ring(course.site or "" for course in self.running())
        bps = BITS_PER_BYTE * link_share_bytes(self.replication, len(links)) / self.replication.round_s
        return tuple((link, bps) for link in links)
