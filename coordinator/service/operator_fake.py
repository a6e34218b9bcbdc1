"""A coordinator's desk in memory: the real fold and the real judgement, without store, sites and loops.

For tests of the operator's service and command, and for trying them out; nothing is kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from coordinator.core.fleet import apply, fold
from coordinator.core.judgement import judge, judge_everywhere
from coordinator.core.policy import PlannerSettings
from coordinator.model import events as ev
from coordinator.model.decision import Alternative
from coordinator.model.fleet import FleetState, Job, Site
from coordinator.model.job import JobSpec
from coordinator.model.live import Live, is_connected
from coordinator.model.offers import OfferSet
from coordinator.model.view import FleetView
from coordinator.service.operator_ports import (
    Fenced,
    FleetPicture,
    Move,
    Refusal,
    RefusalKind,
    StoredDecision,
)
from sterna.errors import PermanentError

Answer = TypeVar("Answer")


class FakeDesk:
    """An `OperatorDesk` over given events, live sites and a planner's view.

    Parameters
    ----------
    now : callable
        Returns the instant, aware UTC.
    view : FleetView
        What judgements are made of; it stays as it is.
    events : iterable of Event
        How the fleet came to be.
    live : mapping
        Sites' sessions.
    decisions : mapping
        Last decision by job id.
    window_end_at : mapping
        End of the current renewable window by site id.
    settings : PlannerSettings
        The planner's numbers.
    judgements : mapping
        Judgements by job and site id that are given as they are, past the planner's.
    offers : mapping
        What each site offers its grid operator.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        view: FleetView,
        events: Iterable[ev.Event] = (),
        live: Live | None = None,
        decisions: Mapping[str, StoredDecision] | None = None,
        window_end_at: Mapping[str, datetime] | None = None,
        settings: PlannerSettings | None = None,
        judgements: Mapping[tuple[str, str], Alternative] | None = None,
        offers: Mapping[str, OfferSet] | None = None,
    ) -> None:
        self._now = now
        self._view = view
        self._state: FleetState = fold(events)
        self._live: Live = live or {}
        self._decisions = decisions or {}
        self._window_end_at = window_end_at or {}
        self._settings = settings or PlannerSettings()
        self._judgements = judgements or {}
        self._offers = offers or {}
        self._version = 0
        self._changed = asyncio.Condition()
        self._answered: dict[str, tuple[object, object]] = {}

    @property
    def known_sites(self) -> frozenset[str]:
        """Return the sites of the view."""
        return frozenset(self._view.sites)

    def picture(self) -> FleetPicture:
        """Return the fleet now."""
        return FleetPicture(
            at=self._now(),
            policy="feasibility-aware",
            version=self._version,
            state=self._state,
            live=self._live,
            window_end_at=self._window_end_at,
        )

    async def wait_for_change(self, version: int) -> None:
        """Return once something was done since `version`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._version != version)

    def offers(self) -> Mapping[str, OfferSet]:
        """Return what each site offers its grid operator."""
        return self._offers

    async def last_decision(self, job_id: str) -> StoredDecision | None:
        """Return the decision that was given for the job."""
        return self._decisions.get(job_id)

    def judge(self, job_id: str, site_id: str) -> Alternative | Refusal:
        """Judge a pair of the view."""
        if (job_id, site_id) in self._judgements:
            return self._judgements[job_id, site_id]
        try:
            return judge(self._view, job_id, site_id, self._settings)
        except PermanentError as error:
            return Refusal(kind=RefusalKind.NOT_FOUND, message=str(error), subject=f"job/{job_id}")

    def judge_everywhere(self, job_id: str) -> Mapping[str, Alternative]:
        """Judge a job at every site of the view."""
        if job_id not in self._view.jobs:
            return {}
        given = {site: one for (job, site), one in self._judgements.items() if job == job_id}
        return {**judge_everywhere(self._view, job_id, self._settings), **given}

    async def submit_job(self, *, request_id: str, spec: JobSpec) -> Job | Refusal:
        """Take a job into the fleet; ids count up."""

        async def act() -> Job:
            job_id = f"job-{len(self._state.jobs) + 1:04}"
            await self.happen(ev.JobSubmitted(at=self._now(), job_id=job_id, spec=spec))
            return self._state.jobs[job_id]

        return await self._once(request_id, ("submit", spec), act)

    async def cancel_job(self, *, request_id: str, job_id: str) -> Job | Refusal:
        """Note that a job is to end."""

        async def act() -> Job | Refusal:
            if self._state.jobs[job_id].ended:
                return _not_now(f"job/{job_id}", f"job {job_id} has already ended")
            await self.happen(ev.CancelRequested(at=self._now(), job_id=job_id))
            return self._state.jobs[job_id]

        return await self._once(request_id, ("cancel", job_id), act)

    async def migrate_job(self, *, request_id: str, job_id: str, site_id: str, force: bool) -> Move | Refusal:
        """Plan a move."""

        async def act() -> Move | Refusal:
            job, judged = self._state.jobs[job_id], self.judge(job_id, site_id)
            if isinstance(judged, Refusal):
                return judged
            if job.grant is None or job.migration_id is not None:
                return _not_now(f"job/{job_id}", f"job {job_id} does not run, or is being moved already")
            site = self._view.sites[site_id]
            if not judged.feasible and not (force and site.available and site.slots > site.slots_held):
                return Refusal(
                    kind=RefusalKind.INFEASIBLE,
                    message=f"moving {job_id} to {site_id} is not feasible",
                    subject=f"job/{job_id}",
                    reasons=judged.rejections,
                )
            migration_id = f"move-{len(self._state.migrations) + 1:04}"
            planned = ev.MigrationPlanned(
                at=self._now(),
                migration_id=migration_id,
                job_id=job_id,
                destination_site=site_id,
                reason="asked for by an operator",
                predicted_s=None,
                reserved_bps=None,
            )
            await self.happen(planned)
            return Move(judgement=judged, migration=self._state.migrations[migration_id])

        return await self._once(request_id, ("migrate", job_id, site_id, force), act)

    async def drain_site(self, *, request_id: str, site_id: str) -> Site | Refusal:
        """Mark a site as draining."""
        return await self._site_event(request_id, ev.SiteDrained(at=self._now(), site_id=site_id))

    async def resume_site(self, *, request_id: str, site_id: str) -> Site | Refusal:
        """End draining and fencing."""
        return await self._site_event(request_id, ev.SiteResumed(at=self._now(), site_id=site_id))

    async def fence_site(self, *, request_id: str, site_id: str, confirm: str) -> Fenced | Refusal:
        """Mark a site as fenced."""

        async def act() -> Fenced | Refusal:
            if is_connected(self._live, site_id) and confirm != site_id:
                text = f"site {site_id} is connected; confirm must name it"
                return _not_now(f"site/{site_id}", text)
            owned = tuple(job.job_id for job in self._state.jobs.values() if job.owner_site == site_id)
            await self.happen(ev.SiteFenced(at=self._now(), site_id=site_id))
            return Fenced(site=self._state.sites[site_id], job_ids=owned)

        return await self._once(request_id, ("fence", site_id), act)

    async def happen(self, event: ev.Event) -> None:
        """Let an event happen, and whoever watches know."""
        async with self._changed:
            self._state = apply(self._state, event)
            self._version += 1
            self._changed.notify_all()

    async def _site_event(self, request_id: str, event: ev.SiteDrained | ev.SiteResumed) -> Site | Refusal:
        async def act() -> Site:
            await self.happen(event)
            return self._state.sites[event.site_id]

        return await self._once(request_id, (type(event).__name__, event.site_id), act)

    async def _once(
        self, request_id: str, content: object, act: "Callable[[], Awaitable[Answer | Refusal]]"
    ) -> Answer | Refusal:
        """Act on a new request; give the first answer again to the same one."""
        if request_id in self._answered:
            first, answer = self._answered[request_id]
            if first != content:
                text = f"request id {request_id} was used before, for something else"
                return Refusal(kind=RefusalKind.REQUEST_REUSED, message=text, subject=f"request/{request_id}")
            return answer  # type: ignore[return-value]  # the content decides the type
        answer = await act()
        if not isinstance(answer, Refusal):
            self._answered[request_id] = (content, answer)
        return answer


def _not_now(subject: str, message: str) -> Refusal:
    return Refusal(kind=RefusalKind.PRECONDITION, message=message, subject=subject)
