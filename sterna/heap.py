"""How the C library keeps its heap: one for all threads, and given back once much of it was freed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

M_ARENA_MAX = -8
"""mallopt(3), from glibc's malloc.h."""


def share_one_heap() -> bool:
    """Have all threads allocate from one heap; False: this C library has no such setting.

    Set once, by `main`, before there are threads. By default glibc gives each new thread a heap of its own,
    up to eight per core. The agent's threads are many and allocate little, so that most of it would be holes.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, 1))


class FreedMemory:
    """Gives freed memory back to the kernel once what needed much of it is over.

    By itself glibc keeps what was freed below a block that is still used: 22 MB in a holder that has sent
    half a gigabyte.

    Parameters
    ----------
    linger_s : float
        Seconds that it is kept for the next user: a transfer asks for one run after the other.
    """

    def __init__(self, linger_s: float = 5.0) -> None:
        self._linger_s = linger_s
        self._giving_back: asyncio.TimerHandle | None = None

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Give it back a while after the context, counted from the last one that ended."""
        try:
            yield
        finally:
            if self._giving_back is not None:
                self._giving_back.cancel()
            self._giving_back = asyncio.get_running_loop().call_later(self._linger_s, _trim)


def _trim() -> None:
    import ctypes

    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
