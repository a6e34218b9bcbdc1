"""Where Prometheus scrapes the agent."""

from collections.abc import Iterable

import msgspec

from agent.config.tls import TlsFiles


class MetricsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[metrics]``: figures for Prometheus (docs/metrics.md). Without the table there is no port."""

    listen: str = "127.0.0.1:9464"
    """``ADDRESS:PORT`` of one interface; IPv6 in brackets. Beyond loopback it needs `tls`."""
    tls: TlsFiles | None = None
    """HTTPS; whoever scrapes shows a certificate of this CA."""

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of `listen`."""
        host, _, port = self.listen.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        from ipaddress import ip_address

        try:
            host, port = self.address
            at = ip_address(host)
            if at.is_unspecified or not 0 <= port <= 65535:
                raise ValueError
        except ValueError:
            yield "listen", f'expected ADDRESS:PORT of one interface, no wildcard, got "{self.listen}"'
            return
        if not at.is_loopback and self.tls is None:
            yield "tls", f"plaintext is for loopback only, not for {host}; give [metrics.tls]"
