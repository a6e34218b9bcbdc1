"""`sterna-coordinator`: run the daemon, or check its configuration. Imports little before it must."""

import argparse
import os
import sys
from importlib.metadata import version
from pathlib import Path

from sterna.errors import ConfigError, CorruptError, SternaError

DEFAULT_CONFIG = Path("/etc/sterna/coordinator.toml")
EXIT_USAGE = 2
EXIT_CONFIG = 78
"""The file cannot be used: EX_CONFIG of sysexits(3), on which systemd does not start us again."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="sterna-coordinator", description="The fleet daemon of Sterna.")
    parser.add_argument("--version", action="version", version=f"sterna-coordinator {version('sterna')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in (("run", "run the coordinator"), ("check-config", "check a configuration and end")):
        command = commands.add_parser(name, help=about)
        command.add_argument(
            "--config", type=Path, default=DEFAULT_CONFIG, help="coordinator.toml; default: %(default)s"
        )
        if name == "run":
            command.add_argument(
                "--restored",
                action="store_true",
                help="the store comes from a backup: do nothing before every site is heard or fenced",
            )
    args = parser.parse_args(argv)
    try:
        return _run(args.config, restored=args.restored) if args.command == "run" else _check(args.config)
    except (ConfigError, CorruptError) as error:
        return _refused(error, EXIT_USAGE)
    except ModuleNotFoundError as error:  # a base installation is an agent's
        sys.stderr.write(
            f"sterna-coordinator: {error.name} is not installed; it is of the extra `coordinator`: "
            "pip install 'sterna[coordinator]'\n"
        )
        return EXIT_USAGE


def _refused(error: SternaError, code: int) -> int:
    for line in str(error).splitlines():
        sys.stderr.write(f"sterna-coordinator: {line}\n")
    return code


def _run(path: Path, *, restored: bool) -> int:
    # Read when gRPC is imported: its core writes lines of its own on a failed handshake.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from coordinator.config import CoordinatorConfig
    from coordinator.daemon import start
    from sterna.config import load
    from sterna.log import setup

    try:
        config = load(path, CoordinatorConfig)
    except ConfigError as error:
        return _refused(error, EXIT_CONFIG)
    setup(config.log_level.upper(), config.log_style)
    return start(config, path.parent, restored=restored)


def _check(path: Path) -> int:
    from coordinator.config import CoordinatorConfig
    from coordinator.daemon import load_own_credentials
    from sterna.clock import SystemClock
    from sterna.config import load
    from sterna.signing import load_signing_key

    config = load(path, CoordinatorConfig)
    load_own_credentials(config, path.parent, SystemClock())
    if config.ledger.key is not None:
        load_signing_key(path.parent / config.ledger.key)
    sys.stdout.write(f"{path}: good; fleet {config.fleet}, {len(config.sites)} sites\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
