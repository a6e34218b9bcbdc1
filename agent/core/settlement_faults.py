"""What is wrong with a settlement record: energy that is not conserved, counters that power contradicts."""

from collections.abc import Collection, Iterator

from agent.core.energy import imbalance_fault
from agent.model.readings import MeterRole
from agent.model.settlement import Energy, EnergyMethod, SettlementRecord

# Two meters of class 1 to 2, and readings that are a second apart.
TOLERANCE_FRAC = 0.05
TOLERANCE_WH = 5.0
LONG_FRAC = 1.001


def faults(record: SettlementRecord, *, metered: Collection[MeterRole]) -> tuple[str, ...]:
    """Judge a record.

    Parameters
    ----------
    record : SettlementRecord
        Complete but for its faults.
    metered : collection of MeterRole
        Roles for which the site has a meter.
    """
    return tuple(_faults(record, metered))


def _faults(record: SettlementRecord, metered: Collection[MeterRole]) -> Iterator[str]:
    if (imbalance := _imbalance(record, metered)) is not None:
        yield imbalance
    for name, energy in (
        ("grid import", record.grid_import),
        ("grid export", record.grid_export),
        ("generation", record.generation),
        ("compute", record.compute),
    ):
        if energy is not None and energy.known_s > LONG_FRAC * record.length_s:
            yield f"{name}: {energy.known_s:.0f} s in {record.length_s:.0f} s: the clock was set"
        if energy is not None and (words := _disagreement(energy)) is not None:
            yield f"{name}: {words}"


def _disagreement(energy: Energy) -> str | None:
    """Say that a counter and the power beside it tell different energies."""
    if energy.method is not EnergyMethod.COUNTED or energy.energy_wh is None or energy.integrated_wh is None:
        return None
    apart_wh = abs(energy.energy_wh - energy.integrated_wh)
    if apart_wh <= TOLERANCE_WH + TOLERANCE_FRAC * max(energy.energy_wh, energy.integrated_wh):
        return None
    return f"{energy.energy_wh:.0f} Wh were counted and {energy.integrated_wh:.0f} Wh flowed by power"


def _imbalance(record: SettlementRecord, metered: Collection[MeterRole]) -> str | None:
    """Hold what came in against what was used.

    Where the site's own load is not metered it is the rest, and all that can be said is that it is not
    negative; the same where what the nodes draw is their own word and no meter's.
    """
    none = Energy(energy_wh=0.0, method=None)
    parts = (
        record.grid_import,
        record.grid_export,
        record.generation or none,
        record.battery_charge or none,
        record.battery_discharge or none,
        record.load or none,
        record.compute or none,
    )
    known = [part.energy_wh for part in parts if part.energy_wh is not None]
    if len(known) < len(parts):
        return None
    imported, exported, generation, charge, discharge, load, compute = known
    went_wh = charge - discharge + load + compute
    complete = MeterRole.LOAD in metered and MeterRole.COMPUTE in metered
    came_wh = imported - exported + generation
    if not complete and came_wh >= went_wh:
        return None
    return imbalance_fault(
        grid_wh=imported - exported,
        generation_wh=generation,
        battery_wh=charge - discharge,
        consumption_wh=load + compute,
        tolerance_frac=TOLERANCE_FRAC,
        tolerance_wh=TOLERANCE_WH,
    )
