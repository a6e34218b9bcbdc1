"""The socket: who may ask, how much, and how long for. One thread, one request at a time, a few clients.

A client that says nothing whole in time, says too much or does not listen is told why and shut out; the
others do not wait for it. Without requests for a while the process ends; systemd starts it at the next one.
"""

import json
import os
import selectors
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from agent.power.refusal import Refusal
from agent.power.verbs import CHANGES, MOST_REQUEST_BYTES, Answer, Request, Verbs, parse

MOST_CLIENTS = 4
LINE_WITHIN_S = 2.0
"""From the first byte of a request to its end."""
_CREDENTIALS = struct.Struct("3i")
_BACKLOG = 8


class Peer(NamedTuple):
    """Who is at the other end, by the kernel's word."""

    pid: int
    uid: int
    gid: int


class _Client:
    """One connection and what it has said so far."""

    __slots__ = ("line", "peer", "said", "since_s")

    def __init__(self, line: socket.socket, peer: Peer) -> None:
        self.line = line
        self.peer = peer
        self.said = bytearray()
        self.since_s: float | None = None


class Server:
    """Answers requests until nobody has any.

    Parameters
    ----------
    listener : socket.socket
        A Unix stream socket that listens.
    verbs : Verbs
        Carries requests out.
    uids, gids : frozenset of int
        Who may ask, besides root: a user, or a primary group.
    idle_s : float
        Seconds without a request after which `run` returns; 0: never.
    note : callable
        Gets one line for every change and every refusal.
    """

    def __init__(
        self,
        *,
        listener: socket.socket,
        verbs: Verbs,
        uids: frozenset[int],
        gids: frozenset[int],
        idle_s: float,
        note: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self._listener = listener
        self._verbs = verbs
        self._uids = uids | {0}
        self._gids = gids
        self._idle_s = idle_s
        self._note = note
        self._clients: dict[int, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._asked_s = _now_s()

    def run(self) -> None:
        """Serve until idle."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        try:
            while not self._idle():
                for key, _ in self._selector.select(self._wait_s()):
                    client = self._clients.get(key.fd)
                    if client is None:
                        self._welcome()
                    else:
                        self._hear(client)
                self._hurry()
        finally:
            for client in list(self._clients.values()):
                self._part(client)
            self._selector.close()

    def _idle(self) -> bool:
        return 0 < self._idle_s <= _now_s() - self._asked_s

    def _wait_s(self) -> float | None:
        """How long nothing need be done."""
        ends_s = [
            client.since_s + LINE_WITHIN_S for client in self._clients.values() if client.since_s is not None
        ]
        if self._idle_s > 0:
            ends_s.append(self._asked_s + self._idle_s)
        return max(0.0, min(ends_s) - _now_s()) if ends_s else None

    def _welcome(self) -> None:
        """Take a connection, if its peer may ask and there is room."""
        try:
            line, _ = self._listener.accept()
        except OSError:  # it has gone already
            return
        line.setblocking(False)
        client = _Client(line, _peer(line))
        if client.peer.uid not in self._uids and client.peer.gid not in self._gids:
            self._refuse(client, Refusal("not_allowed", f"user {client.peer.uid} may not ask"))
            line.close()
        elif len(self._clients) >= MOST_CLIENTS:
            self._refuse(client, Refusal("busy", f"{MOST_CLIENTS} clients are connected already"))
            line.close()
        else:
            self._clients[line.fileno()] = client
            self._selector.register(line, selectors.EVENT_READ)

    def _hear(self, client: _Client) -> None:
        """Take what a client says; answer a whole line."""
        try:
            data = client.line.recv(MOST_REQUEST_BYTES + 1 - len(client.said))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._part(client)
            return
        client.said += data
        while b"\n" in client.said and client.line.fileno() >= 0:
            request, _, rest = bytes(client.said).partition(b"\n")
            client.said, client.since_s = bytearray(rest), None
            self._answer(client, request)
        if client.line.fileno() < 0:
            return
        if len(client.said) > MOST_REQUEST_BYTES:
            self._refuse(client, Refusal("too_long", f"a request has at most {MOST_REQUEST_BYTES} bytes"))
            self._part(client)
        elif client.said and client.since_s is None:
            client.since_s = _now_s()

    def _answer(self, client: _Client, line: bytes) -> None:
        self._asked_s = _now_s()
        try:
            request = parse(line)
            answer = self._verbs.carry_out(request)
        except Refusal as refusal:
            self._refuse(client, refusal)
            return
        self._say(client, {"ok": True, **answer})
        if request.verb in CHANGES:
            self._note(f"{_words(request)}, asked by user {client.peer.uid}, process {client.peer.pid}")

    def _hurry(self) -> None:
        """Shut out those who have begun a request and do not end it."""
        now_s = _now_s()
        for client in list(self._clients.values()):
            if client.since_s is not None and now_s - client.since_s >= LINE_WITHIN_S:
                self._refuse(client, Refusal("too_slow", f"a request is whole within {LINE_WITHIN_S:g} s"))
                self._part(client)

    def _refuse(self, client: _Client, refusal: Refusal) -> None:
        self._say(client, {"ok": False, "code": refusal.code, "reason": refusal.reason})
        self._note(
            f"refused, {refusal.code}: {refusal.reason}; user {client.peer.uid}, process {client.peer.pid}"
        )

    def _say(self, client: _Client, answer: Answer) -> None:
        data = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
        try:
            sent = client.line.send(data, socket.MSG_NOSIGNAL)
        except OSError:
            sent = 0
        if sent < len(data):  # it does not read its answers: the socket's buffer holds dozens
            self._part(client)

    def _part(self, client: _Client) -> None:
        if self._clients.pop(client.line.fileno(), None) is not None:
            self._selector.unregister(client.line)
        client.line.close()


def listen(path: str) -> socket.socket:
    """Make the socket ourselves, for user and group alone; a stale one is replaced, another file is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o117)
    try:
        if os.path.exists(path) and _is_dead(path):  # noqa: PTH110
            os.unlink(path)  # noqa: PTH108
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener


def handed_over() -> socket.socket | None:
    """Return the socket that systemd has opened for us; None: it did not.

    Raises
    ------
    Refusal
        ``bad_socket``: what was handed over is no listening Unix stream socket, or not just one.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    if os.environ.get("LISTEN_FDS") != "1":
        raise Refusal("bad_socket", "systemd handed over several sockets, expected one")
    listener = socket.socket(fileno=3)
    listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (listener.family, listener.type, listens) != (socket.AF_UNIX, socket.SOCK_STREAM, 1):
        raise Refusal("bad_socket", "systemd handed over something else than a listening Unix stream socket")
    listener.set_inheritable(False)
    return listener


def _is_dead(path: str) -> bool:
    """Tell whether a path is a socket on which nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116
        except OSError:
            return False
    return False


def _peer(line: socket.socket) -> Peer:
    size = _CREDENTIALS.size
    pid, uid, gid = _CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Peer(pid=pid, uid=uid, gid=gid)


def _words(request: Request) -> str:
    return " ".join([request.verb, *(f"{name}={value}" for name, value in request.values.items())])


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
