"""Stand-ins that ship with the package: a carrier that copies between stores of one machine."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.jobs.checkpoints import CheckpointStore
from agent.model.jobs import Checkpoint
from agent.model.orders import Fetch, Offer
from sterna.errors import PermanentError


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """What came of a copy."""

    checkpoint: Checkpoint
    goodput_bps: float | None
    transferred_bytes: int


class CopyCarrier:
    """Fetches by copying from another site's store; no network.

    Parameters
    ----------
    here : CheckpointStore
        Where checkpoints go.
    sites : mapping of str to CheckpointStore
        Where they come from.
    failures : list of Exception
        Raised one by one, in order, before anything is copied.
    """

    def __init__(
        self,
        here: CheckpointStore,
        sites: Mapping[str, CheckpointStore],
        failures: list[Exception] | None = None,
    ) -> None:
        self._here = here
        self._sites = sites
        self.failures = failures if failures is not None else []
        self.offers: list[Offer] = []

    async def fetch(self, job_id: str, fetch: Fetch, on_progress: Callable[[int, int], None]) -> CopyResult:
        """Copy a checkpoint here; raises PermanentError when the holder does not have it."""
        if self.failures:
            raise self.failures.pop(0)
        holder = self._sites.get(fetch.holder_site)
        found = await holder.get(fetch.checkpoint_id) if holder is not None else None
        source = await holder.files_folder(fetch.checkpoint_id) if holder is not None else None
        if found is None or source is None:
            raise PermanentError(f"site {fetch.holder_site} has no checkpoint {fetch.checkpoint_id}")
        staging = await self._here.fetch_staging(job_id, fetch.checkpoint_id)
        _copy(source, staging / "files")
        on_progress(found.manifest.size_bytes, found.manifest.size_bytes)
        copied = await self._here.publish(staging, found.manifest)
        return CopyResult(checkpoint=copied, goodput_bps=1e9, transferred_bytes=found.manifest.size_bytes)

    async def offer(self, _job_id: str, offer: Offer) -> None:
        """Note the offer; the other side's copy does the rest."""
        self.offers.append(offer)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
