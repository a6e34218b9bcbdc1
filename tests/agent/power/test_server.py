"""The shipped helper over real sockets: who may ask, how much, how long, and what is left when it dies."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent.power.server import LINE_WITHIN_S, MOST_CLIENTS
from agent.power.verbs import MOST_REQUEST_BYTES
from tests.agent.power.machine import GPU, ask, connect, gpu_file, helper, machine, receive
from tests.waiting import wait_until

FULL_HZ = 1_020_000_000


def test_requests_in_one_piece_or_in_many_are_answered_in_order(tmp_path: Path) -> None:
    with helper(tmp_path, sys_root=machine(tmp_path)), connect(tmp_path / "sock") as line:
        line.sendall(b'{"verb": "clocks"}\n{"verb": "nothing"}\n{"ver')
        assert receive(line)["ok"] is True
        assert receive(line)["code"] == "unknown_verb"
        line.sendall(b'b": "status"}\n')
        assert receive(line)["nvpmodel"] is None
        assert ask(line, "set_gpu_max_hz", device=GPU, hz=1)["max_hz"] == 306_000_000
        noted = "set_gpu_max_hz device=17000000.gpu hz=1, asked by user"
        wait_until(lambda: noted in (tmp_path / "said").read_text())


def test_a_request_of_the_largest_size_passes_and_a_larger_one_ends_the_talk(tmp_path: Path) -> None:
    with helper(tmp_path, sys_root=machine(tmp_path)):
        with connect(tmp_path / "sock") as line:
            request = b'{"verb": "status"}'
            line.sendall(request + b" " * (MOST_REQUEST_BYTES - len(request)) + b"\n")
            assert receive(line)["ok"] is True
        with connect(tmp_path / "sock") as line:
            line.sendall(b"x" * (MOST_REQUEST_BYTES + 1))
            assert receive(line)["code"] == "too_long"
            assert receive(line) is None


def test_a_slow_client_is_shut_out_and_others_do_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with helper(tmp_path, sys_root=machine(tmp_path)), connect(path) as slow, connect(path) as other:
        slow.sendall(b'{"verb"')
        other.settimeout(LINE_WITHIN_S)
        assert ask(other, "clocks")["ok"] is True
        assert receive(slow)["code"] == "too_slow"
        assert receive(slow) is None
        assert ask(other, "clocks")["ok"] is True


def test_one_client_too_many_is_told_so(tmp_path: Path) -> None:
    with helper(tmp_path, sys_root=machine(tmp_path)):
        lines = [connect(tmp_path / "sock") for _ in range(MOST_CLIENTS)]
        assert all(ask(line, "clocks")["ok"] for line in lines)
        with connect(tmp_path / "sock") as one_more:
            assert receive(one_more)["code"] == "busy"
            assert receive(one_more) is None
        lines.pop().close()
        wait_until(lambda: _served(tmp_path / "sock"))
        for line in lines:
            line.close()


def _served(path: Path) -> bool:
    with connect(path) as line:
        line.sendall(b'{"verb": "clocks"}\n')
        answer = receive(line)
        return answer is not None and bool(answer["ok"])


def test_a_client_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    with helper(tmp_path, sys_root=machine(tmp_path)):
        with (
            connect(tmp_path / "sock") as deaf,
            pytest.raises((BrokenPipeError, ConnectionResetError)),
        ):
            for _ in range(100_000):
                deaf.sendall(b'{"verb": "clocks"}\n' * 10)
        assert _served(tmp_path / "sock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
def test_only_those_on_the_list_may_ask(tmp_path: Path) -> None:
    with TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        with helper(folder, "--allow-user", "1234", "--allow-group", "5678", sys_root=machine(tmp_path)):
            (folder / "sock").chmod(0o666)
            assert asked_as(1234, 9, folder / "sock") == "served"
            assert asked_as(9, 5678, folder / "sock") == "served"
            assert asked_as(9, 9, folder / "sock") == "not_allowed"


def asked_as(user: int, group: int, path: Path) -> object:
    """What a process of this user and group is told; a fork, for others may not read our interpreter."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            with connect(path) as line:
                with suppress(BrokenPipeError):  # refused before it asked
                    line.sendall(b'{"verb": "clocks"}\n')
                os.write(writer, str(receive(line).get("code", "served")).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        code = told.read()
    os.waitpid(child, 0)
    return code


def test_the_socket_is_for_its_owner_and_group_alone(tmp_path: Path) -> None:
    with helper(tmp_path, sys_root=machine(tmp_path)):
        assert (tmp_path / "sock").stat().st_mode & 0o777 == 0o660


def test_a_cap_is_known_and_undone_after_a_kill(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    with helper(tmp_path, sys_root=sys_root) as process, connect(tmp_path / "sock") as line:
        assert ask(line, "set_gpu_max_hz", device=GPU, hz=408_000_000)["ok"] is True
        process.send_signal(signal.SIGKILL)
        assert receive(line) is None
    with helper(tmp_path, sys_root=sys_root), connect(tmp_path / "sock") as line:
        (gpu,) = ask(line, "status")["gpus"]
        assert (gpu["max_hz"], gpu["original_max_hz"]) == (408_000_000, FULL_HZ)
        assert ask(line, "restore")["faults"] == []
        assert int(gpu_file(sys_root).read_text()) == FULL_HZ


def test_it_ends_when_idle_with_a_client_connected(tmp_path: Path) -> None:
    with (
        helper(tmp_path, "--idle-s", "0.3", sys_root=machine(tmp_path)) as process,
        connect(tmp_path / "sock") as line,
    ):
        assert ask(line, "clocks")["ok"] is True
        assert receive(line) is None
        assert process.wait(10) == 0


def test_systemds_socket_is_taken_over_and_outlives_the_process(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen(4)
        for hz in (306_000_000, 408_000_000):  # each started by a request that waits already
            with connect(tmp_path / "sock") as line:
                line.sendall(b'{"verb": "set_gpu_max_hz", "device": "%s", "hz": %d}\n' % (GPU.encode(), hz))
                process = activated(listener, tmp_path, sys_root)
                assert receive(line)["max_hz"] == hz
                assert process.wait(10) == 0


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, None])
def test_another_kind_of_socket_is_refused(tmp_path: Path, kind: socket.SocketKind | None) -> None:
    with socket.socket(socket.AF_UNIX, kind or socket.SOCK_STREAM) as handed:
        process = activated(handed, tmp_path, machine(tmp_path))
        assert process.wait(20) == 2
    assert "something else than a listening" in (tmp_path / "said").read_text()


def activated(handed: socket.socket, folder: Path, sys_root: Path) -> subprocess.Popen[bytes]:
    """What systemd does: the socket as descriptor 3, and the process's own id in its environment."""
    code = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
    )
    command = ["-m", "agent.power", "serve", "--sys", str(sys_root), "--state", str(folder / "held.json")]
    with (folder / "said").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(handed.fileno()), *command, "--idle-s", "0.3"],
            pass_fds=[handed.fileno()],
            stderr=said,
        )
