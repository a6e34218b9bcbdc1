"""What the ledger's service needs of the coordinator: a port, in values of the model."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from coordinator.core.energy_ledger import Booked
from coordinator.service.operator_ports import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was booked, by site and job. `booked` None: nothing is."""

    rows: tuple[Booked, ...]
    booked: tuple[datetime, datetime] | None
    slot_s: float


class LedgerDesk(Protocol):
    """The ledger as its service sees it."""

    async def account(
        self, *, site_id: str, job: str, since: datetime | None, until: datetime | None
    ) -> Account | Refusal:
        """Return what was drawn; "": at every site, by every job. `job` may be the beginning of an id."""
        ...

    def export(self, *, since: datetime | None, until: datetime | None) -> AsyncIterator[bytes] | Refusal:
        """Return whole lines of an export, in pieces of some thousand."""
        ...

    async def prove(self, decision_id: str) -> bytes | Refusal:
        """Return the proof that a decision is in the tree of its day."""
        ...
