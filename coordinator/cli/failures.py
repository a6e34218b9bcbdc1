"""What a failed call means for people: a sentence, its details a line each, and an exit code."""

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from coordinator.cli.exits import CallError, Exit
from sterna.identity import Identity

_EXIT = {
    grpc.StatusCode.NOT_FOUND: Exit.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION: Exit.REFUSED,
    grpc.StatusCode.ALREADY_EXISTS: Exit.REFUSED,
    grpc.StatusCode.INVALID_ARGUMENT: Exit.USAGE,
    grpc.StatusCode.PERMISSION_DENIED: Exit.DENIED,
    grpc.StatusCode.UNAUTHENTICATED: Exit.DENIED,
}


def explain(error: grpc.aio.AioRpcError, address: str, expected: Identity) -> CallError:
    """Turn the status of a call into an error for people.

    Parameters
    ----------
    error : grpc.aio.AioRpcError
        How the call ended.
    address : str
        Where the coordinator was looked for.
    expected : Identity
        Who was expected there.
    """
    message, details = error.details() or "", _details(error)
    if error.code() in _EXIT:
        lines = [message, *(f"  {line}" for line in details if line not in message)]
        return CallError("\n".join(lines), _EXIT[error.code()])
    if error.code() is grpc.StatusCode.UNAVAILABLE and _reason(error) is not None:
        return CallError(f"coordinator {address}: {message}; try again", Exit.UNREACHABLE)
    if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        why = _why_unreachable(f"{message} {error.debug_error_string()}", expected)
        return CallError(f"coordinator {address}: {why}", Exit.UNREACHABLE)
    return CallError(f"coordinator {address}: {error.code().name}: {message}", Exit.FAILED)


def _packed(error: grpc.aio.AioRpcError) -> list[AnyMessage]:
    """Return what our service sent along; nothing when the error is not from it."""
    rich = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all of a Call that is used
    return list(rich.details) if rich is not None else []


def _details(error: grpc.aio.AioRpcError) -> list[str]:
    """Return a line for each field and each precondition at fault."""
    lines = []
    for packed in _packed(error):
        bad, failed = error_details_pb2.BadRequest(), error_details_pb2.PreconditionFailure()
        if packed.Unpack(bad):
            lines += [f"{fault.field}: {fault.description}" for fault in bad.field_violations]
        elif packed.Unpack(failed):
            lines += [violation.description for violation in failed.violations]
    return lines


def _reason(error: grpc.aio.AioRpcError) -> str | None:
    """Return the reason that our service gave; None when the error is not from it."""
    for packed in _packed(error):
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info):
            return str(info.reason)
    return None


def _why_unreachable(text: str, expected: Identity) -> str:
    """Return one sentence for what gRPC says at length; the known words of its core decide."""
    for words, sentence in (
        ("CERTIFICATE_VERIFY_FAILED", f"its certificate is not of the authority of fleet {expected.fleet}"),
        ("Hostname Verification", f"it is not {expected}; see fleet and coordinator_id"),
        ("Peer name", f"it is not {expected}; see fleet and coordinator_id"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS there"),
        ("Connection refused", "connection refused; is it running there?"),
        ("DNS resolution failed", "its name is not known"),
        ("Domain name not found", "its name is not known"),
        ("handshake", "no TLS session; is our certificate of its fleet?"),
        ("Socket closed", "it closed the connection; is our certificate of its fleet, or did it stop?"),
        ("reset by peer", "it closed the connection; is our certificate of its fleet, or did it stop?"),
        ("Deadline", "no answer in time"),
    ):
        if words.lower() in text.lower():
            return sentence
    return "no answer; is it running, and is our certificate of its fleet?"
