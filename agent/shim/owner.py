"""What the shim does with its one child: lease, stop, grace, kill, pause, and the record of the end."""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from agent.shim import child, files
from agent.shim.cgroup import Group
from agent.shim.files import Record

TYPE_CHECKING = False  # typing takes its time to import; checkers know the name
if TYPE_CHECKING:
    from agent.shim.engine import Engine

LOOK_PERIOD_S = 0.5
"""How often the control file is looked at when nobody nudges."""


def main(directory: str, lock_fd: int) -> int:
    """Leave the agent's process tree and own the run in `directory` until it has ended.

    Parameters
    ----------
    directory : str
        The run directory, prepared by the agent.
    lock_fd : int
        Open file of ``lock``, already locked by the agent: the lock passes over with it, without a gap in
        which the run would look dead.

    Returns
    -------
    int
        Exit status; nobody reads it but tests.
    """
    os.set_inheritable(lock_fd, False)
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    os.chdir(directory)
    _detach_output(directory)
    return Owner(directory).run()


def _detach_output(directory: str) -> None:
    """Take stdin, stdout and stderr away from the agent's terminal."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(f"{directory}/shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, target)
    os.close(null)
    os.close(out)


class Owner:
    """The run of one child.

    Parameters
    ----------
    directory : str
        The run directory.
    group : Group or None
        The child's own cgroup, to freeze and kill by; None: signals to its process group do that.
    stopping : callable or None
        Told the grace in seconds when the stop begins.
    """

    def __init__(
        self, directory: str, *, group: Group | None = None, stopping: Callable[[float], None] | None = None
    ) -> None:
        self._directory = directory
        self._group = group
        self._stopping = stopping
        self._boot_id = files.boot_id()
        run = files.read_record(directory, files.RUN)
        if run is None:
            raise SystemExit("run.json is missing or broken")
        self._run = run
        self._run_id = str(run["run_id"])
        self._shared = str(run.get("shared", directory))
        self._stop_signal = signal.Signals[f"SIG{run['stop_signal']}"]
        self._grace_s = float(str(run["stop_grace_s"]))
        self._engine: Engine | None = None
        if "engine" in run:
            from agent.shim.engine import engine_of  # other runs do not pay for it

            self._engine = engine_of(run)
        self._control: Record = {}
        self._stamp: tuple[int, int] | None = None
        self._revoked = False
        self._paused = False
        self._identity_is_stale = False
        self._pid = 0
        self._cause = "exited"
        self._kill_at_s: float | None = None
        self._killed = False
        self._told_to_stop = False
        self._started_s = 0.0
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Start the child, watch it to its end, and record how it ended."""
        self._listen()
        self._read_control()
        cause, refusal = self._refusal()
        if refusal:
            self._record_end(cause=cause, error=refusal)
            return 1
        child.become_subreaper()
        death = signal.Signals[f"SIG{self._run['parent_death_signal']}"]
        try:
            self._pid = child.start(
                [str(word) for word in _list(self._run["argv"])],
                {str(name): str(value) for name, value in _dict(self._run["env"]).items()},
                str(self._run["working_dir"]),
                f"{self._directory}/{files.LOG}",
                death,
                group=self._group,
            )
        except OSError as error:
            self._record_end(cause="not_started", error=str(error))
            return 1
        self._started_s = files.boottime_s()
        try:
            self._record_identity()
        except OSError as error:  # a full disk: nobody could adopt this run, so there must be none
            self._end_all()
            self._record_end(cause="not_started", error=str(error))
            return 1
        status = self._watch()
        self._end_all()
        code = os.waitstatus_to_exitcode(status)
        if self._engine is not None and self._cause == "exited":
            from agent.shim.engine import NOT_RUN_CODES, last_words

            if code in NOT_RUN_CODES:
                said = last_words(f"{self._directory}/{files.LOG}")
                self._record_end(cause="not_started", error=f"{said} (exit code {code})")
                return 1
        self._record_end(cause=self._cause, code=code)
        return 0

    def _end_all(self) -> None:
        """See that nothing of the run is left; a container may outlive the command that ran it."""
        while self._engine is not None and not self._engine.remove(self._run_id):
            time.sleep(1.0)  # the lock says "alive" for as long as it may be there
        child.end_all(self._pid, self._group)

    def _refusal(self) -> tuple[str, str]:
        """Say why nothing may be started, as cause and sentence; the latter empty when it may."""
        if self._revoked:
            return "revoked", "the run directory was taken away"
        if self._control.get("boot_id") != self._boot_id:
            return "lease", "granted in another boot"
        if self._lease_left_s() <= 0:
            return "lease", "the lease expired before the start"
        return "", ""

    def _watch(self) -> int:
        """Look, decide, act, until the child is gone; return its wait status."""
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                return status
            self._look()
            self._sleep()
            self._reap_orphans()

    def _look(self) -> None:
        """Follow what the agent wrote and what the clock says."""
        self._follow()
        if self._identity_is_stale:
            with suppress(OSError):  # a full disk: at the next look
                self._record_identity()
                self._identity_is_stale = False

    def _follow(self) -> None:
        self._read_control()
        if self._revoked:
            self._kill("revoked")
            return
        if self._kill_at_s is not None:
            if files.boottime_s() >= self._kill_at_s:
                self._kill(self._cause)
            return
        if self._told_to_stop:
            self._begin_stop("shutdown", "the shim was told to stop")
        elif os.path.exists(f"{self._shared}/{files.STOP}"):  # noqa: PTH110
            self._begin_stop("stopped", "")
        elif self._lease_left_s() <= 0:
            self._begin_stop("lease", "the lease expired")
        elif bool(self._control.get("paused")) != self._paused:
            self._set_paused(not self._paused)

    def _begin_stop(self, cause: str, reason: str) -> None:
        """Tell the child to stop by file and by signal; from here on there is no way back."""
        self._cause = cause
        self._kill_at_s = files.boottime_s() + self._grace_s
        if reason:
            with suppress(OSError):  # the signal is enough for a trainer that hears it
                files.write_record(self._shared, files.STOP, files.stop_request(reason, self._grace_s))
        if self._stopping is not None:
            self._stopping(self._grace_s)
        if self._engine is not None:
            if self._paused:  # an engine refuses to signal what it has paused
                self._suspend(False)
            with suppress(ProcessLookupError):  # the command passes it on, once
                os.kill(self._pid, self._stop_signal)
            return
        child.signal_group(self._pid, self._stop_signal)
        self._suspend(False)  # a suspended child could not act on it

    def _set_paused(self, paused: bool) -> None:
        """Suspend or resume the child's group and acknowledge it in the identity record."""
        if self._suspend(paused):
            self._paused = paused
            self._identity_is_stale = True

    def _suspend(self, paused: bool) -> bool:
        """Freeze or thaw the child's cgroup, else stop or continue its process group; False: none is left.

        A container is its engine's to pause.
        """
        if self._engine is not None:
            return self._engine.set_paused(paused, self._run_id)
        if self._group is not None and self._group.set_frozen(paused):
            return True
        return child.signal_group(self._pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def _kill(self, cause: str) -> None:
        self._cause = cause
        self._killed = True
        child.signal_group(self._pid, signal.SIGKILL)
        if self._group is not None and self._engine is None:  # else what tidies up after a container too
            self._group.kill()

    def _lease_left_s(self) -> float:
        """Return seconds until the lease ends; infinite when it has no end."""
        expires_s = self._control.get("expires_s")
        return float("inf") if expires_s is None else float(str(expires_s)) - files.boottime_s()

    def _read_control(self) -> None:
        """Read the control file again if it was replaced; a changed epoch goes into the identity record."""
        try:
            stat = os.stat(f"{self._directory}/{files.CONTROL}")  # noqa: PTH116
        except FileNotFoundError:  # the agent never removes it: somebody did away with the run
            self._revoked = True
            return
        if (stat.st_ino, stat.st_mtime_ns) == self._stamp:
            return
        control = files.read_record(self._directory, files.CONTROL)
        if control is None:
            return
        self._stamp = (stat.st_ino, stat.st_mtime_ns)
        changed = control.get("epoch") != self._control.get("epoch")
        self._control = control
        self._identity_is_stale = self._identity_is_stale or (changed and self._pid > 0)

    def _record_identity(self) -> None:
        """Write who we are, so that the agent adopts this run by identity."""
        mine, its = files.process_stat(os.getpid()), files.process_stat(self._pid)
        files.write_record(
            self._directory,
            files.SHIM,
            {
                "run_id": self._run_id,
                "boot_id": self._boot_id,
                "epoch": self._control.get("epoch"),
                "pid": os.getpid(),
                "start_ticks": mine[2] if mine else 0,
                "child_pid": self._pid,
                "child_start_ticks": its[2] if its else 0,
                "child_started_s": self._started_s,
                "paused": self._paused,
            },
        )

    def _record_end(self, *, cause: str, code: int | None = None, error: str = "") -> None:
        """Write the exit record, durably."""
        record: Record = {
            "run_id": self._run_id,
            "boot_id": self._boot_id,
            "epoch": self._control.get("epoch"),
            "cause": cause,
            "code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "killed": self._killed,
            "error": error,
            "ended_s": files.boottime_s(),
        }
        while True:
            try:
                files.write_record(self._directory, files.EXIT, record)
                return
            except FileNotFoundError:  # the run directory is gone: nobody is left to read it
                return
            except OSError:  # a full disk: the lock says "alive" until the record is safe
                time.sleep(1.0)

    def _listen(self) -> None:
        """Have signals wake the loop; they carry no more than that, but SIGTERM."""
        os.set_blocking(self._wake[1], False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, lambda *_: None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, _signum: int, _frame: object) -> None:
        self._told_to_stop = True

    def _sleep(self) -> None:
        """Wait for a nudge, the child, the next thing that the clock ends, or the next look."""
        now_s = files.boottime_s()
        ends_s = self._kill_at_s - now_s if self._kill_at_s is not None else self._lease_left_s()
        select.select([self._wake[0]], [], [], max(0.01, min(LOOK_PERIOD_S, ends_s)))
        with suppress(BlockingIOError):
            while os.read(self._wake[0], 512):
                pass

    def _reap_orphans(self) -> None:
        """Collect descendants that were handed to us, but leave the child's own status to `_watch`."""
        with suppress(ChildProcessError):
            while True:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid == self._pid:
                    return
                os.waitpid(found.si_pid, 0)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise SystemExit("run.json: expected a list")
    return value


def _dict(value: object) -> dict[object, object]:
    if not isinstance(value, dict):
        raise SystemExit("run.json: expected an object")
    return value
