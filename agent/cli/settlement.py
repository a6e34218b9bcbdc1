"""``sterna-agent settlement export``: a site's settlement as CSV or JSON, whether or not its agent runs."""

import argparse
import csv
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TextIO

import msgspec

from agent.cli import DEFAULT_CONFIG
from agent.config import AgentConfig
from agent.core.settlement_events import WORKLOAD
from agent.core.settlement_export import document, header, lines
from agent.store.db import FILE_NAME
from agent.store.settlement import read
from sterna.config import load
from sterna.errors import ConfigError, PermanentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    export = actions.add_parser("export", help="write the records of a stretch of time")
    export.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    export.add_argument("--from", dest="from_at", type=_instant, required=True, metavar="WHEN")
    export.add_argument("--to", dest="until_at", type=_instant, required=True, metavar="WHEN")
    export.add_argument("--format", choices=("csv", "json"), default="csv")
    export.add_argument("--output", type=Path, help="a file; without it standard output")


def run(args: argparse.Namespace) -> int:
    """Export.

    Raises
    ------
    ConfigError
        What was asked for makes no sense, or the site has no settlement.
    TransientError, CorruptError
        The store cannot be read.
    PermanentError
        The output cannot be written.
    """
    if args.until_at <= args.from_at:
        raise ConfigError("--to: must be later than --from")
    config = load(args.config, AgentConfig)
    if args.output is None:
        _export(config, args, sys.stdout)
        return 0
    try:
        with args.output.open("w", encoding="utf-8", newline="") as target:
            _export(config, args, target)
    except OSError as error:
        raise PermanentError(f"--output: {args.output}: {error.strerror}") from error
    return 0


def _export(config: AgentConfig, args: argparse.Namespace, target: TextIO) -> None:
    store = args.config.parent / config.state_dir / FILE_NAME
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
