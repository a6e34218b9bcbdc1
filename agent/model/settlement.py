"""What a site settles by: one record per interval, and the baselines that an event is held against."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from agent.model.readings import Quality
from sterna.units import wh_to_joules

RECORD_VERSION = 1
"""Of the record's fields and of how they are made; a change of either counts it up."""


class EnergyMethod(Enum):
    """Where an energy comes from."""

    COUNTED = "COUNTED"
    """The device's own counter."""
    INTEGRATED = "INTEGRATED"
    """Power over time."""
    ESTIMATED = "ESTIMATED"
    """Part of it was filled in, or a count was spread evenly over a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy in one direction over one interval.

    `energy_wh` is at least 0; None: unknown, then `method` is None too. `known_s` is the time for which it is
    known, `integrated_wh` what power alone gives; None: it was not known for all of the interval.
    """

    energy_wh: float | None
    method: EnergyMethod | None
    known_s: float = 0.0
    integrated_wh: float | None = None


class Compliance(Enum):
    """Whether the limit was kept over an interval; the worst sample tells."""

    NO_LIMIT = "NO_LIMIT"
    KEPT = "KEPT"
    UNACHIEVABLE = "UNACHIEVABLE"
    """Above it, by the load that is not ours."""
    UNKNOWN = "UNKNOWN"
    """Too little was measured to tell."""
    BREACH = "BREACH"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """A limit that bound the site for part of an interval, `held_s` seconds of it."""

    source: str
    command_id: str
    limit_w: float
    held_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementRecord:
    """What was measured and asked over one interval; written once, never changed.

    Energies of roles that the site does not meter are None. `limits` has the strictest first.
    `counterfactual_w` is the mean import with every job of the site at full power, as far as it was known;
    None: it was not for most of the interval. `quality` is that of the grid's import. `faults` are sentences.
    """

    start_at: datetime
    length_s: float
    grid_import: Energy
    grid_export: Energy
    generation: Energy | None = None
    compute: Energy | None = None
    load: Energy | None = None
    battery_charge: Energy | None = None
    battery_discharge: Energy | None = None
    limits: tuple[LimitUse, ...] = ()
    compliance: Compliance = Compliance.NO_LIMIT
    breach_samples: int = 0
    worst_excess_w: float = 0.0
    counterfactual_w: float | None = None
    quality: Quality = Quality.BAD
    faults: tuple[str, ...] = ()
    closed_at: datetime
    version: int = RECORD_VERSION

    @property
    def end_at(self) -> datetime:
        """When it ended; that instant is the next one's."""
        return self.start_at + timedelta(seconds=self.length_s)

    @property
    def import_w(self) -> float | None:
        """Mean power drawn from the grid, watts; None: unknown."""
        if self.grid_import.energy_wh is None:
            return None
        return wh_to_joules(self.grid_import.energy_wh) / self.length_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledBaseline:
    """What one method says of one interval of one event; written once.

    `baseline_w` None: the method cannot say, and `reason` why. `delta_wh` is the energy drawn less the
    baseline; `delivered_wh` the reduction that is settled, never negative. `days` are those it rests on.
    """

    event_id: str
    source: str
    start_at: datetime
    length_s: float
    method: str
    baseline_w: float | None
    delta_wh: float | None
    delivered_wh: float | None
    adjustment: str = ""
    days: tuple[str, ...] = ()
    reason: str = ""
