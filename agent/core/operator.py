"""What else an operator sends beside limits: heartbeats, and its settings of the fail-safe."""

from dataclasses import dataclass, replace
from datetime import datetime

from agent.core import fields
from agent.core.failsafe import FailsafeSettings
from agent.core.fields import FieldError
from agent.model.grid import OperatorConfig, Reason, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """One sign of life; `number` grows while the sender lives, `sent_at` is its clock."""

    number: int
    sent_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigBounds:
    """Within what an operator may set the fail-safe; watts of import and seconds (LPC: 2 h to 24 h)."""

    failsafe_import_min_w: float = 0.0
    failsafe_import_max_w: float = fields.MAX_POWER_W
    failsafe_min_least_s: float = 7200.0
    failsafe_min_most_s: float = 86_400.0
    heartbeat_timeout_least_s: float = 10.0
    heartbeat_timeout_most_s: float = 600.0


def parse_heartbeat(
    payload: bytes,
    *,
    last: Heartbeat | None,
    now: datetime,
    max_skew_s: float = 60.0,
    clock_synced: bool = True,
) -> Heartbeat | Refusal:
    """Read a heartbeat, and refuse one that is no sign of life: late, from the future, or heard before.

    Parameters
    ----------
    payload : bytes
        ``{"n": 8812, "t": "<instant>"}``.
    last : Heartbeat or None
        The one before.
    now : datetime
        Calendar now.
    max_skew_s : float
        How far its clock may be off ours.
    clock_synced : bool
        Whether our calendar can be trusted; if not, only the order counts.
    """
    try:
        message = fields.message(payload)
        beat = Heartbeat(number=fields.integer(message, "n"), sent_at=fields.instant(message, "t"))
    except FieldError as error:
        return error.refusal
    off_s = (beat.sent_at - now).total_seconds()
    if clock_synced and abs(off_s) > max_skew_s:
        return Refusal(reason=Reason.FUTURE_ISSUE if off_s > 0 else Reason.TOO_OLD, field="t")
    # A sender that restarts counts from 0 again, with a later clock.
    if last is not None and beat.sent_at <= last.sent_at and beat.number <= last.number:
        return Refusal(reason=Reason.STALE_SEQUENCE, field="n")
    return beat


def bounded(config: OperatorConfig, bounds: ConfigBounds) -> OperatorConfig | Refusal:
    """Return the settings, or the refusal of the first that lies out of bounds."""
    for name, value, least, most in (
        (
            "failsafeImportW",
            config.failsafe_import_w,
            bounds.failsafe_import_min_w,
            bounds.failsafe_import_max_w,
        ),
        ("failsafeMinS", config.failsafe_min_s, bounds.failsafe_min_least_s, bounds.failsafe_min_most_s),
        (
            "heartbeatTimeoutS",
            config.heartbeat_timeout_s,
            bounds.heartbeat_timeout_least_s,
            bounds.heartbeat_timeout_most_s,
        ),
    ):
        if value is not None and not least <= value <= most:
            return Refusal(
                reason=Reason.OUT_OF_BOUNDS, field=name, detail=f"not within {least:g} to {most:g}"
            )
    return config


def parse_config(payload: bytes, bounds: ConfigBounds) -> OperatorConfig | Refusal:
    """Read the operator's fail-safe settings; one field out of bounds refuses them all.

    Parameters
    ----------
    payload : bytes
        ``{"failsafeImportW": 4200, "failsafeMinS": 7200, "heartbeatTimeoutS": 120, "issued": "<instant>"}``,
        each of them optional.
    bounds : ConfigBounds
        Within what they may lie.
    """
    try:
        message = fields.message(payload)
        config = OperatorConfig(
            failsafe_import_w=fields.optional(fields.number, message, "failsafeImportW"),
            failsafe_min_s=fields.optional(fields.number, message, "failsafeMinS"),
            heartbeat_timeout_s=fields.optional(fields.number, message, "heartbeatTimeoutS"),
            issued_at=fields.optional(fields.instant, message, "issued"),
        )
    except FieldError as error:
        return error.refusal
    return bounded(config, bounds)


def outdated(
    config: OperatorConfig,
    held: OperatorConfig | None,
    *,
    now: datetime,
    max_skew_s: float = 60.0,
    clock_synced: bool = True,
    must_state: bool = False,
) -> Refusal | None:
    """Return why settings are not the operator's latest word; None: they may be.

    Parameters
    ----------
    config, held : OperatorConfig
        What was sent, and what was taken before; None: nothing was.
    now : datetime
        Calendar now.
    max_skew_s : float
        How far in the future they may be issued.
    clock_synced : bool
        Whether our calendar can be trusted; if not, only the order counts.
    must_state : bool
        Whether they must say when they were issued: a signature alone does not keep an old message away.
    """
    if config.issued_at is None:
        absent = Refusal(reason=Reason.MALFORMED, field="issued", detail="signed settings state it")
        return absent if must_state else None
    if clock_synced and (config.issued_at - now).total_seconds() > max_skew_s:
        return Refusal(reason=Reason.FUTURE_ISSUE, field="issued")
    if held is not None and held.issued_at is not None and config.issued_at < held.issued_at:
        return Refusal(reason=Reason.TOO_OLD, field="issued", detail=f"last was {held.issued_at.isoformat()}")
    return None


def configured(site: FailsafeSettings, config: OperatorConfig | None) -> FailsafeSettings:
    """Lay the operator's settings over the site's own."""
    if config is None:
        return site

    def chosen(value: float | None, default: float) -> float:
        return default if value is None else value

    return replace(
        site,
        failsafe_import_w=chosen(config.failsafe_import_w, site.failsafe_import_w),
        failsafe_min_s=chosen(config.failsafe_min_s, site.failsafe_min_s),
        heartbeat_timeout_s=chosen(config.heartbeat_timeout_s, site.heartbeat_timeout_s),
    )
