"""The role in a client's certificate, as Modbus/TCP Security has it: a UTF-8 string in an extension.

Reads no more of a certificate than the way to that extension. The TLS library has verified the certificate
before; what cannot be followed here has no role.
"""

from collections.abc import Iterator

ROLE_OID = bytes((0x2B, 0x06, 0x01, 0x04, 0x01, 0x83, 0x89, 0x0C, 0x86, 0x22, 0x01))
"""1.3.6.1.4.1.50316.802.1 (MODBUS/TCP Security, MB-TCP-Security-v21)."""
_SEQUENCE, _OID, _OCTETS, _UTF8, _EXTENSIONS = 0x30, 0x06, 0x04, 0x0C, 0xA3
LONGEST_ROLE = 64


def role_of(certificate: bytes) -> str | None:
    """Return the role that a DER certificate states; None: it states none, or not exactly one.

    Parameters
    ----------
    certificate : bytes
        X.509, DER.
    """
    try:
        roles = list(_roles(certificate))
    except (ValueError, IndexError):
        return None
    return roles[0] if len(roles) == 1 else None


def _roles(certificate: bytes) -> Iterator[str]:
    signed = _inside(_inside(certificate, _SEQUENCE), _SEQUENCE)
    for tag, wrapped in _items(signed):
        if tag != _EXTENSIONS:
            continue
        for _, extension in _items(_inside(wrapped, _SEQUENCE)):
            parts = list(_items(extension))
            if parts[0] == (_OID, ROLE_OID) and parts[-1][0] == _OCTETS:
                role = _inside(parts[-1][1], _UTF8).decode("utf-8")
                if not 0 < len(role) <= LONGEST_ROLE:
                    raise ValueError("no role")
                yield role


def _inside(data: bytes, tag: int) -> bytes:
    """Return the content of the first item, which must have this tag."""
    found, content = next(_items(data), (None, b""))
    if found != tag:
        raise ValueError("another tag")
    return content


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        tag, length, place = data[place], data[place + 1], place + 2
        if length >= 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[place : place + size], "big")
            place += size
        if place + length > len(data):
            raise ValueError("beyond its end")
        yield tag, data[place : place + length]
        place += length
