"""Daemons as processes of their own: started, killed, stopped, and gone with everything they left behind."""

import asyncio
import contextlib
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

T = TypeVar("T")

COMMANDS = Path(sys.executable).parent
STOP_WITHIN_S = 15.0
POLL_S = 0.02


@dataclass(slots=True)
class Daemon:
    """One daemon, which can be killed and started again."""

    name: str
    argv: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    """Beside our own."""

    def start(self) -> None:
        """Start it; what it says is added to its log."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.env},
            )

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL it; on return it is gone. What it started stays."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM it; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_WITHIN_S)

    def said(self) -> str:
        """Return everything that it has said."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass(slots=True)
class Daemons:
    """The daemons of one test, below one folder."""

    folder: Path
    members: dict[str, Daemon] = field(default_factory=dict)

    def add(self, name: str, *argv: str) -> Daemon:
        """Add one, not yet started; its command is one of ours or an absolute path."""
        command = argv[0] if argv[0].startswith("/") else str(COMMANDS / argv[0])
        daemon = Daemon(name, (command, *argv[1:]), self.folder / f"{name}.log")
        self.members[name] = daemon
        return daemon

    def end_all(self) -> None:
        """Kill every daemon, then every shim and trainer that names our folder."""
        for daemon in self.members.values():
            if daemon.running:
                daemon.kill()
        deadline_s = time.monotonic() + STOP_WITHIN_S  # noqa: TID251
        while left := of_folder(self.folder):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline_s, f"these do not end: {left}"  # noqa: TID251
            time.sleep(POLL_S)

    def tails(self, lines: int = 30) -> str:
        """Return the last lines of every daemon, for a failure's message."""
        return "\n".join(
            f"--- {daemon.name}\n" + "\n".join(daemon.said().splitlines()[-lines:])
            for daemon in self.members.values()
        )


def of_folder(folder: Path) -> list[int]:
    """Return the processes whose command line or first environment names a folder of ours."""
    # Not one whose name merely begins like ours.
    ours = re.compile(re.escape(os.fsencode(folder)) + rb"(?![^/\0:=])")
    return [pid for pid, command, env in _processes() if ours.search(command) or ours.search(env)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """A trainer as the machine's process table has it."""

    pid: int
    job_id: str
    site: str
    epoch: int


def trainers(folder: Path) -> list[Trainer]:
    """Return every living trainer below a folder, whoever has started it."""
    found = []
    for pid, command, env in _processes():
        if b"agent.simulator.trainer" not in command or os.fsencode(folder) + b"/" not in env:
            continue
        values = dict(entry.partition(b"=")[::2] for entry in env.split(b"\0"))
        found.append(
            Trainer(
                pid=pid,
                job_id=values[b"STERNA_JOB_ID"].decode(),
                site=values[b"STERNA_SITE"].decode(),
                epoch=int(values[b"STERNA_EPOCH"]),
            )
        )
    return found


def _processes() -> list[tuple[int, bytes, bytes]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it ended under our eyes, or belongs to somebody else
            command = (entry / "cmdline").read_bytes()
            if command:  # a zombie has none
                found.append((int(entry.name), command, (entry / "environ").read_bytes()))
    return found


class LateError(AssertionError):
    """Something did not come to be in time."""


async def until(
    look: Callable[[], Awaitable[T] | T], *, within_s: float, what: str, poll_s: float = POLL_S
) -> T:
    """Look again and again until the answer is truthy; return it.

    Raises
    ------
    LateError
        Not within `within_s` seconds; with what was waited for and what was seen last.
    """
    deadline_s = time.monotonic() + within_s  # noqa: TID251
    while True:
        answer = look()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return cast("T", answer)
        if time.monotonic() > deadline_s:  # noqa: TID251
            raise LateError(f"{what} did not come within {within_s:g} s; last: {answer!r}")
        await asyncio.sleep(poll_s)
