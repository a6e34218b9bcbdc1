"""sterna.v1.LedgerService over the ledger's desk: who may call, and what is usable. It reckons nothing."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import grpc.aio

from coordinator.core.energy_ledger import Booked
from coordinator.service import operator_errors as errors
from coordinator.service.admission import admit
from coordinator.service.ledger_ports import Account, LedgerDesk
from coordinator.service.operator_requests import FieldFault
from coordinator.service.wire import duration, timestamp
from sterna.errors import TransientError
from sterna.identity import Role
from sterna.v1 import ledger_service_pb2 as api
from sterna.v1.ledger_service_pb2_grpc import LedgerServiceServicer

SERVICE_NAME = "sterna.v1.LedgerService"

PIECE_BYTES = 1_000_000
"""Of an export in one message: gRPC takes four megabytes."""

LEAST_ROLE: Mapping[str, Role] = {
    "GetAccount": Role.VIEWER,
    "ExportRecords": Role.VIEWER,
    "ProveDecision": Role.VIEWER,
}
"""The least role for each call. A call that is not here is refused to everybody."""

Context = grpc.aio.ServicerContext[Any, Any]
Interval = tuple[datetime | None, datetime | None]


class LedgerServicer(LedgerServiceServicer):
    """The ledger's service.

    Parameters
    ----------
    desk : LedgerDesk
        The ledger.
    fleet : str
        The fleet whose operators may call.
    """

    def __init__(self, *, desk: LedgerDesk, fleet: str) -> None:
        self._desk = desk
        self._fleet = fleet

    async def GetAccount(self, request: api.GetAccountRequest, context: Context) -> api.GetAccountResponse:  # noqa: N802
        """Return what was drawn, by site and job."""
        await self._admit(context, "GetAccount")
        since, until = await _interval(context, request)
        act = self._desk.account(site_id=request.site_id, job=request.job_id, since=since, until=until)
        return _account(await errors.done(context, act))

    async def ExportRecords(  # noqa: N802
        self, request: api.ExportRecordsRequest, context: Context
    ) -> AsyncIterator[api.ExportRecordsResponse]:
        """Send the signed records of an interval, and their seal."""
        await self._admit(context, "ExportRecords")
        since, until = await _interval(context, request)
        pieces = self._desk.export(since=since, until=until)
        try:
            async for lines in await errors.answered(context, pieces):
                for start in range(0, len(lines), PIECE_BYTES):
                    yield api.ExportRecordsResponse(piece=lines[start : start + PIECE_BYTES])
        except TransientError as error:
            await errors.abort(context, errors.try_again(error))

    async def ProveDecision(  # noqa: N802
        self, request: api.ProveDecisionRequest, context: Context
    ) -> api.ProveDecisionResponse:
        """Return the proof that a decision is in the tree of its day."""
        await self._admit(context, "ProveDecision")
        if not request.decision_id:
            fault = FieldFault(field="decision_id", text="expected the id of a decision, got none")
            await errors.abort(context, errors.bad_request((fault,)))
        proof = await errors.done(context, self._desk.prove(request.decision_id))
        return api.ProveDecisionResponse(proof=proof)

    async def _admit(self, context: Context, call: str) -> None:
        await admit(context, fleet=self._fleet, call=call, least=LEAST_ROLE[call])


async def _interval(context: Context, request: api.GetAccountRequest | api.ExportRecordsRequest) -> Interval:
    since = request.since.ToDatetime(tzinfo=UTC) if request.HasField("since") else None
    until = request.until.ToDatetime(tzinfo=UTC) if request.HasField("until") else None
    if since is not None and until is not None and until <= since:
        fault = FieldFault(field="until", text=f"expected later than since, got {until.isoformat()}")
        await errors.abort(context, errors.bad_request((fault,)))
    return since, until


def _account(account: Account) -> api.GetAccountResponse:
    first, last = account.booked or (None, None)
    return api.GetAccountResponse(
        entries=[_entry(row) for row in account.rows],
        booked_from=timestamp(first),
        booked_until=timestamp(last),
        slot=duration(account.slot_s),
    )


def _entry(row: Booked) -> api.LedgerEntry:
    entry = row.entry
    return api.LedgerEntry(
        site_id=row.site_id,
        job_id=row.job_id,
        renewable_wh=entry.renewable_wh,
        nonrenewable_wh=entry.nonrenewable_wh,
        unattributed_wh=entry.unattributed_wh,
        estimated_wh=entry.estimated_wh,
        unmetered=duration(entry.unmetered_s),
        carbon_g=entry.known_carbon_g,
    )
