"""Slowing down: which jobs run at part power, because the surplus at their site does not cover all of them.

Owns that choice and its words. Who runs where is decided before, as if nobody could be slowed: full speed on
surplus is better than part speed, wherever it is to be had. The accelerators of a site share one cap, so a
site slows all of its jobs or none, each to the same share of its power as far as it goes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from coordinator.core.deferral import draws_now, surplus_w
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.view import FleetView, JobView, Phase, SiteView

DEADBAND_FRAC = 0.05
"""What a job may draw is left as it is while it is off by no more than this share of its full power."""
_LEAVES = frozenset({DecisionKind.MIGRATE, DecisionKind.PAUSE})
_COMES = frozenset({DecisionKind.START, DecisionKind.RESUME})


def may_slow(view: FleetView) -> bool:
    """Tell whether any job may be slowed, or is."""
    return any(job.slow is not None or job.slowed_to_w is not None for job in view.jobs.values())


def with_slowing(
    view: FleetView, decisions: Sequence[Decision], *, policy: str, slack_margin_s: float, tells: bool
) -> tuple[Decision, ...]:
    """Add to the decisions of a tick how much each job that runs may draw.

    Parameters
    ----------
    view : FleetView
        The fleet at one instant.
    decisions : sequence of Decision
        Who runs, moves, starts, pauses.
    policy : str
        Name of the policy.
    slack_margin_s : float
        A job with no more slack than that is not slowed.
    tells : bool
        False: `decisions` are those that change something, and so is what is returned.

    Returns
    -------
    tuple of Decision
        In order of job id.
    """
    told = {one.job_id: one for one in decisions}
    short = _slots_are_short(view, told)
    for there in _after(view, told):
        powers_w = {} if short else there.powers_w(slack_margin_s)
        for job in there.running:
            power_w = powers_w.get(job.job_id)
            why = (
                there.why(job, power_w) if power_w is not None else "others wait for a slot" if short else ""
            )
            made = _decided(job, told.get(job.job_id) or _stay(view, job, policy), power_w, why)
            if tells or made.kind is not DecisionKind.STAY:
                told[job.job_id] = made
    return tuple(sorted(told.values(), key=lambda decision: decision.job_id))


@dataclass(slots=True)
class _There:
    """What draws at a site after a tick: jobs that run, and those whose draw the plan cannot change."""

    site: SiteView
    running: list[JobView] = field(default_factory=list)
    others_w: float = 0.0

    def powers_w(self, slack_margin_s: float) -> dict[str, float]:
        """Return what each job may draw; empty: all run at full power."""
        left_w = surplus_w(self.site) - self.others_w
        if self.site.known_surplus_w is None or left_w >= sum(job.power_w for job in self.running):
            return {}
        if not all(_is_able(job, slack_margin_s) for job in self.running):
            return {}
        frac = _common_frac(self.running, left_w)
        drawing = (job for job in self.running if job.power_w > 0.0)
        return {job.job_id: job.power_w * max(frac, _least_frac(job)) for job in drawing}

    def why(self, job: JobView, power_w: float) -> str:
        """Say what a job is slowed to, what that costs, and for what."""
        assert job.slow is not None
        full_w = self.others_w + sum(one.power_w for one in self.running)
        speed_frac = job.slow.speed_at(power_w / job.power_w)
        return (
            f"slowed to {power_w:.0f} of {job.power_w:.0f} W, {speed_frac:.0%} of its speed: the surplus "
            f"covers {surplus_w(self.site):.0f} of the {full_w:.0f} W that jobs here would draw"
        )


def _decided(job: JobView, said: Decision, power_w: float | None, why: str) -> Decision:
    """Return what is decided about a job that runs, or starts to, once it is known what it may draw."""
    if said.kind in _COMES:
        if power_w is None:
            return said
        return replace(said, power_w=power_w, reason=f"{said.reason}; {why}")
    now_w = job.power_w if job.slowed_to_w is None else job.slowed_to_w
    if power_w is None and job.slowed_to_w is not None:
        reason = f"runs at full power again: {why or 'the surplus here covers it, or is not known'}"
        return replace(said, kind=DecisionKind.RESUME, reason=reason)
    if power_w is None:
        return said
    if abs(now_w - power_w) > DEADBAND_FRAC * job.power_w:
        return replace(said, kind=DecisionKind.SLOW, power_w=power_w, reason=why)
    return said if job.slowed_to_w is None else replace(said, power_w=now_w, reason=why)


def _stay(view: FleetView, job: JobView, policy: str) -> Decision:
    return Decision(
        job_id=job.job_id,
        decided_at=view.now,
        policy=policy,
        kind=DecisionKind.STAY,
        source_site=job.site_id,
        target_site=job.site_id,
        reason="",
        alternatives=(),
    )


def _after(view: FleetView, told: Mapping[str, Decision]) -> Iterable[_There]:
    """Return who draws at each site once the decisions have taken effect; who leaves no longer counts."""
    sites = {site.site_id: _There(site) for site in view.sites.values()}
    for job in view.jobs.values():
        said = told.get(job.job_id)
        comes = said is not None and said.kind in _COMES
        there = sites.get((said.target_site if said is not None and comes else job.site_id) or "")
        if there is None or (said is not None and said.kind in _LEAVES):
            continue
        if comes or job.phase is Phase.RUNNING:
            there.running.append(job)
        elif draws_now(job) and job.phase is not Phase.PAUSED:
            there.others_w += job.power_w
    return sites.values()


def _slots_are_short(view: FleetView, told: Mapping[str, Decision]) -> bool:
    """Tell whether somebody waits for a slot, and none is free: a slowed job holds its own for longer."""
    kinds = Counter(one.kind for one in told.values())
    free = sum(max(0, site.slots - site.slots_held) for site in view.sites.values() if site.available)
    queued = sum(job.phase is Phase.QUEUED for job in view.jobs.values()) - kinds[DecisionKind.START]
    return queued > 0 and free <= kinds[DecisionKind.START] + kinds[DecisionKind.MIGRATE]


def _is_able(job: JobView, slack_margin_s: float) -> bool:
    return job.slow is not None and (job.spare_s is None or job.spare_s > slack_margin_s)


def _least_frac(job: JobView) -> float:
    return job.slow.power_frac if job.slow is not None else 1.0


def _common_frac(jobs: Sequence[JobView], left_w: float) -> float:
    """Return the share of full power at which jobs together draw what is left, none less than its least."""
    full_w = sum(job.power_w for job in jobs)
    for job in sorted(jobs, key=_least_frac, reverse=True):
        if left_w >= _least_frac(job) * full_w:
            break
        left_w -= _least_frac(job) * job.power_w
        full_w -= job.power_w
    return left_w / full_w if full_w > 0.0 else 0.0
