"""``sterna-agent table check FILE``: explains what is wrong with a site's own register table."""

import argparse
import sys
from pathlib import Path

from agent.core.blocks import compile_blocks, wanted
from agent.devices.meters_tables import load_table
from agent.model.registers import FIGURES
from sterna.errors import ConfigError

# Power decides what the site does; the rest is for people and for energy.
USUAL = ("active_power_w", "frequency_hz", "energy_import_wh", "energy_export_wh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="check a table")
    check.add_argument("file", type=Path)


def run(args: argparse.Namespace) -> int:
    """Check a table.

    Raises
    ------
    ConfigError
        One fault a line.
    """
    table = load_table(args.file)
    try:
        blocks = compile_blocks(
            wanted(table.registers, table.space),
            max_read=table.max_read,
            max_gap=table.max_gap,
            holes=table.holes,
        )
    except ValueError as error:
        raise ConfigError(f"{args.file.name}: {error}") from error
    lines = [f"{args.file}: good; {table.title}, {len(table.figures)} figures in {len(blocks)} requests"]
    lines += [f"  {block.space} {block.address} to {block.end - 1} as on the wire" for block in blocks]
    lines += [f"  without {name} ({FIGURES[name]})" for name in USUAL if name not in table.figures]
    if not table.verified_on_hardware:
        lines.append("  not verified on hardware: compare it with the device's own display")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
