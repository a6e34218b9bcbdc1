"""The planner's tick: look, ask the policy, store what it says, act on it."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Sequence

from coordinator.core.arrivals import obstacle_to_arrival, plan_migration
from coordinator.core.endings import GrantSettings, grant
from coordinator.core.news import is_news
from coordinator.core.policy import PlannerSettings, Policy
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.events import Event
from coordinator.model.fleet import FleetState
from coordinator.model.live import is_connected
from coordinator.model.view import FleetView
from coordinator.store.history import DecisionStore
from coordinator.tasks.bell import Ring
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.live import LiveBook
from coordinator.tasks.lookout import Lookout
from sterna.clock import Clock
from sterna.errors import TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

LEAST_APART_S = 1.0
"""Time between two ticks at least, or `tick_s` where that is shorter."""

OnTick = Callable[[FleetView, Sequence[Decision]], None]


class Planner:
    """The loop around a policy.

    Parameters
    ----------
    fleet, live : Fleet, LiveBook
        What is stored and what is live.
    lookout : Lookout
        The view of the present.
    policy, settings
        Who decides, and with which numbers.
    grants : GrantSettings
        For the grants of jobs that start.
    decisions : DecisionStore
        Where decisions go.
    expected_sites : collection of str
        Nothing is decided in the first `settle_s` after the start until all of these have said Hello: a
        site that is only slow to return must not lose its queued jobs to another.
    settle_s : float
        The longest such wait.
    tick_s : float
        Time between two ticks.
    on_tick : sequence of callable
        Told what was seen and decided, before it is acted on; they must not block.
    clock : Clock
        For durations and instants.
    held : callable
        Tells whether nothing may be decided yet, however long that takes.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        live: LiveBook,
        lookout: Lookout,
        policy: Policy,
        settings: PlannerSettings,
        grants: GrantSettings,
        decisions: DecisionStore,
        expected_sites: Collection[str],
        clock: Clock,
        settle_s: float = 10.0,
        tick_s: float = 10.0,
        held: Callable[[], bool] = lambda: False,
        on_tick: Sequence[OnTick] = (),
    ) -> None:
        self._fleet = fleet
        self._live = live
        self._lookout = lookout
        self._policy = policy
        self._settings = settings
        self._grants = grants
        self._decisions = decisions
        self._expected_sites = frozenset(expected_sites)
        self._settle_s = settle_s
        self._tick_s = tick_s
        self._on_tick = tuple(on_tick)
        self._clock = clock
        self._held = held
        self._last: dict[str, Decision] = {}
        self.tick_took_s: float | None = None
        """What the newest tick took; None before the first."""

    @property
    def policy(self) -> str:
        """Return the policy's name."""
        return self._policy.name

    async def run(self, heart: Heart) -> None:
        """Tick for ever: every `tick_s`, and whenever other limits of the grid hold at a site."""
        settled_at_s = self._clock.boottime_s() + self._settle_s
        with self._live.limits_bell.listen() as limits:
            await self._tick_for_ever(heart, settled_at_s, limits)

    async def _tick_for_ever(self, heart: Heart, settled_at_s: float, limits: Ring) -> None:
        while True:
            heart.beat()
            limits.clear()
            here = all(is_connected(self._live.sites, site_id) for site_id in self._expected_sites)
            if not self._held() and (here or self._clock.boottime_s() >= settled_at_s):
                settled_at_s = 0.0
                await self.tick()
            wait_s = min(self._tick_s, self._settle_s) if settled_at_s else self._tick_s
            # Another limit of the grid is answered at once; many of them, by one tick a second.
            apart_s = min(wait_s, LEAST_APART_S)
            await asyncio.sleep(apart_s)
            await limits.wait(wait_s - apart_s)

    async def tick(self) -> None:
        """Decide once about every job, store what is news, act."""
        began_s = self._clock.boottime_s()
        view = self._lookout.view()
        decisions = self._policy.decide(view, self._settings)
        await self._store(decisions)
        for listener in self._on_tick:
            listener(view, decisions)
        for decision in decisions:
            await self._act(decision)
        self.tick_took_s = self._clock.boottime_s() - began_s

    async def _store(self, decisions: tuple[Decision, ...]) -> None:
        news = {}
        for decision in decisions:
            last = self._last.get(decision.job_id)
            if last is None and (stored := await self._decisions.last(decision.job_id)) is not None:
                last = stored[1]
            if is_news(decision, last):
                news[uuid.uuid4().hex] = decision
        try:
            await self._decisions.add(news)
        except TransientError as error:
            log.error("decisions could not be stored", extra={"why": str(error)})
            return
        self._last = {decision.job_id: decision for decision in decisions}

    async def _act(self, decision: Decision) -> None:
        site_id = decision.target_site
        if site_id is None or decision.kind not in (DecisionKind.START, DecisionKind.MIGRATE):
            return
        if decision.kind is DecisionKind.START:
            told = await self._fleet.change(lambda state: self._start(state, decision.job_id, site_id))
        else:
            told = await self._fleet.change(
                lambda state: plan_migration(
                    state,
                    self._live.sites,
                    job_id=decision.job_id,
                    site_id=site_id,
                    reason=decision.reason,
                    predicted_s=decision.predicted_s,
                    reserved_bps=decision.reserved_bps,
                    window_end_at=decision.window_end_at,
                    now=self._clock.now(),
                    migration_id=uuid.uuid4().hex,
                )
            )
        if told:
            log.info(
                "the planner acts",
                extra={"job": decision.job_id, "does": decision.kind.value, "site": site_id,
                       "why": decision.reason},
            )  # fmt: skip

    def _start(self, state: FleetState, job_id: str, site_id: str) -> tuple[Event, ...]:
        container = state.jobs[job_id].spec.container
        if obstacle_to_arrival(state, self._live.sites, site_id, container):
            return ()
        return grant(state, job_id, site_id, self._clock.now(), self._grants)
