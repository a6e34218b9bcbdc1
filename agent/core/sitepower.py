"""The power balance of a site (DESIGN 3): from meters to surplus, with our own draw taken out."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from agent.core.known import total
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower

WORSE = (Quality.OK, Quality.ESTIMATED, Quality.STALE, Quality.BAD)


def site_power(
    readings: Mapping[str, MeterReading],
    *,
    meters: Mapping[str, MeterRole],
    now: datetime,
    compute_w: float | None = None,
) -> SitePower:
    """Balance a site.

    Parameters
    ----------
    readings : mapping of meter name to MeterReading
        The newest of each meter.
    meters : mapping of meter name to MeterRole
        The meters that the site has. One without a reading is unknown, a role without a meter not installed.
    now : datetime
        Aware.
    compute_w : float or None
        Draw of our nodes, >= 0, from the GPUs; used where no meter has the role, and then an estimate. None:
        unknown.

    Returns
    -------
    SitePower
        ``site_load = grid + generation - battery - compute``, or what the load meter says;
        ``surplus = max(0, generation - site_load)``, with what a curtailed plant states as available in place
        of its generation. None where a term is unknown. Quality is the worst of what was used.
    """
    by_role = {role: _of(role, readings, meters) for role in MeterRole}
    metered = {role: total(_power_w(reading) for reading in values) for role, values in by_role.items()}
    qualities = [_quality(reading) for values in by_role.values() for reading in values]
    load_metered = bool(by_role[MeterRole.LOAD])
    if by_role[MeterRole.COMPUTE]:
        compute_w = metered[MeterRole.COMPUTE]
    elif not load_metered:
        qualities.append(Quality.ESTIMATED if compute_w is not None else Quality.BAD)
    grid_w, generation_w = metered[MeterRole.GRID], metered[MeterRole.GENERATION]
    battery_w = metered[MeterRole.BATTERY]
    # No battery meter: there is no battery, and its term is absent rather than unknown.
    battery_term_w = battery_w if by_role[MeterRole.BATTERY] else 0.0
    site_load_w = (
        metered[MeterRole.LOAD] if load_metered else _balance(grid_w, generation_w, battery_term_w, compute_w)
    )
    available_w = _available(by_role[MeterRole.GENERATION])
    return SitePower(
        measured_at=min((r.measured_at for r in readings.values() if r.meter in meters), default=now),
        quality=max(qualities, key=WORSE.index, default=Quality.BAD),
        grid_w=grid_w,
        generation_w=generation_w,
        available_w=available_w,
        battery_w=battery_w,
        compute_w=compute_w,
        site_load_w=site_load_w,
        surplus_w=_surplus(generation_w, available_w, site_load_w),
        grid_quality=max(
            (_quality(reading) for reading in by_role[MeterRole.GRID]), key=WORSE.index, default=Quality.BAD
        ),
        grid_measured_at=min((r.measured_at for r in by_role[MeterRole.GRID] if r is not None), default=None),
        load_metered=load_metered,
    )


def frequency_hz(readings: Iterable[MeterReading]) -> float | None:
    """Return the frequency that a grid meter states now, the first by name; None: none does."""
    stated = {
        reading.meter: reading.frequency_hz
        for reading in readings
        if reading.role is MeterRole.GRID and reading.quality is Quality.OK
    }
    return next((stated[meter] for meter in sorted(stated) if stated[meter] is not None), None)


def others_w(power: SitePower) -> float | None:
    """Return the import in watts that is not ours, negative where the site would export; None: unknown.

    Where the load is known it is taken from there: our own draw is often modelled and never sampled at the
    instant of the grid meter, and a job that has just started would look like somebody else's saving. Where
    only the grid meter can be trusted, because another one is silent, its figure and our draw must do.
    """
    balanced = power.quality in (Quality.OK, Quality.ESTIMATED) or power.import_quality is power.quality
    if balanced and power.site_load_w is not None and power.generation_w is not None:
        return power.site_load_w - power.generation_w + (power.battery_w or 0.0)
    if power.grid_w is None or power.compute_w is None:
        return None
    return power.grid_w - power.compute_w


def _of(
    role: MeterRole, readings: Mapping[str, MeterReading], meters: Mapping[str, MeterRole]
) -> list[MeterReading | None]:
    return [readings.get(name) for name, meter_role in sorted(meters.items()) if meter_role is role]


def _quality(reading: MeterReading | None) -> Quality:
    return Quality.BAD if reading is None or reading.active_power_w is None else reading.quality


def _power_w(reading: MeterReading | None) -> float | None:
    return None if reading is None else reading.active_power_w


def _balance(
    grid_w: float | None, generation_w: float | None, battery_w: float | None, compute_w: float | None
) -> float | None:
    inflow_w, outflow_w = total((grid_w, generation_w)), total((battery_w, compute_w))
    return None if inflow_w is None or outflow_w is None else inflow_w - outflow_w


def _available(plants: Sequence[MeterReading | None]) -> float | None:
    """Sum what the plants could give; one that does not say gives what it gives. None: none of them says."""
    stated = [plant for plant in plants if plant is not None and plant.available_power_w is not None]
    if not stated:
        return None
    return total(
        None if plant is None else _greater(plant.active_power_w, plant.available_power_w) for plant in plants
    )


def _greater(active_w: float | None, available_w: float | None) -> float | None:
    if active_w is None or available_w is None:
        return active_w
    return max(active_w, available_w)


def _surplus(
    generation_w: float | None, available_w: float | None, site_load_w: float | None
) -> float | None:
    plant_w = generation_w if available_w is None else available_w
    return None if plant_w is None or site_load_w is None else max(0.0, plant_w - site_load_w)
