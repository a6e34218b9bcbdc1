"""Virtual time: the clocks of each node, all different, over one true time that nobody in the world sees."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

ORIGIN = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class TrueTime:
    """Seconds since the world began."""

    now_s: float = 0.0


class NodeClock:
    """The two clocks of one machine; the protocol of `sterna.clock.Clock`.

    Parameters
    ----------
    time : TrueTime
        What passes for everybody.
    rate : float
        Seconds that CLOCK_BOOTTIME counts for one true second.
    """

    def __init__(self, time: TrueTime, rate: float) -> None:
        self._time = time
        self._rate = rate
        self._booted_at_s = time.now_s - 1000.0
        self._boots = 1
        self.calendar_off_s = 0.0

    @property
    def boot_id(self) -> str:
        return f"boot-{self._boots}"

    def boot(self) -> None:
        """Begin to count anew: the machine was off."""
        self._boots += 1
        self._booted_at_s = self._time.now_s - 5.0

    def boottime_s(self) -> float:
        return (self._time.now_s - self._booted_at_s) * self._rate

    def now(self) -> datetime:
        return ORIGIN + timedelta(seconds=self._time.now_s + self.calendar_off_s)

    def true_s(self, own_s: float) -> float:
        """Return how long a duration of this node's clock really takes."""
        return own_s / self._rate
