"""A run's containers, as their engine's command knows them: paused, gone on with, ended, known to be gone.

The program is no descendant of the shim (docker's is the daemon's), and its cgroup is the engine's. So what
is done to it is done by the engine's own commands; only its stop signal goes through the command that runs
it. Standard library only: the shim imports this when its run is a container, and the agent ends with it what
a dead shim has left.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress

from agent.shim import files
from agent.shim.files import Record

COMMAND_TIMEOUT_S = 10.0
REMOVE_TIMEOUT_S = 20.0
SETTLE_S = 0.05
RUN_LABEL = "sterna.run"
NOT_RUN_CODES = frozenset({125, 126, 127})
"""What an engine's run exits with when it could not run the program; see podman-run(1), "Exit Status"."""
_SAID_CHARS_MAX = 300


class Engine:
    """The containers that carry one label.

    Parameters
    ----------
    command : list of str
        What every command of the engine begins with.
    label : str
        ``KEY=VALUE``.
    env : dict
        Environment of its commands.
    """

    def __init__(self, command: list[str], label: str, env: dict[str, str]) -> None:
        self._command = command
        self._label = label
        self._env = env

    def set_paused(self, paused: bool, run_id: str = "") -> bool:
        """Pause or unpause; False when there is nothing to pause, or nobody could.

        Parameters
        ----------
        paused : bool
            Which of the two.
        run_id : str
            Where the engine cannot (podman without root under cgroup v1), the processes of this run that are
            seen from here are stopped one by one, or continued.
        """
        found = self.containers() or []
        if found and self._run("pause" if paused else "unpause", *found) is not None:
            return True
        return _signal_run(run_id, signal.SIGSTOP if paused else signal.SIGCONT)

    def containers(self) -> list[str] | None:
        """Return the ids of the containers that exist, running or not; None: the engine does not tell."""
        listed = self._run("ps", "--all", "--quiet", "--no-trunc", f"--filter=label={self._label}")
        return None if listed is None else listed.split()

    def remove(self, run_id: str = "", *, timeout_s: float | None = None) -> bool:
        """Kill and remove all of them.

        Parameters
        ----------
        run_id : str
            Its processes, as far as they can be seen from here, are killed first: that needs no engine.
        timeout_s : float or None
            How long to try; None: `REMOVE_TIMEOUT_S`.

        Returns
        -------
        bool
            Whether the engine says that there is none.
        """
        deadline_s = files.boottime_s() + (REMOVE_TIMEOUT_S if timeout_s is None else timeout_s)
        while True:
            _signal_run(run_id, signal.SIGKILL)
            found = self.containers()
            if found == []:
                return True
            if files.boottime_s() >= deadline_s:
                return False
            if found:  # each may be stopped, paused or gone by now: the next look tells
                self._run("kill", *found)
                self._run("rm", "--force", *found)
            time.sleep(SETTLE_S)

    def wait_gone(self, timeout_s: float) -> None:
        """Wait until there is none, or nobody can tell."""
        deadline_s = files.boottime_s() + timeout_s
        while self.containers() and files.boottime_s() < deadline_s:
            time.sleep(SETTLE_S)

    def _run(self, *words: str) -> str | None:
        """Return what a command of the engine writes; None when it fails or takes too long."""
        try:
            done = subprocess.run(
                [*self._command, *words],
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _signal_run(run_id: str, signum: int) -> bool:
    """Signal the processes of a run that can be seen and signalled from here; False: there is none."""
    reached = False
    for pid, start_ticks in files.processes_of_run(run_id) if run_id else ():
        with suppress(PermissionError):
            reached = files.signal_process(pid, start_ticks, signum) or reached
    return reached


def engine_of(run: Record) -> Engine | None:
    """Return the engine of a run, by its record; None where the run is a process of the site."""
    command, env = run.get("engine"), run.get("env")
    if not isinstance(command, list) or not isinstance(env, dict):
        return None
    label = f"{RUN_LABEL}={run.get('run_id')}"
    return Engine([str(word) for word in command], label, {str(key): str(env[key]) for key in env})


def last_words(log: str) -> str:
    """Return the last line of a log that says something."""
    try:
        with open(log, "rb") as file:  # noqa: PTH123
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and not line.startswith("Run 'docker")]
    return said[-1][:_SAID_CHARS_MAX] if said else ""
