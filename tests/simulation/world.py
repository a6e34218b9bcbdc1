"""The world: one heap of things that will happen, one source of chance, and what has been seen of it all.

`step` takes the next thing, lets it happen, and has every invariant looked at.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

from tests.simulation.clocks import TrueTime

TOLD = 300
"""Lines of the chronicle that a violation shows."""


class Violation(AssertionError):  # noqa: N818 - a finding, not an error of ours
    """A promise was not kept. `number` is that of DESIGN 7's invariant; 0 for the others."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"invariant {number}: {what}" if number else what)
        self.number = number


class Mortal(Protocol):
    def die(self, *, power: bool) -> None: ...


class DiedError(Exception):
    """A process, or its machine, ended in the middle of what it was doing."""

    def __init__(self, who: Mortal, *, power: bool) -> None:
        super().__init__("died")
        self.who = who
        self.power = power


class World:
    """Time, chance, and the chronicle.

    Parameters
    ----------
    seed : int
        Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.time = TrueTime()
        self.happened = 0
        self.look: Callable[[], None] = lambda: None
        self.chronicle: deque[tuple[float, str, str, tuple[object, ...]]] = deque(maxlen=TOLD)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    @property
    def now_s(self) -> float:
        return self.time.now_s

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Let something happen later; what is due at one instant happens in the order that it was said."""
        self._order += 1
        heapq.heappush(self._heap, (self.time.now_s + delay_s, self._order, act))

    def between(self, least: float, most: float) -> float:
        return least + (most - least) * self.random.random()

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def tell(self, who: str, what: str, *values: object) -> None:
        """Note a line; it is put into words only when somebody reads it."""
        self.chronicle.append((self.time.now_s, who, what, values))

    def lines(self) -> list[str]:
        return [
            f"{at_s:9.3f}  {who:<12} {what.format(*map(_short, values))}"
            for at_s, who, what, values in self.chronicle
        ]

    def step(self) -> None:
        at_s, _, act = heapq.heappop(self._heap)
        self.time.now_s = at_s
        self.happened += 1
        try:
            act()
        except DiedError as death:
            death.who.die(power=death.power)
        self.look()

    def run_until(self, end_s: float) -> None:
        while self._heap and self._heap[0][0] <= end_s:
            self.step()
        self.time.now_s = max(end_s, self.time.now_s)


def _short(value: object) -> object:
    """Shorten content hashes; everything else is as it is."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else value
