"""sd_notify: what a daemon tells systemd. Without NOTIFY_SOCKET every call is a no-op.

Protocol: sd_notify(3). READY once the store is recovered and ports are bound; WATCHDOG only while every
loop beats; STOPPING first on the way out.
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY_PATIENCE_S = 5.0
"""READY is said once, so it may wait a little; the watchdog's signs of life come again."""


class Notifier:
    """A datagram socket to systemd.

    Parameters
    ----------
    address : str or None
        Value of NOTIFY_SOCKET; a leading ``@`` is the abstract namespace. None: say nothing.
    watchdog_s : float or None
        Watchdog period asked for by systemd, in seconds. None: no watchdog.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Notifier":
        """Read NOTIFY_SOCKET and WATCHDOG_USEC, the latter only when it is meant for this process."""
        usec = environ.get("WATCHDOG_USEC")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(environ.get("NOTIFY_SOCKET"), int(usec) / 1e6 if usec and mine else None)

    def ready(self, status: str) -> None:
        """Tell that the daemon serves."""
        self._send(f"READY=1\nSTATUS={status}", patience_s=READY_PATIENCE_S)

    def status(self, status: str) -> None:
        """Tell one line for people."""
        self._send(f"STATUS={status}")

    def watchdog(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell that the daemon is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str, patience_s: float = 0.0) -> None:
        """Send, but never wait for a manager that does not listen: a site obeys its limits without one."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(patience_s)
            try:
                sock.connect(self._address)
                sock.sendall(message.encode())
            except OSError as error:
                log.warning("the service manager does not listen", extra={"reason": str(error)})
