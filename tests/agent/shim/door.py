"""A socket that starts a shim for each connection, as systemd does for a socket with Accept=yes."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType


class Door:
    """Listens at `path` and gives each connection to a real shim as its standard input."""

    def __init__(self, path: Path, *, notify: Path | None = None) -> None:
        self.path = path
        self.shims: list[subprocess.Popen[bytes]] = []
        self._environ = os.environ | ({} if notify is None else {"NOTIFY_SOCKET": str(notify)})
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Door":
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for shim in self.shims:
            if shim.poll() is None:
                shim.terminate()
            shim.wait(20)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.shims.append(
                    subprocess.Popen(
                        [sys.executable, "-I", "-m", "agent.shim"], stdin=connection, env=self._environ
                    )
                )
