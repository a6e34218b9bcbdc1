"""Planned limits as commands that the grid desk judges like every other."""

import hashlib
from datetime import datetime

from agent.core.commands import LimitRequest
from agent.core.openadr.plan import Planned


def request(planned: Planned, *, sequence: int, now: datetime, ramp_s: float = 0.0) -> LimitRequest:
    """Write a planned limit as a command that is issued now.

    Parameters
    ----------
    planned : Planned
        One limit of the plan, or the statement that none holds.
    sequence : int
        Higher than any that was sent before.
    now : datetime
        Calendar now.
    ramp_s : float
        Seconds that the site may take to come down.
    """
    # A limit that began long ago is commanded from now: the desk refuses starts that are far off.
    start_at = max(planned.start_at, now)
    content = f"{planned.command_id}|{start_at.isoformat()}|{planned.end_at}|{planned.limit_w}|{sequence}"
    return LimitRequest(
        command_id=planned.command_id,
        sequence=sequence,
        kind=planned.kind,
        issued_at=now,
        value_w=planned.limit_w,
        start_at=start_at,
        duration_s=None if planned.end_at is None else (planned.end_at - start_at).total_seconds(),
        ramp_s=ramp_s,
        reason=f"OpenADR {planned.reason}",
        expires_at=None,
        site=None,
        digest=hashlib.sha256(content.encode()).hexdigest(),
    )
