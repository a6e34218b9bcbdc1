"""`sterna page`: the fleet in a browser, for the operator who started it."""

from typing import Annotated

import typer

from coordinator.cli.options import ConfigOption
from sterna.errors import ConfigError
from sterna.listening import interface, interface_fault, plaintext_fault


def command(
    config: ConfigOption = None,
    listen: Annotated[
        str, typer.Option("--listen", help="ADDRESS:PORT on this machine; port 0: any free one.")
    ] = "127.0.0.1:8600",
) -> None:
    """Show the fleet in a browser on this machine.

    The page may do what your certificate may.
    """
    if fault := interface_fault(listen) or plaintext_fault(listen):
        raise ConfigError(f"--listen: {fault}")
    from coordinator.cli.page import serve  # aiohttp and gRPC are not wanted for --help

    serve.run(config, interface(listen))
