"""The agent's end against the shipped helper, and against peers that break the contract."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.devices.gpu_jetson import JetsonGpu
from agent.devices.gpu_jetson_cap import PROBE_PERIOD_S
from agent.devices.power_client import PowerClient
from agent.power.server import MOST_CLIENTS
from sterna.clock import FakeClock
from sterna.errors import PeerProtocolError, PermanentError, TransientError
from tests.agent.devices.sysfs_trees import ORIN_CLOCKS_HZ
from tests.agent.power.machine import GPU, gpu_file, helper, machine

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


@contextmanager
def peer(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server that treats each connection as it likes, in a thread."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(4)

        def serve() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                with line:
                    line.settimeout(10)
                    if line.recv(4096) == b"stop":
                        return
                    answer(line)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
                last.sendall(b"stop")
            thread.join(10)


def test_a_helper_that_ended_when_idle_is_asked_again(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    client = PowerClient(tmp_path / "sock")
    for hz in (408_000_000, 612_000_000):
        with helper(tmp_path, sys_root=sys_root):  # a new process each time, the client stays
            assert client.ask("set_gpu_max_hz", device=GPU, hz=hz)["max_hz"] == hz
    with pytest.raises(TransientError, match="Connection refused"):
        client.ask("status")
    client.close()


def test_refusals_are_told_apart(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    with helper(tmp_path, sys_root=sys_root):
        client = PowerClient(tmp_path / "sock")
        with pytest.raises(PermanentError, match="no gpu clock of this name"):
            client.ask("set_gpu_max_hz", device="x", hz=1)
        (tmp_path / "held.json.new").mkdir()  # originals cannot be stored: that may pass
        with pytest.raises(TransientError, match="originals not stored"):
            client.ask("set_gpu_max_hz", device=GPU, hz=1)
        client.close()


@pytest.mark.parametrize(
    ("says", "error", "word"),
    [
        (b"hello\n", PeerProtocolError, "not JSON"),
        (b"[1]\n", PeerProtocolError, "does not say"),
        (b'{"ok": 1}\n', PeerProtocolError, "does not say"),
        (b"[" * 100_000 + b"\n", PeerProtocolError, "not JSON"),
        (b"x" * 300_000, PeerProtocolError, "no end"),
        (b"", TransientError, "hung up"),
        (b'{"ok": tr', TransientError, "hung up"),
    ],
)
def test_what_is_no_answer_is_an_error(
    tmp_path: Path, says: bytes, error: type[Exception], word: str
) -> None:
    def answer(line: socket.socket) -> None:
        with suppress(OSError):  # hung up on, and rightly
            line.sendall(says)

    with peer(tmp_path / "sock", answer):
        client = PowerClient(tmp_path / "sock")
        for _ in range(2):
            with pytest.raises(error, match=word):
                client.ask("status")


def test_a_helper_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    enough = threading.Event()
    with peer(tmp_path / "sock", lambda _line: enough.wait(10) and None):
        client = PowerClient(tmp_path / "sock", timeout_s=0.1)
        with pytest.raises(TransientError, match="timed out"):
            client.ask("status")
        enough.set()


def opened(root: Path, clock: FakeClock) -> JetsonGpu:
    return JetsonGpu(clock=clock, root=root, idle_w=5.0, max_w=25.0, power_socket=root / "sock")


def test_a_jetson_is_capped_through_the_helper(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    clock = FakeClock(NOW)
    gpu_file(sys_root).write_text("918000000\n")  # an nvpmodel mode
    with helper(tmp_path, sys_root=sys_root):
        gpu = opened(tmp_path, clock)
        found = gpu.capabilities()
        assert (found.can_cap, found.cap_min_w) == (True, pytest.approx(5 + 20 * 0.3))
        gpu.set_power_cap_w(15.0)
        assert int(gpu_file(sys_root).read_text()) == 510_000_000
        assert gpu.read()[0].power_cap_w == pytest.approx(15.0)
        gpu.set_power_cap_w(None)
        assert int(gpu_file(sys_root).read_text()) == 918_000_000  # the mode's ceiling, not the chip's
        assert gpu.read()[0].power_cap_w is None
        gpu.close()


def test_can_cap_follows_what_was_seen(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    clock = FakeClock(NOW)
    gpu = opened(tmp_path, clock)
    assert not gpu.capabilities().can_cap
    with pytest.raises(TransientError):
        gpu.set_power_cap_w(15.0)
    with helper(tmp_path, sys_root=sys_root):
        gpu.read()
        assert not gpu.capabilities().can_cap  # not asked again yet
        clock.advance(PROBE_PERIOD_S / 4)
        gpu.read()
        assert gpu.capabilities().can_cap
        gpu_file(sys_root).chmod(0o444)
        clock.advance(PROBE_PERIOD_S)
        gpu.read()
        assert not gpu.capabilities().can_cap
        gpu_file(sys_root).chmod(0o644)
        clock.advance(PROBE_PERIOD_S)
        gpu.read()
    assert gpu.capabilities().can_cap
    with pytest.raises(TransientError):  # the helper has gone: the first failure makes it known
        gpu.set_power_cap_w(15.0)
    assert not gpu.capabilities().can_cap
    gpu.close()
    assert int(gpu_file(sys_root).read_text()) == ORIN_CLOCKS_HZ[-1]


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": True},
        {"ok": True, "gpus": 5},
        {"ok": True, "gpus": [7, {}, {"device": GPU, "writable": "yes"}]},
    ],
)
def test_an_answer_without_the_clock_is_no_leave_to_cap(tmp_path: Path, answer: object) -> None:
    machine(tmp_path)
    with peer(tmp_path / "sock", lambda line: line.sendall(json.dumps(answer).encode() + b"\n")):
        assert not opened(tmp_path, FakeClock(NOW)).capabilities().can_cap


def test_one_client_too_many_learns_why(tmp_path: Path) -> None:
    with helper(tmp_path, sys_root=machine(tmp_path)):
        clients = [PowerClient(tmp_path / "sock") for _ in range(MOST_CLIENTS)]
        for client in clients:
            client.ask("clocks")
        with pytest.raises(TransientError, match="clients are connected already"):
            PowerClient(tmp_path / "sock").ask("clocks")
        for client in clients:
            client.close()
