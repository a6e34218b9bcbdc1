from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.power_budget import BudgetInputs, decide
from agent.core.power_budget_values import (
    BudgetActions,
    BudgetJob,
    BudgetSettings,
    BudgetState,
    CapRange,
    JobMark,
    Sight,
)
from agent.model.jobs import Flexibility
from agent.model.limits import Limit
from agent.model.readings import Quality, SitePower
from tests.agent.core.budget_site import NOW, SETTINGS, Site, limit, limited, power

NOW_S = 120.0
ROUNDING_W = 1e-6
RAMPED = replace(SETTINGS, ramp_down_w_per_s=100.0, release_delay_s=7.0)

JOBS = st.lists(
    st.builds(
        BudgetJob,
        job_id=st.uuids().map(str),
        flexibility=st.sampled_from(Flexibility),
        power_w=st.floats(0, 2000),
        unsaved_s=st.none() | st.floats(0, 5000),
        pausable=st.booleans(),
        paused=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda job: job.job_id,
).map(tuple)
CAPS = st.none() | st.builds(
    lambda low, more: CapRange(min_w=low, max_w=low + more), st.floats(0, 500), st.floats(0, 2000)
)
SIGHTS = st.builds(
    Sight,
    others_w=st.none() | st.floats(-2000, 2000),
    known_s=st.none() | st.floats(100, 120),
    drift_w_per_s=st.floats(-20, 20),
    unexplained_w=st.floats(0, 100),
)
STATES = st.builds(
    BudgetState,
    sight=SIGHTS,
    allowed_w=st.none() | st.floats(0, 3000),
    bound_w=st.none() | st.floats(0, 5000),
    looked_s=st.floats(100, 119.5),
    changed_s=st.none() | st.floats(0, 100),
)
SAMPLES = st.none() | st.builds(
    power, st.floats(-2000, 2000), st.floats(0, 4000), st.sampled_from(list(Quality))
)
LIMITS = st.floats(0, 5000)
RAMPS = st.sampled_from([0.0, 60.0, 600.0])


def once(
    state: BudgetState,
    limits: tuple[Limit, ...],
    sample: SitePower | None,
    jobs: tuple[BudgetJob, ...],
    cap: CapRange | None,
    *,
    rules: BudgetSettings = SETTINGS,
) -> BudgetActions:
    """Look once, with a state that fits the jobs and the cap."""
    if cap is not None and state.allowed_w is not None:
        state = replace(state, cap_w=min(cap.max_w, max(cap.min_w, state.allowed_w)))
    inputs = BudgetInputs(
        now=NOW, now_boot_s=NOW_S, envelope=limited(*limits), power=sample, jobs=jobs, cap=cap
    )
    return decide(state, inputs, rules)[1]


@settings(deadline=None)
@given(STATES, LIMITS, SAMPLES, JOBS, CAPS)
def test_within_the_limit_whenever_it_is_achievable(
    state: BudgetState,
    limit_w: float,
    sample: SitePower | None,
    jobs: tuple[BudgetJob, ...],
    cap: CapRange | None,
) -> None:
    actions = once(state, (limit(limit_w),), sample, jobs, cap)
    if actions.achievable_min_w is not None and actions.achievable_min_w <= limit_w - ROUNDING_W:
        assert actions.predicted_w is not None
        assert actions.predicted_w <= limit_w + ROUNDING_W
        assert not actions.unachievable
    if actions.unachievable:
        stay = {job.job_id for job in jobs if not job.pausable or job.paused}
        assert {job.job_id for job in jobs} - stay == set(actions.pause)
    assert not set(actions.pause) & set(actions.resume)
    assert len(actions.resume) <= 1


@settings(deadline=None)
@given(STATES, LIMITS, LIMITS, SAMPLES, JOBS, CAPS, RAMPS, st.sampled_from([SETTINGS, RAMPED]))
def test_a_more_restrictive_limit_never_yields_more_power(  # noqa: PLR0917 - drawn by position
    state: BudgetState,
    one_w: float,
    other_w: float,
    sample: SitePower | None,
    jobs: tuple[BudgetJob, ...],
    cap: CapRange | None,
    ramp_s: float,
    rules: BudgetSettings,
) -> None:
    tight, loose = (limit(limit_w, ramp_s=ramp_s) for limit_w in sorted((one_w, other_w)))
    # What rose a moment ago may have to wait for its turn; here it is the same moment for both.
    state = replace(state, bound_w=None)
    tighter = once(state, (tight,), sample, jobs, cap, rules=rules)
    both = once(state, (tight, replace(loose, source="other")), sample, jobs, cap, rules=rules)
    assert both.predicted_w == tighter.predicted_w, "a looser limit beside it changes nothing"
    for wider in (
        once(state, (loose,), sample, jobs, cap, rules=rules),
        once(state, (), sample, jobs, cap, rules=rules),
    ):
        if tighter.predicted_w is not None and wider.predicted_w is not None:
            assert tighter.predicted_w <= wider.predicted_w + ROUNDING_W
        assert set(wider.pause) <= set(tighter.pause) | set(wider.resume)


@settings(deadline=None)
@given(STATES, LIMITS, SAMPLES, JOBS, CAPS, st.randoms())
def test_the_order_in_which_jobs_are_named_changes_nothing(  # noqa: PLR0917 - drawn by position
    state: BudgetState,
    limit_w: float,
    sample: SitePower | None,
    jobs: tuple[BudgetJob, ...],
    cap: CapRange | None,
    random: object,
) -> None:
    shuffled = list(jobs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = once(state, (limit(limit_w),), sample, jobs, cap)
    other = once(state, (limit(limit_w),), sample, tuple(shuffled), cap)
    assert (one.pause, one.resume) == (other.pause, other.resume)
    assert one.cap_w == other.cap_w or abs((one.cap_w or 0) - (other.cap_w or 0)) < ROUNDING_W


@settings(deadline=None)
@given(st.integers(2, 5), st.floats(100, 900), st.floats(0, 5000), st.sampled_from(Flexibility), CAPS)
def test_equal_jobs_fare_alike_but_for_their_names(
    count: int, power_w: float, limit_w: float, tier: Flexibility, cap: CapRange | None
) -> None:
    jobs = tuple(
        BudgetJob(job_id=f"job-{number}", power_w=power_w, flexibility=tier) for number in range(count)
    )
    renamed = tuple(replace(job, job_id=f"x-{job.job_id}") for job in jobs)
    sample = power(0.0, count * power_w)
    one = once(BudgetState(), (limit(limit_w),), sample, jobs, cap)
    other = once(BudgetState(), (limit(limit_w),), sample, renamed, cap)
    assert (len(one.pause), one.cap_w, one.predicted_w) == (len(other.pause), other.cap_w, other.predicted_w)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([Quality.STALE, Quality.BAD, None]), min_size=1, max_size=9),
    st.floats(1500, 2500),
    st.floats(-3000, 3000),
    st.floats(0, 3000),
    st.booleans(),
)
def test_a_blink_changes_nothing(
    blinks: list[Quality | None], limit_w: float, nonsense_w: float, ours_w: float, capped: bool
) -> None:
    jobs = [BudgetJob(job_id=name, power_w=500.0) for name in ("a", "b")]
    site = Site(*jobs, cap=CapRange(min_w=200.0, max_w=1000.0) if capped else None)
    for _ in range(5):
        site.look(limit_w)
    cap_w, paused = site.state.cap_w, site.paused
    for quality in blinks:
        if quality is None:
            actions = site.look(limit_w, blind=True)
        else:
            actions = site.look(limit_w, power(nonsense_w, ours_w, quality))
        assert (actions.cap_w, actions.pause, actions.resume) == (cap_w, (), ())
        assert site.paused == paused


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([None, 1100.0, 1250.0, 1400.0, 1700.0, 2500.0]), min_size=1, max_size=8),
    st.sampled_from([20.0, 100.0]),
    st.booleans(),
)
def test_nothing_rises_faster_than_the_ramp(
    limits: list[float | None], ramp_w_per_s: float, capped: bool
) -> None:
    jobs = [BudgetJob(job_id=f"j{number}", power_w=300.0) for number in range(3)]
    cap = CapRange(min_w=150.0, max_w=900.0) if capped else None
    rules = replace(SETTINGS, ramp_up_w_per_s=ramp_w_per_s, resume_hold_s=0.0)
    site = Site(*jobs, cap=cap, settings=rules)
    site.look(1100.0)
    for limit_w in limits:
        for _ in range(20):
            before_w = site.state.allowed_w
            actions = site.look(limit_w)
            after_w = site.state.allowed_w
            if before_w is None:
                continue  # nothing bounded it
            # A job that goes on adds the lowest cap at most, and that only where the ramp has made room.
            step_w = 150.0 if capped and actions.resume else 0.0
            most_w = before_w + ramp_w_per_s + step_w + ROUNDING_W
            assert site.draw_w() <= most_w
            if after_w is not None:
                assert site.draw_w() <= after_w + ROUNDING_W
                assert after_w <= most_w


@settings(deadline=None)
@given(st.permutations(list(Flexibility)), st.floats(0, 100))
def test_a_more_flexible_job_is_never_paused_after_a_firmer_one(
    tiers: list[Flexibility], debt_s: float
) -> None:
    jobs = tuple(
        BudgetJob(job_id=f"job-{number}", power_w=300.0, flexibility=tier)
        for number, tier in enumerate(tiers)
    )
    marks = tuple(JobMark(job_id=job.job_id, debt_s=debt_s * number) for number, job in enumerate(jobs))
    state = BudgetState(marks=marks)
    for limit_w in (1200.0, 1000.0, 700.0, 400.0, 100.0):
        actions = once(state, (limit(limit_w),), power(0.0, 1200.0), jobs, None)
        paused = [job.flexibility.value for job in jobs if job.job_id in actions.pause]
        spared = [job.flexibility.value for job in jobs if job.job_id not in actions.pause]
        assert not paused or not spared or min(paused) > max(spared)
        assert paused or limit_w == 1200.0
