"""The doctor's looks at the site as a whole: its balance, set-points, contacts, and its own ports."""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from agent.build.meters import Lines
from agent.build.relay import contact_input
from agent.cli.findings import Finding, fail, good, warn
from agent.config import AgentConfig
from agent.config.relay import ContactTable
from agent.devices.bus_setpoints import SetPoint
from agent.grid.relay_inputs import GpioContact
from sterna.clock import Clock
from sterna.errors import ConfigError, SternaError, TransientError
from sterna.listening import interface, listen


def check_balance(config: AgentConfig) -> Iterator[Finding]:
    """Say where the surplus would be an estimate, on which no coordinator plans."""
    plant = any(meter.role == "generation" for meter in config.meters)
    counted = any(meter.role in ("compute", "load") for meter in config.meters)
    if config.coordinator is not None and plant and not counted:
        yield warn(
            "surplus",
            "no meter of role compute or load: it rests on what the GPUs say, quality ESTIMATED",
            "add such a meter; the coordinator plans on surplus of quality OK alone",
        )


async def check_setpoints(
    config: AgentConfig, base_dir: Path, clock: Clock, *, timeout_s: float
) -> AsyncIterator[Finding]:
    """Look whether each device has the control that is to be written; nothing is written."""
    meters = {meter.name: meter for meter in config.meters}
    lines = Lines(config=config, base_dir=base_dir, clock=clock)
    try:
        for table in config.setpoints:
            part = f"set-point {table.meter}"
            try:
                point = SetPoint(
                    lines.of(meters[table.meter]),
                    clock=clock,
                    unit=meters[table.meter].unit_id,
                    control=table.set_by,
                    reversion_s=table.reversion_s,
                    allow_lasting=table.allow_lasting,
                )
                async with asyncio.timeout(timeout_s):
                    number = await point.look()
            except TimeoutError:
                yield fail(part, f"no answer within {timeout_s:g} s", "is it powered, wired and enabled?")
            except SternaError as error:
                mend = "does the device have this control, and does its maker let it be written?"
                yield fail(part, f"{table.set_by}: {error}", mend)
            else:
                yield good(part, f"{table.set_by}: in model {number}, not written now")
    finally:
        lines.close()


def check_contacts(config: AgentConfig, base_dir: Path) -> Iterator[Finding]:
    """Read every contact once."""
    for table in () if config.grid.relay is None else config.grid.relay.contacts:
        part = f"contact {table.name}"
        try:
            states = _read_halves(table, base_dir)
        except TransientError as error:
            mend = "chip, line and wire right, this user in the group gpio? a running agent holds its lines"
            yield fail(part, str(error), mend)
        else:
            yield good(part, " and ".join("closed" if closed else "open" for closed in states))


def _read_halves(table: ContactTable, base_dir: Path) -> list[bool]:
    states = []
    for line, path in ((table.line, table.path), (table.complement_line, table.complement_path)):
        if line is None and path is None:
            continue
        half = contact_input(base_dir, table, line, path)
        try:
            states.append(half.closed())
        finally:
            if isinstance(half, GpioContact):
                half.close()
    return states


def check_ports(config: AgentConfig) -> Iterator[Finding]:
    """Take each port that the agent serves, and give it back."""
    rtu, metrics, transfer = config.grid.modbus, config.metrics, config.transfer
    served = {
        "grid.modbus": None if rtu is None else rtu.listen,
        "metrics": None if metrics is None else metrics.listen,
        "transfer": None if transfer is None else transfer.listen,
    }
    for place, address in served.items():
        if address is None or address.startswith("unix"):
            continue
        part = f"port {place}"
        try:
            listen(*interface(address), backlog=1).close()
        except ConfigError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
                yield warn(part, f"{address} is taken", "nothing to do if it is the agent that runs")
            else:
                yield fail(part, str(error), f"change {place}.listen, or what it says is missing")
        else:
            yield good(part, f"{address} can be served")
