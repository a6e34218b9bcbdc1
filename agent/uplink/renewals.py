"""From when a lease counts: our own sending of the renewal that it answers, never its receipt. Pure.

A grant does not say which renewal it answers. The stream is ordered, so the oldest unanswered one is taken:
that can only make a lease end early. A renewal that stays unanswered is forgotten after a while, or one lost
answer would shorten every later lease of the session by a renewal period.
"""

from collections import deque

FORGET_AFTER_S = 60.0


class RenewalTimes:
    """Unanswered renewals of one session, by job and epoch; instants on CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._sent_s: dict[tuple[str, int], deque[float]] = {}

    def sent(self, job_id: str, epoch: int, now_s: float) -> None:
        """Note that a renewal is about to be sent."""
        times = self._sent_s.setdefault((job_id, epoch), deque())
        while times and now_s - times[0] > FORGET_AFTER_S:
            times.popleft()
        times.append(now_s)
        for key in [key for key, sent in self._sent_s.items() if now_s - sent[-1] > FORGET_AFTER_S]:
            del self._sent_s[key]

    def answered(self, job_id: str, epoch: int) -> float | None:
        """Return when the renewal that this grant answers was sent; None when none is unanswered."""
        times = self._sent_s.get((job_id, epoch))
        if not times:
            return None
        sent_s = times.popleft()
        if not times:
            del self._sent_s[(job_id, epoch)]
        return sent_s
