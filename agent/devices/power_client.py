"""The agent's end of ``sterna-power``'s socket: one connection, one request at a time, blocking.

Knows the wire (a line of JSON each way) and which refusals may pass; not what a clock or a watt is.
"""

import json
import socket
import threading
from contextlib import suppress
from pathlib import Path

from sterna.errors import PeerProtocolError, PermanentError, TransientError

TIMEOUT_S = 2.0
DEFAULT_SOCKET = Path("/run/sterna-power.sock")
"""Where systemd/sterna-power.socket listens."""
_MOST_ANSWER_BYTES = 256 * 1024
_MAY_PASS = frozenset({"busy", "io", "not_taken", "tool_failed", "too_slow"})


class PowerClient:
    """A connection to ``sterna-power``, opened when it is needed.

    Parameters
    ----------
    path : pathlib.Path
        Of its socket.
    timeout_s : float
        For connecting and for each answer.
    """

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._line: socket.socket | None = None
        self._lock = threading.Lock()

    def ask(self, verb: str, **fields: object) -> dict[str, object]:
        """Send one request and return its answer.

        Raises
        ------
        TransientError
            The helper is not there, does not answer in time, or could not do it this time.
        PermanentError
            It refuses: the reason is its own.
        PeerProtocolError
            What came back is no answer.
        """
        request = json.dumps({"verb": verb, **fields}).encode() + b"\n"
        with self._lock:
            try:
                data = self._exchange(request)
            except OSError as error:
                self._hang_up()
                raise TransientError(f"sterna-power {self._path}: {error}") from error
            except BaseException:
                self._hang_up()
                raise
        return _read(data)

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._hang_up()

    def _exchange(self, request: bytes) -> bytes:
        """Ask; once more where the helper had ended for want of work, for every verb may be repeated."""
        fresh = self._line is None
        try:
            data = self._try(request)
        except ConnectionResetError:
            data = b""
        if not data and not fresh:
            self._hang_up()
            data = self._try(request)
        if not data:
            raise ConnectionResetError("hung up without an answer")
        return data

    def _try(self, request: bytes) -> bytes:
        """Send and take one line; empty: hung up."""
        if self._line is None:
            self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._line.settimeout(self._timeout_s)
            self._line.connect(str(self._path))
        with suppress(BrokenPipeError):  # one who is not let in is told why before it asks
            self._line.sendall(request)
        data = b""
        while not data.endswith(b"\n"):
            piece = self._line.recv(65536)
            if not piece:
                return b""
            data += piece
            if len(data) > _MOST_ANSWER_BYTES:
                raise PeerProtocolError(f"sterna-power {self._path}: the answer has no end")
        return data

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def _read(data: bytes) -> dict[str, object]:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PeerProtocolError("sterna-power: the answer is not JSON") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise PeerProtocolError("sterna-power: the answer does not say whether it was done")
    if answer["ok"]:
        return answer
    code, reason = answer.get("code"), answer.get("reason")
    if code in _MAY_PASS:
        raise TransientError(f"sterna-power: {reason}")
    raise PermanentError(f"sterna-power: {reason}")
