"""The shim as a process of its own, without any agent: lock, lease, grace, pause, revocation, record."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent.shim
from agent.shim import files
from tests.waiting import wait_until

SHIM = str(Path(agent.shim.__file__).parent)
RUN_ID = f"r{os.getpid()}"
"""Of these tests alone: a shim ends every process of its run, and other tests run beside these."""


class Shim:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def control(self, **fields: object) -> None:
        record = {
            "epoch": 1,
            "boot_id": files.boot_id(),
            "expires_s": None,
            "paused": False,
        }
        files.write_record(str(self.directory), files.CONTROL, record | fields)

    def revoke(self) -> None:
        (self.directory / files.CONTROL).unlink()

    def start(
        self,
        script: str,
        *,
        grace_s: float = 5.0,
        death: str = "TERM",
        argv: list[str] | None = None,
        **more: object,
    ) -> None:
        run = {
            "run_id": RUN_ID,
            "argv": argv or ["/bin/sh", "-c", script],
            "env": {"PATH": os.environ["PATH"], files.RUN_ID_VARIABLE: RUN_ID},
            "working_dir": str(self.directory),
            "stop_signal": "TERM",
            "stop_grace_s": grace_s,
            "parent_death_signal": death,
            **more,
        }
        files.write_record(str(self.directory), files.RUN, run)
        fd = os.open(self.directory / files.LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        subprocess.run(
            [sys.executable, "-I", "-S", SHIM, str(self.directory), str(fd)],
            pass_fds=(fd,),
            check=True,
            timeout=20,
        )
        os.close(fd)

    def locked(self) -> bool:
        fd = os.open(self.directory / files.LOCK, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def read(self, name: str) -> dict[str, object]:
        wait_until((self.directory / name).exists)
        record = files.read_record(str(self.directory), name)
        assert record is not None
        return record

    def signal(self, signum: int) -> None:
        who = self.read(files.SHIM)
        assert files.signal_process(int(str(who["pid"])), int(str(who["start_ticks"])), signum)

    def ended(self) -> dict[str, object]:
        record = self.read(files.EXIT)
        wait_until(lambda: not self.locked())
        assert files.processes_of_run(RUN_ID) == []
        return record

    def up(self, marker: str = "up") -> None:
        wait_until((self.directory / marker).exists)


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    shim = Shim(tmp_path)
    shim.control()
    yield shim
    for pid, ticks in files.processes_of_run(RUN_ID):
        files.signal_process(pid, ticks, signal.SIGKILL)
    wait_until(lambda: not shim.locked())


def test_identity_and_exit_record(shim: Shim) -> None:
    shim.start("touch up; while [ ! -e go ]; do sleep 0.02; done; exit 7")
    assert shim.locked(), "from the first moment on"
    shim.up()
    who = shim.read(files.SHIM)
    assert (who["run_id"], who["boot_id"], who["epoch"]) == (RUN_ID, files.boot_id(), 1)
    child = int(str(who["child_pid"]))
    stat = files.process_stat(child)
    assert stat is not None
    assert stat[:2] == (child, child), "leads its own group and session"
    assert stat[2] == who["child_start_ticks"]
    assert os.getsid(int(str(who["pid"]))) != os.getsid(0)
    (shim.directory / "go").touch()
    record = shim.ended()
    assert (record["cause"], record["code"], record["signal"], record["killed"]) == ("exited", 7, None, False)


def test_stop_file_then_signal_within_grace(shim: Shim) -> None:
    shim.start("trap 'cp stop.json seen; exit 0' TERM; touch up; while :; do sleep 0.02; done")
    shim.up()
    files.write_record(str(shim.directory), files.STOP, {"reason": "moves"})
    shim.signal(signal.SIGHUP)
    record = shim.ended()
    assert (record["cause"], record["code"], record["killed"]) == ("stopped", 0, False)
    assert json.loads((shim.directory / "seen").read_text()) == {"reason": "moves"}


def test_kill_of_the_whole_group_after_grace(shim: Shim) -> None:
    shim.start("trap '' TERM; (trap '' TERM; touch up; sleep 600) & sleep 600", grace_s=0.3)
    shim.up()
    began_s = files.boottime_s()
    files.write_record(str(shim.directory), files.STOP, {})
    shim.signal(signal.SIGHUP)
    record = shim.ended()
    assert (record["cause"], record["signal"], record["killed"]) == ("stopped", signal.SIGKILL, True)
    assert float(str(record["ended_s"])) - began_s >= 0.3


def test_descendants_that_leave_the_group_end_with_it(shim: Shim) -> None:
    shim.start("setsid sh -c 'touch up; sleep 600' & while [ ! -e up ]; do sleep 0.02; done; exit 0")
    assert shim.ended()["code"] == 0


def test_lease_ends_it_with_a_stop_file(shim: Shim) -> None:
    shim.control(expires_s=files.boottime_s() + 0.6)
    shim.start("trap 'exit 85' TERM; while :; do sleep 0.02; done")
    record = shim.ended()
    assert (record["cause"], record["code"]) == ("lease", 85)
    request = shim.read(files.STOP)
    assert request["reason"] == "the lease expired"
    assert float(str(request["deadline_boottime_s"])) > files.boottime_s() - 10


def test_lease_can_be_extended_and_changes_epoch(shim: Shim) -> None:
    ends_s = files.boottime_s() + 3.0
    shim.control(expires_s=ends_s)
    shim.start("touch up; while :; do sleep 0.02; done")
    shim.up()
    shim.control(expires_s=ends_s + 600, epoch=2)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.read(files.SHIM)["epoch"] == 2)
    wait_until(lambda: files.boottime_s() > ends_s + 0.7)
    assert shim.locked()
    shim.revoke()
    shim.signal(signal.SIGHUP)
    shim.ended()


@pytest.mark.parametrize(
    ("control", "cause"),
    [
        ({"boot_id": "another"}, "lease"),
        ({"expires_s": 0.0}, "lease"),
    ],
)
def test_nothing_starts_without_a_grant(shim: Shim, control: dict[str, object], cause: str) -> None:
    shim.control(**control)
    shim.start("touch up")
    record = shim.ended()
    assert (record["cause"], record["code"], record["signal"]) == (cause, None, None)
    assert not (shim.directory / "up").exists()


def test_nothing_starts_once_its_grant_is_taken_away(shim: Shim) -> None:
    shim.revoke()
    shim.start("touch up")
    assert (shim.ended()["cause"], (shim.directory / "up").exists()) == ("revoked", False)


def test_a_run_whose_grant_is_taken_away_is_killed_without_grace(shim: Shim) -> None:
    shim.start("trap '' TERM; touch up; while :; do sleep 0.02; done", grace_s=600)
    shim.up()
    shim.revoke()
    record = shim.ended()
    assert (record["cause"], record["signal"]) == ("revoked", signal.SIGKILL)
    assert not (shim.directory / files.STOP).exists()


def test_pause_resume_and_stop_while_paused(shim: Shim) -> None:
    shim.start("trap 'exit 3' TERM; touch up; while :; do echo x >> beats; sleep 0.02; done")
    shim.up()
    shim.control(paused=True)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.read(files.SHIM)["paused"] is True)
    child = shim.read(files.SHIM)["child_pid"]
    state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "T"
    shim.control(paused=False)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.read(files.SHIM)["paused"] is False)
    size = (shim.directory / "beats").stat().st_size
    wait_until(lambda: (shim.directory / "beats").stat().st_size > size)
    shim.control(paused=True)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.read(files.SHIM)["paused"] is True)
    files.write_record(str(shim.directory), files.STOP, {})
    shim.signal(signal.SIGHUP)
    assert shim.ended()["code"] == 3


def test_sigterm_to_the_shim_stops_the_job(shim: Shim) -> None:
    shim.start("trap 'exit 0' TERM; touch up; while :; do sleep 0.02; done")
    shim.up()
    shim.signal(signal.SIGTERM)
    assert shim.ended()["cause"] == "shutdown"
    assert shim.read(files.STOP)["reason"] == "the shim was told to stop"


@pytest.mark.parametrize("death", ["TERM", "KILL"])
def test_child_hears_of_its_shims_death(shim: Shim, death: str) -> None:
    shim.start("trap 'touch heard; exit 0' TERM; touch up; while :; do sleep 0.02; done", death=death)
    shim.up()
    shim.signal(signal.SIGKILL)
    wait_until(lambda: not files.processes_of_run(RUN_ID))
    assert (shim.directory / "heard").exists() is (death == "TERM")
    assert not (shim.directory / files.EXIT).exists(), "nobody was left to write it"


def test_program_that_is_not_there(shim: Shim) -> None:
    shim.start("", argv=["/no/such/program"])
    record = shim.ended()
    assert record["cause"] == "not_started"
    assert "No such file" in str(record["error"])


def test_a_run_directory_that_is_removed_ends_the_run(shim: Shim) -> None:
    shim.start("touch up; while :; do sleep 0.02; done")
    shim.up()
    for path in shim.directory.iterdir():
        if path.name != files.LOCK:
            path.unlink()
    wait_until(lambda: not shim.locked())
    assert files.processes_of_run(RUN_ID) == []


def test_it_needs_the_standard_library_alone_and_starts_fast(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); import agent.shim.owner; "
        "ours = ('agent', 'sterna', 'asyncio', 'msgspec'); "
        "print(*sorted(name for name in sys.modules if name.split('.')[0] in ours))"
    )
    root = str(Path(SHIM).parent.parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.split() == [
        "agent",
        "agent.shim",
        "agent.shim.cgroup",
        "agent.shim.child",
        "agent.shim.files",
        "agent.shim.owner",
    ]


def test_a_recycled_pid_is_not_signalled() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        stat = files.process_stat(process.pid)
        assert stat is not None
        assert not files.signal_process(process.pid, stat[2] + 1, signal.SIGKILL)
        assert process.poll() is None
        assert files.signal_process(process.pid, stat[2], signal.SIGKILL)
        assert process.wait(5) == -signal.SIGKILL
    assert not files.signal_process(process.pid, stat[2], signal.SIGKILL)
    assert files.process_stat(process.pid) is None


def test_records_that_are_not_there_or_broken(tmp_path: Path) -> None:
    assert files.read_record(str(tmp_path), "x") is None
    for text in ("", "{", "[1]"):
        (tmp_path / "x").write_text(text)
        assert files.read_record(str(tmp_path), "x") is None


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A run directory on a disk of 64 KiB; its test fills it."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_full_disk_under_the_exit_record(full_disk: Path) -> None:
    """Until the record is safe the run counts as alive: nobody takes it for lost, or starts it again."""
    shim = Shim(full_disk)
    shim.control()
    shim.start("touch up; while [ ! -e go ]; do sleep 0.02; done; exit 7")
    shim.up()
    (full_disk / "go").touch()
    filler = fill(full_disk)
    who = shim.read(files.SHIM)
    child, ticks = int(str(who["child_pid"])), who["child_start_ticks"]
    wait_until(lambda: (files.process_stat(child) or (0, 0, None))[2] != ticks)
    tried = full_disk / f"{files.EXIT}.{who['pid']}.tmp"
    wait_until(tried.exists)
    assert shim.locked()
    assert not (full_disk / files.EXIT).exists()
    filler.unlink()
    record = shim.ended()
    assert (record["cause"], record["code"]) == ("exited", 7)


def test_a_record_is_whole_or_not_there(full_disk: Path) -> None:
    """A write that a full disk cut short must not replace a good record."""
    folder = str(full_disk)
    files.write_record(folder, files.EXIT, {"cause": "exited"})
    fill(full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write_record(folder, files.EXIT, {"cause": "x" * 8192})
    assert files.read_record(folder, files.EXIT) == {"cause": "exited"}
    # One block short: the first part of such a record fits.
    with (full_disk / "filler").open("r+b") as file:
        file.truncate((full_disk / "filler").stat().st_size - 4096)
    with pytest.raises(OSError, match="No space left"):
        files.write_record(folder, files.EXIT, {"cause": "x" * 8192})
    assert files.read_record(folder, files.EXIT) == {"cause": "exited"}
