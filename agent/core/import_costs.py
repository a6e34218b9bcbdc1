"""What import costs in the days ahead, as the site's operator tells it: prices, or grams of CO2."""

from collections.abc import Iterable
from datetime import datetime

from agent.core.declaring import MOST, told_until
from agent.core.openadr.timeline import STRICTEST, merge
from agent.model.openadr import Signal, SignalKind
from agent.model.telemetry import ImportCost


def import_costs(signals: Iterable[Signal], kind: SignalKind, now: datetime) -> tuple[ImportCost, ...]:
    """Return what import costs now and in the days ahead, by start.

    Parameters
    ----------
    signals : iterable of Signal
        Of the site's VTN. Where some overlap, priority decides, then the dearest.
    kind : SignalKind
        ``PRICE`` or ``GHG``.
    now : datetime
        Aware. What is over is left out; what has no end is told for a week.
    """
    until = told_until(now)
    told = merge((signal for signal in signals if signal.kind is kind), STRICTEST[kind])
    costs = (
        ImportCost(
            start_at=one.start_at,
            end_at=until if one.end_at is None else min(one.end_at, until),
            per_kwh=one.value,
        )
        for one in told
    )
    return tuple(cost for cost in costs if max(now, cost.start_at) < cost.end_at)[:MOST]
