"""The operator's desk: what the operator's service may ask of the coordinator, in process.

Every act is decided on the newest state and stored together with its request, so that the same request gets
the same answer for ever, over restarts too. An expected "no" is a `Refusal`, and is not stored.
"""

import asyncio
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from coordinator.core.arrivals import obstacle_to_move
from coordinator.core.endings import GrantSettings, fence
from coordinator.core.judgement import judge, judge_everywhere
from coordinator.core.policy import PlannerSettings
from coordinator.core.view import open_windows
from coordinator.model import events as ev
from coordinator.model.decision import Alternative
from coordinator.model.fleet import FleetState, Job, Site
from coordinator.model.job import JobSpec
from coordinator.model.live import is_connected
from coordinator.model.offers import OfferSet
from coordinator.service.operator_ports import (
    Fenced,
    FleetPicture,
    Move,
    Refusal,
    RefusalKind,
    StoredDecision,
)
from coordinator.store.documents import read, write
from coordinator.store.fleet_store import FleetStore, StoredRequest
from coordinator.store.history import DecisionStore
from coordinator.tasks.bell import Bell
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.live import LiveBook
from coordinator.tasks.lookout import Lookout
from coordinator.tasks.ports import SiteSender
from sterna.clock import Clock
from sterna.errors import PermanentError

A = TypeVar("A")
Decided = tuple[ev.Event, ...] | Refusal

WATCH_POLL_S = 0.5
# How long a coordinator that has just started waits for its sites before they need attention; over a good
# link they are back within 5 s (docs/reliability.md).
PATIENCE_S = 30.0


