"""What the site can tell of itself over an interval, from the balance of the last half hour."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from agent.grid.wire import SiteSnapshot
from agent.model.figures import Figure, Quantity
from agent.model.limits import Envelope
from agent.model.readings import Quality, SitePower, Storage
from sterna.units import joules_to_wh

SAMPLES = 1800
# An interval of which less is covered by samples is told as an estimate.
COVERED_FRAC = 0.9
# A sample says nothing for longer.
HOLD_S = 5.0


@dataclass(slots=True, kw_only=True)
class SiteMeasurements:
    """The `Measurements` of the OpenADR reports.

    Parameters
    ----------
    snapshot : callable
        What the site does and could do now.
    envelope : callable
        What limits it now.
    stored : callable
        What its batteries say of their charge now; None: it has none, or they cannot be believed.
    """

    snapshot: Callable[[], SiteSnapshot]
    envelope: Callable[[], Envelope]
    stored: Callable[[], Storage | None] = lambda: None
    _samples: deque[SitePower] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def take(self, power: SitePower) -> None:
        """Keep one balance."""
        self._samples.append(power)

    async def figure(
        self, quantity: Quantity, start_at: datetime, end_at: datetime, *, forecast: bool
    ) -> Figure | None:
        """Return a quantity over an interval; None: it cannot be told."""
        if forecast:
            return None
        if quantity is Quantity.IMPORT_W:
            return self._mean(start_at, end_at)
        if quantity is Quantity.IMPORT_WH:
            return self._energy(start_at, end_at)
        stored = self.stored() or Storage()
        snapshot = self.snapshot()
        grid_w = None if snapshot.power is None else snapshot.power.grid_w
        binding = self.envelope().binding
        return {
            Quantity.SHED_AVAILABLE_W: _difference(grid_w, snapshot.achievable_min_w),
            Quantity.RISE_AVAILABLE_W: _difference(snapshot.achievable_max_w, grid_w),
            Quantity.BATTERY_SOC_FRAC: _figure(stored.soc_frac),
            Quantity.BATTERY_CAPACITY_WH: _usable(stored),
            Quantity.LIMIT_W: None if binding is None else Figure(value=binding.limit_w, quality=Quality.OK),
        }.get(quantity)

    def _mean(self, start_at: datetime, end_at: datetime) -> Figure | None:
        energy_j, covered_s, quality = self._integral(start_at, end_at)
        return None if covered_s <= 0 else Figure(value=energy_j / covered_s, quality=quality)

    def _energy(self, start_at: datetime, end_at: datetime) -> Figure | None:
        energy_j, covered_s, quality = self._integral(start_at, end_at)
        if covered_s <= 0:
            return None
        wanted_s = (end_at - start_at).total_seconds()
        return Figure(value=joules_to_wh(energy_j / covered_s * wanted_s), quality=quality)

    def _integral(self, start_at: datetime, end_at: datetime) -> tuple[float, float, Quality]:
        """Integrate the import over an interval: joules, seconds that samples cover, and their quality."""
        energy_j = covered_s = 0.0
        quality = Quality.OK
        for sample, later in pairwise(self._samples):
            if sample.grid_w is None:
                continue
            begins = max(start_at, sample.import_measured_at)
            held_s = min((later.import_measured_at - sample.import_measured_at).total_seconds(), HOLD_S)
            ends_s = (min(end_at, later.import_measured_at) - begins).total_seconds()
            lasted_s = min(ends_s, held_s)
            if lasted_s <= 0:
                continue
            energy_j += sample.grid_w * lasted_s
            covered_s += lasted_s
            if sample.import_quality is not Quality.OK:
                quality = Quality.ESTIMATED
        if covered_s < COVERED_FRAC * (end_at - start_at).total_seconds():
            quality = Quality.ESTIMATED
        return energy_j, covered_s, quality


def _figure(value: float | None) -> Figure | None:
    return None if value is None else Figure(value=value, quality=Quality.OK)


def _usable(stored: Storage) -> Figure | None:
    """Return what a battery holds when full; of one that does not state its health, its rating."""
    if stored.capacity_wh is None:
        return None
    if stored.soh_frac is not None:
        return _figure(stored.capacity_wh * stored.soh_frac)
    return Figure(value=stored.capacity_wh, quality=Quality.ESTIMATED)


def _difference(more_w: float | None, less_w: float | None) -> Figure | None:
    if more_w is None or less_w is None:
        return None
    return Figure(value=max(0.0, more_w - less_w), quality=Quality.ESTIMATED)
