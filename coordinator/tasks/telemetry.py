"""Stores telemetry in batches, acknowledges what is stored, and keeps the tables within their bounds."""

import asyncio
import logging
from collections.abc import Sequence

from coordinator.model.site import SiteSample
from coordinator.store.history import DecisionStore, TelemetryStore
from coordinator.tasks.ports import SiteSender
from sterna.errors import TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

WAITING_SAMPLES_MAX = 100_000
"""Per site. What is dropped beyond it was not acknowledged, so the site sends it again."""


class TelemetryDesk:
    """Samples on their way to the disk: one transaction each `flush_s`, for all sites together.

    Parameters
    ----------
    store : TelemetryStore
        Where they go.
    sender : SiteSender
        For the acks.
    flush_s : float
        Time between two transactions.
    """

    def __init__(self, *, store: TelemetryStore, sender: SiteSender, flush_s: float = 1.0) -> None:
        self._store = store
        self._sender = sender
        self._flush_s = flush_s
        self._waiting: dict[str, list[SiteSample]] = {}
        self._turned_away: set[str] = set()

    def begin(self, site_id: str) -> None:
        """Take note of a new session: what was turned away comes again in it."""
        self._turned_away.discard(site_id)

    def take(self, site_id: str, samples: Sequence[SiteSample]) -> None:
        """Take samples to be stored.

        Once there is no room for a site's samples, none is taken until its next session: an ack covers
        everything before it, and what was turned away must not be covered.
        """
        waiting = self._waiting.setdefault(site_id, [])
        if site_id in self._turned_away or len(waiting) + len(samples) > WAITING_SAMPLES_MAX:
            self._turned_away.add(site_id)
            return
        waiting += samples

    async def run(self, heart: Heart) -> None:
        """Flush for ever."""
        while True:
            heart.beat()
            await self.flush()
            await asyncio.sleep(self._flush_s)

    async def flush(self) -> None:
        """Store what waits, then acknowledge it. What cannot be stored waits on."""
        batch, self._waiting = self._waiting, {}
        if not any(batch.values()):
            return
        try:
            await self._store.add(batch)
        except TransientError as error:
            log.error("telemetry could not be stored", extra={"why": str(error)})
            for site_id, samples in batch.items():
                self._waiting[site_id] = samples + self._waiting.get(site_id, [])
            return
        for site_id, samples in batch.items():
            self._sender.telemetry_ack(site_id, samples[-1].sequence)


class Housekeeper:
    """Keeps histories within their bounds.

    Parameters
    ----------
    telemetry, decisions
        The histories.
    samples_per_site, decisions_per_job : int
        What stays.
    period_s : float
        Time between two rounds.
    """

    def __init__(
        self,
        *,
        telemetry: TelemetryStore,
        decisions: DecisionStore,
        samples_per_site: int = 1_000_000,
        decisions_per_job: int = 500,
        period_s: float = 600.0,
    ) -> None:
        self._telemetry = telemetry
        self._decisions = decisions
        self._samples_per_site = samples_per_site
        self._decisions_per_job = decisions_per_job
        self.period_s = period_s

    async def run(self, heart: Heart) -> None:
        """Keep house for ever."""
        while True:
            heart.beat()
            try:
                samples = await self._telemetry.trim(self._samples_per_site)
                decisions = await self._decisions.trim(self._decisions_per_job)
            except TransientError as error:
                log.error("the histories could not be trimmed", extra={"why": str(error)})
            else:
                log.debug("histories trimmed", extra={"samples": samples, "decisions": decisions})
            await asyncio.sleep(self.period_s)
