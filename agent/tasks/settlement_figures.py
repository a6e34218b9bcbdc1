"""What the settlement adds to a site's measurements: baselines, and energy by its records."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.baselines import NoBaseline, Rule, Span
from agent.core.metering import index_of, start_of
from agent.grid.measured import Measurements
from agent.model.figures import Figure, Quantity
from agent.model.readings import Quality
from agent.tasks.settlement import Settlement
from sterna.errors import TransientError
from sterna.units import joules_to_wh


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledFigures:
    """A site's `Measurements` with those that need its past.

    Parameters
    ----------
    inner : Measurements
        What is measured now.
    settlement : Settlement
        The past.
    rule : Rule
        Method of the baselines that are reported.
    """

    inner: Measurements
    settlement: Settlement
    rule: Rule

    async def figure(
        self, quantity: Quantity, start_at: datetime, end_at: datetime, *, forecast: bool
    ) -> Figure | None:
        """Return a quantity over an interval; None: it cannot be told."""
        try:
            if quantity is Quantity.BASELINE_W:
                return await self._baseline(start_at, end_at)
            if quantity is Quantity.DELTA_WH and not forecast:
                return await self._delta(start_at, end_at)
            if quantity is Quantity.IMPORT_WH and not forecast:
                recorded = await self._recorded(start_at, end_at)
                if recorded is not None:
                    return recorded
        except TransientError:
            return None  # the store cannot be asked now
        return await self.inner.figure(quantity, start_at, end_at, forecast=forecast)

    async def _baseline(self, start_at: datetime, end_at: datetime) -> Figure | None:
        length_s = self.settlement.length_s
        first = start_of(index_of(start_at, length_s), length_s)
        event = await self.settlement.event_around(start_at)
        begins_at = first if event is None else min(first, event.span.start_at)
        last = index_of(end_at - timedelta(microseconds=1), length_s)
        span = Span(start_at=begins_at, end_at=start_of(last + 1, length_s))
        answer = await self.settlement.baseline(self.rule, span)
        if isinstance(answer, NoBaseline):
            return None
        total_ws = total_s = 0.0
        for number, power_w in enumerate(answer.powers_w):
            slot_at = begins_at + timedelta(seconds=number * length_s)
            slot_end_at = slot_at + timedelta(seconds=length_s)
            part_s = (min(end_at, slot_end_at) - max(start_at, slot_at)).total_seconds()
            if part_s > 0:
                total_ws, total_s = total_ws + power_w * part_s, total_s + part_s
        return Figure(value=total_ws / total_s, quality=Quality.ESTIMATED) if total_s > 0 else None

    async def _delta(self, start_at: datetime, end_at: datetime) -> Figure | None:
        drawn = await self.figure(Quantity.IMPORT_WH, start_at, end_at, forecast=False)
        usual = await self._baseline(start_at, end_at)
        if drawn is None or usual is None or isinstance(drawn.value, str) or isinstance(usual.value, str):
            return None
        usual_wh = joules_to_wh(usual.value * (end_at - start_at).total_seconds())
        return Figure(value=drawn.value - usual_wh, quality=Quality.ESTIMATED)

    async def _recorded(self, start_at: datetime, end_at: datetime) -> Figure | None:
        """Return the energy of a stretch that records fill without a rest; None: they do not."""
        records = await self.settlement.store.records(start_at, end_at)
        energies_wh = [record.grid_import.energy_wh for record in records]
        known_wh = [energy_wh for energy_wh in energies_wh if energy_wh is not None]
        filled_s = sum(record.length_s for record in records)
        if len(known_wh) < len(records) or filled_s != (end_at - start_at).total_seconds():
            return None
        good = all(record.quality is Quality.OK for record in records)
        return Figure(value=sum(known_wh), quality=Quality.OK if good else Quality.ESTIMATED)
