"""What batteries say of their charge: read from SunSpec's models, and of several banks made one. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.known import total
from agent.core.plausibility import believable
from agent.model.readings import (
    DeclaredBattery,
    MeterReading,
    MeterRole,
    Quality,
    Storage,
    StorageStatus,
)

if TYPE_CHECKING:  # a site whose meters speak no SunSpec does not load its tables
    from agent.model.sunspec.codec import Value

CAPACITY_POINTS = ("WHRtg", "WHAvail", "SoC", "SoH", "Sta")
"""Of model 713."""
BANK_POINTS = ("WHRtg", "SoC", "SoH", "State", "Evt1", "WChaRteMax", "WDisChaRteMax")
"""Of model 802."""
RATING_POINTS = ("WChaRteMax", "WDisChaRteMax", "WChaRteMaxRtg", "WDisChaRteMaxRtg")
"""Of model 702, beside 713: as set, else as rated."""
_FAULT = 99
_STATUSES = (StorageStatus.OK, StorageStatus.WARNING, StorageStatus.ERROR)


def from_capacity(values: Mapping[str, "Value"]) -> Storage:
    """Read model 713."""
    status = values["Sta"]
    return storage(
        capacity_wh=_number(values["WHRtg"]),
        available_wh=_number(values["WHAvail"]),
        soc_frac=_part(values["SoC"]),
        soh_frac=_part(values["SoH"]),
        status=_STATUSES[status] if isinstance(status, int) and status < len(_STATUSES) else None,
    )


def from_bank(values: Mapping[str, "Value"]) -> Storage:
    """Read model 802: a fault is an error, an event that is pending a warning."""
    state, events = values["State"], values["Evt1"]
    if state == _FAULT:
        status: StorageStatus | None = StorageStatus.ERROR
    elif events:
        status = StorageStatus.WARNING
    else:
        status = None if state is None or events is None else StorageStatus.OK
    return storage(
        capacity_wh=_number(values["WHRtg"]),
        soc_frac=_part(values["SoC"]),
        soh_frac=_part(values["SoH"]),
        status=status,
        max_charge_w=_number(values["WChaRteMax"]),
        max_discharge_w=_number(values["WDisChaRteMax"]),
    )


def rated(stated: Storage, values: Mapping[str, "Value"]) -> Storage:
    """Add the greatest powers that model 702 tells."""
    charge_w, discharge_w = (
        believable("battery_w", _number(values[name if values[name] is not None else f"{name}Rtg"]))
        for name in ("WChaRteMax", "WDisChaRteMax")
    )
    return replace(stated, max_charge_w=charge_w, max_discharge_w=discharge_w)


def completed(reading: MeterReading, declared: DeclaredBattery) -> MeterReading:
    """Add what the operator says of a battery to a reading of it: his word counts before the device's.

    What can be drawn of a declared capacity is its part that is charged.
    """
    stated = reading.storage or Storage()
    capacity_wh, available_wh = stated.capacity_wh, stated.available_wh
    if declared.capacity_wh is not None:
        capacity_wh = declared.capacity_wh
        available_wh = None if stated.soc_frac is None else capacity_wh * stated.soc_frac
    return replace(
        reading,
        storage=replace(
            stated,
            capacity_wh=capacity_wh,
            available_wh=available_wh,
            max_charge_w=_first(declared.max_charge_w, stated.max_charge_w),
            max_discharge_w=_first(declared.max_discharge_w, stated.max_discharge_w),
            reserve_wh=None if capacity_wh is None else declared.reserve_frac * capacity_wh,
            serves_site=declared.serves_site,
        ),
    )


def storage(
    *,
    capacity_wh: float | None = None,
    available_wh: float | None = None,
    soc_frac: float | None = None,
    soh_frac: float | None = None,
    status: StorageStatus | None = None,
    max_charge_w: float | None = None,
    max_discharge_w: float | None = None,
) -> Storage:
    """Make a battery's figures: what cannot be real is unknown.

    Where the device does not state what is available, that is ``capacity * charge * health`` (SunSpec 713);
    of a health that is not stated nothing is assumed.
    """
    capacity_wh = believable("capacity_wh", capacity_wh)
    soc_frac, soh_frac = believable("soc_frac", soc_frac), believable("soh_frac", soh_frac)
    if available_wh is None and capacity_wh is not None and soc_frac is not None and soh_frac is not None:
        available_wh = capacity_wh * soc_frac * soh_frac
    return Storage(
        capacity_wh=capacity_wh,
        available_wh=believable("capacity_wh", available_wh),
        soc_frac=soc_frac,
        soh_frac=soh_frac,
        status=status,
        max_charge_w=believable("battery_w", max_charge_w),
        max_discharge_w=believable("battery_w", max_discharge_w),
    )


def together(readings: Iterable[MeterReading]) -> Storage | None:
    """Take a site's batteries as one; None: it has none, or one of them cannot be believed now.

    A figure that one of them does not state is unknown for all; charge and health are weighted by capacity.
    The status is the worst that is stated.
    """
    batteries = [reading for reading in readings if reading.role is MeterRole.BATTERY]
    known = [one.storage for one in batteries if one.storage is not None and one.quality is Quality.OK]
    if not known or len(known) < len(batteries):
        return None
    if len(known) == 1:
        return known[0]
    stated = [one.status for one in known if one.status is not None]
    return Storage(
        capacity_wh=total(one.capacity_wh for one in known),
        available_wh=total(one.available_wh for one in known),
        soc_frac=_weighted(known, lambda one: one.soc_frac),
        soh_frac=_weighted(known, lambda one: one.soh_frac),
        status=max(stated, key=_STATUSES.index, default=None),
        max_charge_w=total(one.max_charge_w for one in known),
        max_discharge_w=total(one.max_discharge_w for one in known),
        reserve_wh=total(one.reserve_wh for one in known),
        serves_site=all(one.serves_site for one in known),
    )


def _weighted(batteries: Iterable[Storage], part: Callable[[Storage], float | None]) -> float | None:
    listed = list(batteries)
    whole_wh = total(one.capacity_wh for one in listed)
    if not whole_wh:
        return None
    stored = ((part(one), one.capacity_wh) for one in listed)
    held_wh = total(None if frac is None or wh is None else frac * wh for frac, wh in stored)
    return None if held_wh is None else held_wh / whole_wh


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _number(value: "Value") -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _part(per_cent: "Value") -> float | None:
    number = _number(per_cent)
    return None if number is None else number / 100.0
