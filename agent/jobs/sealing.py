"""When a running job's checkpoint is sealed, and which.

A trainer that uses `sterna.job` names each checkpoint; for one that does not, the spec's glob
finds the files.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from agent.jobs.ports import Checkpoints
from agent.jobs.runner import Progress, Run
from agent.model.jobs import Checkpoint
from agent.model.records import JobRecord
from sterna.clock import Clock

log = logging.getLogger(__name__)

SETTLED_S = 2.0
"""A file found by glob must have been left alone for this long while the trainer runs."""


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
        Shortest time between two seals of a running job.
    keep : int
        Checkpoints that are kept of a running job, at least 2.
    """

    def __init__(self, *, checkpoints: Checkpoints, clock: Clock, interval_s: float, keep: int) -> None:
        self._checkpoints = checkpoints
        self._clock = clock
        self._interval_s = interval_s
        self._keep = keep
        self._sealed_s: dict[str, float] = {}

    def is_due(self, job_id: str) -> bool:
        """Tell whether the interval since the last seal is over."""
        last_s = self._sealed_s.get(job_id)
        return last_s is None or self._clock.boottime_s() - last_s >= self._interval_s

    def candidate(
        self, record: JobRecord, run: Run, progress: Progress, newest: Checkpoint | None, *, ended: bool
    ) -> Candidate | None:
        """Find what is newer than the newest sealed checkpoint; None when nothing is. Blocks briefly."""
        if progress.saved is not None:
            saved = progress.saved
            if newest is not None and (newest.manifest.epoch, newest.manifest.step) >= (
                record.epoch,
                saved.step,
            ):
                return None
            written_s = _written_s([saved.path])
            if written_s is None:
                return None
            return Candidate(source=saved.path, files=None, step=saved.step, written_s=written_s)
        glob = record.spec.checkpoint_glob if record.spec is not None else ""
        return self._matching(run, glob, progress, newest, ended=ended) if glob else None

    def _matching(
        self, run: Run, glob: str, progress: Progress, newest: Checkpoint | None, *, ended: bool
    ) -> Candidate | None:
        """Find the files of a trainer that does not report."""
        found = sorted(path for path in run.checkpoint_dir.glob(glob) if path.is_file())
        written_s = _written_s(found)
        if written_s is None:
            return None
        if not ended and self._clock.now().timestamp() - written_s < SETTLED_S:
            return None
        if newest is not None and newest.manifest.sealed_at.timestamp() >= written_s:
            return None
        # Without reports the step is unknown; counting seals at least keeps checkpoints in order.
        step = progress.step if progress.step is not None else (newest.manifest.step + 1 if newest else 1)
        names = tuple(path.relative_to(run.checkpoint_dir).as_posix() for path in found)
        return Candidate(source=run.checkpoint_dir, files=names, step=step, written_s=written_s)

    async def seal(self, record: JobRecord, candidate: Candidate) -> Checkpoint:
        """Seal it, and drop what is older than the last few.

        Raises
        ------
        TransientError, PermanentError
            As the store says.
        """
        self._sealed_s[record.job_id] = self._clock.boottime_s()
        checkpoint = await self._checkpoints.seal(
            record.job_id, record.epoch, candidate.step, candidate.source, candidate.files
        )
        await self._checkpoints.keep_newest(record.job_id, self._keep)
        return checkpoint


def _written_s(paths: list[Path]) -> float | None:
    """Return the newest modification, in calendar seconds; None when nothing is there (any more)."""
    times = []
    for path in paths:
        try:
            times.append(path.stat().st_mtime)
            times.extend(child.stat().st_mtime for child in path.rglob("*"))
        except FileNotFoundError:
            return None
    return max(times, default=None)
