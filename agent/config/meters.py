"""Power meters and inverters."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

ControlName = Literal["generation-limit", "active-power", "storage-rates", "battery-connection"]


class BatteryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[meters.battery]``: what a battery's device does not tell, or does not know."""

    capacity_wh: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    """What can be used of it; in place of what the device states."""
    max_charge_w: Annotated[float, msgspec.Meta(ge=0.0)] | None = None
    """The most that it takes; likewise."""
    max_discharge_w: Annotated[float, msgspec.Meta(ge=0.0)] | None = None
    """The most that it gives; likewise."""
    reserve_frac: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    """Part of its capacity that it keeps back, e.g. for when the grid fails."""
    serves_site: bool = False
    """By its own control it gives whatever the site would import: the coordinator may plan on that."""


class MeterTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[meters]]``: one power meter or inverter."""

    name: str
    role: Literal["grid", "generation", "load", "battery", "compute"]
    """What it measures: the grid connection, a plant, other load, a battery, or the nodes of Sterna."""
    kind: Literal["sunspec", "registers", "fake"] = "sunspec"
    """registers: a plain Modbus meter, described by `table` or `table_file` (docs/meters.md)."""
    bus: str = ""
    """Name of the `[[buses]]` that it hangs on, in place of host, port and timeout_s."""
    host: str = ""
    port: int = 502
    unit_id: int = 1
    rtu_over_tcp: bool = False
    """Behind a gateway that passes RTU frames through."""
    table: str = ""
    """registers: name of a table that ships with Sterna, e.g. "eastron-sdm630"."""
    table_file: Path | None = None
    """registers: a table of the site's own."""
    poll_interval_s: float = 1.0
    """Between two reads of powers."""
    timeout_s: float = 1.0
    """Longest wait for one answer."""
    max_power_w: float = 1e6
    """Plausibility bound: anything beyond it, either way, is BAD and never used."""
    invert: bool = False
    """The device counts the other way round."""
    writable: tuple[ControlName, ...] = ()
    """sunspec: the controls that `[[setpoints]]` may use; nothing else is ever written to the device."""
    battery: BatteryTable | None = None
    """What is known of a battery beside what its device tells; for the role battery only."""
    fake_power_w: float = 0.0
    """What a fake meter reads."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.kind != "fake" and not self.host and not self.bus:
            yield "host", f"missing for a {self.kind} meter; or name its bus"
        if self.bus and (self.host or self.rtu_over_tcp):
            yield "bus", "says already where the meter is: no host and no rtu_over_tcp beside it"
        if self.writable and self.kind != "sunspec":
            yield "writable", f"a {self.kind} meter has no controls"
        if self.kind == "registers" and bool(self.table) == (self.table_file is not None):
            yield "table", "a registers meter needs one of table and table_file"
        if not 1 <= self.port <= 65535:
            yield "port", f"expected 1 to 65535, got {self.port}"
        if not 0 <= self.unit_id <= 247:
            yield "unit_id", f"expected 0 to 247, got {self.unit_id}"
        if self.battery is not None and self.role != "battery":
            yield "battery", f"the meter has the role {self.role}"
        for key in ("poll_interval_s", "timeout_s", "max_power_w"):
            if getattr(self, key) <= 0:
                yield key, f"expected more than zero, got {getattr(self, key)}"
