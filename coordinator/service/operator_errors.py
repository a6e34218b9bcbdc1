"""Refusals as rich statuses: google.rpc.ErrorInfo always, BadRequest or PreconditionFailure where they fit.

Details travel in trailing metadata, which gRPC limits to a few kilobytes; so texts are clipped, and what does
not fit is counted in the message.
"""

import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from coordinator.service.operator_ports import Refusal, RefusalKind
from coordinator.service.operator_requests import FieldFault
from sterna.errors import TransientError

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

DOMAIN = "sterna"
FIELD_CHARS_MAX = 100
TEXT_CHARS_MAX = 400
DETAIL_BYTES_MAX = 4096

_STATUS_OF = {
    RefusalKind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    RefusalKind.INFEASIBLE: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalKind.PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalKind.REQUEST_REUSED: grpc.StatusCode.ALREADY_EXISTS,
}


def status(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str,
    metadata: Mapping[str, str] | None = None,
    details: Sequence[Message] = (),
) -> status_pb2.Status:
    """Return a rich status.

    Parameters
    ----------
    code : grpc.StatusCode
        What kind of failure.
    message : str
        One sentence for people.
    reason : str
        One word for programs, in upper case: the reason of ErrorInfo.
    metadata : mapping or None
        What the reason is about, e.g. ``{"job_id": …}``.
    details : sequence of Message
        Further details.
    """
    clipped = {key: _clip(value, FIELD_CHARS_MAX) for key, value in (metadata or {}).items()}
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=clipped)
    rich = status_pb2.Status(code=code.value[0], message=_clip(message, TEXT_CHARS_MAX))
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        rich.details.append(packed)
    return rich


def bad_request(faults: Sequence[FieldFault]) -> status_pb2.Status:
    """Return INVALID_ARGUMENT naming every field at fault."""
    violations = _fitting(
        error_details_pb2.BadRequest.FieldViolation(
            field=_clip(fault.field, FIELD_CHARS_MAX), description=_clip(fault.text, TEXT_CHARS_MAX)
        )
        for fault in faults
    )
    names = ", ".join(_clip(fault.field, FIELD_CHARS_MAX) for fault in faults)
    message = f"{len(faults)} fields are not usable: {names}"
    if len(faults) == 1:
        message = f"{names}: {faults[0].text}"
    detail = error_details_pb2.BadRequest(field_violations=violations)
    return status(grpc.StatusCode.INVALID_ARGUMENT, message, reason="BAD_FIELD", details=(detail,))


def refused(refusal: Refusal) -> status_pb2.Status:
    """Return the status of a refusal, with a PreconditionFailure for each of its reasons."""
    code = _STATUS_OF[refusal.kind]
    details: tuple[Message, ...] = ()
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        violations = _fitting(
            error_details_pb2.PreconditionFailure.Violation(
                type=refusal.kind.value,
                subject=_clip(refusal.subject, FIELD_CHARS_MAX),
                description=_clip(reason, TEXT_CHARS_MAX),
            )
            for reason in refusal.reasons or (refusal.message,)
        )
        details = (error_details_pb2.PreconditionFailure(violations=violations),)
    return status(
        code,
        refusal.message,
        reason=refusal.kind.value,
        metadata={"subject": refusal.subject},
        details=details,
    )


def try_again(error: TransientError) -> status_pb2.Status:
    """Return UNAVAILABLE, with RetryInfo where it is known when to try again."""
    details: list[Message] = []
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(retry)
    return status(grpc.StatusCode.UNAVAILABLE, str(error), reason="TRY_AGAIN", details=details)


async def done(context: "grpc.aio.ServicerContext[Any, Any]", act: Awaitable[Answer | Refusal]) -> Answer:
    """Return what a desk did, or end the call with why it did not."""
    try:
        answer = await act
    except TransientError as error:
        log.warning("operator call failed for now", extra={"error": str(error)})
        await abort(context, try_again(error))
    return await answered(context, answer)


async def answered(context: "grpc.aio.ServicerContext[Any, Any]", answer: Answer | Refusal) -> Answer:
    """Return an answer, or end the call with the refusal that it is."""
    if isinstance(answer, Refusal):
        await abort(context, refused(answer))
    return answer


async def abort(context: "grpc.aio.ServicerContext[Any, Any]", rich: status_pb2.Status) -> NoReturn:
    """End the call with a rich status."""
    made = rpc_status.to_status(rich)
    await context.abort(made.code, made.details, made.trailing_metadata)
    raise AssertionError("abort raises")


def _clip(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _fitting(violations: Iterable[Any]) -> list[Any]:
    """Return the first violations that fit into the metadata of a response."""
    fitting, size_bytes = [], 0
    for violation in violations:
        size_bytes += violation.ByteSize()
        if size_bytes > DETAIL_BYTES_MAX:
            break
        fitting.append(violation)
    return fitting
