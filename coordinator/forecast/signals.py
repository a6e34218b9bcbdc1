"""Other signals than surplus, price and carbon intensity, and when they make energy count as surplus.

Prices and intensities are series like any other (`Kind.OTHER`): the same `Learner` forecasts them. Here is
only what a configured site makes of them. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast.learnt import SiteMemory
from coordinator.forecast.series import Array
from coordinator.model.site import DeclaredSurplus


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRule:
    """What counts as surplus at one site; the default is that nothing but surplus does.

    `price_below` (per MWh, the signal's currency): energy at a lower price counts, typically 0; None: no
    price does. `certainty_frac`: share of the price's courses that must lie below it. `site_most_w`: watts
    that then count, the site's own limit.
    """

    price_below: float | None = None
    certainty_frac: float = 0.9
    site_most_w: float = 0.0


def surplus_from_price(rule: SignalRule, memory: SiteMemory) -> tuple[DeclaredSurplus, ...]:
    """Return when the forecast price makes energy count, for `declared.with_declared`.

    Parameters
    ----------
    rule : SignalRule
        The site's.
    memory : SiteMemory
        Of the price.
    """
    if rule.price_below is None or memory.paths is None or rule.site_most_w <= 0.0:
        return ()
    sure = (memory.paths < rule.price_below).mean(axis=0) >= rule.certainty_frac
    return _spans(sure, memory.end_at, memory.parts[0].series.slot_s, rule.site_most_w)


def expected_carbon_g(memory: SiteMemory, energy_wh: Sequence[float]) -> float | None:
    """Return the grams of CO2 that drawing so much in each of the next slots is expected to cause.

    Parameters
    ----------
    memory : SiteMemory
        Of the grid's carbon intensity in g/kWh.
    energy_wh : sequence of float
        From the first slot ahead on; at most as many as the memory looks ahead.

    Returns
    -------
    float or None
        None while the intensity cannot be said.
    """
    if memory.paths is None:
        return None
    mean: Array = memory.paths.mean(axis=0)[: len(energy_wh)]
    return float(mean @ np.asarray(energy_wh)) / 1000.0


def _spans(
    holds: NDArray[np.bool_], start_at: datetime, slot_s: float, watts: float
) -> tuple[DeclaredSurplus, ...]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], holds, [False])).astype(np.int8)))
    return tuple(
        DeclaredSurplus(
            start_at=start_at + timedelta(seconds=slot_s * int(first)),
            end_at=start_at + timedelta(seconds=slot_s * int(last)),
            surplus_w=watts,
        )
        for first, last in edges.reshape(-1, 2)
    )
