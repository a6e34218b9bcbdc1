"""How interfaces, hosts and ports are named, and how a port is bound for a server that accepts by itself."""

import errno
import socket

from sterna.errors import ConfigError

WHY = {
    errno.EADDRINUSE: "something listens there already",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    errno.EACCES: "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
}


def listen(host: str, port: int, *, backlog: int) -> socket.socket:
    """Bind a port of one interface; accepts wait for the event loop, they do not block.

    Parameters
    ----------
    host, port
        An IPv4 or IPv6 address. Port 0: any free one.
    backlog : int
        Connections that may wait to be accepted.

    Raises
    ------
    ConfigError
        The address is taken, or not ours; the message names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        why = WHY.get(error.errno or 0) or error.strerror or str(error)
        raise ConfigError(f"{host}:{port}: cannot bind: {why}") from error
    listener.setblocking(False)
    return listener


def interface(text: str) -> tuple[str, int]:
    """Return host and port of ``ADDRESS:PORT``; an IPv6 address is in brackets."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def interface_fault(text: str) -> str | None:
    """Return what is wrong with ``ADDRESS:PORT`` of one interface; None: nothing."""
    from ipaddress import ip_address  # agents that listen nowhere do not pay for it

    try:
        host, port = interface(text)
        if ip_address(host).is_unspecified or not 0 <= port <= 65535:
            raise ValueError
    except ValueError:
        return f'expected ADDRESS:PORT of one interface, no wildcard, got "{text}"'
    return None


def plaintext_fault(text: str) -> str | None:
    """Return why ``ADDRESS:PORT``, which is sound, may not be served without TLS; None: it may."""
    host, _ = interface(text)
    return None if is_loopback(host) else f"plaintext is for loopback only, not for {host}"


def is_loopback(host: str) -> bool:
    """Tell whether a host, by name or address, is this machine as nobody else can reach it."""
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_fault(host: str) -> str:
    """Say why a text is no host name or address; empty when it is one."""
    if "://" in host or "/" in host:
        return f'expected a host alone, got "{host}"'
    if any(letter.isspace() for letter in host):
        return f'a host has no blanks: "{host}"'
    if host.count(":") == 1:
        return f'expected a host without a port, got "{host}"'
    return ""


def address_fault(text: str) -> str:
    """Say why a text is not ``host:port``; empty when it is."""
    if text.startswith(("unix:", "unix-abstract:")):
        return ""
    host, colon, port = text.rpartition(":")
    if "://" in text:
        return host_fault(text)
    if not colon or not host:
        return f'expected host:port, got "{text}"'
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return f'an IPv6 address stands in brackets, got "{text}"'
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        return f'expected a port of 0 to 65535, got "{port}"'
    return host_fault(host.strip("[]")) if ":" not in host else ""
