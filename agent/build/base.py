"""What every builder works with: the checked configuration, the clock, what closes at the end, the loops."""

from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import AgentConfig
from agent.model.readings import SitePower
from agent.tasks.clock_trust import ClockTrust
from sterna.clock import Clock
from sterna.errors import ConfigError
from sterna.supervise import Pulse

if TYPE_CHECKING:
    from agent.grid.measured import Measurements

LOOP_DEADLINE_S = 30.0
"""A loop that talks to a device or disk may be slow for a while before it counts as hung."""

Loops = dict[str, Callable[[], Coroutine[object, object, None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The agent while it is being put together.

    Parameters
    ----------
    config : AgentConfig
        Checked.
    base_dir : Path
        Folder that relative paths count from.
    stack : AsyncExitStack
        Closes what was opened.
    pulse : Pulse
        Hands out a heart per loop.
    loops : dict
        Every root task of the daemon by name; builders of parts that run add theirs.
    listeners : list
        Told of every balance of the site, once a second; they must not block.
    measurements : list
        Each adds to what the site can tell of itself in reports.
    links : dict
        Tells of each peer, by name, whether it is connected now.
    clock_trust : ClockTrust
        Says whether the calendar may be believed now.
    """

    config: AgentConfig
    base_dir: Path
    clock: Clock
    stack: AsyncExitStack
    pulse: Pulse
    loops: Loops = field(default_factory=dict)
    listeners: list[Callable[[SitePower], None]] = field(default_factory=list)
    measurements: list[Callable[["Measurements"], "Measurements"]] = field(default_factory=list)
    links: dict[str, Callable[[], bool]] = field(default_factory=dict)
    clock_trust: ClockTrust = field(
        default_factory=lambda: ClockTrust(ask=lambda: True, always=True, synced=True)
    )

    def measured(self, measurements: "Measurements") -> "Measurements":
        """Return what the site can tell of itself, with what other parts know of its past."""
        for add in self.measurements:
            measurements = add(measurements)
        return measurements

    @property
    def state_dir(self) -> Path:
        """Return the folder of everything that survives a restart; made when missing.

        Raises
        ------
        ConfigError
            It cannot be made.
        """
        folder = self.base_dir / self.config.state_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = "is no folder" if folder.exists() else f"cannot be made: {error.strerror}"
            raise ConfigError(f"agent.toml: state_dir: {folder}: {why}") from error
        return folder
