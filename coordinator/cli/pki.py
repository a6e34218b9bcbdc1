"""`sterna pki`: a fleet's certificate authority in a folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sterna import pki

app = typer.Typer(no_args_is_help=True, help="Make the fleet's certificates.")

DirOption = Annotated[Path, typer.Option("--dir", help="Folder of the authority.")]
Role = Literal["site", "coordinator", "viewer", "operator", "admin"]


@app.command()
def init(
    fleet: Annotated[str, typer.Argument(help="Name of the fleet, e.g. tern.")],
    directory: DirOption = Path("pki"),
) -> None:
    """Make the fleet's certificate authority. Keep its key offline."""
    for path in pki.init(directory, fleet):
        typer.echo(path)


@app.command()
def issue(
    role: Annotated[Role, typer.Argument(help="What the holder is.")],
    name: Annotated[str, typer.Argument(help="Site, coordinator or person.")],
    directory: DirOption = Path("pki"),
    host: Annotated[list[str] | None, typer.Option("--host", help="Further DNS name or address.")] = None,
) -> None:
    """Issue a certificate and its key. Whoever has the key is the holder."""
    for path in pki.issue(directory, role, name, tuple(host or ())):
        typer.echo(path)
