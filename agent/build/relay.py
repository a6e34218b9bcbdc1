"""Relay contacts as a source of limits."""

from pathlib import Path

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.build.sources import RELAY
from agent.config.relay import ContactTable, RelayTable
from agent.core.relay import Contact
from agent.grid.desk import GridDesk
from agent.grid.relay import RelayWatch, WiredContact
from agent.grid.relay_inputs import ContactInput, FileContact, GpioContact


def open_relay(build: Build, desk: GridDesk, table: RelayTable) -> None:
    """Make the contacts and have them watched."""
    watch = RelayWatch(
        desk=desk,
        source=RELAY,
        contacts=[_wired(build, contact) for contact in table.contacts],
        clock=build.clock,
        debounce_s=table.debounce_s,
        poll_period_s=table.poll_period_s,
        on_beat=build.pulse.heart("relay", LOOP_DEADLINE_S).beat,
    )
    build.loops["relay"] = watch.run


def _wired(build: Build, table: ContactTable) -> WiredContact:
    return WiredContact(
        contact=Contact(name=table.name, limit_w=table.limit_w, limits_when_closed=table.normally == "open"),
        input=_opened(build, table, table.line, table.path),
        complement=None
        if table.complement_line is None and table.complement_path is None
        else _opened(build, table, table.complement_line, table.complement_path),
    )


def _opened(build: Build, table: ContactTable, line: int | None, path: Path | None) -> ContactInput:
    half = contact_input(build.base_dir, table, line, path)
    if isinstance(half, GpioContact):
        build.stack.callback(half.close)
    return half


def contact_input(
    base_dir: Path, table: ContactTable, line: int | None, path: Path | None
) -> FileContact | GpioContact:
    """Make one half of a contact; a line is to be closed at the end."""
    if path is not None:
        return FileContact(base_dir / path, table.closed_level)
    return GpioContact(base_dir / table.chip, line or 0, table.closed_level, table.bias)
