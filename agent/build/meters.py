"""The meters and the lines that they hang on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from agent.build.base import Build
from agent.build.files import both_show
from agent.config import AgentConfig
from agent.config.buses import BusTable
from agent.config.meters import BatteryTable, MeterTable
from agent.devices.bus import Bus
from agent.devices.bus_shared import SharedBus
from agent.devices.meters import Meter
from agent.devices.meters_fake import FakeMeter
from agent.devices.meters_sunspec import SunSpecMeter
from agent.modbus import ModbusBus, SerialLine
from agent.model.readings import DeclaredBattery, MeterRole
from sterna.clock import Clock
from sterna.errors import ConfigError

PARITIES = {"none": "N", "even": "E", "odd": "O"}


@dataclass(slots=True, kw_only=True)
class Lines:
    """Every line of the site, each with one owner: devices behind one gateway take turns.

    Parameters
    ----------
    config : AgentConfig
        Checked.
    base_dir : Path
        Folder that relative paths count from.
    clock : Clock
        For the buses.
    """

    config: AgentConfig
    base_dir: Path
    clock: Clock
    _shared: dict[tuple[str, int], SharedBus] = field(default_factory=dict)
    _owned: list[ModbusBus] = field(default_factory=list)

    def of(self, meter: MeterTable) -> SharedBus:
        """Return the line of a meter, opened by its first request.

        Raises
        ------
        ConfigError
            What the line needs cannot be used: a certificate, the serial library.
        """
        bus = self._bus_of(meter)
        if bus.place not in self._shared:
            line = open_line(bus, base_dir=self.base_dir, clock=self.clock, writable=self._written_units(bus))
            self._owned.append(line)
            self._shared[bus.place] = SharedBus(line, clock=self.clock)
        return self._shared[bus.place]

    def close(self) -> None:
        """Hang up everywhere."""
        for line in self._owned:
            line.close()

    def _bus_of(self, meter: MeterTable) -> BusTable:
        for bus in self.config.buses:
            if bus.name == meter.bus:
                return bus
        return BusTable(
            name=meter.name,
            kind="rtu_over_tcp" if meter.rtu_over_tcp else "tcp",
            host=meter.host,
            port=meter.port,
            timeout_s=meter.timeout_s,
        )

    def _written_units(self, bus: BusTable) -> Iterator[int]:
        """Find the units that the configuration lets us write to; what of them, their set-points say."""
        for meter in self.config.meters:
            if meter.writable and self._bus_of(meter).place == bus.place:
                yield meter.unit_id


def open_line(
    bus: BusTable, *, base_dir: Path, clock: Clock, writable: Iterable[int] = (), retries: int = 1
) -> ModbusBus:
    """Make the one connection of a line, opened by its first request.

    Parameters
    ----------
    bus : BusTable
        As configured.
    base_dir : Path
        Folder that relative paths count from.
    clock : Clock
        For back-off and gap.
    writable : iterable of int
        Units that may be written to; none: the line is read-only.
    retries : int
        Tries after the first.

    Raises
    ------
    ConfigError
        What the line needs cannot be used: a certificate, the serial library.
    """
    host, port = bus.place
    serial = None
    if bus.kind == "serial":
        if find_spec("serial") is None:
            raise ConfigError(f'agent.toml: buses "{bus.name}": kind: serial needs pyserial (extra serial)')
        serial = SerialLine(baudrate=bus.baudrate, parity=PARITIES[bus.parity], stopbits=bus.stopbits)
    return ModbusBus(
        host,
        port,
        clock=clock,
        timeout_s=bus.timeout_s,
        retries=retries,
        rtu_over_tcp=bus.kind == "rtu_over_tcp",
        tls=None if bus.tls is None else both_show(bus.tls, base_dir, f'buses "{bus.name}": tls'),
        serial=serial,
        min_gap_s=bus.min_gap_s,
        writable=dict.fromkeys(writable, ()),
    )


def make_lines(build: Build) -> Lines:
    """Make the lines; they are hung up when the agent ends."""
    lines = Lines(config=build.config, base_dir=build.base_dir, clock=build.clock)
    build.stack.callback(lines.close)
    return lines


def make_meters(build: Build, lines: Lines) -> tuple[Meter, ...]:
    """Make every meter of the configuration."""
    return tuple(
        open_meter(table, lines, base_dir=build.base_dir, clock=build.clock) for table in build.config.meters
    )


def open_meter(table: MeterTable, lines: Lines, *, base_dir: Path, clock: Clock) -> Meter:
    """Make one meter, on its line if it has one; raises as `make_meter` and `Lines.of`."""
    if table.kind == "fake":
        return FakeMeter(
            table.name, MeterRole(table.role), clock=clock, power_w=partial(float, table.fake_power_w)
        )
    return make_meter(table, lines.of(table), base_dir=base_dir, clock=clock)


def make_meter(table: MeterTable, bus: Bus, *, base_dir: Path, clock: Clock) -> Meter:
    """Make one meter of a device on its line.

    Raises
    ------
    ConfigError
        Its register table cannot be used.
    """
    role = MeterRole(table.role)
    if table.kind == "sunspec":
        return SunSpecMeter(
            table.name,
            role,
            bus,
            clock=clock,
            unit=table.unit_id,
            invert=table.invert,
            max_power_w=table.max_power_w,
        )
    from agent.devices import meters_tables as tables  # few sites have such meters
    from agent.devices.meters_registers import RegisterMeter

    file = table.table_file
    return RegisterMeter(
        table.name,
        role,
        bus,
        clock=clock,
        table=tables.shipped_table(table.table) if file is None else tables.load_table(base_dir / file),
        unit=table.unit_id,
        invert=table.invert,
        max_power_w=table.max_power_w,
    )


def declared_batteries(meters: Iterable[MeterTable]) -> dict[str, DeclaredBattery]:
    """Return what the operator says of batteries, by meter."""
    return {meter.name: _declared(meter.battery) for meter in meters if meter.battery is not None}


def _declared(table: BatteryTable) -> DeclaredBattery:
    return DeclaredBattery(
        capacity_wh=table.capacity_wh,
        max_charge_w=table.max_charge_w,
        max_discharge_w=table.max_discharge_w,
        reserve_frac=table.reserve_frac,
        serves_site=table.serves_site,
    )
