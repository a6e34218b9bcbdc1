"""``sterna-agent settlement export``: a site's settlement as CSV or JSON, whether or not its agent runs."""

import argparse
import csv
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TextIO

import msgspec

from agent.config import AgentConfig
from agent.core.settlement_events import WORKLOAD
from agent.core.settlement_export import document, header, lines
from agent.store.settlement import read
from sterna.config import load
from sterna.errors import ConfigError, SternaError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
STORE = "agent.db"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    export = actions.add_parser("export", help="write the records of a stretch of time")
    export.add_argument("--config", type=Path, default=Path("/etc/sterna/agent.toml"))
    export.add_argument("--from", dest="from_at", type=_instant, required=True, metavar="WHEN")
    export.add_argument("--to", dest="until_at", type=_instant, required=True, metavar="WHEN")
    export.add_argument("--format", choices=("csv", "json"), default="csv")
    export.add_argument("--output", type=Path, help="a file; without it standard output")


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit code."""
    try:
        if args.until_at <= args.from_at:
            raise ConfigError("--to: must be later than --from")
        config = load(args.config, AgentConfig)
        if args.output is None:
            _export(config, args, sys.stdout)
        else:
            with args.output.open("w", encoding="utf-8", newline="") as target:
                _export(config, args, target)
    except ConfigError as error:
        return _failed(error, EXIT_USAGE)
    except (SternaError, OSError) as error:
        return _failed(error, EXIT_FAILED)
    return EXIT_OK


def _export(config: AgentConfig, args: argparse.Namespace, target: TextIO) -> None:
    store = args.config.parent / config.state_dir / STORE
    records, baselines = read(store, args.from_at, args.until_at)
    if args.format == "json":
        body = msgspec.json.format(msgspec.json.encode(document(config.site, records, baselines)))
        target.write(body.decode() + "\n")
        return
    table = config.settlement
    methods = [
        *table.methods,
        *sorted({line.method for line in baselines} - {*table.methods, WORKLOAD}),
        WORKLOAD,
    ]
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(header(methods))
    writer.writerows(lines(records, baselines, methods))


def _instant(words: str) -> datetime:
    """Read an instant with its zone, or a day, which begins at midnight UTC."""
    try:
        if len(words) == len("2026-01-01"):
            return datetime.combine(date.fromisoformat(words), datetime.min.time(), UTC)
        at = datetime.fromisoformat(words)
    except ValueError:
        at = None
    if at is None or at.utcoffset() is None:
        raise argparse.ArgumentTypeError(
            f"{words!r}: expected a day (2026-03-30) or an instant with its zone (2026-03-30T12:00:00Z)"
        )
    return at


def _failed(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        sys.stderr.write(f"sterna-agent: {line}\n")
    return code
