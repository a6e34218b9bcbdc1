"""Bringing a checkpoint here: tried again while it may work, given up when it may not."""

import asyncio
import logging
from collections.abc import Callable

from agent.core.jobtable import JobEvent
from agent.jobs.book import JobBook, Live
from agent.jobs.ports import Carrier, Checkpoints, Fetched
from agent.jobs.twins import Twins
from agent.model.jobs import JobPhase
from agent.model.orders import Fetch
from agent.model.records import JobRecord
from sterna.backoff import Backoff
from sterna.clock import Clock
from sterna.errors import PermanentError, TransientError

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


async def bring(
    record: JobRecord,
    *,
    book: JobBook,
    carrier: Carrier,
    checkpoints: Checkpoints,
    twins: Twins,
    clock: Clock,
    boot_id: str,
    patience_s: float,
) -> bool:
    """Bring the checkpoint that a job was ordered to fetch, record how that went, and copy it for a start.

    Parameters
    ----------
    record : JobRecord
        FETCHING.
    book, carrier, checkpoints, twins, clock, boot_id
        The site's.
    patience_s : float
        See `fetch_patiently`; also how long the reservation goes on after a failure.

    Returns
    -------
    bool
        False when it was given up.
    """
    job_id, fetch = record.job_id, record.fetch
    if fetch is None:
        raise PermanentError(f"job {job_id}: FETCHING without an order")
    here = {JobPhase.FETCHING}
    async with twins.beside(job_id, fetch) as arrived:
        begun = False
        resumed = False  # then what this process receives is not the whole

        def progressed(here_bytes: int) -> None:
            nonlocal begun, resumed
            begun, resumed = True, resumed or (here_bytes > 0 and not begun)
            book.see(job_id, Live(fetched_bytes=here_bytes))
            arrived()

        try:
            fetched = await fetch_patiently(
                carrier, clock, job_id, fetch, patience_s=patience_s, on_progress=progressed
            )
        except PermanentError as error:
            log.error("fetch failed", extra={"job_id": job_id, "error": str(error)})
            # The reservation goes on: the coordinator may order another fetch, or let go.
            await book.change(
                job_id,
                JobEvent.FETCH_FAILED,
                only_in=here,
                message=f"fetch failed: {error}",
                fetch=None,
                boot_id=boot_id,
                reserved_until_s=clock.boottime_s() + patience_s,
            )
            return False
        book.list_checkpoints(job_id, await checkpoints.checkpoints(job_id))
        # None: the bytes were all here before, so the last measurement stands.
        await book.change(
            job_id,
            JobEvent.FETCHED,
            only_in=here,
            message="",
            goodput_bps=fetched.goodput_bps or record.goodput_bps,
            transferred_bytes=None if resumed else fetched.transferred_bytes,
        )
    return True


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
    backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
    most_bytes = 0
    moved_s = clock.boottime_s()

    def moved(here_bytes: int, _total_bytes: int) -> None:
        nonlocal most_bytes, moved_s
        if here_bytes > most_bytes:
            most_bytes, moved_s = here_bytes, clock.boottime_s()
            backoff.reset()
        on_progress(here_bytes)

    while True:
        try:
            return await carrier.fetch(job_id, fetch, moved)
        except TransientError as error:
            if clock.boottime_s() - moved_s >= patience_s:
                raise PermanentError(f"no progress for {patience_s:.0f} s: {error}") from error
            log.warning("fetch interrupted, will be resumed", extra={"job_id": job_id, "error": str(error)})
            pause_s, stated_s = backoff.next_s(), error.retry_after_s
        await asyncio.sleep(pause_s if stated_s is None else stated_s)
