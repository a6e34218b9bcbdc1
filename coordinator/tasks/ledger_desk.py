"""The ledger's desk: what the ledger's service may ask of the coordinator, in process."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime

from coordinator.service.ledger_ports import Account
from coordinator.service.lookup import matching, no_single_job, no_site
from coordinator.service.operator_ports import Refusal, RefusalKind
from coordinator.store.energy_store import EnergyStore
from coordinator.store.records import PAGE, Recorder
from coordinator.tasks.fleet import Fleet


class LedgerDesk:
    """The ledger as its service sees it.

    Parameters
    ----------
    fleet : Fleet
        For the ids of jobs.
    energy : EnergyStore
        What was booked.
    recorder : Recorder or None
        The chain; None: no signing key is configured.
    sites : collection of str
        The configured sites.
    slot_s : float
        Length of a slot.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        energy: EnergyStore,
        recorder: Recorder | None,
        sites: Collection[str],
        slot_s: float,
    ) -> None:
        self._fleet = fleet
        self._energy = energy
        self._recorder = recorder
        self._sites = frozenset(sites)
        self._slot_s = slot_s

    async def account(
        self, *, site_id: str, job: str, since: datetime | None, until: datetime | None
    ) -> Account | Refusal:
        """Return what was drawn; "": at every site, by every job. `job` may be the beginning of an id."""
        if site_id and site_id not in self._sites:
            text = no_site(site_id, self._sites)
            return Refusal(kind=RefusalKind.NOT_FOUND, message=text, subject=f"site/{site_id}")
        found = matching(self._fleet.state.jobs, job) if job else [""]
        if len(found) != 1:
            text = no_single_job(job, found)
            return Refusal(kind=RefusalKind.NOT_FOUND, message=text, subject=f"job/{job}")
        rows = await self._energy.rows(site_id=site_id, job_id=found[0], since=since, until=until)
        return Account(
            rows=rows,
            booked=await self._energy.span(),
            slot_s=self._slot_s,
        )

    def export(self, *, since: datetime | None, until: datetime | None) -> AsyncIterator[bytes] | Refusal:
        """Return whole lines of an export, in pieces of some thousand."""
        return _NO_KEY if self._recorder is None else _lines(self._recorder, since, until)

    async def prove(self, decision_id: str) -> bytes | Refusal:
        """Return the proof that a decision is in the tree of its day."""
        if self._recorder is None:
            return _NO_KEY
        proof = await self._recorder.prove(decision_id)
        if proof is None:
            text = f"no signed record of a decision {decision_id!r}"
            return Refusal(kind=RefusalKind.NOT_FOUND, message=text, subject=f"decision/{decision_id}")
        return proof


_NO_KEY = Refusal(
    kind=RefusalKind.PRECONDITION,
    message="this coordinator signs no records: [ledger] key is not configured",
    subject="ledger",
)


async def _lines(recorder: Recorder, since: datetime | None, until: datetime | None) -> AsyncIterator[bytes]:
    export = await recorder.export(since, until)
    for first in range(export.first, export.first + export.count, PAGE):
        yield b"".join(await recorder.page(export, first))
    yield recorder.seal(export)
