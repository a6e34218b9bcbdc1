"""How long to wait between tries at a peer: doubling, bounded, jittered so that many do not come at once."""

import random
from collections.abc import Callable


class Backoff:
    """The waits after failures in a row.

    Parameters
    ----------
    first_s, longest_s : float
        Bounds of the wait before jitter, in seconds.
    least_frac : float
        The jittered wait is between this share and all of it, 0 to 1.
    draw : callable
        Returns numbers in [0, 1).
    """

    __slots__ = ("_draw", "_first_s", "_least_frac", "_longest_s", "full_s")

    def __init__(
        self,
        first_s: float,
        longest_s: float,
        *,
        least_frac: float = 0.5,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = min(first_s, longest_s)
        self._longest_s = longest_s
        self._least_frac = least_frac
        self._draw = draw
        self.full_s = self._first_s
        """What the next wait is at most."""

    def next_s(self) -> float:
        """Return the seconds to wait after one more failure."""
        wait_s = self.full_s * (self._least_frac + (1.0 - self._least_frac) * self._draw())
        self.full_s = min(2.0 * self.full_s, self._longest_s)
        return wait_s

    def reset(self) -> None:
        """Begin anew, after a success."""
        self.full_s = self._first_s
