"""Checkpoints that are served by dialling: one stream per job, however often its order is sent."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from agent.jobs.ports import Carrier
from agent.model.orders import Offer
from sterna.errors import SternaError

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[object, object, None]], "asyncio.Task[None]"]


@dataclass(slots=True)
class Offers:
    """The offers under way.

    An order to offer stands until the destination has the checkpoint, so it comes again and again. A second
    stream would throw out the first at the receiver.

    Parameters
    ----------
    carrier : Carrier
        Who carries.
    """

    carrier: Carrier
    _under_way: dict[str, "tuple[Offer, asyncio.Task[None]]"] = field(default_factory=dict)

    def serve(self, job_id: str, offer: Offer, spawn: Spawn) -> None:
        """Serve a receiver that cannot dial us, unless that is being done."""
        former, task = self._under_way.get(job_id, (None, None))
        if task is not None and not task.done():
            if former is not None and _way(former) == _way(offer):
                return
            task.cancel()
        self._under_way[job_id] = (offer, spawn(self._offer(job_id, offer)))

    def drop(self, job_id: str) -> None:
        """End a job's offer: nobody waits for it any longer."""
        _, task = self._under_way.pop(job_id, (None, None))
        if task is not None:
            task.cancel()

    def clear(self) -> None:
        """Forget all; the group in which they ran has ended."""
        self._under_way.clear()

    async def _offer(self, job_id: str, offer: Offer) -> None:
        try:
            await self.carrier.offer(job_id, offer)
        except SternaError as error:  # the order comes again as long as it stands
            log.warning(
                "offer failed",
                extra={"job_id": job_id, "receiver": offer.receiver_site, "error": str(error)},
            )


def _way(offer: Offer) -> tuple[str, str, str]:
    """Return what, and to where; tickets are new each time."""
    return offer.checkpoint_id, offer.receiver_site, offer.receiver_address
