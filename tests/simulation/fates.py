"""What can become of a durable write: the boundary at which processes die, or are told a lie."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sterna.errors import TransientError
from tests.simulation.world import DiedError, Mortal


class Fate(Enum):
    """What meets a durable write."""

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    CUT_BEFORE = "power cut before"
    CUT_AFTER = "power cut after"
    REFUSED = "refused"
    TOLD_IT_FAILED = "done, but told that it failed"


LIES = frozenset({Fate.REFUSED, Fate.TOLD_IT_FAILED})


@dataclass(slots=True)
class Boundary:
    """Counts durable writes down to the one that meets its fate."""

    fate: Fate | None = None
    writes_left: int = 0

    def arm(self, fate: Fate, writes_left: int) -> None:
        self.fate, self.writes_left = fate, writes_left

    def commit(self, who: Mortal, write: Callable[[], None]) -> None:
        """Write, unless this is the one.

        Raises
        ------
        DiedError
            Who wrote is no more.
        TransientError
            It is told that the write failed, which may be false.
        """
        if self.fate is None or self.writes_left > 0:
            self.writes_left -= 1
            write()
            return
        fate, self.fate = self.fate, None
        if fate in (Fate.KILLED_AFTER, Fate.CUT_AFTER, Fate.TOLD_IT_FAILED):
            write()
        if fate in LIES:
            raise TransientError("the disk does not take it now")
        raise DiedError(who, power=fate in (Fate.CUT_BEFORE, Fate.CUT_AFTER))
