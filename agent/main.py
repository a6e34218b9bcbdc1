"""`sterna-agent`: run the daemon, check its configuration, simulate a site. Imports little before it must."""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from sterna.errors import ConfigError

DEFAULT_CONFIG = Path("/etc/sterna/agent.toml")
EXIT_USAGE = 2

SIMULATORS = {
    "simulate": ("agent.simulator.cli", "serve a simulated plant with its meters"),
    "simulate-operator": ("agent.simulator.operator", "play a grid operator over MQTT"),
    "simulate-vtn": ("agent.simulator.vtn", "play an OpenADR 3.1 VTN"),
    "settlement": ("agent.cli.settlement", "export the settlement records"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="sterna-agent", description="The site daemon of Sterna.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in (("run", "run the agent"), ("check-config", "check a configuration and end")):
        command = commands.add_parser(name, help=about)
        command.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
    arguments = sys.argv[1:] if argv is None else argv
    for name, (module, about) in SIMULATORS.items():
        command = commands.add_parser(name, help=about)
        if arguments[:1] == [name]:
            return _simulate(import_module(module), command, parser, arguments)
    args = parser.parse_args(arguments)
    try:
        return _run(args.config) if args.command == "run" else _check(args.config)
    except ConfigError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"sterna-agent: {line}\n")
        return EXIT_USAGE


def _run(path: Path) -> int:
    from agent.config import AgentConfig
    from agent.daemon import start
    from sterna.config import load
    from sterna.log import setup

    config = load(path, AgentConfig)
    setup(config.log_level.upper(), config.log_style)
    return start(config, path.parent)


def _check(path: Path) -> int:
    from agent.config import AgentConfig
    from sterna.config import load

    config = load(path, AgentConfig)
    sys.stdout.write(f"{path}: good; site {config.site} of fleet {config.fleet}\n")
    return 0


def _simulate(
    simulator: Any, command: argparse.ArgumentParser, parser: argparse.ArgumentParser, arguments: list[str]
) -> int:
    from sterna.log import setup

    simulator.add_arguments(command)
    setup()
    return int(simulator.run(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