class Desk:
    """The coordinator as operators see it; the `OperatorDesk` of the service.

    Parameters
    ----------
    fleet, live, lookout : Fleet, LiveBook, Lookout
        What is stored, what is live, and the planner's view of both.
    store, decisions : FleetStore, DecisionStore
        For answered requests, and for explanations.
    sender : SiteSender
        To hang up on a fenced site.
    bell : Bell
        Rung when something changes.
    policy : str
        Name of the policy in force.
    settings, grants
        The planner's numbers and those of grants.
    sites : collection of str
        The configured sites.
    clock : Clock
        For instants.
    offers : callable
        Returns what each site offers its grid operator.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        live: LiveBook,
        lookout: Lookout,
        store: FleetStore,
        decisions: DecisionStore,
        sender: SiteSender,
        bell: Bell,
        policy: str,
        settings: PlannerSettings,
        grants: GrantSettings,
        sites: Collection[str],
        clock: Clock,
        offers: Callable[[], Mapping[str, OfferSet]] = dict,
    ) -> None:
        self._fleet = fleet
        self._live = live
        self._lookout = lookout
        self._store = store
        self._decisions = decisions
        self._sender = sender
        self._bell = bell
        self._policy = policy
        self._settings = settings
        self._grants = grants
        self._sites = frozenset(sites)
        self._clock = clock
        self._offers = offers
        self._started_at = clock.now()
        self._patient_until_s = clock.boottime_s() + PATIENCE_S
        self._one_at_a_time = asyncio.Lock()

    @property
    def known_sites(self) -> frozenset[str]:
        """Return the configured sites, heard of or not."""
        return self._sites

    def picture(self) -> FleetPicture:
        """Return the fleet now."""
        now, sites = self._lookout.sites()
        return FleetPicture(
            at=now,
            policy=self._policy,
            version=self._version,
            state=self._fleet.state,
            live=self._live.sites,
            window_end_at=open_windows(sites, now),
            forecasts={
                site_id: site.forecast for site_id, site in sites.items() if site.forecast is not None
            },
            waiting_since=self._started_at if self._waits else None,
        )

    @property
    def _version(self) -> int:
        return self._fleet.version + self._live.edition + (not self._waits)

    @property
    def _waits(self) -> bool:
        """Tell whether sites that were not heard since we started may still be on their way back."""
        patient = self._clock.boottime_s() < self._patient_until_s
        return patient and not self._sites <= self._live.sites.keys()

    async def wait_for_change(self, version: int) -> None:
        """Return once the picture's version differs from `version`."""
        with self._bell.listen() as ring:
            while self._version == version:
                ring.clear()
                # Telemetry does not ring: it would wake every loop each second.
                await ring.wait(WATCH_POLL_S)

    def offers(self) -> Mapping[str, OfferSet]:
        """Return what each site offers its grid operator, as sent last."""
        return self._offers()

    async def last_decision(self, job_id: str) -> StoredDecision | None:
        """Return the last decision about a job that was stored; None before the first."""
        last = await self._decisions.last(job_id)
        return StoredDecision(decision_id=last[0], decision=last[1]) if last is not None else None

    def judge(self, job_id: str, site_id: str) -> Alternative | Refusal:
        """Judge a pair now, changing nothing."""
        view = self._lookout.view()
        if job_id not in view.jobs:
            return _unknown_or_ended(self._fleet.state, job_id)
        try:
            return judge(view, job_id, site_id, self._settings)
        except PermanentError as error:
            return _refusal(RefusalKind.NOT_FOUND, str(error), f"site/{site_id}")

    def judge_everywhere(self, job_id: str) -> Mapping[str, Alternative]:
        """Judge a job now at every site that was ever heard of; at none where it has ended."""
        view = self._lookout.view()
        return judge_everywhere(view, job_id, self._settings) if job_id in view.jobs else {}

    async def submit_job(self, *, request_id: str, spec: JobSpec) -> Job | Refusal:
        """Take a job into the fleet."""
        job_id = uuid.uuid4().hex
        submitted = ev.JobSubmitted(at=self._clock.now(), job_id=job_id, spec=spec)
        content = f"submit {write(spec)}"
        return await self._once(
            request_id, content, Job, lambda _: (submitted,), lambda state: state.jobs[job_id]
        )

    async def cancel_job(self, *, request_id: str, job_id: str) -> Job | Refusal:
        """End a job for good."""

        def decide(state: FleetState) -> Decided:
            job = state.jobs.get(job_id)
            if job is None or job.ended:
                return _unknown_or_ended(state, job_id)
            return () if job.cancelling else (ev.CancelRequested(at=self._clock.now(), job_id=job_id),)

        return await self._once(request_id, f"cancel {job_id}", Job, decide, lambda state: state.jobs[job_id])

    async def migrate_job(self, *, request_id: str, job_id: str, site_id: str, force: bool) -> Move | Refusal:
        """Move a job past the policy; `force` past feasibility too, never past leases, epochs or slots."""
        migration_id = uuid.uuid4().hex
        judgements: list[Alternative] = []

        def decide(state: FleetState) -> Decided:
            # Judged in here: a request that was answered before is not judged anew.
            judged = self.judge(job_id, site_id)
            if isinstance(judged, Refusal):
                return judged
            judgements.append(judged)
            obstacle = obstacle_to_move(state, self._live.sites, job_id, site_id)
            if obstacle:
                return _refusal(RefusalKind.PRECONDITION, obstacle, f"job/{job_id}")
            if not judged.feasible and not force:
                text = f"moving job {job_id} to {site_id} is not feasible now"
                return _refusal(RefusalKind.INFEASIBLE, text, f"job/{job_id}", judged.rejections)
            view = self._lookout.view()
            link = view.links.get((view.jobs[job_id].site_id or "", site_id))
            planned = ev.MigrationPlanned(
                at=self._clock.now(),
                migration_id=migration_id,
                job_id=job_id,
                destination_site=site_id,
                reason="asked for by an operator",
                predicted_s=_predicted_s(judged),
                reserved_bps=(link.free_bps or None) if link is not None else None,
            )
            return (planned,)

        return await self._once(
            request_id,
            f"migrate {job_id} {site_id} {force}",
            Move,
            decide,
            lambda state: Move(judgement=judgements[-1], migration=state.migrations[migration_id]),
        )

    async def drain_site(self, *, request_id: str, site_id: str) -> Site | Refusal:
        """Let every job leave the site and none arrive."""
        drained = ev.SiteDrained(at=self._clock.now(), site_id=site_id)
        return await self._site_act(request_id, "drain", site_id, drained)

    async def resume_site(self, *, request_id: str, site_id: str) -> Site | Refusal:
        """End draining and fencing."""
        resumed = ev.SiteResumed(at=self._clock.now(), site_id=site_id)
        return await self._site_act(request_id, "resume", site_id, resumed)

    async def fence_site(self, *, request_id: str, site_id: str, confirm: str) -> Fenced | Refusal:
        """Take the operator's word that nothing runs at the site; `confirm` names a connected one again."""
        freed: list[str] = []

        def decide(state: FleetState) -> Decided:
            if site_id not in self._sites:
                return _unknown_site(site_id)
            if is_connected(self._live.sites, site_id) and confirm != site_id:
                text = f"site {site_id} is connected; to fence it all the same, confirm its id"
                return _refusal(RefusalKind.PRECONDITION, text, f"site/{site_id}")
            freed[:] = [job.job_id for job in state.jobs.values() if job.owner_site == site_id]
            # What waits in its session must not reach it any more.
            self._sender.hang_up(site_id, "the site was fenced")
            return fence(state, site_id, self._clock.now(), self._grants)

        return await self._once(
            request_id,
            f"fence {site_id}",
            Fenced,
            decide,
            lambda state: Fenced(site=state.sites[site_id], job_ids=tuple(freed)),
        )

    async def _site_act(
        self, request_id: str, verb: str, site_id: str, event: ev.SiteDrained | ev.SiteResumed
    ) -> Site | Refusal:
        def decide(_: FleetState) -> Decided:
            return (event,) if site_id in self._sites else _unknown_site(site_id)

        return await self._once(
            request_id, f"{verb} {site_id}", Site, decide, lambda state: state.sites[site_id]
        )

    async def _once(
        self,
        request_id: str,
        content: str,
        kind: type[A],
        decide: Callable[[FleetState], Decided],
        answer: Callable[[FleetState], A],
    ) -> A | Refusal:
        """Act on a new request and store the answer with it; give it again to the same request."""
        async with self._one_at_a_time:
            known = await self._store.request(request_id)
            if known is not None:
                if known.content == content:
                    return read(known.answer, kind)
                text = f"request id {request_id} was used before, for something else"
                return _refusal(RefusalKind.REQUEST_REUSED, text, f"request/{request_id}")
            outcome: list[A | Refusal] = []

            def decided(state: FleetState) -> tuple[ev.Event, ...]:
                events = decide(state)
                if isinstance(events, Refusal):
                    outcome.append(events)
                    return ()
                return events

            def answered(state: FleetState) -> StoredRequest | None:
                if outcome:
                    return None
                outcome.append(answer(state))
                return StoredRequest(
                    request_id=request_id, at=self._clock.now(), content=content, answer=write(outcome[0])
                )

            await self._fleet.change(decided, answered)
            return outcome[0]


def _predicted_s(judged: Alternative) -> float | None:
    return next((term.value for term in judged.terms if term.name == "time"), None)


def _refusal(kind: RefusalKind, message: str, subject: str, reasons: tuple[str, ...] = ()) -> Refusal:
    return Refusal(kind=kind, message=message, subject=subject, reasons=reasons)


def _unknown_site(site_id: str) -> Refusal:
    return _refusal(RefusalKind.NOT_FOUND, f"no site {site_id} in the configuration", f"site/{site_id}")


def _unknown_or_ended(state: FleetState, job_id: str) -> Refusal:
    job = state.jobs.get(job_id)
    if job is None:
        return _refusal(RefusalKind.NOT_FOUND, f"no job {job_id}", f"job/{job_id}")
    text = f"job {job_id} has ended: {job.state.value}"
    return _refusal(RefusalKind.PRECONDITION, text, f"job/{job_id}")
