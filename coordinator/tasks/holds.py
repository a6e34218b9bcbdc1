"""Keeps who the newest tick of the planner holds back or slows, for the driver to tell the sites."""

import logging
from collections.abc import Sequence

from coordinator.core.holding import Holds, holds_of
from coordinator.model.decision import Decision
from coordinator.model.view import FleetView
from coordinator.tasks.bell import Bell
from coordinator.tasks.live import LiveBook

log = logging.getLogger(__name__)


class HoldBook:
    """The jobs that are to stand still, or to be slow.

    Parameters
    ----------
    hold_s : float
        How long a site holds a job back without hearing of it again.
    live : LiveBook
        What the sites have accepted.
    bell : Bell
        Rung when somebody else is to, or another way.
    """

    def __init__(self, *, hold_s: float, live: LiveBook, bell: Bell) -> None:
        self._hold_s = hold_s
        self._live = live
        self._bell = bell
        self._holds: Holds | None = None

    def current(self) -> Holds | None:
        """Return who is to stand still; None before the first tick."""
        return self._holds

    def on_tick(self, view: FleetView, decisions: Sequence[Decision]) -> None:
        """Take what a tick has decided."""
        before = _powers_w(self._holds)
        self._holds = holds_of(view, decisions, self._hold_s, before=self._holds, live=self._live.sites)
        now = _powers_w(self._holds)
        for job_id in sorted(now.keys() - before.keys()):
            reason = self._holds.wishes[job_id].reason
            log.info("a job is held back where it runs", extra={"job": job_id, "why": reason})
        for job_id in sorted(before.keys() - now.keys()):
            log.info("a job is no longer held back", extra={"job": job_id})
        if now != before:
            self._bell.ring()


def _powers_w(holds: Holds | None) -> dict[str, float | None]:
    """Return what each job that is held back may draw; None: it stands still."""
    return {} if holds is None else {job_id: wish.power_w for job_id, wish in holds.wishes.items()}
