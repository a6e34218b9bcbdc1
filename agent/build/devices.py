"""The meters."""

from functools import partial

from agent.build.base import Build
from agent.config.meters import MeterTable
from agent.devices.bus_shared import SharedBus
from agent.devices.meters import Meter
from agent.devices.meters_fake import FakeMeter
from agent.devices.meters_sunspec import SunSpecMeter
from agent.modbus import ModbusBus
from agent.model.readings import MeterRole


def make_meters(build: Build) -> tuple[Meter, ...]:
    """Make the meters, with one bus per address: devices behind one gateway take turns."""
    buses: dict[tuple[str, int], SharedBus] = {}
    return tuple(_meter(build, table, buses) for table in build.config.meters)


def _meter(build: Build, table: MeterTable, buses: dict[tuple[str, int], SharedBus]) -> Meter:
    clock, role = build.clock, MeterRole(table.role)
    if table.kind == "fake":
        return FakeMeter(table.name, role, clock=clock, power_w=partial(float, table.fake_power_w))
    key = (table.host, table.port)
    if key not in buses:
        line = ModbusBus(
            table.host,
            table.port,
            clock=clock,
            timeout_s=table.timeout_s,
            rtu_over_tcp=table.rtu_over_tcp,
        )
        build.stack.callback(line.close)
        buses[key] = SharedBus(line, clock=clock)
    if table.kind == "sunspec":
        return SunSpecMeter(
            table.name,
            role,
            buses[key],
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
        buses[key],
        clock=clock,
        table=tables.shipped_table(table.table)
        if file is None
        else tables.load_table(build.base_dir / file),
        unit=table.unit_id,
        invert=table.invert,
        max_power_w=table.max_power_w,
    )
