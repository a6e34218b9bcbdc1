"""``sterna-agent probe URL``: says what answers at a Modbus address, and prints the configuration for it.

Everything that it prints may be pasted into agent.toml: what is for people stands behind ``#``.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from agent.build.meters import make_meter, open_line
from agent.cli.address import Address, parse_address, parse_units
from agent.cli.dial import trouble_at, trouble_with
from agent.cli.probe_words import bus_lines, comment, meter_lines, table_of
from agent.config.buses import BusTable
from agent.config.meters import MeterTable
from agent.config.tls import TlsFiles
from agent.devices.bus import Bus
from agent.devices.meters_tables import shipped_names, shipped_table
from agent.devices.recognise import SunSpecFind, answers, find_sunspec, find_tables
from agent.modbus import NotConnectedError
from agent.model.readings import MeterReading, MeterRole
from agent.model.registers import Table
from sterna.clock import SystemClock
from sterna.errors import ConfigError, PeerProtocolError, TransientError

LOG_LEVEL = "CRITICAL"
EXIT_OK, EXIT_NOTHING = 0, 1
USUAL_UNITS = (1, 2, 3, 100, 126, 240, 247)
EVERY_UNIT = tuple(range(1, 248))
MAX_POWER_W = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("url", help="tcp://HOST[:PORT], tls://…, rtutcp://… or rtu:///dev/…?baud=9600")
    parser.add_argument("--units", help="unit ids, e.g. 1-20 or 1,100; default: the usual ones")
    parser.add_argument("--scan", action="store_true", help="every unit id, 1 to 247")
    parser.add_argument(
        "--timeout-s", type=float, default=1.0, help="longest wait for one answer; default: 1"
    )
    for name, what in (("ca", "CA of the device"), ("cert", "our certificate"), ("key", "its key")):
        parser.add_argument(f"--{name}", type=Path, help=f"tls: {what}")


def run(args: argparse.Namespace) -> int:
    """Probe; returns the exit code: 0 something answers, 1 nothing does.

    Raises
    ------
    ConfigError
        The URL, an option or a certificate file is not usable.
    """
    address = parse_address(args.url)
    return asyncio.run(_probe(_bus(address, args), _units(address, args)))


def _units(address: Address, args: argparse.Namespace) -> tuple[int, ...]:
    if args.scan:
        return EVERY_UNIT
    return parse_units(args.units) if args.units else address.units or USUAL_UNITS


def _bus(address: Address, args: argparse.Namespace) -> BusTable:
    tls = None
    if address.kind == "tls":
        if None in (args.ca, args.cert, args.key):
            raise ConfigError(f"{args.url}: tls needs --ca, --cert and --key")
        tls = TlsFiles(ca=args.ca, cert=args.cert, key=args.key)
    if args.timeout_s <= 0:
        raise ConfigError(f"--timeout-s: expected more than zero, got {args.timeout_s:g}")
    return table_of(address, tls=tls, timeout_s=args.timeout_s)


async def _probe(bus: BusTable, units: Sequence[int]) -> int:
    found = False
    async with open_line(bus, base_dir=Path(), clock=SystemClock(), retries=0) as line:
        try:
            async for text in _reports(bus, line, units):
                if not found:
                    _say(*bus_lines(bus))
                found = True
                _say(text)
        except NotConnectedError as error:
            why = await _trouble(bus)
            _say(comment(f"{error}: {why}" if why else str(error)))
            return EXIT_NOTHING
    if not found:
        _say(comment(f"{line.peer}: nothing answers; unit ids tried: {', '.join(map(str, units))}"))
    return EXIT_OK if found else EXIT_NOTHING


async def _trouble(bus: BusTable) -> str:
    host, port = bus.place
    return trouble_with(host) if bus.kind == "serial" else await trouble_at(host, port, bus.timeout_s)


async def _reports(bus: BusTable, line: Bus, units: Sequence[int]) -> AsyncIterator[str]:
    """Report each unit that answers, line by line."""
    tables = [shipped_table(name) for name in shipped_names()]
    for unit in units:
        if not await answers(line, unit):
            continue
        sunspec = await find_sunspec(line, unit)
        if sunspec is not None:
            lines = await _sunspec_lines(bus, line, unit, sunspec)
        else:
            lines = await _table_lines(bus, line, unit, tables)
        for text in lines:
            yield text


async def _sunspec_lines(bus: BusTable, line: Bus, unit: int, find: SunSpecFind) -> list[str]:
    named = " ".join(word for word in (find.maker, find.product, find.serial) if word)
    models = ", ".join(map(str, find.models))
    lines = [comment(f"unit {unit}: SunSpec device {named}; models {models}")]
    if not find.roles:
        lines.append(comment("none of its models is a meter or an inverter that Sterna reads"))
    for place, role in enumerate(find.roles):
        name = f"unit-{unit}" if place == 0 else f"unit-{unit}-{role.value}"
        meter = _meter(bus, unit, name, role.value)
        remark = "or load, battery, compute; import is positive, else invert = true"
        if role is MeterRole.GENERATION:
            remark = "or battery: the device has one" if find.stores else ""
        lines += meter_lines(meter, await _read(meter, line), remark=remark)
    return lines


async def _table_lines(bus: BusTable, line: Bus, unit: int, tables: Sequence[Table]) -> list[str]:
    finds = await find_tables(line, unit, tables, max_power_w=MAX_POWER_W)
    if not finds:
        return [comment(f"unit {unit}: answers, but speaks no SunSpec and none of the tables fits")]
    best, others = finds[0], [find.table.name for find in finds[1:]]
    lines = [
        comment(f"unit {unit}: {best.table.title} would fit: {', '.join(best.verdict.evidence)}"),
        comment("compare it with the device's own display; what a table fits is not proof of the maker"),
    ]
    if others:
        lines.append(comment(f"less likely: {', '.join(others)}"))
    meter = _meter(bus, unit, f"unit-{unit}", "grid", table=best.table.name)
    remark = "or generation, load, battery, compute; import is positive, else invert = true"
    return [*lines, *meter_lines(meter, await _read(meter, line), remark=remark)]


def _meter(bus: BusTable, unit: int, name: str, role: str, *, table: str = "") -> MeterTable:
    host, port = bus.place
    plain = bus.kind == "tcp"
    return MeterTable(
        name=name,
        role=role,  # type: ignore[arg-type]  # one of its words
        kind="registers" if table else "sunspec",
        table=table,
        bus="" if plain else bus.name,
        host=host if plain else "",
        port=port if plain else 502,
        unit_id=unit,
    )


async def _read(table: MeterTable, line: Bus) -> MeterReading | str:
    try:
        return await make_meter(table, line, base_dir=Path(), clock=SystemClock()).poll()
    except (TransientError, PeerProtocolError) as error:
        return str(error)


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
