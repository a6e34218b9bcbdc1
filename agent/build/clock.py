"""Whether the calendar may be believed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.config.grid import GridTable
from agent.tasks.clock_trust import ClockTrust, run_clock_trust

LOOK_PERIOD_S = 3.0


def make_clock_trust(grid: GridTable, base_dir: Path) -> ClockTrust:
    """Make what says whether the calendar is kept, and have a first look."""
    trust = ClockTrust(ask=_asking(grid, base_dir), always=grid.trust_clock == "always")
    trust.look()
    return trust


def watch_clock(build: Build) -> None:
    """Have the clock looked at, unless it is believed whatever is said of it."""
    if not build.clock_trust.always:
        build.loops["clock"] = partial(
            run_clock_trust,
            build.clock_trust,
            period_s=LOOK_PERIOD_S,
            heart=build.pulse.heart("clock", LOOP_DEADLINE_S),
        )


def _asking(grid: GridTable, base_dir: Path) -> Callable[[], bool | None]:
    if grid.trust_clock == "always":
        return lambda: True
    if grid.trust_clock == "file":
        return (base_dir / grid.trust_clock_file).exists
    from sterna.timesync import synchronised  # sites that do not ask the kernel do not pay for it

    return synchronised
