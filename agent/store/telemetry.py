"""Telemetry that waits for its acknowledgement: in memory while the link is quick, on disk when it is not.

An agent whose samples are acknowledged as they come never writes here, so 1 Hz of telemetry does not cost an
fsync each second. Once `spill_after` samples wait, they are written in one transaction: what SIGKILL can lose
is the samples since the last spill, `spill_after` of them (10 s at 1 Hz) and those that came while it ran. A
clean stop loses nothing (`flush`).

The disk holds at most `max_samples`. Over that, every second sample of the older half goes: the span stays,
the resolution of what is oldest falls first.
"""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

import msgspec

from agent.model.readings import GpuReading, SitePower, Storage
from agent.model.telemetry import TelemetrySample
from agent.store.db import Database, Migration
from sterna.clock import Clock
from sterna.errors import TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

T = TypeVar("T")

MIGRATIONS = (
    Migration(
        "telemetry",
        1,
        """
        CREATE TABLE telemetry (sequence INTEGER PRIMARY KEY, sample BLOB NOT NULL) STRICT;
        CREATE TABLE telemetry_sequence (
            id INTEGER PRIMARY KEY CHECK (id = 1), reserved INTEGER NOT NULL
        ) STRICT;
        """,
    ),
)

# Numbers are reserved on disk in blocks, so that giving one out costs no write; a restart skips the rest.
_RESERVE = 7200
_RETRY_S = 5.0
_BEAT_S = 5.0
_MS_PER_S = 1000


