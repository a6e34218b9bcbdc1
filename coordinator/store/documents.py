"""Values of the model as JSON text and back. Fields may be added with defaults; none may change meaning."""

import math
from typing import TypeVar

import msgspec

from coordinator.model import events as ev
from sterna.errors import CorruptError

T = TypeVar("T")

_EVENT_KINDS: dict[str, type[ev.Event]] = {
    kind.__name__: kind
    for kind in (
        ev.JobSubmitted,
        ev.JobGranted,
        ev.JobPhaseChanged,
        ev.JobWithdrawn,
        ev.JobRequeued,
        ev.JobStartFailed,
        ev.JobMeasured,
        ev.CheckpointSealed,
        ev.CancelRequested,
        ev.JobEnded,
        ev.EpochAdopted,
        ev.MigrationPlanned,
        ev.MigrationAdvanced,
        ev.MigrationSentAhead,
        ev.MigrationSealed,
        ev.MigrationCommitted,
        ev.MigrationFailed,
        ev.SiteSeen,
        ev.SiteDrained,
        ev.SiteResumed,
        ev.SiteFenced,
        ev.LinkMeasured,
    )
}


def write(value: object) -> str:
    """Return a frozen value as JSON; times as RFC 3339, sets sorted, infinities as ``"inf"``."""
    plain = _spelt_out(msgspec.to_builtins(value, order="deterministic"))
    return msgspec.json.encode(plain).decode()


def _spelt_out(plain: object) -> object:
    # JSON has no infinity: msgspec would write null, and a score of -inf would come back as nothing.
    match plain:
        case float():
            return plain if math.isfinite(plain) else str(plain)
        case dict():
            return {key: _spelt_out(value) for key, value in plain.items()}
        case list() | tuple():
            return [_spelt_out(value) for value in plain]
        case _:
            return plain


def read(text: str, kind: type[T]) -> T:
    """Return the value again.

    Raises
    ------
    CorruptError
        The text is not such a value; the message says where.
    """
    try:
        return msgspec.json.decode(text, type=kind, strict=False)
    except (msgspec.DecodeError, ValueError) as error:
        raise CorruptError(f"stored {kind.__name__}: {error}") from error


def event_kind(event: ev.Event) -> str:
    """Return the name that an event is stored under."""
    return type(event).__name__


def read_event(kind: str, text: str) -> ev.Event:
    """Return a stored event.

    Raises
    ------
    CorruptError
        No such kind, or not its fields.
    """
    if kind not in _EVENT_KINDS:
        raise CorruptError(f"stored event of the unknown kind {kind}")
    return read(text, _EVENT_KINDS[kind])
