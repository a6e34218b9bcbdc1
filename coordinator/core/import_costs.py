"""What import is taken to cost at a site: what its operator tells, else what the configuration says."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from coordinator.model.import_cost import CostSlot, ImportCost, Objective
from coordinator.model.site import GridStatus

_AHEAD = timedelta(days=2)
"""For how long what the configuration says is told."""
_UNITS = {Objective.CARBON: "g/kWh", Objective.PRICE: "money/kWh"}


def import_cost(
    objective: Objective, told: GridStatus | None, usual_per_kwh: float | None, now: datetime
) -> ImportCost | None:
    """Return what import costs at a site by an objective.

    Parameters
    ----------
    objective : Objective
        What is to be saved.
    told : GridStatus or None
        What the site said last.
    usual_per_kwh : float or None
        Holds where the operator tells nothing; None: that is unknown.
    now : datetime
        The instant.

    Returns
    -------
    ImportCost or None
        None: energy alone counts, or nothing is known.
    """
    if objective is Objective.ENERGY:
        return None
    known: tuple[CostSlot, ...] = ()
    if told is not None:
        known = told.prices if objective is Objective.PRICE else told.carbon
    if usual_per_kwh is not None:
        known = _filled(known, usual_per_kwh, now, now + _AHEAD)
    return ImportCost(unit=_UNITS[objective], slots=known) if known else None


def _filled(
    known: Iterable[CostSlot], per_kwh: float, start_at: datetime, end_at: datetime
) -> tuple[CostSlot, ...]:
    """Add what is usual where nothing is known between two instants."""
    filled = []
    for slot in sorted(known, key=lambda slot: slot.start_at):
        if start_at < min(slot.start_at, end_at):
            gap_at = min(slot.start_at, end_at)
            filled.append(CostSlot(start_at=start_at, end_at=gap_at, per_kwh=per_kwh))
        filled.append(slot)
        start_at = max(start_at, slot.end_at)
    if start_at < end_at:
        filled.append(CostSlot(start_at=start_at, end_at=end_at, per_kwh=per_kwh))
    return tuple(filled)
