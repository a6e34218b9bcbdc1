"""Bringing a checkpoint here: tried again while it may work, given up when it may not."""

import asyncio
import logging
import random
from collections.abc import Callable

from agent.jobs.ports import Carrier, Fetched
from agent.model.orders import Fetch
from sterna.clock import Clock
from sterna.errors import PermanentError, SternaError, TransientError

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


async def fetch_patiently(
    carrier: Carrier,
    clock: Clock,
    job_id: str,
    fetch: Fetch,
    *,
    patience_s: float,
    on_progress: Callable[[int], None],
) -> Fetched:
    """Fetch, with back-off and jitter between tries; what has arrived is kept between them.

    Parameters
    ----------
    carrier, clock, job_id, fetch
        Who carries, and what.
    patience_s : float
        Seconds without one new byte after which a failing fetch is given up.
    on_progress : callable
        Gets the bytes that are here.

    Raises
    ------
    PermanentError
        It cannot work, or patience ran out.
    """
    pause_s = FIRST_PAUSE_S
    most_bytes = 0
    moved_s = clock.boottime_s()

    def moved(here_bytes: int, _total_bytes: int) -> None:
        nonlocal most_bytes, moved_s, pause_s
        if here_bytes > most_bytes:
            most_bytes, moved_s, pause_s = here_bytes, clock.boottime_s(), FIRST_PAUSE_S
        on_progress(here_bytes)

    while True:
        try:
            return await carrier.fetch(job_id, fetch, moved)
        except TransientError as error:
            if clock.boottime_s() - moved_s >= patience_s:
                raise PermanentError(f"no progress for {patience_s:.0f} s: {error}") from error
            log.warning("fetch interrupted, will be resumed", extra={"job_id": job_id, "error": str(error)})
            wait_s = error.retry_after_s if error.retry_after_s is not None else pause_s
        await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)


def failure_message(error: SternaError) -> str:
    """Return one sentence for the report."""
    return f"fetch failed: {error}"
