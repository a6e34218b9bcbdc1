"""The demo's processes: every daemon its own, all of them gone when the demo ends, however it ends."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sterna.errors import PermanentError

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STOP_TIMEOUT_S = 8.0
_POLL_S = 0.05


@dataclass(slots=True)
class Processes:
    """A set of children and whatever they leave behind.

    Job shims outlive their agents by design, so the demo makes itself the reaper of its descendants and ends
    those too.

    Parameters
    ----------
    log_dir : Path
        Where each child's output goes, one file a child.
    """

    log_dir: Path
    revived: list[str] = field(default_factory=list)
    """Daemons that somebody ended and that were started again, in order."""
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _daemons: dict[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        adopt_orphans(True)

    def spawn_daemon(self, name: str, argv: Sequence[str]) -> None:
        """Start a child that is started again when somebody ends it, as systemd does it on a site."""
        self._daemons[name] = argv
        self.spawn(name, argv)

    def spawn(self, name: str, argv: Sequence[str]) -> None:
        """Start a child under a name."""
        with (self.log_dir / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops them in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl, no locks taken
            )
        self._children[name] = child

    def check(self) -> None:
        """Start daemons again that a signal ended; raise when any other child has ended.

        Raises
        ------
        PermanentError
            Naming the child, how it ended and its last lines.
        """
        for name, child in list(self._children.items()):
            code = child.poll()
            if code is None:
                continue
            if code <= 0 and name in self._daemons:  # 0: asked to stop
                self.spawn(name, self._daemons[name])
                self.revived.append(name)
            else:
                tail = (self.log_dir / f"{name}.log").read_text(errors="replace").splitlines()[-12:]
                end = f"ended with {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
                raise PermanentError(f"{name} {end}; the last it said:\n  " + "\n  ".join(tail))

    def stop(self, names: Sequence[str] | None = None) -> None:
        """Stop the named children, all in reverse order when None."""
        for name in reversed(list(self._children)) if names is None else names:
            child = self._children.pop(name)
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_STOP_TIMEOUT_S)
            child.kill()
            child.wait()

    def stop_everything(self) -> None:
        """Stop all children and then every descendant that is left."""
        self.stop()
        deadline_s = time.monotonic() + _STOP_TIMEOUT_S  # noqa: TID251 - not a daemon; waits for its own children
        signum = signal.SIGTERM
        while left := descendants(os.getpid()):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
            _reap()
            if time.monotonic() > deadline_s:  # noqa: TID251
                signum = signal.SIGKILL
            time.sleep(_POLL_S)


def adopt_orphans(adopts: bool) -> None:
    """Have this process be the parent of each descendant whose own parent ends, or no longer."""
    _prctl(_PR_SET_CHILD_SUBREAPER, adopts)


def descendants(root_pid: int) -> list[int]:
    """Return the pids of all living descendants of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(entry.name)] = int(fields[1])
    found: list[int] = []
    frontier = {root_pid}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found += sorted(frontier)
    return found


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
