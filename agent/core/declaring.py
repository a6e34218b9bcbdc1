"""When energy counts as surplus although no meter says so: it is cheap, or a plant may not feed it in.

What counts is the site's word, not a measurement; the coordinator's windows take it as declared surplus.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.limits import FAILSAFE_SOURCE
from agent.core.openadr.timeline import STRICTEST, Segment, merge
from agent.model.limits import Limit
from agent.model.openadr import Signal, SignalKind
from agent.model.telemetry import DeclaredSurplus

AHEAD = timedelta(days=7)
MOST = 200
"""Spans that are told at once, the next ones first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurplusRules:
    """What counts at one site; by default nothing does.

    `price_below_per_kwh`: energy at a lower price counts, in the currency of the signal; None: no price
    does. `price_w`: watts that then count. `curtailed_w`: watts that count while an export limit is in
    force; None: none.
    """

    price_below_per_kwh: float | None = None
    price_w: float = 0.0
    curtailed_w: float | None = None


def declare(signals: Iterable[Signal], rules: SurplusRules, now: datetime) -> tuple[DeclaredSurplus, ...]:
    """Return what counts as surplus now and in the days ahead, by start.

    Parameters
    ----------
    signals : iterable of Signal
        Of the site's VTN. Where prices overlap, priority decides, then the dearest.
    rules : SurplusRules
        The site's.
    now : datetime
        Aware. Spans that are over are left out; one without end is told for `AHEAD`, from the full hour.
    """
    known = tuple(signals)
    until = told_until(now)
    spans: list[DeclaredSurplus] = []
    if rules.price_below_per_kwh is not None:
        prices = merge((s for s in known if s.kind is SignalKind.PRICE), STRICTEST[SignalKind.PRICE])
        cheap = (one for one in prices if one.value < rules.price_below_per_kwh)
        spans += _spans(cheap, rules.price_w, "openadr price", until)
    if rules.curtailed_w is not None:
        limits = merge(s for s in known if s.kind is SignalKind.EXPORT_LIMIT)
        spans += _spans(limits, rules.curtailed_w, "openadr export limit", until)
    ahead = (span for span in spans if now < span.end_at)
    return tuple(sorted(ahead, key=lambda span: (span.start_at, span.source)))[:MOST]


def declare_curtailed(
    limits: Iterable[Limit], rules: SurplusRules, now: datetime, *, rated_w: float
) -> tuple[DeclaredSurplus, ...]:
    """Return what counts as surplus because of the export limits in force now, told as by `declare`.

    Parameters
    ----------
    limits : iterable of Limit
        Of the export. A fail-safe limit is nobody's order, and one of `rated_w` or more curtails nothing.
    rules : SurplusRules
        The site's.
    now : datetime
        Aware.
    rated_w : float
        What the connection may feed in, > 0.
    """
    if rules.curtailed_w is None:
        return ()
    orders = (limit for limit in limits if limit.source != FAILSAFE_SOURCE and limit.limit_w < rated_w)
    spans: list[DeclaredSurplus] = []
    for limit in orders:
        segment = Segment(start_at=limit.start_at, end_at=limit.end_at, value=limit.limit_w, event_ids=())
        spans += _spans([segment], rules.curtailed_w, f"{limit.source} export limit", told_until(now))
    return tuple(spans)


def told_until(now: datetime) -> datetime:
    """Return until when the days ahead are told: for `AHEAD`, from the full hour."""
    return now.replace(minute=0, second=0, microsecond=0) + AHEAD


def _spans(
    segments: Iterable[Segment], surplus_w: float, source: str, until: datetime
) -> Iterator[DeclaredSurplus]:
    """Join neighbours, and end what has no end or goes on for too long."""
    joined: list[tuple[datetime, datetime]] = []
    for one in segments:
        end_at = until if one.end_at is None else min(one.end_at, until)
        if joined and joined[-1][1] == one.start_at:
            joined[-1] = (joined[-1][0], end_at)
        elif one.start_at < end_at:
            joined.append((one.start_at, end_at))
    for start_at, end_at in joined:
        yield DeclaredSurplus(start_at=start_at, end_at=end_at, surplus_w=surplus_w, source=source)
