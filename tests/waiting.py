"""Waiting until something is so. The deadline is one that only a test that fails ever meets."""

import asyncio
import time
from collections.abc import Callable

WITHIN_S = 30.0


async def until(
    condition: Callable[[], object], what: str = "the condition", *, within_s: float = WITHIN_S
) -> None:
    """Let the loop run until a condition holds."""
    give_up_s = time.perf_counter() + within_s
    while not condition():
        assert time.perf_counter() < give_up_s, f"{what} did not come true within {within_s:g} s"
        await asyncio.sleep(0.01)


def wait_until(
    condition: Callable[[], object], what: str = "the condition", *, within_s: float = WITHIN_S
) -> None:
    """Block until a condition holds."""
    give_up_s = time.perf_counter() + within_s
    while not condition():
        assert time.perf_counter() < give_up_s, f"{what} did not come true within {within_s:g} s"
        time.sleep(0.01)
