"""What a configuration names: files that must be there, certificates that must fit, hosts.

It goes by the names of the keys, so that tables that come later are looked at too: ``ca``, ``cert`` and
``key`` are PEM files, ``…_file`` is a file, ``…password…`` and ``…secret…`` one that not everybody may read.
"""

import ssl
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec

from agent.config import AgentConfig
from agent.config.buses import BusTable
from agent.config.meters import MeterTable
from agent.devices.meters_tables import load_table, shipped_table
from sterna.config import read_secret
from sterna.errors import ConfigError
from sterna.identity import Identity, Role, load_credentials
from sterna.listening import host_fault

Fault = tuple[str, str]
PEM_KEYS = ("ca", "cert", "key")


def walk(part: object, at: str = "") -> Iterator[tuple[str, msgspec.Struct]]:
    """Yield every table below a part of the configuration, with its place."""
    if isinstance(part, msgspec.Struct):
        yield at, part
        for field in msgspec.structs.fields(part):
            yield from walk(
                getattr(part, field.name), f"{at}.{field.encode_name}" if at else field.encode_name
            )
    elif isinstance(part, tuple):
        for index, item in enumerate(part):
            yield from walk(item, f"{at}[{index}]")


def part_faults(part: object, at: str, *, base_dir: Path, now: datetime) -> Iterator[Fault]:
    """Yield what is wrong with what a part of the configuration names.

    Parameters
    ----------
    part : object
        A table, several, or the whole.
    at : str
        Its place in the file.
    base_dir : Path
        Folder that relative paths count from.
    now : datetime
        Certificates must be valid then.
    """
    ours: Identity | None = None
    if isinstance(part, AgentConfig):
        ours = Identity(fleet=part.fleet, role=Role.SITE, name=part.site)
    for place, table in walk(part, at):
        if place == "tls":
            yield from _identity_faults(table, ours, base_dir, now)
        else:
            yield from _pem_faults(table, place, base_dir)
        yield from _file_faults(table, place, base_dir)
        if isinstance(table, MeterTable):
            yield from _meter_faults(table, place, base_dir)
        host = getattr(table, "host", "")
        if isinstance(host, str) and host and (fault := host_fault(host)):
            yield f"{place}.host", fault
        if isinstance(table, BusTable) and table.kind == "serial" and find_spec("serial") is None:
            yield f"{place}.kind", "serial needs pyserial: install the extra serial"


def _identity_faults(table: object, ours: Identity | None, base_dir: Path, now: datetime) -> Iterator[Fault]:
    """Check the certificate that the whole site shows."""
    ca, cert, key = (base_dir / getattr(table, name) for name in PEM_KEYS)
    try:
        load_credentials(ca_file=ca, cert_file=cert, key_file=key, now=now, expected=ours)
    except ConfigError as error:
        yield "tls", str(error)


def _pem_faults(table: object, place: str, base_dir: Path) -> Iterator[Fault]:
    ca, cert, key = (getattr(table, name, None) for name in PEM_KEYS)
    if isinstance(ca, Path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(base_dir / ca)
        except OSError as error:
            yield f"{place}.ca", f"{base_dir / ca}: {_reason(error, 'no certificate in PEM form')}"
    if isinstance(cert, Path) and isinstance(key, Path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            # The callback keeps OpenSSL from asking on the terminal for an encrypted key.
            context.load_cert_chain(base_dir / cert, base_dir / key, password=lambda: b"")
        except OSError as error:
            missing = [path for path in (cert, key) if not (base_dir / path).exists()]
            named = " and ".join(str(base_dir / path) for path in missing or (cert, key))
            yield (
                f"{place}.cert",
                f"{named}: {_reason(error, 'not a pair, damaged, or the key is encrypted')}",
            )


def _file_faults(table: msgspec.Struct, place: str, base_dir: Path) -> Iterator[Fault]:
    for field in msgspec.structs.fields(table):
        value, name = getattr(table, field.name), field.encode_name
        at = f"{place}.{name}" if place else name
        if not name.endswith(("_file", "_keys")) or name == "table_file":
            continue
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path):
                fault = _unread(base_dir / path, secret="password" in name or "secret" in name)
                if fault:
                    yield at, fault


def _unread(path: Path, *, secret: bool) -> str:
    """Say why a file cannot be used; empty when it can."""
    try:
        if secret:
            read_secret(path)
        else:
            path.open("rb").close()
    except ConfigError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {_reason(error, 'cannot be read')}"
    return ""


def _meter_faults(table: MeterTable, place: str, base_dir: Path) -> Iterator[Fault]:
    try:
        if table.table_file is not None:
            load_table(base_dir / table.table_file)
        elif table.table:
            shipped_table(table.table)
    except ConfigError as error:
        key = "table" if table.table_file is None else "table_file"
        for line in str(error).splitlines():
            yield f"{place}.{key}", line


def _reason(error: OSError, otherwise: str) -> str:
    return otherwise if isinstance(error, ssl.SSLError) else (error.strerror or otherwise).lower()
