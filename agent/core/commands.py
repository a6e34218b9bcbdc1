"""Limit commands: read strictly, then judged. A no is a value that names its reason and its field.

The JSON shape is that of the direct-dispatch profile (docs/mqtt.md); other sources build a `LimitRequest`
of their own and have it judged by the same rules.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.core import fields
from agent.core.fields import FieldError
from agent.model.grid import Reason, Refusal
from agent.model.limits import LimitCommand, LimitKind

VERSION = 1
MAX_DURATION_S = 366 * 86_400.0
MAX_RAMP_S = 3600.0
_KINDS = frozenset(kind.value for kind in LimitKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversion:
    """What holds once a limit's time is over, until replaced; `value_w` None: its source limits nothing."""

    value_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRequest:
    """A limit command as it was written, not yet judged.

    `value_w` is in watts, import or export as `kind` says; None releases. `start_at` None: at once.
    `duration_s` None: until replaced, which is not a duration of zero. `reversion`, for a limit with a
    duration: what follows, whatever its source commanded before; it takes the sequence before the limit's.
    `expires_at` is until when the command may be accepted; None: `Rules.max_age_s` after it was issued.
    `site` None: the command does not name its target. `issued_here`: the instants were told by our own
    clock, so that a calendar that cannot be trusted harms nothing.
    """

    command_id: str
    sequence: int
    kind: LimitKind
    issued_at: datetime
    value_w: float | None
    start_at: datetime | None
    duration_s: float | None
    ramp_s: float
    reason: str
    expires_at: datetime | None
    site: str | None
    digest: str
    issued_here: bool = False
    reversion: Reversion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSeen:
    """The newest command accepted from a source."""

    sequence: int
    command_id: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a site accepts.

    `max_skew_s` is how far in the future a command may be issued; `max_age_s` how far in the past when it
    states no expiry. `hard_minimum_w` is the least import, in watts, that the site can be asked to hold.
    `keeps_exports`: something at the site obeys a limit of its export.
    """

    site: str
    hard_minimum_w: float = 0.0
    keeps_exports: bool = True
    max_skew_s: float = 60.0
    max_age_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The command holds from now on, once it is stored; `after` is its reversion, None: it has none."""

    command: LimitCommand
    digest: str
    after: LimitCommand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """The command was accepted before; it is acknowledged again and changes nothing."""

    command_id: str
    sequence: int


Verdict = Accepted | Repeated | Refusal


def parse_limit(payload: bytes) -> LimitRequest | Refusal:
    """Read a limit command from JSON; whatever the bytes are, the answer is a value.

    Parameters
    ----------
    payload : bytes
        As received.

    Returns
    -------
    LimitRequest or Refusal
        A refusal carries id and sequence where they could be read.
    """
    try:
        message = fields.message(payload)
    except FieldError as error:
        return error.refusal
    try:
        return _request(message)
    except FieldError as error:
        return replace(
            error.refusal,
            command_id=fields.readable_id(message.get("id")),
            sequence=fields.readable_sequence(message.get("seq")),
        )


def _request(message: fields.Message) -> LimitRequest:
    fields.version(message, VERSION)
    kind_word = fields.text(message, "kind", longest=64)
    if kind_word not in _KINDS:
        raise FieldError(Reason.UNKNOWN_KIND, "kind", kind_word)
    active = fields.boolean(message, "active")
    return LimitRequest(
        command_id=fields.text(message, "id", longest=128, shortest=1),
        sequence=fields.integer(message, "seq"),
        kind=LimitKind(kind_word),
        issued_at=fields.instant(message, "issued"),
        value_w=fields.power_w(message, "valueW") if active else None,
        start_at=fields.optional(fields.instant, message, "start"),
        duration_s=fields.optional(_duration_s, message, "durationS"),
        ramp_s=fields.optional(_ramp_s, message, "rampS") or 0.0,
        reason=fields.optional(fields.text, message, "reason") or "",
        expires_at=fields.optional(fields.instant, message, "expires"),
        site=fields.optional(fields.text, message, "site"),
        digest=digest(message),
    )


def _duration_s(message: fields.Message, name: str) -> float:
    return fields.number(message, name, above=0.0, most=MAX_DURATION_S)


def _ramp_s(message: fields.Message, name: str) -> float:
    return fields.number(message, name, least=0.0, most=MAX_RAMP_S)


