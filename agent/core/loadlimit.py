"""The LoadLimit block: what a write means, and what the registers say. Pure; the desk judges the commands.

Values of 8..13 are *staged* by the client that wrote them and mean nothing until it writes CmdSeq: then they
are one command. A staged value of one client never becomes part of another's command.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.core.commands import MAX_DURATION_S, MAX_RAMP_S, LimitRequest
from agent.core.limits import FAILSAFE_SOURCE, CommandStatus, HeldCommand
from agent.model.grid import OperatorConfig, Reason, Refusal
from agent.model.limits import GridState, LimitKind
from agent.model.readings import Quality
from agent.model.sunspec.codec import Value

COMMAND_POINTS = ("ImpLimW", "ImpLimRvrtTms", "ImpLimRmpTms", "ImpLimEna")
SETTING_POINTS = ("FsImpLimW", "FsDurMin")
NOTHING_32 = 0xFFFFFFFF
_NEGATIVE_32 = 0x80000000
_SEQUENCES = 0x10000

STATES: Mapping[GridState, int] = {
    GridState.INIT: 0,
    GridState.UNLIMITED: 1,
    GridState.LIMITED: 2,
    GridState.FAILSAFE: 3,
    GridState.AUTONOMOUS: 4,
}
SOURCES: Mapping[str, int] = {
    "modbus": 1,
    "mqtt": 2,
    "openadr": 3,
    "relay": 4,
    "local": 5,
    FAILSAFE_SOURCE: 6,
    "hardware": 7,
}
NO_SOURCE, OTHER_SOURCE = 0, 99
STATUSES: Mapping[CommandStatus, int] = {
    CommandStatus.ACCEPTED: 1,
    CommandStatus.STARTED: 3,
    CommandStatus.SUCCEEDED: 4,
    CommandStatus.REVOKED: 5,
}
REJECTED = 2
REASONS: Mapping[Reason, int] = {
    Reason.MALFORMED: 1,
    Reason.STALE_SEQUENCE: 2,
    Reason.REPLAY_OTHER_CONTENT: 3,
    Reason.NEGATIVE_VALUE: 4,
    Reason.BELOW_HARD_MINIMUM: 5,
    Reason.OUT_OF_BOUNDS: 6,
    Reason.STORE_UNAVAILABLE: 7,
    Reason.CLOCK_UNSYNCHRONISED: 8,
}
OTHER_REASON = 99
QUALITIES: Mapping[Quality, int] = {Quality.OK: 0, Quality.ESTIMATED: 1, Quality.STALE: 2, Quality.BAD: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The newest answer to a CmdSeq that was refused; accepted ones are read off the command itself."""

    cmd_seq: int
    reason: Reason


def command(
    staged: Mapping[str, int], *, cmd_seq: int, last: int | None, now: datetime
) -> LimitRequest | Refusal:
    """Make the command that a write of CmdSeq commits.

    Parameters
    ----------
    staged : mapping of point name to int
        What was written of `COMMAND_POINTS`, raw. Nothing is taken over from the command before: ImpLimEna,
        and ImpLimW to limit, must be among it; no ImpLimRvrtTms is no expiry, no ImpLimRmpTms no ramp.
    cmd_seq : int
        As written.
    last : int or None
        The last sequence accepted from this source; None: none ever.
    now : datetime
        Calendar now; a Modbus write is issued as it arrives.
    """
    sequence = sequence_of(cmd_seq, last)
    command_id = f"modbus-{sequence}"
    refused = Refusal(reason=Reason.MALFORMED, command_id=command_id, sequence=sequence)
    enabled, limit_w = staged.get("ImpLimEna"), staged.get("ImpLimW", NOTHING_32)
    duration_s, ramp_s = staged.get("ImpLimRvrtTms", 0), staged.get("ImpLimRmpTms", 0)
    if enabled not in {0, 1}:
        return _about(refused, "ImpLimEna", Reason.MALFORMED)
    if enabled and limit_w == NOTHING_32:
        return _about(refused, "ImpLimW", Reason.MALFORMED)
    if enabled and limit_w >= _NEGATIVE_32:
        # Two gigawatts and more is no limit of a site, it is a negative number from a signed register.
        return _about(refused, "ImpLimW", Reason.NEGATIVE_VALUE)
    if duration_s > MAX_DURATION_S:
        return _about(refused, "ImpLimRvrtTms", Reason.OUT_OF_BOUNDS)
    if ramp_s > MAX_RAMP_S:
        return _about(refused, "ImpLimRmpTms", Reason.OUT_OF_BOUNDS)
    content = f"{sequence}|{enabled}|{limit_w}|{duration_s}|{ramp_s}" if enabled else f"{sequence}|0"
    return LimitRequest(
        command_id=command_id,
        sequence=sequence,
        kind=LimitKind.IMPORT_CAPACITY_LIMIT,
        issued_at=now,
        value_w=float(limit_w) if enabled else None,
        start_at=None,
        duration_s=float(duration_s) if enabled and duration_s else None,
        ramp_s=float(ramp_s) if enabled else 0.0,
        reason="Modbus",
        expires_at=None,
        site=None,
        digest=hashlib.sha256(content.encode()).hexdigest(),
        issued_here=True,
    )


