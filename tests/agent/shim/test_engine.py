"""A shim whose child is an engine's command: its container is paused, stopped, ended, known to be gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.jobs.runner import Run
from agent.shim import engine as engines
from agent.shim import files
from agent.shim.engine import Engine
from sterna.errors import TransientError
from tests.agent.shim.test_owner import RUN_ID, Shim
from tests.waiting import wait_until

COUNTS = "n=0; while :; do n=$((n+1)); echo $n > count; sleep 0.02; done"


class Contained(Shim):
    """A shim for runs by the fake engine."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.state = directory / "engine"
        self.state.mkdir()
        self.command = [sys.executable, str(Path(__file__).parent / "fake_engine.py"), str(self.state)]

    def run_in_container(self, script: str, *, grace_s: float = 5.0, program: str = "/bin/sh") -> None:
        (self.directory / "environment").write_text(
            f"{files.RUN_ID_VARIABLE}={RUN_ID}\nPATH={os.environ['PATH']}\n"
        )
        argv = [*self.command, "run", f"--label=sterna.run={RUN_ID}", "--label=sterna.job=a/j"]
        argv += [f"--env-file={self.directory}/environment", "image", program, "-c", script]
        self.start("", grace_s=grace_s, argv=argv, engine=self.command)

    def engine(self, label: str = f"sterna.run={RUN_ID}") -> Engine:
        return Engine(self.command, label, dict(os.environ))

    def count(self) -> int:
        file = self.directory / "count"
        return int(file.read_text() or 0) if file.exists() else 0

    def pid(self) -> int:
        (one,) = self.state.glob("*.json")
        return int(files.read_record(str(self.state), one.name)["pid"])  # type: ignore[index, call-overload]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Contained]:
    shim = Contained(tmp_path)
    shim.control()
    yield shim
    (shim.state / "down").unlink(missing_ok=True)
    assert shim.engine().remove(RUN_ID)
    wait_until(lambda: not Run(tmp_path).is_alive())


def test_the_end_of_a_program_is_the_end_of_its_run(shim: Contained) -> None:
    shim.run_in_container("exit 7")
    record = shim.ended()
    assert (record["cause"], record["code"]) == ("exited", 7)


def test_is_paused_by_its_engine(shim: Contained) -> None:
    shim.run_in_container(COUNTS)
    wait_until(lambda: shim.count() > 3)
    shim.control(paused=True)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.read(files.SHIM)["paused"])
    assert _state(shim.pid()) == "T"
    before = shim.count()
    shim.control(paused=False)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.count() > before + 3)


def test_where_the_engine_cannot_pause_its_processes_are_stopped(shim: Contained) -> None:
    (shim.state / "no-pause").touch()
    shim.run_in_container(COUNTS)
    wait_until(lambda: shim.count() > 3)
    shim.control(paused=True)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.read(files.SHIM)["paused"])
    assert all(_state(pid) == "T" for pid, _ in files.processes_of_run(RUN_ID))
    before = shim.count()
    shim.control(paused=False)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.count() > before + 3)


def test_nothing_to_pause_is_no_pause(shim: Contained) -> None:
    assert not shim.engine().set_paused(True)


def test_a_paused_one_hears_that_it_is_to_stop(shim: Contained) -> None:
    shim.run_in_container("trap 'exit 85' TERM; touch up; while :; do sleep 0.02; done")
    shim.up()
    shim.control(paused=True)
    shim.signal(signal.SIGHUP)
    wait_until(lambda: shim.read(files.SHIM)["paused"])
    files.write_record(str(shim.directory), files.STOP, files.stop_request("test", 5.0))
    shim.signal(signal.SIGHUP)
    record = shim.ended()
    assert (record["cause"], record["code"], record["killed"]) == ("stopped", 85, False)


