"""`sterna-agent`: run the daemon, check its configuration, simulate a site. Imports little before it must."""

import argparse
import sys
from pathlib import Path

from sterna.errors import ConfigError

DEFAULT_CONFIG = Path("/etc/sterna/agent.toml")
EXIT_USAGE = 2


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="sterna-agent", description="The site daemon of Sterna.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in (("run", "run the agent"), ("check-config", "check a configuration and end")):
        command = commands.add_parser(name, help=about)
        command.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["simulate"]:
        return _simulate(commands, parser, arguments)
    if arguments[:1] == ["simulate-operator"]:
        return _simulate_operator(commands, parser, arguments)
    commands.add_parser("simulate", help="serve a simulated plant with its meters", add_help=False)
    commands.add_parser("simulate-operator", help="play a grid operator", add_help=False)
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
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    parser: argparse.ArgumentParser,
    arguments: list[str],
) -> int:
    from agent.simulator import cli
    from sterna.log import setup

    cli.add_arguments(commands.add_parser("simulate", help="serve a simulated plant with its meters"))
    setup()
    return cli.run(parser.parse_args(arguments))


def _simulate_operator(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    parser: argparse.ArgumentParser,
    arguments: list[str],
) -> int:
    from agent.simulator import operator
    from sterna.log import setup

    operator.add_arguments(commands.add_parser("simulate-operator", help="play a grid operator"))
    setup()
    return operator.run(parser.parse_args(arguments))
