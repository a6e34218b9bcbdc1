"""Which checkpoints a site has, as its book lists them, and what that leaves for an order.

While the store cannot be read nobody knows which are here: then none is listed, no order may count on one,
and reports say so instead of saying that there are none.
"""

from collections.abc import Callable

from agent.core.joborders import Room
from agent.jobs.book import JobBook
from agent.jobs.ports import Checkpoints
from agent.model.jobs import JobPhase
from agent.model.records import JobRecord
from sterna import pace
from sterna.errors import TransientError

LOOK_S = 1.0
"""Between two looks whether the store can be read again; the store knows how often to ask the disk."""


async def list_all(book: JobBook, checkpoints: Checkpoints) -> bool:
    """List the checkpoints of every job in the book; return False where the store cannot be read."""
    try:
        await checkpoints.open()
        for record in book.records():
            book.list_checkpoints(record.job_id, await checkpoints.checkpoints(record.job_id))
    except TransientError:  # the store has said so, and keeps the reason
        return False
    return True


async def list_in_the_end(book: JobBook, checkpoints: Checkpoints) -> None:
    """List them once the store can be read."""
    while not await list_all(book, checkpoints):
        await pace.rest(LOOK_S)


async def room_for(
    record: JobRecord, book: JobBook, checkpoints: Checkpoints, slots_free: Callable[[], int]
) -> Room:
    """Return what the site can give a job now; its checkpoints are listed anew."""
    try:
        listed = await checkpoints.checkpoints(record.job_id)
    except TransientError as error:
        return Room(slots_free=0, free_bytes=0, checkpoint_ids=frozenset(), fault=str(error))
    book.list_checkpoints(record.job_id, listed)
    promised = sum(
        other.reserved_bytes
        for other in book.records()
        if other.phase in (JobPhase.RESERVED, JobPhase.FETCHING) and other.job_id != record.job_id
    )
    return Room(
        slots_free=slots_free(),
        free_bytes=checkpoints.free_bytes() - promised,
        checkpoint_ids=frozenset(item.checkpoint_id for item in listed),
    )
