"""Where Prometheus scrapes the agent."""

from collections.abc import Iterable

import msgspec

from agent.config.tls import TlsFiles
from sterna.listening import interface, interface_fault, plaintext_fault


class MetricsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[metrics]``: figures for Prometheus (docs/metrics.md). Without the table there is no port."""

    listen: str = "127.0.0.1:9464"
    """``ADDRESS:PORT`` of one interface; IPv6 in brackets. Beyond loopback it needs `tls`."""
    tls: TlsFiles | None = None
    """HTTPS; whoever scrapes shows a certificate of this CA."""

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of `listen`."""
        return interface(self.listen)

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if (fault := interface_fault(self.listen)) is not None:
            yield "listen", fault
        elif self.tls is None and (fault := plaintext_fault(self.listen)) is not None:
            yield "tls", f"{fault}; give [metrics.tls]"
