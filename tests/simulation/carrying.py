"""A checkpoint on its way to a site, chunk by chunk, each verified; what has arrived stays."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.model.orders import Fetch
from sterna.errors import TransientError
from tests.simulation.vault import CHUNKS, Sealed, digest, is_intact

if TYPE_CHECKING:
    from tests.simulation.agent import Agent

CHUNK_S = 0.3
RETRY_S = 2.0
PATIENCE_S = 25.0


def is_genuine(chunk: bytes, wanted: bytes) -> bool:
    """Verify one chunk against its manifest."""
    return digest(chunk) == wanted


@dataclass(frozen=True, slots=True)
class Holder:
    """Where the chunks come from, now."""

    agent: "Agent"
    sealed: Sealed


class Fetching:
    """One fetch under way, over as many attempts as it takes.

    Parameters
    ----------
    agent : Agent
        Who fetches.
    job_id, order
        What.
    """

    def __init__(self, agent: "Agent", job_id: str, order: Fetch) -> None:
        self._agent, self._job_id, self._order = agent, job_id, order
        self._staging = ("staging", job_id)
        self._moved_s = agent.world.now_s
        self._began_s = agent.world.now_s
        self._differed = False
        agent.later(0.1, self._go_on)

    def _go_on(self) -> None:
        agent = self._agent
        if agent.fetches.get(self._job_id) is not self:
            return
        try:
            holder = self._holder()
        except LookupError as error:
            agent.fetch_failed(self._job_id, str(error), PATIENCE_S)
            return
        if holder is not None:
            self._take_one(holder)
        if agent.fetches.get(self._job_id) is not self:
            return
        if agent.world.now_s - self._moved_s > PATIENCE_S:
            agent.fetch_failed(self._job_id, "no progress", PATIENCE_S)
            return
        agent.later(CHUNK_S if holder is not None else RETRY_S, self._go_on)

    def _holder(self) -> Holder | None:
        """Find the holder; None while it cannot be reached. LookupError: it does not have it."""
        agent, order = self._agent, self._order
        machine = agent.machine.watch.machines[order.holder_site]
        if machine.agent is None or not agent.machine.network.reaches(agent.site_id, order.holder_site):
            return None
        if order.holder_address is None:
            offer = machine.agent.offers.get(self._job_id)
            if offer is None or (offer.checkpoint_id, offer.receiver_site) != (
                order.checkpoint_id,
                agent.site_id,
            ):
                return None
        sealed = machine.vault.get(self._job_id, order.checkpoint_id)
        if sealed is None:
            raise LookupError(f"site {order.holder_site} has no checkpoint {order.checkpoint_id}")
        return Holder(machine.agent, sealed)

    def _ask_again(self, holder: Holder) -> None:
        """Have the holder look at a chunk that it is asked for alone: `CheckpointStore.recheck`."""
        if not self._differed:
            self._differed = True
        elif not is_intact(holder.sealed):
            holder.agent.lost(self._job_id, self._order.checkpoint_id)
            self._agent.fetch_failed(self._job_id, "it is corrupt where it lies", PATIENCE_S)

    def _take_one(self, holder: Holder) -> None:
        """Take the next chunk that is missing; publish once none is."""
        agent = self._agent
        hashes = holder.sealed.checkpoint.manifest.chunk_hashes
        names = [f"{self._order.checkpoint_id}/{index}" for index in range(CHUNKS)]
        here = agent.disk.folder(self._staging)
        missing = [i for i, name in enumerate(names) if not is_genuine(here.get(name, b""), hashes[i])]
        if missing:
            chunk = holder.sealed.chunks[missing[0]]
            if agent.world.chance(agent.machine.network.weather.garbled):
                chunk += b"!"
            if not is_genuine(chunk, hashes[missing[0]]):
                self._ask_again(holder)
                return
            self._differed = False
            agent.disk.write(self._staging, names[missing[0]], chunk, durable=False)
            self._moved_s = agent.world.now_s
            if len(missing) > 1:
                return
        chunks = tuple(agent.disk.folder(self._staging)[name] for name in names)
        try:
            agent.vault.publish(Sealed(holder.sealed.checkpoint, chunks))
        except TransientError:
            return
        agent.machine.watch.arrived(agent.site_id, Sealed(holder.sealed.checkpoint, chunks))
        for name in names:
            agent.disk.remove(self._staging, name)
        taken_s = max(0.1, agent.world.now_s - self._began_s)
        agent.fetched(self._job_id, 8.0 * holder.sealed.checkpoint.manifest.size_bytes / taken_s)
