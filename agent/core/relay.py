"""Contacts of a ripple-control receiver or control box: from levels to the limit that they ask for. Pure.

A contact that cannot be read, or whose two halves contradict each other, is unknown: never open, never
closed. While one is unknown the others may still ask for less, nothing is let go, and no sign of life is
given, so that the fail-safe machine of the source does the rest.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One contact, and the grid import in watts, >= 0, that it asks for while closed, or while open."""

    name: str
    limit_w: float
    limits_when_closed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is known of one contact: settled, and what it reads since when (boot clock). None: unknown."""

    closed: bool | None = None
    reading: bool | None = None
    since_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the contacts ask for together: the least of their limits in watts; None: none asks.

    `known` False: at least one contact is unknown, so that there may be more to it. `by`: names of those that
    ask.
    """

    limit_w: float | None
    known: bool
    by: tuple[str, ...] = ()


def paired(closed: bool, complement_closed: bool) -> bool | None:
    """Read a contact with two halves of which one is closed at a time; None: a wire is broken or shorted."""
    return None if closed == complement_closed else closed


def observe(watch: Watch, closed: bool | None, now_boot_s: float, *, debounce_s: float) -> Watch:
    """Take one reading; it settles once it has been the same for `debounce_s` seconds."""
    if watch.since_s is None or closed is not watch.reading:
        watch = replace(watch, reading=closed, since_s=now_boot_s)
    since_s = now_boot_s if watch.since_s is None else watch.since_s
    return replace(watch, closed=closed) if now_boot_s - since_s >= debounce_s else watch


def asked(contacts: Iterable[tuple[Contact, Watch]]) -> Asked:
    """Merge the contacts: the most restrictive wins."""
    pairs = tuple(contacts)
    asking = [contact for contact, watch in pairs if watch.closed is contact.limits_when_closed]
    return Asked(
        limit_w=min((contact.limit_w for contact in asking), default=None),
        known=all(watch.closed is not None for _, watch in pairs),
        by=tuple(contact.name for contact in asking),
    )


def must_send(now: Asked, sent: Asked | None, *, protected: bool) -> bool:
    """Whether the desk must be told.

    Parameters
    ----------
    now, sent : Asked
        What the contacts ask for, and what was last told; None: nothing since the start.
    protected : bool
        Whether the source stands in INIT or FAILSAFE, which end on a sign of life *and* a command after it.
    """
    if now.known:
        return sent is None or protected or now.limit_w != sent.limit_w
    if now.limit_w is None:
        return False
    return sent is None or sent.limit_w is None or now.limit_w < sent.limit_w