class TelemetryStore:
    """A bounded queue of samples, oldest first, that survives restarts. For use on one event loop.

    Parameters
    ----------
    database : Database
        Opened, with this module's `MIGRATIONS`.
    clock : Clock
        Seeds the sequence of a store that has none.
    max_samples : int
        Samples kept on disk, > 0; 100,000 are about 28 h at 1 Hz and some 40 MB.
    spill_after : int
        Samples that wait in memory before they are written, > 0.
    """

    def __init__(
        self, *, database: Database, clock: Clock, max_samples: int = 100_000, spill_after: int = 10
    ) -> None:
        self._db = database
        self._clock = clock
        self._max_samples = max_samples
        self._spill_after = spill_after
        self._memory_max = max(600, 10 * spill_after)
        self._memory: deque[TelemetrySample] = deque()
        self._on_disk = 0
        self._disk_last = 0
        self._sequence = 0
        self._reserved = 0
        self._dropped = 0
        self._fault = ""
        self._work = asyncio.Event()
        self._disk = asyncio.Lock()

    @property
    def last_sequence(self) -> int:
        """The newest number given out, or the one before the next when there is none yet."""
        return self._sequence

    @property
    def waiting(self) -> int:
        """Samples that are not acknowledged."""
        return self._on_disk + len(self._memory)

    @property
    def dropped(self) -> int:
        """Samples lost since the start because the disk took no more."""
        return self._dropped

    async def open(self) -> None:
        """Find what an earlier run left, and reserve the numbers that follow.

        Notes
        -----
        A fresh store starts at the calendar's milliseconds: when a store was lost, its successor's numbers
        still lie above what the coordinator has seen, unless the calendar went back.
        """
        seed = int(self._clock.now().timestamp() * _MS_PER_S)
        self._sequence, self._on_disk, self._disk_last = await self._db.run(lambda db: _open(db, seed))
        self._reserved = self._sequence + _RESERVE

    def append(
        self, power: SitePower, gpus: Iterable[GpuReading] = (), storage: Storage | None = None
    ) -> int | None:
        """Take a sample; never waits.

        Returns
        -------
        int or None
            Its number; None when it was dropped because the disk has failed for hours.
        """
        if self._sequence >= self._reserved:
            self._dropped += 1
            self._work.set()
            return None
        self._sequence += 1
        self._memory.append(
            TelemetrySample(sequence=self._sequence, power=power, gpus=tuple(gpus), storage=storage)
        )
        if len(self._memory) > self._memory_max:
            self._memory.popleft()
            self._dropped += 1
        if self._has_work():
            self._work.set()
        return self._sequence

    async def unsent(
        self, limit: int, after: int = 0, through: int | None = None
    ) -> tuple[TelemetrySample, ...]:
        """Return the oldest samples numbered above `after` that are not acknowledged, at most `limit`.

        None above `through`. Nothing while the disk does not give them: newer ones must not overtake, for an
        ack covers all between.
        """
        newest = self._sequence if through is None else through
        async with self._disk:
            found: list[TelemetrySample] = []
            if self._on_disk and after < self._disk_last:
                answer = await self._asked(lambda db: _select(db, after, newest, limit))
                if answer is None:
                    return ()
                found, unreadable = answer
                self._on_disk -= unreadable
                after = max(after, self._disk_last)
            if len(found) < limit:
                fresh = (sample for sample in self._memory if after < sample.sequence <= newest)
                found += islice(fresh, limit - len(found))
            return tuple(found)

    async def ack(self, sequence: int, after: int = 0) -> None:
        """Let go of everything above `after` up to `sequence`; what the disk keeps, the next ack removes."""
        async with self._disk:
            self._memory = deque(sample for sample in self._memory if not after < sample.sequence <= sequence)
            if self._on_disk and after < self._disk_last:
                self._on_disk -= await self._asked(lambda db: _delete(db, after, sequence)) or 0

    async def flush(self) -> None:
        """Write what waits in memory, on the way out, when nothing appends any more."""
        try:
            await self._spill()
        except TransientError as error:
            log.error("telemetry is lost", extra={"fault": str(error), "samples": len(self._memory)})

    async def _spill(self) -> None:
        async with self._disk:
            batch = tuple(self._memory)
            if not batch:
                return
            self._on_disk = await self._db.run(lambda db: _insert(db, batch, self._max_samples), spare=True)
            self._disk_last = max(self._disk_last, batch[-1].sequence)
            while self._memory and self._memory[0].sequence <= batch[-1].sequence:
                self._memory.popleft()

    async def run(self, heart: Heart) -> None:
        """Write in the background when enough waits; runs for the daemon's life."""
        while True:
            heart.beat()
            try:
                async with asyncio.timeout(_BEAT_S):
                    await self._work.wait()
                self._work.clear()
                await self._write_what_waits()
            except TimeoutError:
                continue
            except TransientError:
                log.warning("telemetry cannot be written now", exc_info=True, extra={"waiting": self.waiting})
                await asyncio.sleep(_RETRY_S)
                self._work.set()

    async def _asked(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return the disk's answer; None while it gives none, for leases and orders must not wait for it."""
        try:
            answer = await self._db.run(work)
        except TransientError as error:
            if str(error) != self._fault:
                log.warning("stored telemetry waits for the disk", extra={"fault": str(error)})
            self._fault = str(error)
            return None
        self._fault = ""
        return answer

    def _has_work(self) -> bool:
        return len(self._memory) >= self._spill_after or self._reserved - self._sequence < _RESERVE // 2

    async def _write_what_waits(self) -> None:
        if len(self._memory) >= self._spill_after:
            await self._spill()
        if self._reserved - self._sequence < _RESERVE // 2:
            reserved = self._sequence + _RESERVE
            await self._db.run(lambda db: _reserve(db, reserved))
            self._reserved = reserved


def _open(db: sqlite3.Connection, seed: int) -> tuple[int, int, int]:
    """Reserve a block; return where it starts, how many samples wait, and the last one's number."""
    row = db.execute("SELECT reserved FROM telemetry_sequence").fetchone()
    start = row[0] if row else seed
    count, last = db.execute("SELECT count(*), coalesce(max(sequence), 0) FROM telemetry").fetchone()
    start = max(start, last)
    _reserve(db, start + _RESERVE)
    return start, count, last


def _reserve(db: sqlite3.Connection, reserved: int) -> None:
    db.execute("INSERT OR REPLACE INTO telemetry_sequence (id, reserved) VALUES (1, ?)", (reserved,))


def _insert(db: sqlite3.Connection, batch: Iterable[TelemetrySample], max_samples: int) -> int:
    """Write a batch and thin over the bound; return how many samples the disk holds."""
    # OR IGNORE: a write whose caller was cancelled has happened, and comes again.
    db.executemany(
        "INSERT OR IGNORE INTO telemetry VALUES (?, ?)",
        [(sample.sequence, msgspec.json.encode(sample)) for sample in batch],
    )
    count: int = db.execute("SELECT count(*) FROM telemetry").fetchone()[0]
    while count > max_samples:
        count -= db.execute(
            "DELETE FROM telemetry WHERE sequence IN (SELECT sequence FROM"
            " (SELECT sequence, row_number() OVER (ORDER BY sequence) AS place FROM telemetry)"
            " WHERE place % 2 = 0 AND place <= ?)",
            (max(2, count // 2),),
        ).rowcount
    return count


def _select(
    db: sqlite3.Connection, after: int, through: int, limit: int
) -> tuple[list[TelemetrySample], int]:
    """Return the next readable samples; delete and count those that no release of ours can read."""
    found: list[TelemetrySample] = []
    unreadable: list[tuple[int]] = []
    for sequence, body in db.execute(
        "SELECT sequence, sample FROM telemetry WHERE sequence > ? AND sequence <= ? ORDER BY sequence",
        (after, through),
    ):
        try:
            found.append(msgspec.json.decode(body, type=TelemetrySample))
        except msgspec.MsgspecError:
            unreadable.append((sequence,))
        if len(found) >= limit:
            break
    if unreadable:
        log.error("stored telemetry cannot be read and is dropped", extra={"samples": len(unreadable)})
        db.executemany("DELETE FROM telemetry WHERE sequence = ?", unreadable)
    return found, len(unreadable)


def _delete(db: sqlite3.Connection, after: int, through: int) -> int:
    return db.execute("DELETE FROM telemetry WHERE sequence > ? AND sequence <= ?", (after, through)).rowcount
