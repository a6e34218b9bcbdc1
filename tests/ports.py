"""Ports for servers that tests start in a moment."""

import random
import socket

FIRST, LAST = 20_000, 32_000
"""Below those that the kernel gives to connections: one that goes out meanwhile does not take it."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free now, and not likely to be taken before its server binds it."""
    while True:
        port = random.randrange(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