def digest(message: fields.Message) -> str:
    """Identify the content of a command, whatever the order and spacing of its fields."""
    canonical = json.dumps(message, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def judge(
    request: LimitRequest,
    *,
    source: str,
    rules: Rules,
    last: LastSeen | None,
    now: datetime,
    clock_synced: bool = True,
    binding_w: float | None = None,
    forged: Refusal | None = None,
) -> Verdict:
    """Say whether a command is to be obeyed.

    Parameters
    ----------
    request : LimitRequest
        What was written.
    source : str
        Who wrote it; sequences are counted per source.
    rules : Rules
        What the site accepts.
    last : LastSeen or None
        The newest command accepted from this source; None: none ever.
    now : datetime
        Calendar now.
    clock_synced : bool
        Whether the calendar can be trusted. If not, its times are not judged, and only a command that lets
        no watt more in than now is accepted, from now.
    binding_w : float or None
        The most restrictive limit of the request's kind in force now, in watts; None: none.
    forged : Refusal or None
        Why its signature is not the operator's; None: it is, or the site asks for none.

    Returns
    -------
    Accepted, Repeated or Refusal
        The verdict. `Repeated` is the newest command once more, unchanged.
    """
    refused = Refusal(reason=Reason.MALFORMED, command_id=request.command_id, sequence=request.sequence)
    if request.site is not None and request.site != rules.site:
        return replace(refused, reason=Reason.WRONG_SITE, field="site", detail=request.site)
    if forged is not None:
        return replace(forged, command_id=request.command_id, sequence=request.sequence)
    if last is not None and request.sequence <= last.sequence:
        return _seen_before(request, last, refused)
    refusal = _inopportune(request, rules, refused, now=now, clock_synced=clock_synced, binding_w=binding_w)
    if refusal is not None:
        return refusal
    if not clock_synced:
        request = replace(request, start_at=now, issued_at=now)
    command = _command(request, source, now)
    return Accepted(command=command, digest=request.digest, after=_after(command, request.reversion))


def _inopportune(
    request: LimitRequest,
    rules: Rules,
    refused: Refusal,
    *,
    now: datetime,
    clock_synced: bool,
    binding_w: float | None,
) -> Refusal | None:
    value_w, imports = request.value_w, request.kind is LimitKind.IMPORT_CAPACITY_LIMIT
    if not imports and value_w is not None and not rules.keeps_exports:
        # A release needs nobody to keep it.
        return replace(refused, reason=Reason.UNKNOWN_KIND, field="kind", detail="no set-point keeps it here")
    if imports and value_w is not None and value_w < rules.hard_minimum_w:
        detail = f"{value_w:g} W < {rules.hard_minimum_w:g} W"
        return replace(refused, reason=Reason.BELOW_HARD_MINIMUM, field="valueW", detail=detail)
    if clock_synced or request.issued_here:
        untimely = _untimely(request, rules, now)
        if untimely is not None:
            return replace(refused, reason=untimely[0], field=untimely[1])
    elif value_w is None or (binding_w is not None and value_w > binding_w):
        return replace(refused, reason=Reason.CLOCK_UNSYNCHRONISED, detail="only less power is accepted")
    return None


def _seen_before(request: LimitRequest, last: LastSeen, refused: Refusal) -> Repeated | Refusal:
    if request.sequence < last.sequence:
        return replace(refused, reason=Reason.STALE_SEQUENCE, field="seq", detail=f"last was {last.sequence}")
    if (request.command_id, request.digest) != (last.command_id, last.digest):
        return replace(refused, reason=Reason.REPLAY_OTHER_CONTENT, field="seq")
    return Repeated(command_id=request.command_id, sequence=request.sequence)


def _untimely(request: LimitRequest, rules: Rules, now: datetime) -> tuple[Reason, str] | None:
    age_s = (now - request.issued_at).total_seconds()
    if age_s < -rules.max_skew_s:
        return Reason.FUTURE_ISSUE, "issued"
    if request.expires_at is not None and request.expires_at <= now:
        return Reason.EXPIRED, "expires"
    if request.expires_at is None and age_s > rules.max_age_s:
        return Reason.TOO_OLD, "issued"
    if request.start_at is not None and abs((request.start_at - now).total_seconds()) > MAX_DURATION_S:
        return Reason.OUT_OF_BOUNDS, "start"
    end_at = _end_at(request, request.start_at or request.issued_at)
    if end_at is not None and end_at <= now:
        return Reason.EXPIRED, "durationS"
    return None


def _command(request: LimitRequest, source: str, now: datetime) -> LimitCommand:
    # Without a start the duration counts from the issue, so that a late delivery does not prolong it; an
    # issue in our future (skew) counts as now.
    start_at = request.start_at or min(request.issued_at, now)
    return LimitCommand(
        source=source,
        command_id=request.command_id,
        sequence=request.sequence,
        kind=request.kind,
        issued_at=request.issued_at,
        start_at=start_at,
        end_at=_end_at(request, start_at),
        value_w=request.value_w,
        ramp_s=request.ramp_s,
        reason=request.reason,
    )


def _after(command: LimitCommand, reversion: Reversion | None) -> LimitCommand | None:
    if reversion is None or command.end_at is None:
        return None
    return replace(
        command,
        command_id=f"{command.command_id}-reversion",
        sequence=command.sequence - 1,
        start_at=command.end_at,
        end_at=None,
        value_w=reversion.value_w,
    )


def _end_at(request: LimitRequest, start_at: datetime) -> datetime | None:
    return None if request.duration_s is None else start_at + timedelta(seconds=request.duration_s)
