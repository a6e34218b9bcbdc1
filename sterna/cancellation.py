"""Cancellation is the only stop signal, so none may get lost."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def undeterred(call: Awaitable[T]) -> T:
    """Await a library's call, and be cancelled if we were meanwhile.

    A library that waits with `asyncio.wait_for` forgets, before Python 3.12, a cancellation that comes in the
    same moment as the answer: the loop that asked would go on for ever, and the daemon would not stop.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    answer = await call
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


def heed() -> None:
    """Stop if we were asked to; to be called after a library may have forgotten it, by a task of its own."""
    task = asyncio.current_task()
    if task is not None and task.cancelling() > 0:
        raise asyncio.CancelledError
