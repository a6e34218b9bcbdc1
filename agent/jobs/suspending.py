"""Telling a live shim at once what its record says: to suspend its child, to let it go on, to stop it."""

import asyncio
import logging

from agent.core.jobtable import JobEvent
from agent.jobs.minder import SOON_S, Tools
from agent.jobs.runner import Run
from agent.model.jobs import JobPhase
from agent.model.records import JobRecord
from sterna.clock import Clock
from sterna.errors import TransientError

log = logging.getLogger(__name__)

ACKNOWLEDGE_S = 3.0
"""How long a shim may take to suspend its child."""


async def tell_shim(tools: Tools, record: JobRecord) -> None:
    """Pass grant, pause and stop on, without waiting for the job's next round.

    Where there is no shim yet, or the disk is full, that round will.
    """
    try:
        await asyncio.to_thread(_tell, tools.run(record), record)
    except TransientError as error:
        log.warning("shim not told yet", extra={"job_id": record.job_id, "error": str(error)})


async def suspend(tools: Tools, job_id: str, *, paused: bool) -> bool:
    """Suspend a running job, or let a suspended one go on.

    Returns
    -------
    bool
        False when nothing came of it: the job is not running (not suspended), the record cannot be stored, or
        the shim did not do it in time. The latter two are logged; the job then counts as it was before.
    """
    before, after = (JobPhase.RUNNING, JobPhase.PAUSED) if paused else (JobPhase.PAUSED, JobPhase.RUNNING)
    there, back = (JobEvent.PAUSE, JobEvent.RESUME) if paused else (JobEvent.RESUME, JobEvent.PAUSE)
    try:
        record = await tools.book.change(job_id, there, only_in={before})
        if record is None:
            return False
        await tell_shim(tools, record)
        if await _acknowledged(tools.run(record), tools.clock, paused):
            return True
        record = await tools.book.change(job_id, back, only_in={after})
    except TransientError as error:
        log.error("pause or resume not recorded", extra={"job_id": job_id, "error": str(error)})
        return False
    if record is not None:
        await tell_shim(tools, record)
        log.error("a shim did not pause or resume its job in time", extra={"job_id": job_id})
    return False


async def halt(tools: Tools, job_id: str, reason: str) -> bool:
    """Have a job save and stop without an order: the site must shed it, and it does not pause.

    Returns
    -------
    bool
        False when it does not run here, or the record cannot be stored (which is logged).
    """
    try:
        record = await tools.book.change(
            job_id,
            JobEvent.STOP,
            only_in={JobPhase.RUNNING, JobPhase.PAUSED},
            stop_reason=reason,
            stop_cancel=False,
            stop_ordered_s=tools.clock.boottime_s(),
            boot_id=tools.boot_id,
        )
    except TransientError as error:
        log.error("a stop could not be recorded", extra={"job_id": job_id, "error": str(error)})
        return False
    if record is None:
        return False
    await tell_shim(tools, record)
    return True


def _tell(run: Run, record: JobRecord) -> None:
    if record.run_id and record.lease is not None and run.is_alive():
        run.instruct(record)


async def _acknowledged(run: Run, clock: Clock, paused: bool) -> bool:
    """Wait for the shim's word that its child is suspended, or goes on."""
    deadline_s = clock.boottime_s() + ACKNOWLEDGE_S
    while clock.boottime_s() < deadline_s:
        identity = await asyncio.to_thread(run.identity)
        if identity is not None and identity.paused is paused:
            return True
        await asyncio.sleep(SOON_S)
    return False
