"""What `sterna-agent probe` found, as lines of agent.toml."""

import json
from collections.abc import Iterator

from agent.cli.address import Address
from agent.config.buses import DEFAULT_PORTS, BusTable
from agent.config.meters import MeterTable
from agent.config.tls import TlsFiles
from agent.model.readings import MeterReading

LINE = "line"
"""Name of the bus in what is printed."""


def table_of(address: Address, *, tls: TlsFiles | None, timeout_s: float) -> BusTable:
    """Make the bus of an address."""
    from pathlib import Path

    return BusTable(
        name=LINE,
        kind=address.kind,  # type: ignore[arg-type]  # one of its words
        host=address.host,
        port=address.port or None,
        tls=tls,
        device=Path(address.device) if address.device else None,
        baudrate=address.baudrate,
        parity=address.parity,  # type: ignore[arg-type]
        stopbits=address.stopbits,  # type: ignore[arg-type]
        timeout_s=timeout_s,
    )


def bus_lines(bus: BusTable) -> Iterator[str]:
    """Write ``[[buses]]``; nothing for plain TCP, where the meter names its host itself."""
    if bus.kind == "tcp":
        return
    yield "[[buses]]"
    yield f"name = {_quoted(bus.name)}"
    yield f"kind = {_quoted(bus.kind)}"
    if bus.kind == "serial":
        yield f"device = {_quoted(str(bus.device))}"
        yield f"baudrate = {bus.baudrate}"
        yield f"parity = {_quoted(bus.parity)}"
        yield f"stopbits = {bus.stopbits}"
    else:
        yield f"host = {_quoted(bus.host)}"
        if bus.port is not None and bus.port != DEFAULT_PORTS[bus.kind]:
            yield f"port = {bus.port}"
    if bus.tls is not None:
        files = ", ".join(f"{key} = {_quoted(str(getattr(bus.tls, key)))}" for key in ("ca", "cert", "key"))
        yield f"tls = {{ {files} }}"
    yield ""


def meter_lines(meter: MeterTable, reading: MeterReading | str, *, remark: str) -> Iterator[str]:
    """Write ``[[meters]]`` with what it read just now, or why it did not."""
    if isinstance(reading, str):
        yield comment(f"no reading: {reading}")
    elif reading.active_power_w is None:
        yield comment(f"{reading.quality.value}: {reading.fault}")
    else:
        hz = "" if reading.frequency_hz is None else f", {reading.frequency_hz:.2f} Hz"
        yield f"# reads {reading.active_power_w:.0f} W{hz}"
    yield "[[meters]]"
    yield f"name = {_quoted(meter.name)}"
    yield f"role = {_quoted(meter.role)}{f'  # {remark}' if remark else ''}"
    if meter.kind != "sunspec":
        yield f"kind = {_quoted(meter.kind)}"
        yield f"table = {_quoted(meter.table)}"
    if meter.bus:
        yield f"bus = {_quoted(meter.bus)}"
    else:
        yield f"host = {_quoted(meter.host)}"
        yield f"port = {meter.port}"
    yield f"unit_id = {meter.unit_id}"
    yield "# max_power_w = 20000.0  # what the installation can reach: anything beyond is not believed"
    yield ""


def _quoted(text: str) -> str:
    """Write a TOML string; what a device says about itself may hold anything."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def comment(text: str) -> str:
    """Write a comment; a foreign text stays on its one line."""
    return "# " + "".join(letter if letter.isprintable() else "?" for letter in text)
