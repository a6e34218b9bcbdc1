"""What a site can offer its grid operator, from the jobs there: how much, how long, at what cost to them.

An offer to fall is taken up by an import limit, and a limit makes the agent shed its jobs in its own order:
the most flexible first. So the ladder here goes in that order, and ends before the first job that could not
bear the offer's length: what is taken up touches those jobs only that were counted. Owns figures and order;
which jobs there are, and where they could move, is `offering`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from types import MappingProxyType

from coordinator.model.job import Flexibility
from coordinator.model.offers import Direction, Offer, OfferSet
from sterna.units import joules_to_wh

TOLERATED_FRAC: Mapping[Flexibility, float] = MappingProxyType(
    {Flexibility.FLEX_0: 0.0, Flexibility.FLEX_1: 0.10, Flexibility.FLEX_2: 0.25, Flexibility.FLEX_3: 0.50}
)
"""Loss of throughput that the owner of a job of a tier accepts, averaged over three hours."""
AVERAGED_OVER_S = 3 * 3600.0
SMALL_W, SMALL_FRAC = 25.0, 0.05
"""Offers that differ by less than the greater of the two are the same to an operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSettings:
    """How offers are made.

    Parameters
    ----------
    durations_s : tuple of float
        Lengths that are offered, in seconds; empty: nothing is.
    valid_s : float
        How long an offer stands unless it is renewed.
    least_w : float
        Less power is not worth an offer.
    steps : int
        Offers of one length and direction at most.
    asked_after_s : float
        How long a site pauses a job before it asks for it to be moved away.
    margin_s : float
        Slack that no offer takes from a job that has some.
    stale_s : float
        Age beyond which a sample of a site says nothing any more.
    """

    durations_s: tuple[float, ...] = (900.0, 3600.0, 14400.0)
    valid_s: float = 300.0
    least_w: float = 25.0
    steps: int = 4
    asked_after_s: float = 300.0
    margin_s: float = 3600.0
    stale_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAway:
    """What moving a job to another site would take: seconds that it stands still, and energy in Wh."""

    site_id: str
    downtime_s: float
    extra_wh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferingJob:
    """A job at a site.

    `power_w` is its declared draw. `slack_s` None: nobody says by when it must end. `unsaved_s` None: it has
    no checkpoint yet. `move` None: it cannot move away now.
    """

    job_id: str
    power_w: float
    flexibility: Flexibility
    slack_s: float | None = None
    unsaved_s: float | None = None
    steps_at_risk: int | None = None
    move: MoveAway | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferingSite:
    """A site as offers see it.

    Parameters
    ----------
    site_id : str
        Which.
    blocked : str
        Why nothing may be offered now; "" where something may.
    import_w : float or None
        Grid import now; None: not measured.
    compute_w, idle_w
        Draw of all nodes, and the part of it that remains without a job; None: not measured.
    limit_w : float or None
        Import limit in force; None: there is none.
    running : tuple of OfferingJob
        Jobs that run there and stay.
    others_w : float
        What other jobs declare that may draw there now: those that start, leave or are told to pause.
    waiting : tuple of OfferingJob
        Jobs that could run there at once: paused by the plan, or held back in the queue.
    """

    site_id: str
    blocked: str = ""
    import_w: float | None = None
    compute_w: float | None = None
    idle_w: float = 0.0
    limit_w: float | None = None
    running: tuple[OfferingJob, ...] = ()
    others_w: float = 0.0
    waiting: tuple[OfferingJob, ...] = ()


def offers_of(site: OfferingSite, now: datetime, settings: OfferSettings) -> OfferSet:
    """Return what a site can offer now.

    Parameters
    ----------
    site : OfferingSite
        As it is.
    now : datetime
        The instant; offers start at it.
    settings : OfferSettings
        Lengths and bounds.

    Returns
    -------
    OfferSet
        Of each length and direction at most `settings.steps` offers, rising in power and cost.
    """
    reason = site.blocked or _unknown(site)
    offers: list[Offer] = []
    if not reason:
        for duration_s in settings.durations_s:
            offers += _down(site, duration_s, now, settings)
            offers += _up(site, duration_s, now, settings)
        if not offers:
            reason = "no job there can give way or come forward"
    return OfferSet(
        site_id=site.site_id,
        issued_at=now,
        expires_at=now + timedelta(seconds=settings.valid_s),
        offers=tuple(offers),
        reason=reason,
    )


def bearable_s(job: OfferingJob, settings: OfferSettings) -> float:
    """Return how long a job may stand still for an operator: by its tier, and by its slack if it has any."""
    by_tier_s = TOLERATED_FRAC[job.flexibility] * AVERAGED_OVER_S
    by_slack_s = inf if job.slack_s is None else max(0.0, job.slack_s - settings.margin_s)
    return min(by_tier_s, by_slack_s)


def shed_order(job: OfferingJob) -> tuple[float, float, float, str]:
    """Sort key: the first gives way first, as agents do it, as far as the coordinator can know."""
    unsaved_s = inf if job.unsaved_s is None else job.unsaved_s
    return (-TOLERATED_FRAC[job.flexibility], unsaved_s, -job.power_w, job.job_id)


