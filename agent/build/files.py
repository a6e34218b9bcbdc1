"""What tables name by path: certificates and secrets, read. A fault names the table and the file."""

import ssl
from pathlib import Path

from agent.config.mqtt import BrokerTable
from agent.config.tls import TlsFiles
from sterna.config import read_secret
from sterna.errors import ConfigError
from sterna.tls import mutual_tls


def secret(base_dir: Path, file: Path | None) -> str | None:
    """Read a secret; None: the table names none.

    Raises
    ------
    ConfigError
        See `sterna.config.read_secret`.
    """
    return None if file is None else read_secret(base_dir / file)


def both_show(files: TlsFiles, base_dir: Path, at: str, *, server: bool = False) -> ssl.SSLContext:
    """Make the context of a connection whose two ends show certificates.

    Parameters
    ----------
    files : TlsFiles
        The authority of both, and our own.
    base_dir : Path
        Folder that relative paths count from.
    at : str
        The table's place in the file.
    server : bool
        For the serving end.

    Raises
    ------
    ConfigError
        A file cannot be used; it is named.
    """
    ca, cert, key = (base_dir / path for path in (files.ca, files.cert, files.key))
    return mutual_tls(f"agent.toml: {at}", ca_file=ca, cert_file=cert, key_file=key, server=server)


def server_shows(
    base_dir: Path, at: str, *, ca: Path | None, cert: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Make the context of a client of a server that need not ask who we are.

    Parameters
    ----------
    base_dir : Path
        Folder that relative paths count from.
    at : str
        The table's place in the file.
    ca : Path or None
        Authority of the server's certificate; None: the system's.
    cert, key : Path or None
        Ours, for a server that does ask; both or none.

    Raises
    ------
    ConfigError
        A file cannot be used; it is named.
    """
    trusted = None if ca is None else str(base_dir / ca)
    try:
        context = ssl.create_default_context(cafile=trusted)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"agent.toml: {at}.ca: {trusted}: cannot be used: {error}") from error
    if cert is not None and key is not None:
        try:
            context.load_cert_chain(base_dir / cert, base_dir / key)
        except OSError as error:
            pair = f"{base_dir / cert}, {base_dir / key}"
            raise ConfigError(f"agent.toml: {at}: {pair}: cannot be used: {error}") from error
    return context


def broker_tls(table: BrokerTable, base_dir: Path, at: str) -> ssl.SSLContext | None:
    """Make the context of a broker's table, which is at `at`; None: plaintext. Raises as `server_shows`."""
    tls = table.tls
    if tls is None:
        return None
    return server_shows(base_dir, f"{at}.tls", ca=tls.ca, cert=tls.cert, key=tls.key)
