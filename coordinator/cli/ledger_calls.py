"""The calls of `sterna ledger`: one each. Loaded when a command runs."""

import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.cli import client
from sterna.errors import ConfigError
from sterna.v1 import ledger_service_pb2 as api
from sterna.v1.ledger_service_pb2_grpc import LedgerServiceStub

if TYPE_CHECKING:
    from sterna.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

T = TypeVar("T")


def get_account(
    config: Path | None, *, job: str, site: str, since: datetime | None, until: datetime | None
) -> api.GetAccountResponse:
    """Return what was drawn, by site and job."""
    request = api.GetAccountRequest(site_id=site, job_id=job, since=_stamp(since), until=_stamp(until))
    return _call(config, lambda stub: stub.GetAccount(request, timeout=client.CALL_TIMEOUT_S))


def prove_decision(config: Path | None, decision_id: str) -> bytes:
    """Return the proof of a decision."""
    request = api.ProveDecisionRequest(decision_id=decision_id)
    answer = _call(config, lambda stub: stub.ProveDecision(request, timeout=client.CALL_TIMEOUT_S))
    return answer.proof


def export_records(config: Path | None, file: Path, *, since: datetime | None, until: datetime | None) -> int:
    """Write an export to a file and return its bytes; what is not whole does not get the file's name."""
    request = api.ExportRecordsRequest(since=_stamp(since), until=_stamp(until))
    partial = file.with_name(f"{file.name}.partial")

    async def fetch(stub: "LedgerServiceAsyncStub") -> int:
        written = 0
        with partial.open("wb") as stream:
            # No deadline: a ledger of years takes as long as it takes.
            async for answer in stub.ExportRecords(request):
                written += stream.write(answer.piece)
            stream.flush()
            os.fsync(stream.fileno())
        return written

    try:
        written = _call(config, fetch)
        partial.replace(file)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return written


def _call(config: Path | None, call: "Callable[[LedgerServiceAsyncStub], Awaitable[T]]") -> T:
    return client.call(config, lambda channel: call(LedgerServiceStub(channel)))


def _stamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
