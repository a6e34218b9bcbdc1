"""When the grant of a silent site may pass to another: leases as the coordinator must reckon with them.

Times are CLOCK_BOOTTIME seconds of the coordinator. A site counts its lease from the receipt of the order or
from its own sending of a renewal. So the last instant at which it may still run is known only once the site
has said that it has the grant: before that, an order on its way may arrive at any time.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass

from coordinator.model.fleet import Job, JobState

CLOCK_DRIFT_FRAC = 1e-3
"""How much slower the site's clock may run than ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseMargins:
    """What is added to a lease before anybody else may have the job, in seconds."""

    skew_s: float = 5.0
    kill_grace_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lease:
    site_id: str
    epoch: int
    counted_from_s: float
    """No lease of this epoch was given, or heard of, later."""
    confirmed: bool
    """The site has said that it has this grant."""


class LeaseBook:
    """When leases were last given. It is not stored: a restart reckons with a lease given right then.

    Parameters
    ----------
    margins : LeaseMargins
        Skew and kill grace.
    """

    def __init__(self, margins: LeaseMargins) -> None:
        self._margins = margins
        self._leases: dict[str, _Lease] = {}

    def recover(self, jobs: Iterable[Job], now_boot_s: float) -> None:
        """Reckon after a start with every grant as given now, and as on its way where unconfirmed."""
        for job in jobs:
            if job.grant is not None and not job.ended:
                self._leases[job.job_id] = _Lease(
                    site_id=job.grant.site_id,
                    epoch=job.grant.epoch,
                    counted_from_s=now_boot_s,
                    confirmed=job.state in (JobState.RUNNING, JobState.PAUSED),
                )

    def given(self, job_id: str, site_id: str, epoch: int, now_boot_s: float) -> None:
        """Note that an order to start or a renewal is being sent."""
        known = self._leases.get(job_id)
        confirmed = known is not None and known.epoch == epoch and known.confirmed
        self._leases[job_id] = _Lease(
            site_id=site_id, epoch=epoch, counted_from_s=now_boot_s, confirmed=confirmed
        )

    def heard(self, job_id: str, site_id: str, epoch: int, now_boot_s: float) -> None:
        """Note that the site said it has the grant of this epoch."""
        known = self._leases.get(job_id)
        if known is not None and (known.epoch > epoch or (known.epoch == epoch and known.confirmed)):
            return
        # The order may have lain about; what counts is that it had arrived by now.
        self._leases[job_id] = _Lease(site_id=site_id, epoch=epoch, counted_from_s=now_boot_s, confirmed=True)

    def keep_only(self, job_ids: Container[str]) -> None:
        """Drop all other jobs, which have ended."""
        self._leases = {job_id: one for job_id, one in self._leases.items() if job_id in job_ids}

    def free_at_s(self, job: Job) -> float | None:
        """Return when the job's grant ends for certain, on CLOCK_BOOTTIME; None: silence never ends it.

        A site that was never sent this grant nor an older one has nothing to wait for (0.0). Where it had
        an older one, a process may run under that until its lease ends.
        """
        grant = job.grant
        if grant is None:
            return 0.0
        if grant.lease_ttl_s is None:
            return None
        lease = self._leases.get(job.job_id)
        if lease is None or (lease.epoch < grant.epoch and lease.site_id != grant.site_id):
            return 0.0
        if not lease.confirmed:
            return None
        margin_s = self._margins.skew_s + self._margins.kill_grace_s + job.spec.stop_grace_s
        return lease.counted_from_s + grant.lease_ttl_s * (1 + CLOCK_DRIFT_FRAC) + margin_s


def renewable(job: Job, site_id: str, epoch: int) -> bool:
    """Tell whether a renewal is to be answered: the site holds the grant, under its very epoch."""
    grant = job.grant
    return (
        grant is not None
        and not job.ended
        and job.state is not JobState.WITHDRAWING
        and (grant.site_id, grant.epoch) == (site_id, epoch)
    )
