"""Wakes the loops that wait for something to change."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Ring:
    """One listener's ear: a ring between `clear` and `wait` is not missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def clear(self) -> None:
        """Forget the rings so far."""
        self._event.clear()

    def hear(self) -> None:
        """Take a ring."""
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return at the next ring, at once if there was one since `clear`, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return


class Bell:
    """Rung by whoever changed something."""

    def __init__(self) -> None:
        self._rings: set[Ring] = set()

    def ring(self) -> None:
        """Wake every listener."""
        for ring in self._rings:
            ring.hear()

    @contextmanager
    def listen(self) -> Iterator[Ring]:
        """Listen for as long as the context lasts."""
        ring = Ring()
        self._rings.add(ring)
        try:
            yield ring
        finally:
            self._rings.discard(ring)
