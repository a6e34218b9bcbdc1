"""A site's surplus together with its battery: what a planner may count on where it gives by its own control.

The figures of `four_moves.firmed`, from what is in the battery now and for every quantile and course of the
forecast at once. Nothing is commanded: that the battery serves the site is its operator's word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from coordinator.core.battery import Battery
from coordinator.model.fleet import FleetState
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.live import Live
from coordinator.model.site import SiteBattery
from coordinator.model.view import SiteView
from sterna.units import SECONDS_PER_HOUR

Array = NDArray[np.float64]


def with_batteries(
    sites: Mapping[str, SiteView], state: FleetState, live: Live, now: datetime
) -> Mapping[str, SiteView]:
    """Return the sites of a view, those with a battery that serves them as `with_battery` does."""
    heard = {site_id: live[site_id].sample for site_id in sites if site_id in live}
    batteries = {site_id: one.battery for site_id, one in heard.items() if one is not None}
    serving = {site_id: one for site_id, one in batteries.items() if one is not None and one.serves_site}
    if not serving:
        return sites
    power_w = max((job.spec.power_w for job in state.jobs.values() if not job.ended), default=0.0)
    shaped = {site_id: with_battery(sites[site_id], one, power_w, now) for site_id, one in serving.items()}
    return {**sites, **shaped}


def with_battery(site: SiteView, stored: SiteBattery, power_w: float, now: datetime) -> SiteView:
    """Return a site whose surplus, now and ahead, has in it what its battery takes and gives.

    Parameters
    ----------
    site : SiteView
        As it is without.
    stored : SiteBattery
        What is known of its battery.
    power_w : float
        The most that one job draws, >= 0: the battery takes what is beyond that in every slot, and gives up
        to it.
    now : datetime
        Of the view.

    Returns
    -------
    SiteView
        The same where the battery does not serve the site, or where anything of it, of the load there, of
        the surplus now or of the time ahead is not known.
    """
    found, forecast = _usable(stored), site.forecast
    full_w = site.slots * power_w
    if found is None or forecast is None or site.site_load_w is None or not full_w > 0.0:
        return site
    if site.known_surplus_w is None:
        return site
    ahead = next((n for n, slot in enumerate(forecast.slots) if slot.end_at > now), len(forecast.slots))
    coming = forecast.slots[ahead:]
    if not coming or coming[0].start_at > now:
        return site
    rows = np.array([(slot.p10_w, slot.p50_w, slot.p90_w) for slot in coming], dtype=np.float64).T
    if forecast.paths_w is not None:
        rows = np.concatenate((rows, forecast.paths_w[:, ahead:]), axis=0)
    rows[:, 0] = site.known_surplus_w
    lengths_s = [(slot.end_at - max(now, slot.start_at)).total_seconds() for slot in coming]
    battery, held_wh = found
    shaped = _shaped(rows, lengths_s, battery, held_wh, full_w=full_w, load_w=max(0.0, site.site_load_w))
    return replace(site, surplus_w=float(shaped[0, 0]), forecast=_forecast(forecast, coming, shaped))


def _usable(stored: SiteBattery) -> tuple[Battery, float] | None:
    """Return what can be counted on of a battery, and what is in it; None: nothing, or it is not known."""
    figures = (stored.capacity_wh, stored.available_wh, stored.reserve_wh)
    capacity_wh, available_wh, reserve_wh = figures
    charge_w, discharge_w = stored.max_charge_w, stored.max_discharge_w
    if not stored.serves_site or capacity_wh is None or available_wh is None or reserve_wh is None:
        return None
    if charge_w is None or discharge_w is None or not capacity_wh > reserve_wh:
        return None
    usable_wh = capacity_wh - reserve_wh
    battery = Battery(capacity_wh=usable_wh, charge_w=charge_w, discharge_w=discharge_w)
    return battery, min(usable_wh, max(0.0, available_wh - reserve_wh))


def _shaped(
    rows: Array, lengths_s: Sequence[float], battery: Battery, held_wh: float, *, full_w: float, load_w: float
) -> Array:
    """Return courses of surplus (rows) with the battery, slot by slot.

    Where there is no surplus, what the site itself lacks is not known, at most its load: the battery gives
    that first.
    """
    one_way, shaped = battery.one_way_frac, np.empty(rows.shape)
    held_j, most_j = np.full(len(rows), held_wh * SECONDS_PER_HOUR), battery.capacity_wh * SECONDS_PER_HOUR
    for column, length_s in enumerate(lengths_s):
        watts = rows[:, column]
        takes = np.minimum(battery.charge_w, (most_j - held_j) / one_way / length_s)
        gives = np.minimum(battery.discharge_w, held_j * one_way / length_s)
        charge = np.minimum(np.maximum(0.0, watts - full_w), takes)
        own = np.where(watts > 0.0, 0.0, load_w)
        given = np.minimum(np.maximum(0.0, full_w - watts) + own, gives)
        shaped[:, column] = watts - charge + np.maximum(0.0, given - own)
        held_j = held_j + charge * length_s * one_way - given * length_s / one_way
        np.clip(held_j, 0.0, most_j, out=held_j)
    return shaped


def _forecast(forecast: SurplusForecast, coming: Sequence[ForecastSlot], shaped: Array) -> SurplusForecast:
    """Return a forecast from the slot of now on, with quantiles (the first three rows) and courses anew."""
    slots = tuple(
        replace(slot, p10_w=p10_w, p50_w=p50_w, p90_w=p90_w)
        for slot, (p10_w, p50_w, p90_w) in zip(coming, shaped[:3].T.tolist(), strict=True)
    )
    paths = None if forecast.paths_w is None else shaped[3:].astype(forecast.paths_w.dtype)
    return replace(forecast, slots=slots, paths_w=paths)
