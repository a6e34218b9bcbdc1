"""One site's learning, slot by slot: what is due, what was late, what is still to be gone through.

Owns no thread and no clock; whoever drives it decides when a lesson, some milliseconds of sums, is taken.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from coordinator.forecast.learnt import Learner, Part, SiteMemory, surplus_forecast
from coordinator.forecast.series import Series
from coordinator.forecast.slots import SlotMeans
from coordinator.model.forecast import SurplusForecast

_LATE_FRAC = 0.25
_LATE_S = 10.0
"""How long after its end a slot is held open for samples under way: a quarter of it, at most this."""
_MEND_DAYS = 2
"""How far back samples that come late, from a site that was out of contact, still fill what was missing."""
_REHEARSE_DAYS = 7
"""So much of a past is gone through slot by slot, for the recalibration to settle."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """One step, ready to be taken, in a thread of its own if need be: it shares nothing that changes."""

    learner: Learner
    memory: SiteMemory
    values: tuple[float | None, ...]

    def learn(self) -> tuple[SiteMemory, SurplusForecast | None]:
        """Return the memory after it, and the forecast in it."""
        if len(self.values) == 1:
            memory = self.learner.observe(self.memory, self.values)
        else:
            series = self.memory.parts[0].series
            for value in self.values:
                series = series.append(value, len(series.values) + 1)
            memory = self.learner.begin([Part(series=series)])
        return memory, surplus_forecast(memory)


class Pupil:
    """A site that is being learnt.

    Parameters
    ----------
    learner : Learner
        Shared by all sites; holds nothing of any.
    memory : SiteMemory
        Where to go on from.
    pending : iterable of float or None
        What is known of the slots after it already.
    """

    def __init__(self, learner: Learner, memory: SiteMemory, pending: Iterable[float | None] = ()) -> None:
        self._learner = learner
        self._memory = memory
        self._pending = deque(pending)
        self._series = memory.parts[0].series
        self._means = SlotMeans(memory.end_at, self._series.slot_s)
        self._forecast = surplus_forecast(memory)

    @classmethod
    def begin(cls, learner: Learner, past: Series) -> "Pupil":
        """Return the pupil of a site whose past is known, or of one without any (no values).

        The last week is left to be gone through in steps.
        """
        count = len(past.values)
        known = max(0, count - _REHEARSE_DAYS * past.per_day)
        memory = learner.begin([Part(series=past.until(known))])
        return cls(learner, memory, [None if np.isnan(w) else float(w) for w in past.values[known:]])

    @property
    def memory(self) -> SiteMemory:
        """Return what was learnt so far."""
        return self._memory

    @property
    def forecast(self) -> SurplusForecast | None:
        """Return the forecast of the last step; None while the past is too short."""
        return self._forecast

    @property
    def rehearses(self) -> bool:
        """Tell whether it is still going through what was known from the start."""
        return bool(self._pending)

    @property
    def until_at(self) -> datetime:
        """Return how far the past is known without further samples."""
        return self._memory.end_at + timedelta(seconds=len(self._pending) * self._series.slot_s)

    def take(self, at: datetime, surplus_w: float) -> None:
        """Take a sample, early, late or in time."""
        oldest_at = self._memory.end_at - timedelta(seconds=_MEND_DAYS * self._series.day_s)
        if at >= oldest_at:
            self._means.add(at, surplus_w)

    def is_due(self, now: datetime) -> bool:
        """Tell whether a slot is known, or over, that was not learnt from."""
        if self._pending:
            return True
        slot_s = self._series.slot_s
        late_s = min(_LATE_S, _LATE_FRAC * slot_s)
        return (now - self._memory.end_at).total_seconds() >= slot_s + late_s

    def lesson(self, now: datetime) -> "Lesson":
        """Return the next slot to learn from; to be called while one is due.

        After a long absence it is the whole stretch at once: nothing was stated in it that could be held
        against what came.
        """
        if self._pending:
            return Lesson(learner=self._learner, memory=self._memory, values=(self._pending[0],))
        memory, slot_s = self._mended(), self._series.slot_s
        due = int((now - memory.end_at).total_seconds() // slot_s)
        count = due if due > _REHEARSE_DAYS * self._series.per_day else 1
        starts = (memory.end_at + timedelta(seconds=slot_s * slot) for slot in range(count))
        return Lesson(
            learner=self._learner, memory=memory, values=tuple(self._means.mean(at) for at in starts)
        )

    def learnt(self, memory: SiteMemory, forecast: SurplusForecast | None) -> None:
        """Take what came of the last lesson."""
        if self._pending:
            self._pending.popleft()
        self._memory, self._forecast = memory, forecast
        self._means.forget(memory.end_at - timedelta(seconds=_MEND_DAYS * self._series.day_s))

    def _mended(self) -> SiteMemory:
        """Return the memory with slots that were missing filled by samples that came late."""
        part = self._memory.parts[0]
        series = part.series
        recent = min(len(series.values), _MEND_DAYS * series.per_day)
        known: dict[int, float] = {}
        for back in range(1, recent + 1):
            if np.isnan(series.values[-back]):
                mean = self._means.mean(series.end_at - timedelta(seconds=back * series.slot_s))
                if mean is not None:
                    known[-back] = mean
        if not known:
            return self._memory
        values = series.values.copy()
        values[list(known)] = list(known.values())
        return replace(self._memory, parts=(replace(part, series=replace(series, values=values)),))
