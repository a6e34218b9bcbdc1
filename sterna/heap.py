"""How the C library keeps its heap: one for all threads, and what it does with freed memory meanwhile."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
"""mallopt(3), from glibc's malloc.h."""

KEPT_BYTES = 64 * 1024 * 1024
HEAP_BLOCK_BYTES_MAX = 32 * 1024 * 1024
"""The most that glibc accepts: larger blocks are mapped, and unmapped when freed."""
DEFAULT_BYTES = 128 * 1024
"""Glibc's own default of both thresholds."""


def share_one_heap() -> bool:
    """Have all threads allocate from one heap; False: this C library has no such setting.

    Set once, by `main`, before there are threads. By default glibc gives each new thread a heap of its own,
    up to eight per core. The agent's threads are many and allocate little, so that most of it would be holes.
    """
    return _mallopt(M_ARENA_MAX, 1)


class FreedMemory:
    """Keeps freed memory in the process while something moves much of it, and gives it back afterwards.

    By default glibc returns the top of the heap to the kernel as soon as a few hundred kilobytes of it are
    free. Who moves messages of a megabyte then pays for every page of each of them anew: a quarter of the
    processor time of a bare gRPC stream (docs/migration.md). The setting is the whole process's: make one.

    Parameters
    ----------
    linger_s : float
        Seconds that it is kept for the next user: a transfer asks for one run after the other.
    """

    def __init__(self, linger_s: float = 5.0) -> None:
        self._linger_s = linger_s
        self._users = 0
        self._giving_back: asyncio.TimerHandle | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep up to `KEPT_BYTES` of it while the context lasts, and a while longer."""
        loop = asyncio.get_running_loop()
        self._users += 1
        if self._giving_back is not None:
            self._giving_back.cancel()
            self._giving_back = None
        elif self._users == 1:
            _mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES_MAX)
            _mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._giving_back = loop.call_later(self._linger_s, self._give_back)

    def _give_back(self) -> None:
        self._giving_back = None
        _mallopt(M_MMAP_THRESHOLD, DEFAULT_BYTES)
        _mallopt(M_TRIM_THRESHOLD, DEFAULT_BYTES)
        import ctypes

        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if malloc_trim is not None:
            malloc_trim(0)


def _mallopt(parameter: int, value: int) -> bool:
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(parameter, value))
