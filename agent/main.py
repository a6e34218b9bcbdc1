"""`sterna-agent`: run the daemon, check its configuration, simulate a site. Imports little before it must."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import DEFAULT_CONFIG
from sterna.errors import ConfigError, SternaError

if TYPE_CHECKING:
    import argparse

EXIT_FAILED = EXIT_UNREAD = 1
EXIT_USAGE = 2
EXIT_CONFIG = 78
"""The file cannot be used: EX_CONFIG of sysexits(3), on which systemd does not start us again."""

COMMANDS = {
    "check-config": ("agent.cli.check_config", "check a configuration and end"),
    "doctor": ("agent.cli.doctor", "test each part of a site and say how to mend what fails"),
    "probe": ("agent.cli.probe", "say what answers at a Modbus address and print the configuration for it"),
    "table": ("agent.cli.table", "explain what is wrong with a register table"),
    "simulate": ("agent.simulator.cli", "serve a simulated plant with its meters"),
    "simulate-operator": ("agent.simulator.operator", "play a grid operator over MQTT"),
    "simulate-vtn": ("agent.simulator.vtn", "play an OpenADR 3.1 VTN"),
    "settlement": ("agent.cli.settlement", "export the settlement records"),
}
"""Module and meaning; a module has `add_arguments`, `run`, and where it is not to log, `LOG_LEVEL`."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        match arguments:
            case ["run"]:
                return _run(DEFAULT_CONFIG)
            case ["run", "--config", path]:  # as the unit has it: the daemon keeps no parser in its memory
                return _run(Path(path))
        module, args = _parse(arguments)
        return _run(args.config) if module is None else _command(module, args)
    except ConfigError as error:
        return _refused(error, EXIT_USAGE)
    except SternaError as error:  # before anything ran; what ends a running daemon comes in a group
        sys.stderr.write(f"sterna-agent: {error}\n")
        return EXIT_FAILED
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD


def _refused(error: ConfigError, code: int) -> int:
    for line in str(error).splitlines():
        sys.stderr.write(f"sterna-agent: {line}\n")
    return code


def _parse(arguments: list[str]) -> tuple[Any, "argparse.Namespace"]:
    """Return the command's module, None for ``run``, and its arguments."""
    import argparse
    from importlib.metadata import version

    parser = argparse.ArgumentParser(prog="sterna-agent", description="The site daemon of Sterna.")
    parser.add_argument("--version", action="version", version=f"sterna-agent {version('sterna')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the agent")
    run.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
    module = None
    for name, (path, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        if arguments[:1] == [name]:
            module = import_module(path)
            module.add_arguments(command)
    return module, parser.parse_args(arguments)


def _run(path: Path) -> int:
    from sterna.heap import share_one_heap

    share_one_heap()
    # Read when gRPC is imported: its core writes lines of its own on a failed handshake.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from agent.config import AgentConfig
    from agent.daemon import start
    from sterna.config import load
    from sterna.log import setup

    try:
        config = load(path, AgentConfig)
    except ConfigError as error:
        return _refused(error, EXIT_CONFIG)
    setup(config.log_level.upper(), config.log_style)
    return start(config, path.parent)


def _command(module: Any, args: "argparse.Namespace") -> int:
    from sterna.log import setup

    setup(getattr(module, "LOG_LEVEL", "INFO"))
    return int(module.run(args))


if __name__ == "__main__":
    sys.exit(main())