def is_same(one: OfferSet, other: OfferSet) -> bool:
    """Tell whether two sets offer the same, but for small differences of power and all of time."""
    if one.reason != other.reason or len(one.offers) != len(other.offers):
        return False
    return all(
        (a.direction, a.duration_s, a.jobs, a.moves) == (b.direction, b.duration_s, b.jobs, b.moves)
        and abs(a.power_w - b.power_w) <= max(SMALL_W, SMALL_FRAC * b.power_w)
        for a, b in zip(one.offers, other.offers, strict=True)
    )


def _unknown(site: OfferingSite) -> str:
    if site.import_w is None:
        return "the site's import is not measured"
    return "what its jobs draw is not measured" if site.compute_w is None else ""


def _drawn_w(site: OfferingSite) -> Mapping[str, float]:
    """Return what each job draws now: its share of what is measured, at most what it declares."""
    declared_w = site.others_w + sum(job.power_w for job in site.running)
    if declared_w <= 0.0 or site.compute_w is None:
        return {}
    share = min(1.0, max(0.0, site.compute_w - site.idle_w) / declared_w)
    return {job.job_id: job.power_w * share for job in site.running}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    """One job's part in an offer."""

    job: OfferingJob
    power_w: float
    delay_s: float
    extra_wh: float = 0.0
    moves: bool = False


def _down(site: OfferingSite, duration_s: float, now: datetime, settings: OfferSettings) -> list[Offer]:
    drawn_w = _drawn_w(site)
    rungs: list[_Rung] = []
    for job in sorted(site.running, key=shed_order):
        rung = _rung(job, drawn_w.get(job.job_id, 0.0), duration_s, settings)
        if rung is None:
            break
        rungs.append(rung)
    # An import limit, by which the offer is taken up, cannot ask for less than no import.
    most_w = max(0.0, site.import_w or 0.0)
    return _ladder(site, Direction.DOWN, rungs, duration_s, most_w=most_w, now=now, settings=settings)


def _rung(job: OfferingJob, power_w: float, duration_s: float, settings: OfferSettings) -> _Rung | None:
    """Return how a job gives way for so long; None: it does not."""
    allowed_s = bearable_s(job, settings)
    if duration_s <= allowed_s:
        return _Rung(job=job, power_w=power_w, delay_s=duration_s)
    if job.move is None:
        return None
    delay_s = settings.asked_after_s + job.move.downtime_s
    if delay_s > allowed_s:
        return None
    return _Rung(job=job, power_w=power_w, delay_s=delay_s, extra_wh=job.move.extra_wh, moves=True)


def _up(site: OfferingSite, duration_s: float, now: datetime, settings: OfferSettings) -> list[Offer]:
    order = sorted(site.waiting, key=lambda job: (inf if job.slack_s is None else job.slack_s, job.job_id))
    rungs = [_Rung(job=job, power_w=job.power_w, delay_s=0.0) for job in order if job.power_w > 0.0]
    most_w = inf if site.limit_w is None else max(0.0, site.limit_w - (site.import_w or 0.0))
    return _ladder(site, Direction.UP, rungs, duration_s, most_w=most_w, now=now, settings=settings)


def _ladder(
    site: OfferingSite,
    direction: Direction,
    rungs: Sequence[_Rung],
    duration_s: float,
    *,
    most_w: float,
    now: datetime,
    settings: OfferSettings,
) -> list[Offer]:
    """Return offers of ever more jobs, the last of all; none promises more than `most_w`."""
    offers: list[Offer] = []
    for count in _counts(len(rungs), settings.steps):
        offer = _offer(site, direction, rungs[:count], duration_s, most_w=most_w, now=now)
        if offer.power_w < settings.least_w or (offers and offer.power_w <= offers[-1].power_w):
            continue
        offers.append(offer)
    return offers


def _counts(jobs: int, steps: int) -> list[int]:
    """Return after how many jobs an offer is made: evenly spread, the last always."""
    if jobs <= steps:
        return list(range(1, jobs + 1))
    return sorted({-(-jobs * step // steps) for step in range(1, steps + 1)})


def _offer(
    site: OfferingSite,
    direction: Direction,
    rungs: Sequence[_Rung],
    duration_s: float,
    *,
    most_w: float,
    now: datetime,
) -> Offer:
    sum_w = sum(rung.power_w for rung in rungs)
    power_w = min(sum_w, most_w)
    risks = [rung.job.steps_at_risk for rung in rungs] if direction is Direction.DOWN else [0]
    word = direction.value.lower()
    return Offer(
        offer_id=f"{site.site_id}-{now:%Y%m%dT%H%M%S}-{word}-{duration_s:.0f}-{len(rungs)}",
        direction=direction,
        power_w=power_w,
        start_at=now,
        duration_s=duration_s,
        jobs=len(rungs),
        moves=sum(rung.moves for rung in rungs),
        delay_s=sum(rung.delay_s for rung in rungs),
        steps_at_risk=None if None in risks else sum(risk or 0 for risk in risks),
        shifted_wh=joules_to_wh(sum(_shifted_j(rung, direction, duration_s) for rung in rungs)),
        extra_wh=sum(rung.extra_wh for rung in rungs),
    )


def _shifted_j(rung: _Rung, direction: Direction, duration_s: float) -> float:
    """Return the energy that is drawn at another time; what a moved job draws elsewhere is not put off."""
    return rung.power_w * (rung.delay_s if direction is Direction.DOWN else duration_s)
