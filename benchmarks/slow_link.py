"""A link of so many bits per second and so much delay, shared by all its connections, for benchmarks.

`tests/faults/proxy.py` misbehaves; this one behaves: a process of its own with two blocking threads per
direction, so that it keeps a gigabit per second where the machine has a core to spare. The rate is kept over
all connections of a direction together, as on a real line.
"""

import queue
import socket
import threading
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

PIECE_BYTES = 128 * 1024
BURST_S = 0.02
"""How far the line catches up when the machine was late; one that never did would be slower than it says."""


class _Line:
    """One direction: when the next bytes have passed."""

    def __init__(self, bits_per_s: float, delay_s: float) -> None:
        self._bytes_per_s = bits_per_s / 8
        self.delay_s = delay_s
        self._lock = threading.Lock()
        self._free_s = 0.0

    def arrival_s(self, size_bytes: int) -> float:
        """Put bytes on the line; return when they come out at its end."""
        with self._lock:
            self._free_s = max(self._free_s, time.perf_counter() - BURST_S) + size_bytes / self._bytes_per_s
            return self._free_s + self.delay_s


def _pump(source: socket.socket, target: socket.socket, line: _Line, waiting_pieces: int) -> None:
    waiting: queue.Queue[tuple[float, bytes]] = queue.Queue(waiting_pieces)

    def deliver() -> None:
        try:
            while True:
                due_s, data = waiting.get()
                left_s = due_s - time.perf_counter()
                if left_s > 0:
                    time.sleep(left_s)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
        except OSError:
            source.close()

    thread = threading.Thread(target=deliver, daemon=True)
    thread.start()
    try:
        while data := source.recv(PIECE_BYTES):
            due_s = line.arrival_s(len(data))
            waiting.put((due_s, data))
            # A sender is held back as by a line: what is on its way is what fits into rate times delay.
            ahead_s = due_s - line.delay_s - time.perf_counter()
            if ahead_s > 0:
                time.sleep(ahead_s)
        waiting.put((0.0, b""))
    except OSError:
        waiting.put((0.0, b""))


def _serve(target_port: int, bits_per_s: float, delay_s: float, pipe: Connection) -> None:
    up, down = _Line(bits_per_s, delay_s), _Line(bits_per_s, delay_s)
    pieces = max(16, round(4 * bits_per_s / 8 * (delay_s + 0.1) / 16384))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])

        def accept() -> None:
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", target_port))
                for end in (here, there):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pair in ((here, there, up), (there, here, down)):
                    threading.Thread(target=_pump, args=(*pair, pieces), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        pipe.recv()


class SlowLink:
    """A context: ``with SlowLink(port, 1e9, 0.04) as port``; the delay is in seconds, one way."""

    def __init__(self, target_port: int, bits_per_s: float, delay_s: float) -> None:
        context = get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(target_port, bits_per_s, delay_s, theirs), daemon=True
        )

    def __enter__(self) -> int:
        self._process.start()
        return int(self._ours.recv())

    def __exit__(self, *_: object) -> None:
        self._ours.send("over")
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
