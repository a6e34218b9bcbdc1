"""TLS for Modbus/TCP Security (port 802): mutual, 1.2 or later."""

import ssl
from pathlib import Path

from sterna.tls import mutual_tls

PORT = 802


def modbus_tls(*, ca_file: Path, cert_file: Path, key_file: Path, server: bool = False) -> ssl.SSLContext:
    """Make the context of a client (or server) that shows its certificate and checks the other's.

    Parameters
    ----------
    ca_file, cert_file, key_file : Path
        PEM. A client also checks that the server's certificate names the configured host.
    server : bool
        For the serving end.

    Raises
    ------
    ConfigError
        A file cannot be read or does not fit the others.
    """
    return mutual_tls("modbus tls", ca_file=ca_file, cert_file=cert_file, key_file=key_file, server=server)
