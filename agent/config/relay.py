"""Relay contacts as a source of limits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

MOST_CONTACTS = 4


class ContactTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[grid.relay.contacts]]``: one contact and the limit that it asks for."""

    name: str
    limit_w: float
    """Grid import while it asks."""
    normally: Literal["open", "closed"] = "open"
    """How it stands while nothing is asked; a broken wire to a normally closed one limits."""
    kind: Literal["gpio", "file"] = "gpio"
    """gpio: a line of a GPIO chip; file: a file that holds 0 or 1."""
    chip: Path = Path("/dev/gpiochip0")
    line: int | None = None
    """Offset on the chip."""
    complement_line: int | None = None
    """Second half, closed whenever the first is open; both alike: a wire is broken."""
    bias: Literal["none", "pull-up", "pull-down"] = "pull-up"
    """Resistor of the GPIO line."""
    path: Path | None = None
    """For a file: one that holds 0 or 1."""
    complement_path: Path | None = None
    """For a file: the second half."""
    closed_level: Literal[0, 1] = 0
    """What a closed contact reads; 0 when it pulls the line to ground."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.limit_w < 0:
            yield "limit_w", f"expected zero or more, got {self.limit_w:g}"
        wanted, others = ("line", "path") if self.kind == "gpio" else ("path", "line")
        if getattr(self, wanted) is None:
            yield wanted, f'missing for kind = "{self.kind}"'
        for key in (others, f"complement_{others}"):
            if getattr(self, key) is not None:
                yield key, f'not for kind = "{self.kind}"'
        for key in ("line", "complement_line"):
            offset = getattr(self, key)
            if offset is not None and not 0 <= offset < 2**32:
                yield key, f"expected zero or more, got {offset}"
        if self.line is not None and self.line == self.complement_line:
            yield "complement_line", "is the same line"


class RelayTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grid.relay]``: contacts of a ripple-control receiver or control box (docs/relay.md)."""

    contacts: tuple[ContactTable, ...]
    debounce_s: float = 0.5
    """How long a contact must read the same before it counts."""
    poll_period_s: float = 0.2
    """How often contacts are read."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if not 1 <= len(self.contacts) <= MOST_CONTACTS:
            yield "contacts", f"expected 1 to {MOST_CONTACTS}, got {len(self.contacts)}"
        names = [contact.name for contact in self.contacts]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "contacts", f'two contacts are named "{name}"'
        if not 0 <= self.debounce_s <= 10:
            yield "debounce_s", f"expected 0 to 10, got {self.debounce_s:g}"
        if not 0.05 <= self.poll_period_s <= 5:
            yield "poll_period_s", f"expected 0.05 to 5, got {self.poll_period_s:g}"
