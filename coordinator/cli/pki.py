"""`sterna pki`: a fleet's certificate authority in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from sterna import pki
from sterna.identity import Role

app = typer.Typer(no_args_is_help=True, help="Make the fleet's certificates.")

DirOption = Annotated[Path, typer.Option("--dir", help="Folder of the authority.")]


@app.command()
def init(
    fleet: Annotated[str, typer.Argument(help="Name of the fleet, e.g. tern.")],
    directory: DirOption = Path("pki"),
) -> None:
    """Make the fleet's certificate authority. Keep its key offline."""
    _tell(pki.init(directory, fleet))


@app.command()
def issue(
    role: Annotated[Role, typer.Argument(help="What the holder is.")],
    name: Annotated[str, typer.Argument(help="Site, coordinator or person.")],
    directory: DirOption = Path("pki"),
    host: Annotated[list[str] | None, typer.Option("--host", help="Further DNS name or address.")] = None,
) -> None:
    """Issue a certificate and its key. Whoever has the key is the holder."""
    _tell(pki.issue(directory, role, name, tuple(host or ())))


def _tell(files: pki.IssuedFiles) -> None:
    typer.echo(f"certificate  {files.cert_file}")
    typer.echo(f"key          {files.key_file}")
