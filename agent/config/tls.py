"""Certificates, as every table names them."""

from pathlib import Path

import msgspec


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PEM files, as ``sterna pki issue site NAME`` writes them."""

    ca: Path
    """The fleet's authority."""
    cert: Path
    """Our certificate."""
    key: Path
    """Its private key."""
