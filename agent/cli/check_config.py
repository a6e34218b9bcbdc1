"""``sterna-agent check-config``: all of a configuration that shows without asking a device or a peer."""

import argparse
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from agent.cli import DEFAULT_CONFIG
from agent.cli.config_files import part_faults
from agent.config import AgentConfig
from sterna.clock import SystemClock
from sterna.config import load, parse
from sterna.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Check a configuration.

    Raises
    ------
    ConfigError
        One fault a line.
    """
    config = checked(args.config)
    sys.stdout.write(f"{args.config}: good; site {config.site} of fleet {config.fleet}\n")
    return 0


def checked(path: Path) -> AgentConfig:
    """Load a configuration and look at everything that it names: files, certificates, tables, addresses.

    Raises
    ------
    ConfigError
        All faults together, one a line; also those of the files that the sound parts name.
    """
    config, faults = None, []
    try:
        config = load(path, AgentConfig)
        parts: Iterator[tuple[str, object]] = iter([("", config)])
    except ConfigError as error:
        faults = str(error).splitlines()
        parts = _sound_parts(path, faults)
    for at, part in parts:
        faults += [
            f"{path.name}: {key}: {what}"
            for key, what in part_faults(part, at, base_dir=path.parent, now=SystemClock().now())
        ]
    if config is None or faults:
        raise ConfigError("\n".join(faults))
    return config


def _sound_parts(path: Path, faults: list[str]) -> Iterator[tuple[str, object]]:
    """Read each table of the file by itself; what is wrong with one that was not told of yet is added."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for field in msgspec.structs.fields(AgentConfig):
        if field.encode_name not in document:
            continue
        alone = msgspec.defstruct("Part", [(field.name, field.type)])
        try:
            part = parse({field.encode_name: document[field.encode_name]}, alone, name=path.name)
        except ConfigError as error:
            faults += [line for line in str(error).splitlines() if line not in faults]
            continue
        yield field.encode_name, getattr(part, field.name)
