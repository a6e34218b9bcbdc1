"""What the keeper needs of others: a place for records, sealed checkpoints, transfers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from agent.model.jobs import Checkpoint
from agent.model.orders import Fetch, Offer
from agent.model.records import JobRecord


class RecordStore(Protocol):
    """Durable job records."""

    async def load(self) -> tuple[JobRecord, ...]:
        """Return all of them."""
        ...

    async def save(self, record: JobRecord) -> None:
        """Replace one; durable on return."""
        ...


class Checkpoints(Protocol):
    """The site's sealed checkpoints; see `agent.jobs.checkpoints.CheckpointStore`."""

    async def seal(
        self,
        job_id: str,
        epoch: int,
        step: int,
        source: Path,
        files: Sequence[str] | None = None,
        *,
        left_in: Path | None = None,
        stays: Sequence[str] = (),
    ) -> Checkpoint:
        """Copy, hash, make durable; what lies below `left_in`, nobody writes to any more."""
        ...

    async def look_ahead(
        self, job_id: str, epoch: int, step: int, source: Path, stays: Sequence[str] = ()
    ) -> None:
        """Hash what a trainer that is about to end has saved; it is sealed later."""
        ...

    async def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """Return the verified ones, newest first."""
        ...

    async def materialize(self, checkpoint_id: str, target_dir: Path) -> Path:
        """Make a private copy to resume from."""
        ...

    async def drop_staging(self, job_id: str) -> None:
        """Remove half-fetched files."""
        ...

    async def keep_newest(self, job_id: str, n: int) -> None:
        """Remove all but the newest."""
        ...

    def watch(self, on_loss: Callable[[str, tuple[Checkpoint, ...]], None]) -> None:
        """Have somebody told when one turns out corrupt: the job, and those that are left, newest first."""
        ...

    async def open(self) -> None:
        """Read what is there; the other calls do it too. Raises `TransientError` where that cannot be."""
        ...

    @property
    def fault(self) -> str:
        """Why the folder cannot be read now, in words; empty when it can, or nobody has tried."""
        ...

    def free_bytes(self) -> int:
        """Return the bytes that the disk still takes; 0 while the folder cannot be read."""
        ...


class Fetched(Protocol):
    """What came of a fetch."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Verified and in the store."""
        ...

    @property
    def transferred_bytes(self) -> int:
        """What was received, as it crossed."""
        ...

    @property
    def goodput_bps(self) -> float | None:
        """Bits per second; None when nothing had to be moved."""
        ...


class Carrier(Protocol):
    """Moves checkpoints between sites; see `agent.jobs.transfer.Transfers`."""

    async def fetch(self, job_id: str, order: Fetch, on_progress: Callable[[int, int], None], /) -> Fetched:
        """Bring a checkpoint here, verified and durable. `on_progress` gets bytes here and in all."""
        ...

    async def offer(self, job_id: str, order: Offer, /) -> object:
        """Dial the receiver and serve it."""
        ...
