"""Keeps who the newest tick of the planner holds back, for the driver to tell the sites."""

import logging
from collections.abc import Sequence

from coordinator.core.holding import Holds, holds_of
from coordinator.model.decision import Decision
from coordinator.model.view import FleetView
from coordinator.tasks.bell import Bell
from coordinator.tasks.live import LiveBook

log = logging.getLogger(__name__)


class HoldBook:
    """The jobs that are to stand still.

    Parameters
    ----------
    hold_s : float
        How long a site holds a job back without hearing of it again.
    live : LiveBook
        What the sites have accepted.
    bell : Bell
        Rung when somebody else is to stand still.
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
        before = self._holds.wishes.keys() if self._holds is not None else frozenset()
        self._holds = holds_of(view, decisions, self._hold_s, before=self._holds, live=self._live.sites)
        now = self._holds.wishes.keys()
        for job_id in sorted(now - before):
            reason = self._holds.wishes[job_id].reason
            log.info("a job is held back where it runs", extra={"job": job_id, "why": reason})
        for job_id in sorted(before - now):
            log.info("a job is no longer held back", extra={"job": job_id})
        if now != before:
            self._bell.ring()
