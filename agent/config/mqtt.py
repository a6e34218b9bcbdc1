"""MQTT brokers: what the table of each has, and the grid operator's."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from sterna.listening import is_loopback

LONGEST_SESSION_S = 7 * 86_400


class BrokerTlsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom we trust, and who we are to a broker. Empty: TLS by the system's authorities."""

    ca: Path | None = None
    """PEM of the authority that issued the broker's certificate; default: the system's authorities."""
    cert: Path | None = None
    """PEM of our own certificate, for brokers that ask for one."""
    key: Path | None = None
    """Its private key."""


class BrokerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the table of every MQTT broker has."""

    host: str
    port: int = 8883
    username: str = ""
    """Empty: none is given."""
    password_file: Path | None = None
    """Its first line is the password."""
    tls: BrokerTlsTable | None = None
    insecure: bool = False
    """Plaintext; loopback only."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.tls is None and not self.insecure:
            yield "tls", "missing; give its table, which may be empty, or insecure = true on loopback"
        if self.tls is not None and (self.tls.cert is None) != (self.tls.key is None):
            yield "tls", "cert and key go together"
        if self.insecure and not is_loopback(self.host):
            yield "insecure", f"plaintext is for loopback only, not for {self.host}"
        if not 1 <= self.port <= 65535:
            yield "port", f"expected 1 to 65535, got {self.port}"


class MqttTable(BrokerTable, frozen=True, kw_only=True):
    """``[grid.mqtt]``: the broker of the grid operator (docs/mqtt.md)."""

    client_id: str = ""
    """Default: ``sterna-<site>``. Two clients with one id throw each other out."""
    session_expiry_s: int = 3600
    """How long the broker keeps what is addressed to us while we are away."""
    operator_keys: tuple[Path, ...] = ()
    """PEM files of the operator's Ed25519 public keys; with one, what it does not sign is refused."""
    report_interval_s: float = 300.0
    """Length of the intervals that are reported while a limit of the operator holds; 0: no reports."""
    failsafe_export_w: float | None = None
    """Export that holds until the operator has spoken of it, and while it is silent; absent: what was last
    commanded holds."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        yield from super().faults()
        if not 0 <= self.session_expiry_s <= LONGEST_SESSION_S:
            yield "session_expiry_s", f"expected 0 to {LONGEST_SESSION_S}, got {self.session_expiry_s}"
        if self.report_interval_s != 0 and not 60 <= self.report_interval_s <= 900:
            yield "report_interval_s", f"expected 0 or 60 to 900, got {self.report_interval_s:g}"
        if self.failsafe_export_w is not None and self.failsafe_export_w < 0:
            yield "failsafe_export_w", f"expected zero or more, got {self.failsafe_export_w:g}"
