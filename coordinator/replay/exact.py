"""The exact replay: a virtual clock that jumps from event to event and asks a production policy at each.

Holds the rules of the reference scenarios. At one instant: transfers, phase ends, surplus step, arrivals,
queue, policy. What the policy sees of all this is `sight`'s; what it costs is counted from the journal.
Distributed jobs are `group`'s: their replicas hold slots, fetch and load here like any job.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from itertools import count
from math import inf

from coordinator.core.policy import PlannerSettings, Policy
from coordinator.core.replicas import GROWTH, Growth, Join, plan_replicas
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.view import Phase
from coordinator.replay.carriage import Carriage
from coordinator.replay.course import Course, Sending
from coordinator.replay.foresight import Foresight
from coordinator.replay.gridlimits import Keeper
from coordinator.replay.group import Group
from coordinator.replay.journal import Interval, Stage
from coordinator.replay.record import Record
from coordinator.replay.sending import needed, still_worth_it
from coordinator.replay.sight import Sight
from coordinator.replay.transfers import Transfer
from coordinator.replay.world import Task, World, check
from sterna.errors import PermanentError


def run(
    world: World,
    policy: Policy,
    settings: PlannerSettings,
    foresight: Foresight,
    *,
    declared: bool = False,
) -> Record:
    """Replay a world under a policy until its last job has finished.

    Parameters
    ----------
    world : World
        What the policy may not choose.
    policy : Policy
        The very object that plans in production.
    settings : PlannerSettings
        Its numbers.
    foresight : Foresight
        What it is told of the future.
    declared : bool
        Whether jobs declare their work (*clairvoyant*).

    Raises
    ------
    ConfigError
        The world contradicts itself.
    PermanentError
        The policy broke a rule, or the surplus is not known for as long as the jobs take.
    """
    check(world)
    replay = _Exact(world, policy, settings, Sight(world, foresight, declared=declared))
    while replay.step():
        pass
    return Record(
        policy=policy.name,
        intervals=tuple(replay.intervals),
        asked=replay.asked,
        transfers=tuple(replay.transfers),
    )


class _Exact:
    """One policy in one world."""

    def __init__(self, world: World, policy: Policy, settings: PlannerSettings, sight: Sight) -> None:
        self._world = world
        self._policy = policy
        self._settings = settings
        self._sight = sight
        self._tells_transfers = world.tells_transfers
        self._defers = world.hold_back_s is not None
        self._slows = any(task.slow is not None for task in world.tasks)
        self._limits = Keeper(world)
        # A policy that never moves a job is not asked: its jobs wait for their homes, one queue each. But
        # where jobs may be held back, or limits be kept, who starts, and where, is all the policy's.
        self._stays = bool(getattr(policy, "never_moves", False)) and not self._limits
        self._chooses = self._defers or bool(self._limits)
        self._carriage = Carriage(world.wan, world.costs.eta)
        self._growth = GROWTH.get(policy.name, Growth())
        self._groups: dict[str, Group] = {}
        self._shares: dict[str, Group] = {}
        self._coming = deque(world.tasks)
        self._present: dict[str, Course] = {}
        self._queue: list[Course] = []
        self._held = {site.site_id: 0 for site in world.sites}
        self._slots = {site.site_id: site.slots for site in world.sites}
        self._ends: list[tuple[float, int, Course, int]] = []
        self._order = count()
        self._next_step_s = inf if self._stays else 0.0
        self._now_s = 0.0
        self.intervals: list[Interval] = []
        self.transfers: list[Transfer] = []
        self.asked = 0

    def step(self) -> bool:
        """Jump to the next instant and settle it; False when every job has finished."""
        if not self._coming and not self._present:
            return False
        arrival_s = self._coming[0].submitted_s if self._coming else inf
        phase_s = self._ends[0][0] if self._ends else inf
        group_s = min((group.next_s() for group in self._groups.values()), default=inf)
        moments = (self._carriage.next_s, phase_s, self._next_step_s, arrival_s, group_s, self._limits.next_s)
        self._now_s = min(moments)
        if not self._now_s < self._world.end_s:
            left = f"surplus is known for {self._world.end_s:.0f} s only, {len(self._present)} jobs are left"
            raise PermanentError(f"{self._world.name}: {left}")
        for group in self._groups.values():
            group.settle(self._now_s)
        # Exchanges alone change nothing that a policy could answer, nor do ends that were put off.
        put_off = self._chooses or self._slows
        news = self._limits.passes(self._now_s) or not (self._groups or put_off)
        for key in self._carriage.arrived(self._now_s):
            news = self._arrive(key) or news
        while self._ends and self._ends[0][0] <= self._now_s:
            _, _, course, turn = heapq.heappop(self._ends)
            news = news or turn == course.turn or not put_off
            if turn == course.turn:
                self._end_phase(course)
        for group in list(self._groups.values()):
            news = self._exchange(group) or news
        if self._next_step_s <= self._now_s:
            self._next_step_s += self._world.step_s
            news = True
        while self._coming and self._coming[0].submitted_s <= self._now_s:
            news = True
            for course in self._admit(self._coming.popleft()):
                self._present[course.task.job_id] = course
                self._queue.append(course)
        if news:
            self._answer()
            self._keep_limits()
        return True

    def _keep_limits(self) -> None:
        """Let jobs stand still for which limits leave no room, as their sites would, and go on."""
        for course, runs in self._limits.changes(self._now_s, self._present.values()):
            self._log(course)
            if runs:
                self._run(course)
            else:
                course.enter(Phase.HELD, self._now_s)

    def _answer(self) -> None:
        """Let those start who wait, and the policy decide."""
        if self._stays:
            self._serve_homes()
        else:
            if not self._chooses:
                self._serve_queue()
            self._ask()

    def _admit(self, task: Task) -> list[Course]:
        if task.replication is None:
            return [Course(task)]
        self._groups[task.job_id] = Group(task)
        return self._groups[task.job_id].founders(sorted(self._slots))

    def _serve_homes(self) -> None:
        waiting = []
        for course in self._queue:
            if self._may_start(course, course.task.home_site):
                self._start(course, course.task.home_site)
            else:
                waiting.append(course)
        self._queue = waiting

    def _serve_queue(self) -> None:
        # First come first served over the fleet: whoever finds its home full is the policy's, and so
        # are those behind it.
        while self._queue and self._may_start(self._queue[0], self._queue[0].task.home_site):
            course = self._queue.pop(0)
            self._start(course, course.task.home_site)

    def _ask(self) -> None:
        if not self._present:
            return
        free = sum(self._slots.values()) - sum(self._held.values())
        self.asked += 1
        # Where jobs may be slowed it sees one more than can start, and so whether anybody waits for a slot.
        asking = self._queue if self._chooses else self._queue[: free + self._slows]
        view = self._sight.view(self._now_s, self._present.values(), asking, self._held, self._groups)
        plan = plan_replicas(self._policy, view, self._settings, self._growth)
        decisions = {one.job_id: one for one in plan.decisions}
        waiting = []
        for course in asking:
            decision = decisions.get(course.task.job_id)
            site_id = self._start_site(course, decision)
            if site_id is None:
                waiting.append(course)
            else:
                self._start(course, site_id, decision.power_w if decision is not None else None)
        self._queue = waiting + self._queue[len(asking) :]
        self._obey(decisions.values())
        for leave in plan.leaves:
            self._end(self._groups[leave.job_id].members.pop(leave.replica))
        for join in plan.joins:
            self._join(join)

    def _obey(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if decision.kind is DecisionKind.MIGRATE:
                self._migrate(decision)
            elif decision.kind in (DecisionKind.PAUSE, DecisionKind.RESUME, DecisionKind.SLOW):
                self._pace(decision)

    def _start_site(self, course: Course, decision: Decision | None) -> str | None:
        """Return where a job starts: the policy's choice; where it may not be held back, somewhere."""
        if decision is not None and decision.kind is DecisionKind.START and decision.target_site is not None:
            return decision.target_site
        if self._chooses or course.replica_of is not None:  # what else is free may be beside a sibling
            return None
        return next((site for site in sorted(self._slots) if self._free(site)), None)

    def _may_start(self, course: Course, site_id: str) -> bool:
        group = self._groups.get(course.job_id)
        return self._free(site_id) and (group is None or group.may_begin_at(site_id))

    def _free(self, site_id: str) -> bool:
        return self._held[site_id] < self._slots[site_id]

    def _hold(self, site_id: str) -> None:
        if not self._free(site_id):
            raise PermanentError(f"{self._policy.name}: no free slot at {site_id}")
        self._held[site_id] += 1

    def _start(self, course: Course, site_id: str, power_w: float | None = None) -> None:
        group = self._groups.get(course.job_id)
        if group is not None and group.worked_s > 0.0:
            self._fetch(course, group.running()[0].site or "", site_id)
            return
        self._hold(site_id)
        course.site = site_id
        self._run(course, power_w)

    def _run(self, course: Course, power_w: float | None = None) -> None:
        course.enter(Phase.RUNNING, self._now_s, slow_w=power_w)
        if course.replica_of is None:
            self._until(course, self._now_s + (course.task.work_s - course.worked_s) / course.speed)

    def _fetch(self, course: Course, source: str, site_id: str) -> None:
        """Begin to bring the state of a sibling to a site where a replica will train."""
        self._hold(site_id)
        course.site = course.bound_for = site_id
        course.source = source
        course.enter(Phase.MIGRATING, self._now_s, None)
        self._carriage.begin(self._now_s, course.task.job_id, (source, site_id), course.task.checkpoint_bytes)

    def _until(self, course: Course, end_s: float) -> None:
        heapq.heappush(self._ends, (end_s, next(self._order), course, course.turn))

    def _log(self, course: Course) -> None:
        """Write down the stage that ends now, if it is one that draws."""
        if course.stage is not None and course.site is not None and self._now_s > course.since_s:
            self.intervals.append(course.row(self._now_s))

    def _migrate(self, decision: Decision) -> None:
        course = self._present.get(decision.job_id)
        destination = decision.target_site
        movable = course is not None and course.replica_of is None and course.bound_for is None
        ready = course is not None and course.phase in (Phase.RUNNING, Phase.PAUSED, Phase.HELD)
        if course is None or not (movable and ready) or destination in (None, course.site):
            raise PermanentError(f"{self._policy.name}: {decision.job_id} cannot move to {destination}")
        assert destination is not None and course.site is not None
        self._hold(destination)
        course.bound_for = destination
        course.promised_bps = decision.reserved_bps or 0.0
        ahead_bytes = course.task.ahead_bytes(course.holds(destination)) if course.task.pieces else 0
        wanted = needed(course, decision, self._now_s, world=self._world, settings=self._settings)
        if not (ahead_bytes and wanted) or course.stage is not Stage.RUN:
            self._stop(course)
            return
        course.sending = Sending(
            since_s=self._now_s, size_bytes=ahead_bytes, window_end_at=decision.window_end_at
        )
        self._carriage.begin(self._now_s, course.task.job_id, (course.site, destination), ahead_bytes)

    def _stop(self, course: Course) -> None:
        self._log(course)
        course.enter(Phase.MIGRATING, self._now_s, Stage.SEAL)
        self._until(course, self._now_s + self._world.costs.store_s(course.task.seal_bytes))

    def _pace(self, decision: Decision) -> None:
        """Let a job pause, go on, or draw something else from now on."""
        course = self._present.get(decision.job_id)
        able = course is not None and {
            DecisionKind.PAUSE: course.stage is Stage.RUN and self._defers,
            DecisionKind.RESUME: course.phase is Phase.PAUSED or course.slow_w is not None,
            DecisionKind.SLOW: course.stage is Stage.RUN and course.task.slow is not None,
        }.get(decision.kind, False)
        if course is None or not able:
            raise PermanentError(f"{self._policy.name}: {decision.job_id} cannot {decision.kind.value}")
        self._log(course)
        if decision.kind is DecisionKind.PAUSE:
            course.enter(Phase.PAUSED, self._now_s)
        else:
            self._run(course, decision.power_w)

    def _end_phase(self, course: Course) -> None:
        assert course.site is not None
        if course.stage is Stage.RUN:
            self._end(course)
        elif course.stage is Stage.SEAL:
            assert course.bound_for is not None
            self._log(course)
            self._held[course.site] -= 1
            course.enter(Phase.MIGRATING, self._now_s, None)
            size_bytes = course.task.stop_bytes(course.holds(course.bound_for))
            self._carriage.begin(self._now_s, course.task.job_id, (course.site, course.bound_for), size_bytes)
        else:
            self._log(course)
            self._run(course)

    def _end(self, course: Course) -> None:
        """Take a job or a replica out, wherever it stands."""
        self._log(course)
        if course.sending is not None or (course.phase is Phase.MIGRATING and course.stage is None):
            self._carried(course, left_bytes=self._carriage.cancel(self._now_s, course.task.job_id))
        for site_id in course.slots_at:
            self._held[site_id] -= 1
        course.enter(None, self._now_s)
        del self._present[course.task.job_id]

    def _arrive(self, key: str) -> bool:
        """Go on after the transfer of that key; False for a share of an exchange."""
        if key in self._shares:
            self.transfers.append(self._shares.pop(key).arrived(key, self._now_s))
            return False
        course = self._present[key]
        self._carried(course)
        if course.sending is None:
            self._load(course)
            return True
        assert course.bound_for is not None
        sending, course.sending = course.sending, None
        course.received(course.bound_for)
        if still_worth_it(course, sending, self._now_s, world=self._world, settings=self._settings):
            self._stop(course)
        else:
            self._held[course.bound_for] -= 1
            course.bound_for, course.promised_bps = None, 0.0
        return True

    def _carried(self, course: Course, left_bytes: float = 0.0) -> None:
        """Note what has crossed for a job; `left_bytes` of it did not."""
        if self._tells_transfers:
            self.transfers.append(course.transfer(self._now_s, left_bytes))

    def _exchange(self, group: Group) -> bool:
        """Begin an exchange that is due; tell whether the job has finished with its last one."""
        if not group.exchange_due:
            return False
        if not group.closing:
            for key, share in group.exchange(self._now_s).items():
                self._shares[key] = group
                self._carriage.begin(self._now_s, key, share.link, share.size_bytes)
        if not group.closing or group.awaited:
            return False
        for course in group.members.values():
            self._end(course)
        self._queue = [course for course in self._queue if course.job_id != group.task.job_id]
        del self._groups[group.task.job_id]
        return True

    def _join(self, join: Join) -> None:
        course = self._groups[join.job_id].recruit(join.target_site, self._now_s)
        self._present[course.task.job_id] = course
        self._fetch(course, join.source_site, join.target_site)

    def _load(self, course: Course) -> None:
        source, course.site = course.site or "", course.bound_for
        course.arrived(source)
        course.bound_for, course.source, course.promised_bps = None, None, 0.0
        course.enter(Phase.MIGRATING, self._now_s, Stage.LOAD)
        self._until(course, self._now_s + self._world.costs.restart_s(course.task.checkpoint_bytes))
