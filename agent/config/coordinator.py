"""The coordinator, and where other sites find us."""

from collections.abc import Iterable

import msgspec

from sterna.listening import address_fault


class CoordinatorTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[coordinator]``: whom we report to. Without the table the site runs alone."""

    address: str
    """host:port of its gRPC service."""
    id: str = "main"
    """Name in its certificate."""
    backoff_max_s: float = 5.0
    """Longest pause between two attempts to reach it."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if fault := address_fault(self.address):
            yield "address", fault
        if self.backoff_max_s <= 0:
            yield "backoff_max_s", f"expected more than zero, got {self.backoff_max_s}"


class TransferTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[transfer]``: where other sites fetch checkpoints. Without the table the site only dials."""

    listen: str
    """host:port to listen on; port 0 takes a free one."""
    advertise: str = ""
    """host:port that others dial; default: where we listen."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if fault := address_fault(self.listen):
            yield "listen", fault
        if self.advertise and (fault := address_fault(self.advertise)):
            yield "advertise", fault
