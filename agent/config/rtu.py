"""The Modbus server for the grid operator's RTU."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from agent.config.tls import TlsFiles
from sterna.listening import interface, interface_fault


class RtuTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grid.modbus]``: registers for an operator's RTU, which may write some (docs/modbus-server.md)."""

    listen: str
    """``ADDRESS:PORT`` of one interface, e.g. ``192.0.2.10:502``; IPv6 in brackets."""
    clients: tuple[str, ...]
    """Addresses or networks that may connect and read."""
    writers: tuple[str, ...] = ()
    """Those of them that may write; empty: nobody. Who may write owes us heartbeats."""
    writer_roles: tuple[str, ...] = ("operator",)
    """With TLS: a writer's certificate must state one of these roles as well."""
    tls: TlsFiles | None = None
    """MODBUS/TCP Security, usually on port 802: both sides show certificates of this CA."""
    unit_id: int = 1
    idle_s: float = 300.0
    """A connection without a request for this long is closed."""
    rated_import_w: float | None = None
    """What the connection may take; sets the scale of powers."""
    rated_export_w: float | None = None
    """What the connection may feed in."""
    phases: Literal[1, 3] | None = None
    """Of the grid connection; absent: the registers leave it unsaid."""
    failsafe_export_w: float | None = None
    """Export that holds while the fail-safe of this link does; absent: what was last commanded holds."""

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of `listen`."""
        return interface(self.listen)

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        from ipaddress import ip_network  # sites without an RTU do not pay for it

        if (fault := interface_fault(self.listen)) is not None:
            yield "listen", fault
        for key in ("clients", "writers"):
            for network in getattr(self, key):
                try:
                    ip_network(network)
                except ValueError as error:
                    yield key, str(error)
        if not self.clients:
            yield "clients", "nobody may connect; name addresses or networks"
        if self.tls is not None and self.writers and not self.writer_roles:
            yield "writer_roles", "no role may write; name one, or no writers"
        if not 0 <= self.unit_id <= 255:
            yield "unit_id", f"expected 0 to 255, got {self.unit_id}"
        if self.idle_s < 60:
            yield "idle_s", f"heartbeats may be 60 s apart: expected 60 or more, got {self.idle_s:g}"
        yield from self._power_faults()

    def _power_faults(self) -> Iterable[tuple[str, str]]:
        if self.failsafe_export_w is not None:
            if self.failsafe_export_w < 0:
                yield "failsafe_export_w", f"expected zero or more, got {self.failsafe_export_w:g}"
            if not self.writers:
                yield "failsafe_export_w", "nobody may write, so nobody's silence counts; name writers"
        for key in ("rated_import_w", "rated_export_w"):
            rating_w = getattr(self, key)
            if rating_w is not None and not 0 < rating_w <= 1e9:
                yield key, f"expected more than 0, at most 1e9, got {rating_w:g}"
