"""The lines that meters hang on."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from agent.config.tls import TlsFiles

if TYPE_CHECKING:
    from agent.config.meters import MeterTable

DEFAULT_PORTS = {"tcp": 502, "rtu_over_tcp": 502, "tls": 802}


class BusTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[buses]]``: a line, gateway or TLS device that meters share by its name; the agent owns it alone."""

    name: str
    """What `bus` of a meter says."""
    kind: Literal["tcp", "tls", "rtu_over_tcp", "serial"]
    host: str = ""
    port: int | None = None
    """Default: 502, with TLS 802."""
    tls: TlsFiles | None = None
    """tls: the CA of the device and our certificate."""
    device: Path | None = None
    """serial: e.g. "/dev/serial/by-id/..."; needs the extra `serial`."""
    baudrate: int = 9600
    parity: Literal["none", "even", "odd"] = "none"
    stopbits: Literal[1, 2] = 1
    timeout_s: float = 1.0
    """Longest wait for one answer."""
    min_gap_s: float | None = None
    """Silence between an answer and the next request; default: 0.025 where frames are RTU, else none."""

    @property
    def place(self) -> tuple[str, int]:
        """Where it leads: host and port, or device and 0."""
        if self.kind == "serial":
            return str(self.device), 0
        return self.host, self.port or DEFAULT_PORTS[self.kind]

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.kind == "serial":
            if self.device is None:
                yield "device", "missing for a serial line"
            for key in ("host", "port"):
                if getattr(self, key):
                    yield key, "a serial line has none"
        else:
            if not self.host:
                yield "host", f"missing for a {self.kind} bus"
            if self.device is not None:
                yield "device", "is for serial lines"
        if (self.kind == "tls") != (self.tls is not None):
            yield "tls", '[buses.tls] ca, cert and key go together with kind = "tls"'
        if self.port is not None and not 1 <= self.port <= 65535:
            yield "port", f"expected 1 to 65535, got {self.port}"
        if self.baudrate <= 0:
            yield "baudrate", f"expected more than zero, got {self.baudrate}"
        if self.timeout_s <= 0:
            yield "timeout_s", f"expected more than zero, got {self.timeout_s}"
        if self.min_gap_s is not None and not 0 <= self.min_gap_s <= 5:
            yield "min_gap_s", f"expected 0 to 5, got {self.min_gap_s}"


def line_faults(buses: Sequence[BusTable], meters: "Sequence[MeterTable]") -> Iterable[tuple[str, str]]:
    """Yield where a line would have two owners, or a meter none."""
    names = [bus.name for bus in buses]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "buses", f'two buses are named "{name}"'
    owners: dict[tuple[str, int], str] = {}
    for index, bus in enumerate(buses):
        owner = owners.setdefault(bus.place, bus.name)
        if owner != bus.name:
            yield f"buses[{index}]", f'leads where bus "{owner}" leads; a line has one owner'
    framings: dict[tuple[str, int], bool] = {}
    for index, meter in enumerate(meters):
        at = f"meters[{index}]"
        if meter.bus and meter.bus not in names:
            yield f"{at}.bus", f'no bus is named "{meter.bus}"'
        if meter.bus or meter.kind == "fake":
            continue
        place = (meter.host, meter.port)
        if place in owners:
            yield f"{at}.host", f'bus "{owners[place]}" leads there; say bus = "{owners[place]}"'
        if framings.setdefault(place, meter.rtu_over_tcp) != meter.rtu_over_tcp:
            yield f"{at}.rtu_over_tcp", f"another meter at {meter.host}:{meter.port} says otherwise"
