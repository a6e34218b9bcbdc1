"""How the C library keeps its heap; set once, by `main`, before there are threads."""

M_ARENA_MAX = -8
"""mallopt(3), from glibc's malloc.h."""


def share_one_heap() -> bool:
    """Have all threads allocate from one heap; False: this C library has no such setting.

    By default glibc gives each new thread a heap of its own, up to eight per core. The agent's threads are
    many and allocate little, so that most of it would be holes.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, 1))
