"""The one TaskGroup of a daemon: named root tasks, signals, heartbeats.

Cancellation is the only stop signal. SIGTERM and SIGINT raise `StopRequested` inside the group, which ends
every task; `run` then returns 0. Anything else that leaves a root task ends the process with 1, and systemd
starts it again: a daemon that has lost a loop is not a daemon.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field

from sterna import pace
from sterna.clock import Clock
from sterna.notify import Notifier

log = logging.getLogger(__name__)

CHECK_PERIOD_S = 1.0


class StopRequested(Exception):  # noqa: N818 - not an error
    """Somebody asked the daemon to stop."""


@dataclass(slots=True)
class Heart:
    """What one loop beats; it is alive while its last beat is younger than its deadline."""

    name: str
    deadline_s: float
    _clock: Clock
    _beaten_s: float

    def beat(self) -> None:
        """Tell that the loop has come round."""
        self._beaten_s = self._clock.boottime_s()

    @property
    def overdue_s(self) -> float:
        """Seconds past the deadline; 0 or less while alive."""
        return self._clock.boottime_s() - self._beaten_s - self.deadline_s


@dataclass(slots=True)
class Pulse:
    """The hearts of a daemon. The watchdog is fed only while all of them beat."""

    clock: Clock
    _hearts: list[Heart] = field(default_factory=list)

    def heart(self, name: str, deadline_s: float) -> Heart:
        """Add a loop that promises to beat at least every `deadline_s` seconds."""
        heart = Heart(name, deadline_s, self.clock, self.clock.boottime_s())
        self._hearts.append(heart)
        return heart

    @property
    def hearts(self) -> tuple[Heart, ...]:
        """Every loop that has promised to beat."""
        return tuple(self._hearts)

    def overdue(self) -> list[str]:
        """Names of the loops that missed their deadline."""
        return [heart.name for heart in self._hearts if heart.overdue_s > 0]


RootTasks = Mapping[str, Callable[[], Coroutine[object, object, None]]]


async def supervise(
    tasks: RootTasks,
    *,
    notifier: Notifier,
    pulse: Pulse,
    status: str,
    on_ready: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Run the root tasks until a signal or a failure.

    Parameters
    ----------
    tasks : mapping of name to coroutine function
        Each runs for the daemon's life; one that returns is a failure.
    notifier, pulse
        Where READY, WATCHDOG and STOPPING go, and what the watchdog depends on.
    status : str
        One line for ``systemctl status``.
    on_ready : coroutine function or None
        Awaited after the tasks were started and READY was told.

    Returns
    -------
    int
        Exit code: 0 when asked to stop, 1 when a task failed.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    exit_code = 1
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_stop_when(stop), name="signals")
            group.create_task(_feed(notifier, pulse), name="watchdog")
            for name, start in tasks.items():
                group.create_task(_forever(name, start), name=name)
            notifier.ready(status)
            log.info("ready", extra={"tasks": len(tasks)})
            if on_ready is not None:
                await on_ready()
    except* StopRequested:
        notifier.stopping()
        log.info("stopped on request")
        exit_code = 0
    except* Exception as failures:
        # Also after a StopRequested: a task that failed on its way out has not stopped cleanly.
        exit_code = 1
        notifier.stopping()
        for failure in failures.exceptions:
            log.critical("a root task failed", exc_info=failure)
    finally:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)
    return exit_code


async def _stop_when(stop: asyncio.Event) -> None:
    await stop.wait()
    raise StopRequested


async def _forever(name: str, start: Callable[[], Coroutine[object, object, None]]) -> None:
    await start()
    raise RuntimeError(f"root task {name} returned")


async def _feed(notifier: Notifier, pulse: Pulse) -> None:
    silent: list[str] = []
    while True:
        overdue = pulse.overdue()
        if not overdue:
            notifier.watchdog()
        elif overdue != silent:
            log.error("a loop missed its deadline; the watchdog is not fed", extra={"loops": overdue})
        silent = overdue
        await pace.rest(min(CHECK_PERIOD_S, (notifier.watchdog_s or 2.0) / 3))
