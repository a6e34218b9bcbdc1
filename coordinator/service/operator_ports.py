"""What the operator's service needs of the coordinator: a port, in values of the model.

An expected "no" is a `Refusal`, not an exception: the service turns it into a status with details.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from coordinator.model.decision import Alternative, Decision
from coordinator.model.fleet import FleetState, Job, Migration, Site
from coordinator.model.forecast import SurplusForecast
from coordinator.model.job import JobSpec
from coordinator.model.live import Live
from coordinator.model.offers import OfferSet


class RefusalKind(Enum):
    """Which kind of "no"."""

    NOT_FOUND = "NOT_FOUND"
    INFEASIBLE = "INFEASIBLE"
    """The move is not feasible; `reasons` has each reason."""
    PRECONDITION = "PRECONDITION"
    """The job or site is not in a state for this."""
    REQUEST_REUSED = "REQUEST_REUSED"
    """The request id was used before, for something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nothing was done. `subject` is what it is about, e.g. ``job/01ab`` or ``site/miami``."""

    kind: RefusalKind
    message: str
    subject: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPicture:
    """The fleet at one instant: what is stored and what is live.

    `window_end_at` has the sites in whose renewable window `at` lies, with its forecast end. `forecasts` has
    the sites of whose future something is believed. `version` changes whenever anything in the picture but
    `at`, or what follows from its passing, does. `waiting_since`: when we started, while sites
    that were not heard since may still be on their way back.
    """

    at: datetime
    policy: str
    version: int
    state: FleetState
    live: Live
    window_end_at: Mapping[str, datetime] = field(default_factory=dict)
    forecasts: Mapping[str, SurplusForecast] = field(default_factory=dict)
    waiting_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """A decision and the id that it was stored under."""

    decision_id: str
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The answer to a move by hand; `migration` None: it was judged only."""

    judgement: Alternative
    migration: Migration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """The answer to fencing a site; `job_ids` may now start elsewhere."""

    site: Site
    job_ids: tuple[str, ...]


class OperatorDesk(Protocol):
    """The coordinator as the operator's service sees it. Ids are whole; every act is stored on return.

    Acts are idempotent by `request_id`: the same id with the same content returns the first answer again,
    with other content a REQUEST_REUSED refusal.
    """

    @property
    def known_sites(self) -> frozenset[str]:
        """Return the configured sites, heard of or not."""
        ...

    def picture(self) -> FleetPicture:
        """Return the fleet now."""
        ...

    async def wait_for_change(self, version: int) -> None:
        """Return once the picture's version differs from `version`."""
        ...

    def offers(self) -> Mapping[str, OfferSet]:
        """Return what each site that was told of any offers its grid operator, as sent last."""
        ...

    async def last_decision(self, job_id: str) -> StoredDecision | None:
        """Return the last decision about a job that was stored; None before the first."""
        ...

    def judge(self, job_id: str, site_id: str) -> Alternative | Refusal:
        """Judge a pair now, changing nothing."""
        ...

    def judge_everywhere(self, job_id: str) -> Mapping[str, Alternative]:
        """Judge a job now at every site that was ever heard of; at none where it has ended."""
        ...

    async def submit_job(self, *, request_id: str, spec: JobSpec) -> Job | Refusal:
        """Take a job into the fleet."""
        ...

    async def cancel_job(self, *, request_id: str, job_id: str) -> Job | Refusal:
        """End a job for good."""
        ...

    async def migrate_job(self, *, request_id: str, job_id: str, site_id: str, force: bool) -> Move | Refusal:
        """Move a job past the policy; `force` past feasibility too, never past leases, epochs or slots."""
        ...

    async def drain_site(self, *, request_id: str, site_id: str) -> Site | Refusal:
        """Let every job leave the site and none arrive."""
        ...

    async def resume_site(self, *, request_id: str, site_id: str) -> Site | Refusal:
        """End draining and fencing."""
        ...

    async def fence_site(self, *, request_id: str, site_id: str, confirm: str) -> Fenced | Refusal:
        """Take the operator's word that nothing runs at the site; `confirm` names a connected one again."""
        ...
