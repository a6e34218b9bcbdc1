"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="client.toml; default: $STERNA_CLIENT_CONFIG, ~/.config/sterna/client.toml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="A JSON document on standard output.")]