def _about(refused: Refusal, field: str, reason: Reason) -> Refusal:
    return Refusal(reason=reason, field=field, command_id=refused.command_id, sequence=refused.sequence)


def sequence_of(cmd_seq: int, last: int | None) -> int:
    """Place a 16-bit counter on the line of all sequences: up to 32767 ahead is new, the rest is past.

    Returns
    -------
    int
        Negative where it lies before the first.
    """
    if last is None:
        return cmd_seq
    ahead = (cmd_seq - last) % _SEQUENCES
    return last + (ahead if ahead < _SEQUENCES // 2 else ahead - _SEQUENCES)


def settings(values: Mapping[str, int], held: OperatorConfig) -> OperatorConfig | Refusal:
    """Lay written fail-safe settings over those that hold; the desk checks their bounds."""
    limit_w, least_s = values.get("FsImpLimW"), values.get("FsDurMin")
    if limit_w is not None and limit_w >= _NEGATIVE_32:
        return Refusal(reason=Reason.NEGATIVE_VALUE, field="FsImpLimW")
    return OperatorConfig(
        failsafe_import_w=held.failsafe_import_w if limit_w is None else float(limit_w),
        failsafe_min_s=held.failsafe_min_s if least_s is None else float(least_s),
        heartbeat_timeout_s=held.heartbeat_timeout_s,
    )


def command_points(newest: HeldCommand | None, last: int | None) -> dict[str, Value]:
    """Tell points 8 to 14 of the newest command that holds; without one the limit is off."""
    told: dict[str, Value] = {"CmdSeq": 0 if last is None else last % _SEQUENCES, "ImpLimEna": 0}
    if newest is None or newest.command.value_w is None:
        return told
    duration_s = 0.0 if newest.end_boot_s is None else newest.end_boot_s - newest.start_boot_s
    return told | {
        "ImpLimW": round(newest.command.value_w),
        "ImpLimRvrtTms": round(duration_s),
        "ImpLimRmpTms": round(newest.command.ramp_s),
        "ImpLimEna": 1,
    }


def answer_points(newest: HeldCommand | None, last: int | None, judged: Judged | None) -> dict[str, Value]:
    """Tell points 15 to 17: what became of the newest CmdSeq."""
    if judged is not None:
        reason = REASONS.get(judged.reason, OTHER_REASON)
        return {"AckSeq": judged.cmd_seq, "AckStatus": REJECTED, "RejectReason": reason}
    if last is None:
        return {}
    # A command that is no longer held has run to its end.
    current = newest is not None and newest.command.sequence == last
    status = newest.status if current and newest is not None else CommandStatus.SUCCEEDED
    return {"AckSeq": last % _SEQUENCES, "AckStatus": STATUSES[status], "RejectReason": 0}
