"""A bound TCP port for servers that accept by themselves."""

import socket

from sterna.errors import ConfigError


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
        raise ConfigError(f"{host}:{port}: cannot bind: {error}") from error
    listener.setblocking(False)
    return listener
