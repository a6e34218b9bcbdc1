"""What is said back to whoever sent a limit: acknowledgements, refusals, heartbeats, operator settings."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class AckStatus(Enum):
    """Answer to a command, and later what became of it (S2's words)."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    STARTED = "STARTED"
    SUCCEEDED = "SUCCEEDED"
    REVOKED = "REVOKED"


class Reason(Enum):
    """Why a message was refused."""

    MALFORMED = "MALFORMED"
    WRONG_VERSION = "WRONG_VERSION"
    WRONG_SITE = "WRONG_SITE"
    NOT_SIGNED = "NOT_SIGNED"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    UNKNOWN_KIND = "UNKNOWN_KIND"
    STALE_SEQUENCE = "STALE_SEQUENCE"
    REPLAY_OTHER_CONTENT = "REPLAY_OTHER_CONTENT"
    EXPIRED = "EXPIRED"
    FUTURE_ISSUE = "FUTURE_ISSUE"
    TOO_OLD = "TOO_OLD"
    NEGATIVE_VALUE = "NEGATIVE_VALUE"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    BELOW_HARD_MINIMUM = "BELOW_HARD_MINIMUM"
    OUT_OF_BOUNDS = "OUT_OF_BOUNDS"
    CLOCK_UNSYNCHRONISED = "CLOCK_UNSYNCHRONISED"
    UNKNOWN_SOURCE = "UNKNOWN_SOURCE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A no, with the field it is about; id and sequence where they could be read."""

    reason: Reason
    field: str = ""
    detail: str = ""
    command_id: str | None = None
    sequence: int | None = None

    def __str__(self) -> str:
        words = (self.reason.value, self.field, self.detail)
        return ": ".join(word for word in words if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """One answer to one command. `applied_w` is the limit that it set, in watts; None: none."""

    source: str
    command_id: str
    sequence: int | None
    status: AckStatus
    at: datetime
    reason: str = ""
    applied_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """What an operator has set for its fail-safe; None: not set, the site's own value holds.

    `issued_at` is when it said so; None: it did not say.
    """

    failsafe_import_w: float | None = None
    failsafe_min_s: float | None = None
    heartbeat_timeout_s: float | None = None
    issued_at: datetime | None = None
