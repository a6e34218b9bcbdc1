"""The child: started in its own session, tied to its parent's life, ended with all that it started.

Knows processes and signals; knows no lease and no file of the run directory but the log.
"""

import os
import signal
from contextlib import suppress

from agent.shim.cgroup import Group

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Have orphaned descendants handed to this process, so that none outlives the run unseen."""
    import ctypes  # the agent imports this module too, and never calls it

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    argv: list[str],
    env: dict[str, str],
    working_dir: str,
    log: str,
    death_signal: int,
    *,
    group: Group | None = None,
) -> int:
    """Fork and execute the program.

    Parameters
    ----------
    argv, env, working_dir
        What to run; `argv[0]` is looked up in the PATH of `env`.
    log : str
        File that stdout and stderr are appended to.
    death_signal : int
        What the kernel sends to the child should this process die.
    group : Group or None
        cgroup that the child joins before it becomes the program, so that nothing of it is ever outside.

    Returns
    -------
    int
        Process id, which is also the id of its group and session.

    Raises
    ------
    OSError
        The program cannot be executed.
    """
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl  # found before the fork: the child only makes calls
    parent = os.getpid()
    door = None if group is None else group.open_door()
    reader, writer = os.pipe()  # close-on-exec: EOF tells that the program runs, a number that it does not
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if door is not None:
                os.write(door, b"0")
            if os.getppid() == parent:  # else it died before the line above
                _become(argv, env, working_dir, log)
        except OSError as error:
            os.write(writer, str(error.errno or 1).encode())
        finally:
            os._exit(127)
    os.close(writer)
    if door is not None:
        os.close(door)
    with os.fdopen(reader, "rb") as pipe:
        failure = pipe.read()
    if failure:
        os.waitpid(pid, 0)
        number = int(failure)
        raise OSError(number, os.strerror(number), argv[0])
    return pid


def _become(
    argv: list[str],
    env: dict[str, str],
    working_dir: str,
    log: str,
) -> None:
    """Turn the forked process into the program; returns only by raising."""
    os.chdir(working_dir)
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for signum in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    os.execvpe(argv[0], argv, env)


def signal_group(group: int, signum: int) -> bool:
    """Signal every process of the child's group; False when none is left."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    return True


def end_all(leader: int, group: Group | None = None) -> None:
    """Kill what is left of the child's process group and cgroup, and every orphan handed to this process."""
    signal_group(leader, signal.SIGKILL)
    if group is not None:
        group.kill()
    while True:
        for pid in _children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    if group is not None:
        group.remove()


def _children() -> list[int]:
    """Return the pids of this process's children, zombies included."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", encoding="ascii") as file:  # noqa: PTH123
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN: the group was killed, which is all but all
        return []
