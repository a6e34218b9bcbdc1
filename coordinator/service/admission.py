"""Who may call: the certificate that was shown against the least role of a call. Default deny."""

import logging
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from coordinator.service import operator_errors as errors
from sterna.identity import Identity, Role
from sterna.rpc import peer_identity

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

_RANK: Mapping[Role, int] = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}


async def admit(context: Context, *, fleet: str, call: str, least: Role) -> Identity:
    """Return who calls, or end the call.

    Parameters
    ----------
    context : grpc.aio.ServicerContext
        Of the call.
    fleet : str
        Whose operators may call.
    call : str
        Its name, for the message.
    least : Role
        The least role that may.
    """
    caller = peer_identity(context)
    if caller is None or caller.fleet != fleet:
        shown = "no identity" if caller is None else str(caller)
        log.warning("operator call without a usable identity", extra={"call": call, "peer": shown})
        text = f"no certificate of an operator of fleet {fleet} was shown, but {shown}"
        rich = errors.status(grpc.StatusCode.UNAUTHENTICATED, text, reason="NO_IDENTITY")
        await errors.abort(context, rich)
    if _RANK.get(caller.role, 0) < _RANK[least]:
        log.warning("operator call refused", extra={"call": call, "peer": caller.uri})
        text = f"{caller} may not call {call}: it takes the role {least.value}"
        metadata = {"call": call, "role": caller.role.value, "least_role": least.value}
        rich = errors.status(
            grpc.StatusCode.PERMISSION_DENIED, text, reason="ROLE_TOO_LOW", metadata=metadata
        )
        await errors.abort(context, rich)
    return caller