def test_one_that_does_not_listen_is_killed(shim: Contained) -> None:
    shim.run_in_container("trap '' TERM; touch up; while :; do sleep 0.02; done", grace_s=0.2)
    shim.up()
    files.write_record(str(shim.directory), files.STOP, files.stop_request("test", 0.2))
    shim.signal(signal.SIGHUP)
    record = shim.ended()
    assert (record["cause"], record["killed"]) == ("stopped", True)
    assert shim.engine().containers() == []


def test_an_expired_lease_ends_it(shim: Contained) -> None:
    shim.control(expires_s=files.boottime_s() + 0.5)
    shim.run_in_container("trap '' TERM; touch up; while :; do sleep 0.02; done", grace_s=0.2)
    assert shim.ended()["cause"] == "lease"
    assert shim.engine().containers() == []


def test_what_an_engine_could_not_run_says_why(shim: Contained) -> None:
    shim.run_in_container("", program="no-such-program")
    record = shim.ended()
    assert (record["cause"], record["error"]) == ("not_started", "Error: no such program (exit code 127)")


def test_the_run_lives_until_its_engine_says_that_the_container_is_gone(shim: Contained) -> None:
    shim.run_in_container("touch up; while [ ! -e go ]; do sleep 0.02; done")
    shim.up()
    (shim.state / "down").touch()
    (shim.directory / "go").touch()
    child = int(str(shim.read(files.SHIM)["child_pid"]))
    wait_until(lambda: files.process_stat(child) is None)
    assert shim.locked()
    assert not (shim.directory / files.EXIT).exists()
    (shim.state / "down").unlink()
    assert shim.ended()["code"] == 0


def test_what_a_killed_shim_leaves_is_ended_by_the_agent(
    shim: Contained, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim.run_in_container("trap '' TERM; touch up; while :; do sleep 0.02; done")
    shim.up()
    shim.signal(signal.SIGKILL)
    wait_until(lambda: not shim.locked())
    assert len(shim.engine().containers() or []) == 1
    run = Run(shim.directory)
    run.run_id = RUN_ID
    (shim.state / "down").touch()
    with monkeypatch.context() as patch:
        patch.setattr(engines, "REMOVE_TIMEOUT_S", 0.0)
        with pytest.raises(TransientError, match="does not say that its container is gone"):
            run.kill_leftovers(0.0)
    (shim.state / "down").unlink()
    run.kill_leftovers(0.0)
    assert shim.engine().containers() == []


def test_the_grace_is_waited_for(shim: Contained) -> None:
    shim.run_in_container("trap 'touch saved; exit 0' TERM; touch up; while :; do sleep 0.02; done")
    shim.up()
    shim.signal(signal.SIGKILL)  # the kernel then tells the engine's command, and that the program
    wait_until(lambda: not shim.locked())
    run = Run(shim.directory)
    run.run_id = RUN_ID
    run.kill_leftovers(10.0)
    assert (shim.directory / "saved").exists()


@pytest.mark.parametrize("command", [["/no/such/engine"], ["/bin/false"]])
def test_an_engine_that_does_not_answer_is_no_answer(command: list[str]) -> None:
    engine = Engine(command, "a=b", {})
    assert engine.containers() is None
    assert not engine.set_paused(True)
    assert not engine.remove(timeout_s=0.0)
    engine.wait_gone(60.0)  # nobody can tell: not worth waiting


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "COMMAND_TIMEOUT_S", 0.05)
    assert Engine(["/bin/sh", "-c", "sleep 60"], "a=b", {}).containers() is None


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        ("a\nb\n\n", "b"),
        ("docker: Error: no\n\nRun 'docker run --help' for more information\n", "docker: Error: no"),
        ("x" * 5000, "x" * 300),
    ],
)
def test_last_words(tmp_path: Path, log: str, said: str) -> None:
    (tmp_path / "log").write_text(log)
    assert engines.last_words(str(tmp_path / "log")) == said


def test_no_log_no_words(tmp_path: Path) -> None:
    assert engines.last_words(str(tmp_path / "log")) == ""


def test_fake_knows_what_it_does_not_have(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "fake_engine.py"), str(tmp_path)]
    assert subprocess.run([*command, "pause", "none"], check=False).returncode == 1
