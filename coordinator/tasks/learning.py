"""The loop that learns every site's surplus: samples in, a forecast per site out, kept in the store.

A planning tick only reads what lies here. Arithmetic is done in a thread, one slot of one site at a time, and
never for longer in a round than its budget; what is not done is done in the next.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner
from coordinator.forecast.past import read_past
from coordinator.forecast.pupil import Pupil
from coordinator.forecast.series import Series
from coordinator.forecast.slots import slot_start
from coordinator.forecast.stored import from_bytes, to_bytes
from coordinator.model.forecast import SurplusForecast
from coordinator.model.site import Quality, SiteSample
from coordinator.store.history import TelemetryStore
from coordinator.store.memories import MemoryStore
from sterna.clock import Clock
from sterna.errors import CorruptError, SternaError, TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

_PAGE = 20_000
_ROUND_S = 1.0
_ROUNDS_PER_SLOT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Schooling:
    """How a site is learnt. `past`: a file of earlier days; None: it starts from nothing."""

    site_id: str
    kind: Kind
    past: Path | None = None


class Learning:
    """Learns every site.

    Parameters
    ----------
    sites : sequence of Schooling
        Whom.
    learner : Learner
        How.
    slot_s, day_s : float
        Length of a slot and of a day, seconds; a slot divides a day.
    memories : MemoryStore
        Where what was learnt survives a restart.
    telemetry : TelemetryStore
        What was measured while nobody learnt.
    clock : Clock
        For instants and the budget.
    budget_s : float
        Longest work in a round, seconds, > 0; one slot of one site is always done.
    """

    def __init__(
        self,
        *,
        sites: Sequence[Schooling],
        learner: Learner,
        slot_s: float,
        day_s: float,
        memories: MemoryStore,
        telemetry: TelemetryStore,
        clock: Clock,
        budget_s: float = 0.5,
    ) -> None:
        self._sites = {site.site_id: site for site in sites}
        self._learner = learner
        self._slot_s = slot_s
        self._day_s = day_s
        self._memories = memories
        self._telemetry = telemetry
        self._clock = clock
        self._budget_s = budget_s
        self._pupils: dict[str, Pupil] = {}
        self._early: dict[str, list[tuple[datetime, float]]] = {site: [] for site in self._sites}
        self._turns = deque(self._sites)

    def forecast(self, site_id: str) -> SurplusForecast | None:
        """Return what was learnt last of a site; None: nothing yet."""
        pupil = self._pupils.get(site_id)
        return pupil.forecast if pupil is not None else None

    def take(self, site_id: str, samples: Sequence[SiteSample]) -> None:
        """Take what a site has measured, in time or late."""
        for sample in samples:
            if sample.surplus_w is None or sample.quality is not Quality.OK or site_id not in self._sites:
                continue
            if site_id in self._early:  # its past is still being taken up
                self._early[site_id].append((sample.measured_at, sample.surplus_w))
                continue
            pupil = self._pupils.get(site_id) or self._enrol(site_id, sample.measured_at)
            pupil.take(sample.measured_at, sample.surplus_w)

    async def run(self, heart: Heart) -> None:
        """Take up what is known, then learn for ever."""
        await self.recall(heart)
        while True:
            heart.beat()
            try:
                await self.round()
            except TransientError as error:
                log.error("what was learnt could not be stored", extra={"why": str(error)})
            await asyncio.sleep(min(_ROUND_S, self._slot_s / _ROUNDS_PER_SLOT))

    async def recall(self, heart: Heart) -> None:
        """Take up what is known of every site."""
        for site_id in self._sites:
            heart.beat()
            await self._recall(site_id)

    async def round(self) -> None:
        """Learn what is due, site after site, until nothing is or the budget is spent; keep what is new."""
        began_s = self._clock.boottime_s()
        new: dict[str, Pupil] = {}
        idle = 0
        while idle < len(self._turns):
            if new and self._clock.boottime_s() - began_s >= self._budget_s:
                break
            site_id = self._turns[0]
            self._turns.rotate(-1)
            pupil, now = self._pupils.get(site_id), self._clock.now()
            if pupil is None or not pupil.is_due(now):
                idle += 1
                continue
            idle = 0
            pupil.learnt(*await asyncio.to_thread(pupil.lesson(now).learn))
            new[site_id] = pupil
        # What is still being gone through again can be gone through once more after a crash.
        settled = {site: pupil for site, pupil in new.items() if not pupil.rehearses}
        if settled:
            memories = {site: pupil.memory for site, pupil in settled.items()}
            bodies = await asyncio.to_thread(
                lambda: {site: to_bytes(memory) for site, memory in memories.items()}
            )
            await self._memories.put(bodies, self._clock.now())

    async def _recall(self, site_id: str) -> None:
        """Take up a site where the last process left it, or from its file, then what was measured since."""
        measured: Mapping[datetime, float] = {}
        try:
            pupil = await self._kept(site_id) or await self._from_file(self._sites[site_id])
            measured = await self._measured(site_id, pupil.until_at if pupil is not None else None)
        except TransientError as error:
            log.error("what was learnt could not be read", extra={"site": site_id, "why": str(error)})
            pupil = None
        samples = [*measured.items(), *self._early.pop(site_id)]
        if pupil is None and samples:
            pupil = self._enrol(site_id, min(at for at, _ in samples))
        if pupil is None:
            return
        self._pupils[site_id] = pupil
        for at, surplus_w in samples:
            pupil.take(at, surplus_w)
        log.info(
            "a site's past is known",
            extra={"site": site_id, "until": pupil.until_at.isoformat(), "samples": len(samples)},
        )

    async def _kept(self, site_id: str) -> Pupil | None:
        body = await self._memories.get(site_id)
        if body is None:
            return None
        try:
            memory = await asyncio.to_thread(from_bytes, body)
            series = memory.parts[0].series
            found = (series.kind, series.slot_s, series.day_s, memory.leads)
            wanted = (self._sites[site_id].kind, self._slot_s, self._day_s, self._learner.leads)
            if len(memory.parts) != 1 or found != wanted:
                raise CorruptError("it was learnt under other settings")
            return Pupil(self._learner, memory)
        except CorruptError as error:
            log.warning("what was learnt is not used", extra={"site": site_id, "why": str(error)})
            return None

    async def _from_file(self, site: Schooling) -> Pupil | None:
        if site.past is None:
            return None
        try:
            past = await asyncio.to_thread(
                lambda path: read_past(
                    path, kind=site.kind, slot_s=self._slot_s, day_s=self._day_s, now=self._clock.now()
                ),
                site.past,
            )
        except SternaError as error:
            log.error("a site's past cannot be read", extra={"site": site.site_id, "why": str(error)})
            return None
        return await asyncio.to_thread(Pupil.begin, self._learner, past)

    async def _measured(self, site_id: str, since_at: datetime | None) -> Mapping[datetime, float]:
        """Return what the store has of a site from an instant on."""
        found: dict[datetime, float] = {}
        seq: int | None = None
        while True:
            page = await self._telemetry.surplus_before(site_id, seq, _PAGE)
            new = [row for row in page if since_at is None or row[1] >= since_at]
            found |= {at: surplus_w for _, at, surplus_w in new if surplus_w is not None}
            if len(page) < _PAGE or not new:
                return found
            seq = page[-1][0]

    def _enrol(self, site_id: str, first_at: datetime) -> Pupil:
        """Begin with a site of which nothing is known but that it was seen now."""
        site = self._sites[site_id]
        nothing = Series(
            kind=site.kind,
            slot_s=self._slot_s,
            end_at=slot_start(first_at, self._slot_s),
            values=np.empty(0),
            day_s=self._day_s,
        )
        pupil = self._pupils[site_id] = Pupil.begin(self._learner, nothing)
        return pupil
