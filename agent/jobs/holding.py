"""Pauses of the plan as a job's own rounds keep them: begun when it runs, let go of when they expire."""

import logging
from dataclasses import replace

from agent.core.jobgrants import is_held_back
from agent.core.jobtable import JobEvent
from agent.jobs.book import JobBook
from agent.model.jobs import JobPhase

log = logging.getLogger(__name__)


async def heed_hold(book: JobBook, job_id: str, now_s: float, boot_id: str) -> None:
    """Suspend a job that the plan holds back, and let go of a hold that has expired.

    The job then counts as paused by the ladder, which resumes it as soon as the site's limits leave room.

    Parameters
    ----------
    book : JobBook
        The records; the next round has the shim know what they say.
    job_id : str
        Whose.
    now_s, boot_id
        CLOCK_BOOTTIME of this boot.
    """
    async with book.locked(job_id):
        record = book.get(job_id)
        if record.hold is None:
            return
        if not is_held_back(record, now_s, boot_id):
            log.info("what the plan asked of a job has expired", extra={"job_id": job_id})
            await book.put(replace(record, hold=None))
        elif record.phase is JobPhase.RUNNING and record.hold.power_w is None:
            await book.put(record, JobEvent.PAUSE)
