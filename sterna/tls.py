"""TLS in which both sides show certificates, for what does not speak gRPC."""

import ssl
from pathlib import Path

from sterna.errors import ConfigError


def mutual_tls(
    what: str, *, ca_file: Path, cert_file: Path, key_file: Path, server: bool = False
) -> ssl.SSLContext:
    """Make the context of one end that shows its certificate and checks the other's; TLS 1.2 or later.

    Parameters
    ----------
    what : str
        Whose it is, for errors.
    ca_file, cert_file, key_file : Path
        PEM. A client also checks that the server's certificate names the configured host.
    server : bool
        For the serving end.

    Raises
    ------
    ConfigError
        A file cannot be read or does not fit the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(ca_file)
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{what}: {ca_file}, {cert_file}, {key_file}: {error}") from error
    return context
