"""`sterna pki`: a fleet's certificate authority in a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import JsonOption
from sterna.identity import Role

if TYPE_CHECKING:
    from sterna.pki import IssuedFiles

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make the fleet's certificates.")

DirOption = Annotated[Path, typer.Option("--dir", help="Folder of the authority.")]


@app.command()
def init(
    fleet: Annotated[str, typer.Argument(help="Name of the fleet, e.g. tern.")],
    directory: DirOption = Path("pki"),
    json: JsonOption = False,
) -> None:
    """Make the fleet's certificate authority. Keep its key offline."""
    from sterna import pki

    _tell(pki.init(directory, fleet), json)


@app.command()
def issue(
    role: Annotated[Role, typer.Argument(help="What the holder is.")],
    name: Annotated[str, typer.Argument(help="Site, coordinator or person.")],
    directory: DirOption = Path("pki"),
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="<str>", help="Further DNS name or address; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Issue a certificate and its key. Whoever has the key is the holder."""
    from sterna import pki

    _tell(pki.issue(directory, role, name, tuple(host or ())), json)


@app.command("ledger-key")
def ledger_key(directory: DirOption = Path("pki"), json: JsonOption = False) -> None:
    """Make the key that signs the ledger's records. Its public half is for auditors."""
    from sterna import pki

    private, public = pki.make_signing_key(directory, "ledger-key")
    if json:
        from coordinator.cli import document

        data = {"key": str(private), "public": str(public)}
        typer.echo(document.encode("signing-key", data).decode(), nl=False)
        return
    typer.echo(f"key     {private}")
    typer.echo(f"public  {public}")


def _tell(files: "IssuedFiles", json: bool) -> None:
    if json:
        from coordinator.cli import document

        identity = None if files.identity is None else files.identity.uri
        data = {
            "identity": identity,
            "ca": str(files.ca_file),
            "certificate": str(files.cert_file),
            "key": str(files.key_file),
        }
        typer.echo(document.encode("certificate", data).decode(), nl=False)
        return
    typer.echo(f"certificate  {files.cert_file}")
    typer.echo(f"key          {files.key_file}")
