"""Trials of obeying, each with the figures that it is judged by: random limits, and Emerald's events."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import quantiles

from agent.core.power_budget_values import BudgetSettings, CapRange, FollowSettings
from tests.obeying.closed_loop import TOLERANCE_W, ClosedLoop, Nature, SiteSpec, random_jobs, settled_s

LIMITS_PER_SITE = 25
SETTLED_WITHIN_S = 2.0
EMERALD_WITHIN_S = 30.0


@dataclass(slots=True, kw_only=True)
class Figures:
    """What came out. `settle_s` has one entry per limit, inf where it was never kept for good."""

    settle_s: list[float] = field(default_factory=list)
    true_settle_s: list[float] = field(default_factory=list)
    breaches: int = 0
    rises_w: list[float] = field(default_factory=list)
    ramp_excesses: int = 0
    pauses: int = 0


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of some times."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def random_site(random: Random, nature: Nature, **settings: float | None) -> SiteSpec:
    """Make a site of 1 to 6 jobs, mostly with GPUs that can be capped."""
    jobs = random_jobs(random, random.randint(1, 6), least_w=100.0, most_w=800.0)
    full_w = sum(job.power_w or 0.0 for job in jobs)
    capped = random.random() < 0.8
    return SiteSpec(
        jobs=jobs,
        cap=CapRange(min_w=0.25 * full_w, max_w=full_w + 60.0) if capped else None,
        idle_w=60.0,
        pv_w=random.choice([0.0, 1500.0, 3000.0]),
        base_load_w=1000.0,
        settings=BudgetSettings(
            **{"idle_w": 60.0, "ramp_up_w_per_s": 200.0, "resume_hold_s": 2.0, **settings}  # type: ignore[arg-type]
        ),
        nature=nature,
    )


def random_limits(seed: int, count: int, nature: Nature | None = None, **settings: float | None) -> Figures:
    """Put random limits to random sites, one after the other, each below what the site imports then."""
    figures, random = Figures(), Random(seed)
    while len(figures.settle_s) < count:
        spec = random_site(random, nature or random_nature(random), **settings)
        loop = ClosedLoop(spec=spec, random=random)
        loop.pass_time(15.0)
        for _ in range(min(LIMITS_PER_SITE, count - len(figures.settle_s))):
            _one_limit(loop, random, figures)
        figures.pauses += len(loop.pauses)
        _judge_ramp(loop, figures)
    return figures


def random_nature(random: Random) -> Nature:
    """Make a world like the simulated plant: registers renewed five times a second, polled once."""
    return Nature(
        gpu_lag_s=random.uniform(0.0, 0.25),
        meter_lag_s=random.uniform(0.0, 0.2),
        load_meter=random.random() < 0.5,
        wake_s=random.uniform(0.02, 0.1),
    )


def _one_limit(loop: ClosedLoop, random: Random, figures: Figures) -> None:
    """Limit the site to less than it imports, hold that, let go, and judge what the meter has shown."""
    idle_w = loop.spec.idle_w
    while loop.import_w < max(0.0, loop.import_w - loop.compute_w + idle_w) + TOLERANCE_W:
        loop.pass_time(10.0)  # too little is drawn to be limited
    lowest_w = max(0.0, loop.import_w - loop.compute_w + idle_w)
    limit_w = random.uniform(lowest_w, loop.import_w)
    ramp_s = random.choice([0.0, 0.0, 2.0, 10.0])
    began_s, before = loop.now_s, loop.tally.samples
    loop.limit(loop.make_limit(limit_w, ramp_s=ramp_s))
    achievable = True
    for _ in loop.run(ramp_s + random.uniform(8.0, 40.0)):
        achievable = achievable and loop.import_w - loop.compute_w + idle_w <= limit_w
    if achievable:  # else a cloud has taken what the limit counted on, and nobody could keep it
        window = {"from_s": began_s + ramp_s, "to_s": loop.now_s, "limit_w": limit_w}
        figures.settle_s.append(settled_s(loop.samples, **window))
        figures.true_settle_s.append(settled_s(loop.truth, **window))
        figures.breaches += loop.tally.samples - before
    loop.limit()
    loop.pass_time(random.uniform(2.0, 40.0))


def _judge_ramp(loop: ClosedLoop, figures: Figures) -> None:
    """Hold every rise within a second against the ramp, and a job that goes on at the lowest cap."""
    if loop.spec.cap is None:
        return
    ticks = round(1.0 / loop.spec.nature.tick_s)
    for before, after in zip(loop.trail, loop.trail[ticks:], strict=False):
        if before[0] < 1.0:
            continue  # the jobs start
        gone_on = [at_s for at_s, _ in loop.resumes if before[0] - 1.5 <= at_s <= after[0]]
        step_w = loop.spec.cap.min_w if gone_on else 0.0
        rise_w = after[1] - before[1]
        figures.rises_w.append(rise_w)
        # A decision every half second makes stairs: a second may hold one step more than its share.
        allowed_w = loop.spec.settings.ramp_up_w_per_s * (1.0 + loop.spec.nature.control_s) + step_w
        if rise_w > allowed_w + 1.0:
            figures.ramp_excesses += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EmeraldEvent:
    """One event: asked, met in time and kept to the end, and how long it took."""

    reduction_frac: float
    duration_s: float
    met: bool
    reached_s: float
    breaches: int


def emerald(seed: int, count: int, *, longest: int = 0) -> list[EmeraldEvent]:
    """Hold events as in London, December 2025: unannounced, 30 to 40 % less, within 30 s, up to 10 h long.

    Parameters
    ----------
    seed : int
        Of everything random.
    count : int
        Events.
    longest : int
        How many of them last ten hours; the others one to ten minutes.
    """
    random = Random(seed)
    events = []
    for number in range(count):
        duration_s = 36_000.0 if number < longest else random.uniform(60.0, 600.0)
        events.append(_emerald_event(random, duration_s))
    return events


def _emerald_event(random: Random, duration_s: float) -> EmeraldEvent:
    """96 GPUs in 12 jobs, 130 kW, beside a load and a plant of its own."""
    jobs = random_jobs(random, 12, least_w=6_000.0, most_w=10_000.0)
    full_w = sum(job.power_w or 0.0 for job in jobs)
    spec = SiteSpec(
        jobs=jobs,
        cap=CapRange(min_w=0.3 * full_w, max_w=full_w),
        idle_w=130_000.0 - 96_000.0,
        pv_w=20_000.0,
        base_load_w=15_000.0,
        settings=BudgetSettings(idle_w=34_000.0, ramp_up_w_per_s=2_000.0, margin_w=100.0, deadband_w=50.0),
        nature=Nature(tick_s=0.5, load_meter=False),
    )
    loop = ClosedLoop(spec=spec, random=random)
    loop.pass_time(random.uniform(10.0, 20.0))
    reduction_frac = random.uniform(0.30, 0.40)
    baseline_w = loop.compute_w
    began_s, reached_s = loop.now_s, math.inf
    wanted_w = (1.0 - reduction_frac) * baseline_w
    kept = True
    for _ in loop.run(duration_s):
        # The order is for compute; the limit is on import, so it moves with what is not ours.
        if round(loop.now_s) % 4 == 0:
            others_w = loop.import_w - loop.compute_w
            loop.limit(loop.make_limit(max(0.0, others_w + wanted_w)))
        inside = loop.compute_w <= wanted_w + TOLERANCE_W
        if inside and math.isinf(reached_s):
            reached_s = loop.now_s - began_s
        kept = kept and (inside or loop.now_s - began_s <= EMERALD_WITHIN_S)
    return EmeraldEvent(
        reduction_frac=reduction_frac,
        duration_s=duration_s,
        met=kept and reached_s <= EMERALD_WITHIN_S,
        reached_s=reached_s,
        breaches=loop.tally.samples,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowFigures:
    """Energy of compute, watt-hours: all of it, what the surplus did not cover, what surplus was left unused.

    `turns` is how often the cap changed its direction.
    """

    drawn_wh: float
    beyond_wh: float
    unused_wh: float
    turns: int


def follow_surplus(seed: int, hours: float, *, load_meter: bool, follow: bool = True) -> FollowFigures:
    """Follow a cloudy sky with two jobs that could draw 1500 W, at a site that generates up to 3000 W."""
    random = Random(seed)
    jobs = random_jobs(random, 2, least_w=700.0, most_w=750.0)
    spec = SiteSpec(
        jobs=jobs,
        cap=CapRange(min_w=200.0, max_w=1560.0),
        idle_w=60.0,
        pv_w=3000.0,
        base_load_w=1000.0,
        settings=BudgetSettings(idle_w=60.0, follow=FollowSettings() if follow else None),
        nature=Nature(tick_s=0.5, load_meter=load_meter),
    )
    loop = ClosedLoop(spec=spec, random=random)
    loop.pass_time(60.0)
    drawn_w = beyond_w = unused_w = 0.0
    turns, caps = 0, [0.0, 0.0]
    for _ in loop.run(hours * 3600.0):
        surplus_w = max(0.0, loop.compute_w - loop.import_w)
        full_w = 60.0 + sum(job.power_w or 0.0 for job in jobs)
        drawn_w += loop.compute_w
        beyond_w += max(0.0, loop.compute_w - surplus_w)
        unused_w += max(0.0, min(surplus_w, full_w) - loop.compute_w)
        cap_w = loop.state.cap_w or 0.0
        if abs(cap_w - caps[-1]) > 1.0:
            turns += (cap_w > caps[-1]) != (caps[-1] > caps[-2])
            caps = [caps[-1], cap_w]
    ticks_per_h = 3600.0 / spec.nature.tick_s
    return FollowFigures(
        drawn_wh=drawn_w / ticks_per_h,
        beyond_wh=beyond_w / ticks_per_h,
        unused_wh=unused_w / ticks_per_h,
        turns=turns,
    )
