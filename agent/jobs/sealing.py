"""When a running job's checkpoint is sealed, and which.

A trainer that uses `sterna.job`, or runs under our hooks, names each checkpoint; for one that does not, the
spec's glob finds them. Only complete ones are sealed: after a stop that left half of one, the newest that was
sealed before is what the job goes on from.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.jobs.matching import fault_of, matches, newest_written_s
from agent.jobs.ports import Checkpoints
from agent.jobs.runner import Progress, Run
from agent.model.jobs import Checkpoint
from agent.model.records import JobRecord
from sterna.clock import Clock
from sterna.errors import PermanentError, SternaError

log = logging.getLogger(__name__)

SETTLED_S = 2.0
"""A file found by glob must have been left alone for this long while the trainer runs."""
RETRY_FRAC = 0.1
"""Of the interval between two seals: after so long, one that failed is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that could be sealed. `files` None: all below `source`."""

    source: Path
    files: tuple[str, ...] | None
    step: int
    written_s: float
    """Calendar seconds of its newest file."""


class Sealer:
    """Seals one site's checkpoints.

    Parameters
    ----------
    checkpoints : Checkpoints
        The store.
    clock : Clock
        For the age of files.
    interval_s : float
        Shortest time between two seals of a running job, in seconds.
    keep : int
        Checkpoints that are kept of a running job, at least 2.
    """

    def __init__(self, *, checkpoints: Checkpoints, clock: Clock, interval_s: float, keep: int) -> None:
        self._checkpoints = checkpoints
        self._clock = clock
        self._interval_s = interval_s
        self._keep = keep
        self._due_s: dict[str, float] = {}

    def is_due(self, job_id: str) -> bool:
        """Tell whether the interval since the last seal is over, or the shorter one since a failed try."""
        return self._clock.boottime_s() >= self._due_s.get(job_id, 0.0)

    def candidate(
        self, record: JobRecord, run: Run, progress: Progress, newest: Checkpoint | None, *, ended: bool
    ) -> Candidate | None:
        """Find what is complete and newer than the newest sealed; None when nothing is. Blocks briefly.

        Raises
        ------
        PermanentError
            The run has ended, and what it called its last checkpoint is not complete.
        """
        glob = record.spec.checkpoint_glob if record.spec is not None else ""
        reported, fault = self._reported(record, progress, newest)
        if reported is not None:
            return reported
        if glob and (progress.saved is None or fault):
            found = self._matching(record, run, progress, newest, ended=ended)
            if found is not None:
                return found
        if fault and ended:
            raise PermanentError(fault)
        return None

    def _reported(
        self, record: JobRecord, progress: Progress, newest: Checkpoint | None
    ) -> tuple[Candidate | None, str]:
        """Return the checkpoint that the trainer named last, or what is missing in it."""
        saved = progress.saved
        if saved is None:
            return None, ""
        if newest is not None and (newest.manifest.epoch, newest.manifest.step) >= (record.epoch, saved.step):
            return None, ""
        written_s = newest_written_s([saved.path])
        if written_s is None:
            return None, ""
        fault = fault_of(saved.path, _stays(record))
        if fault:
            return None, f"checkpoint {saved.path.name} is not complete: {fault}"
        return Candidate(source=saved.path, files=None, step=saved.step, written_s=written_s), ""

    def _matching(
        self, record: JobRecord, run: Run, progress: Progress, newest: Checkpoint | None, *, ended: bool
    ) -> Candidate | None:
        """Find the newest complete checkpoint of a trainer that does not report."""
        known = newest.manifest if newest is not None else None
        same_epoch = known is not None and known.epoch == record.epoch
        for match in matches(run.checkpoint_dir, record.spec.checkpoint_glob if record.spec else ""):
            later = known is None or match.written_s > known.sealed_at.timestamp()
            # One that was finished while an earlier one was sealed is newer too: its step tells.
            further = match.step is not None and (not same_epoch or known is None or match.step > known.step)
            settled = ended or self._clock.now().timestamp() - match.written_s >= SETTLED_S
            if not (later or further) or not settled or match.fault(_stays(record)):
                continue
            # Without reports the step may be unknown; counting seals at least keeps checkpoints in order.
            step = match.step if match.step is not None else progress.step
            least = 1 if known is None else known.step + 1
            if step is None or (same_epoch and known is not None and step < known.step):
                step = least
            return Candidate(source=match.source, files=match.files, step=step, written_s=match.written_s)
        return None

    async def look_ahead(self, record: JobRecord, run: Run, progress: Progress) -> None:
        """Hash what the trainer named last, while it ends; the seal says what is wrong with it."""
        with suppress(SternaError):
            known = await self._checkpoints.checkpoints(record.job_id)
            found, _ = await asyncio.to_thread(self._reported, record, progress, known[0] if known else None)
            if found is None or not found.source.is_relative_to(run.checkpoint_dir):
                return  # what lies elsewhere is copied, and hashed on the way
            await self._checkpoints.look_ahead(
                record.job_id, record.epoch, found.step, found.source, _stays(record)
            )

    async def seal(
        self, record: JobRecord, candidate: Candidate, *, left_in: Path | None = None
    ) -> Checkpoint:
        """Seal it.

        Parameters
        ----------
        record : JobRecord
            Whose.
        candidate : Candidate
            What.
        left_in : Path or None
            The run's own folder, once no process of it is left.

        Raises
        ------
        TransientError, PermanentError
            As the store says.
        """
        began_s = self._clock.boottime_s()
        self._due_s[record.job_id] = began_s + self._interval_s * RETRY_FRAC
        checkpoint = await self._checkpoints.seal(
            record.job_id,
            record.epoch,
            candidate.step,
            candidate.source,
            candidate.files,
            left_in=left_in,
            stays=_stays(record),
        )
        self._due_s[record.job_id] = began_s + self._interval_s
        return checkpoint

    async def prune(self, job_id: str) -> None:
        """Drop what is older than the last few. A gigabyte takes a tenth of a second: nobody is to wait."""
        await self._checkpoints.keep_newest(job_id, self._keep)


def _stays(record: JobRecord) -> tuple[str, ...]:
    return record.spec.stays if record.spec is not None else ()
