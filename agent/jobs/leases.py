"""Which leases are to be renewed now. The shim enforces them; this only asks for more time, in time."""

from collections.abc import Iterable

from agent.core.jobtable import LIVE
from agent.model.records import JobRecord, Lease

RENEW_AT_FRAC = 1 / 3
"""Share of the lease's life after which it is renewed."""
ASK_AGAIN_FRAC = 1 / 6
"""Share of the lease's life between two requests that stay unanswered."""


class LeaseClock:
    """Remembers when each renewal was asked for last."""

    def __init__(self) -> None:
        self._asked_s: dict[tuple[str, int], float] = {}

    def due(self, records: Iterable[JobRecord], now_s: float, boot_id: str) -> list[tuple[str, int]]:
        """Return (job_id, epoch) of every lease that should be renewed now; the caller asks at once.

        Parameters
        ----------
        records : iterable of JobRecord
            All jobs.
        now_s : float
            CLOCK_BOOTTIME.
        boot_id : str
            This boot.
        """
        due = []
        for record in records:
            if record.phase not in LIVE or record.lease is None or not is_held(record.lease, now_s, boot_id):
                continue
            ttl_s, expires_s = record.lease.ttl_s, record.lease.expires_s
            if ttl_s is None or expires_s is None:
                continue
            key = (record.job_id, record.epoch)
            asked_s = self._asked_s.get(key, float("-inf"))
            if now_s >= expires_s - ttl_s * (1 - RENEW_AT_FRAC) and now_s - asked_s >= ttl_s * ASK_AGAIN_FRAC:
                self._asked_s[key] = now_s
                due.append(key)
        return due


def is_held(lease: Lease, now_s: float, boot_id: str) -> bool:
    """Tell whether a lease still gives the right to run."""
    return lease.boot_id == boot_id and (lease.expires_s is None or now_s < lease.expires_s)
