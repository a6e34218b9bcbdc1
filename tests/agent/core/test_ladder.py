from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.ladder import (
    CapRange,
    LadderActions,
    LadderJob,
    LadderSettings,
    LadderState,
    climb,
)
from agent.model.limits import Envelope, GridState, Limit
from agent.model.readings import Quality, SitePower

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
CAP = CapRange(min_w=200.0, max_w=1000.0)
SETTINGS = LadderSettings()
LOW = LadderJob(job_id="low", priority=0, power_w=400.0)
HIGH = LadderJob(job_id="high", priority=5, power_w=600.0)


def limited(limit_w: float | None) -> Envelope:
    if limit_w is None:
        return Envelope(state=GridState.UNLIMITED, limits=())
    limit = Limit(
        source="mqtt", command_id="c", limit_w=limit_w, start_at=NOW, end_at=None, ramp_s=0.0, reason=""
    )
    return Envelope(state=GridState.LIMITED, limits=(limit,))


def power(
    others_w: float = 1000.0, compute_w: float | None = 1000.0, quality: Quality = Quality.OK
) -> SitePower:
    return SitePower(
        measured_at=NOW,
        quality=quality,
        grid_w=others_w + (compute_w or 0.0),
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=compute_w,
        site_load_w=None,
        surplus_w=None,
    )


class Site:
    """Jobs that do what the ladder says, and a meter that shows it."""

    def __init__(
        self, *jobs: LadderJob, cap: CapRange | None = None, settings: LadderSettings = SETTINGS
    ) -> None:
        self.jobs = jobs
        self.cap = cap
        self.settings = settings
        self.state = LadderState()
        self.now_s = 0.0

    def look(
        self,
        limit_w: float | None,
        sample: SitePower | None = None,
        *,
        blind: bool = False,
        after_s: float = 1.0,
    ) -> LadderActions:
        self.now_s += after_s
        if sample is None and not blind:
            sample = power(compute_w=self.draw_w())
        self.state, actions = climb(
            self.state,
            now_boot_s=self.now_s,
            envelope=limited(limit_w),
            power=sample,
            jobs=self.jobs,
            cap=self.cap,
            settings=self.settings,
        )
        changes = {**dict.fromkeys(actions.pause, True), **dict.fromkeys(actions.resume, False)}
        self.jobs = tuple(replace(j, paused=changes.get(j.job_id, j.paused)) for j in self.jobs)
        return actions

    def draw_w(self) -> float:
        full_w = sum(job.power_w or 0.0 for job in self.jobs if not job.paused)
        return full_w if self.state.cap_w is None else min(full_w, self.state.cap_w)


def test_nothing_limits_nothing_is_done() -> None:
    actions = Site(LOW, HIGH, cap=CAP).look(None)
    assert actions == LadderActions(
        cap_w=None,
        pause=(),
        resume=(),
        request_move=(),
        unachievable=False,
        predicted_w=2000.0,
        achievable_min_w=1000.0,
        achievable_max_w=2000.0,
    )


@pytest.mark.parametrize(
    ("limit_w", "cap_w", "pause", "unachievable"),
    [
        (2500.0, 1000.0, (), False),
        (2000.0, 1000.0, (), False),
        (1700.0, 700.0, (), False),
        (1200.0, 200.0, (), False),
        (1199.0, 200.0, ("low", "high"), False),
        (999.0, 200.0, ("low", "high"), True),
    ],
)
def test_cap_comes_before_pause(
    limit_w: float, cap_w: float, pause: tuple[str, ...], unachievable: bool
) -> None:
    actions = Site(LOW, HIGH, cap=CAP).look(limit_w)
    assert (actions.cap_w, actions.pause, actions.unachievable) == (cap_w, pause, unachievable)


@pytest.mark.parametrize(
    ("limit_w", "pause"),
    [(2000.0, ()), (1999.0, ("low",)), (1600.0, ("low",)), (1599.0, ("low", "high")), (0.0, ("low", "high"))],
)
def test_without_a_cap_the_lowest_priority_is_paused_first(limit_w: float, pause: tuple[str, ...]) -> None:
    actions = Site(LOW, HIGH).look(limit_w)
    assert (actions.cap_w, actions.pause) == (None, pause)


def test_rebound_is_one_job_at_a_time_and_waits() -> None:
    site = Site(LOW, HIGH)
    assert site.look(1000.0).pause == ("low", "high")
    assert [site.look(None).resume for _ in range(29)] == [()] * 29
    assert site.look(None).resume == ("high",)
    assert [site.look(None).resume for _ in range(29)] == [()] * 29
    assert site.look(None).resume == ("low",)


def test_hysteresis_no_resume_into_the_limit_and_no_flapping() -> None:
    site = Site(LOW, HIGH)
    site.look(1999.0)
    assert [site.look(2049.0, after_s=60).resume for _ in range(5)] == [()] * 5
    assert site.look(2050.0, after_s=60).resume == ("low",)


def test_the_cap_falls_at_once_and_rises_by_its_ramp() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    assert site.look(1300.0).cap_w == 300.0
    assert site.look(1305.0).cap_w == 300.0, "within the deadband"
    assert [site.look(1420.0).cap_w for _ in range(4)] == [350.0, 400.0, 420.0, 420.0]
    assert site.look(1250.0).cap_w == 250.0
    caps = [site.look(None).cap_w for _ in range(16)]
    assert caps[:3] == [300.0, 350.0, 400.0]
    assert caps[-3:] == [950.0, None, None]


def test_a_blink_of_the_meter_sheds_nothing() -> None:
    site = Site(LOW, HIGH)
    assert site.look(2000.0).pause == ()
    for quality in (Quality.STALE, Quality.BAD):
        assert site.look(2000.0, power(0.0, 0.0, quality)).pause == ()
    assert site.look(2000.0, blind=True).pause == ()
    assert site.look(2000.0, power(2000.0, None)).pause == (), "our own meter blinks"
    assert site.look(2000.0, power(2000.0, None), after_s=11).pause == ("low", "high"), "it stays silent"


def test_blind_beyond_the_grace_others_and_all_our_power_are_assumed_and_nothing_is_resumed() -> None:
    idle = replace(LOW, power_w=400.0)
    site = Site(idle, HIGH)
    site.look(2000.0, power(others_w=1000.0, compute_w=100.0))
    actions = site.look(2000.0, blind=True, after_s=3600)
    assert (actions.pause, actions.predicted_w) == ((), 2000.0)
    assert site.look(1999.0, blind=True).pause == ("low",), "a tighter limit is obeyed blind"
    assert site.look(5000.0, blind=True, after_s=3600).resume == ()
    assert site.look(None, blind=True, after_s=3600).resume == ("low",)


def test_never_measured_is_not_unlimited() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    actions = site.look(5000.0, blind=True)
    assert (actions.cap_w, actions.pause, actions.predicted_w) == (200.0, ("low", "high"), None)
    assert not actions.unachievable, "what is not known is not claimed"
    assumed = Site(LOW, HIGH, settings=replace(SETTINGS, assumed_others_w=1000.0))
    assert assumed.look(2000.0, blind=True).pause == ()


def test_a_job_that_draws_more_than_it_declared_is_believed_by_the_meter() -> None:
    site = Site(LOW, HIGH)
    site.look(2000.0, power(compute_w=1000.0))
    assert site.look(2000.0, power(compute_w=1100.0)).pause == (), "the meter may not have settled"
    assert site.look(2000.0, power(compute_w=1100.0), after_s=5).pause == ("low",)
    unknown = Site(replace(LOW, power_w=None))
    assert unknown.look(10_000.0).pause == ("low",)
    assert unknown.look(None, after_s=60).resume == ("low",)
    assert Site(replace(LOW, power_w=None), cap=CAP).look(1500.0).cap_w == 500.0


def test_a_lagging_meter_after_a_pause_does_not_shed_twice() -> None:
    site = Site(LOW, HIGH)
    assert site.look(1700.0).pause == ("low",)
    assert site.look(1700.0, power(compute_w=1000.0)).pause == ()


def test_what_stays_paused_is_asked_to_be_moved_once() -> None:
    site = Site(replace(LOW, movable=False), HIGH)
    site.look(1000.0)
    assert site.look(1000.0, after_s=299).request_move == ()
    assert site.look(1000.0).request_move == ("high",)
    assert site.look(1000.0, after_s=999).request_move == ()
    assert site.look(None).resume == ("high",)
    assert site.look(1000.0, after_s=60).pause == ("high",)
    assert site.look(1000.0, after_s=300).request_move == ("high",)


def test_what_cannot_be_paused_is_asked_to_be_moved_at_once() -> None:
    site = Site(replace(HIGH, pausable=False), LOW)
    actions = site.look(1100.0)
    assert (actions.pause, actions.request_move, actions.unachievable) == (("low",), ("high",), True)
    assert actions.achievable_min_w == 1600.0
    assert site.look(1100.0).request_move == ()


JOBS = st.lists(
    st.builds(
        LadderJob,
        job_id=st.uuids().map(str),
        priority=st.integers(0, 3),
        power_w=st.floats(0, 2000),
        pausable=st.booleans(),
        paused=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda job: job.job_id,
).map(tuple)
CAPS = st.none() | st.builds(
    lambda low, more: CapRange(min_w=low, max_w=low + more), st.floats(0, 500), st.floats(0, 2000)
)
STATES = st.builds(
    LadderState,
    cap_w=st.none() | st.floats(0, 2000),
    looked_s=st.floats(0, 100),
    changed_s=st.none() | st.floats(0, 100),
    unexplained_w=st.floats(0, 100),
    others_w=st.none() | st.floats(-2000, 2000),
)
SAMPLES = st.none() | st.builds(
    power, st.floats(-2000, 2000), st.floats(0, 4000), st.sampled_from(list(Quality))
)
LIMITS = st.floats(0, 5000)


def once(
    state: LadderState,
    limit_w: float | None,
    sample: SitePower | None,
    jobs: tuple[LadderJob, ...],
    cap: CapRange | None,
) -> LadderActions:
    if cap is not None and state.cap_w is not None:
        state = replace(state, cap_w=min(cap.max_w, max(cap.min_w, state.cap_w)))
    return climb(
        state,
        now_boot_s=120.0,
        envelope=limited(limit_w),
        power=sample,
        jobs=jobs,
        cap=cap,
        settings=SETTINGS,
    )[1]


@given(STATES, LIMITS, SAMPLES, JOBS, CAPS)
def test_law_within_the_limit_whenever_it_is_achievable(
    state: LadderState,
    limit_w: float,
    sample: SitePower | None,
    jobs: tuple[LadderJob, ...],
    cap: CapRange | None,
) -> None:
    actions = once(state, limit_w, sample, jobs, cap)
    if actions.achievable_min_w is not None and actions.achievable_min_w <= limit_w - 1e-6:
        assert actions.predicted_w <= limit_w + 1e-6
        assert not actions.unachievable
    if actions.unachievable:
        stay = {job.job_id for job in jobs if not job.pausable or job.paused}
        assert {job.job_id for job in jobs} - stay == set(actions.pause)
    assert not set(actions.pause) & set(actions.resume)
    assert len(actions.resume) <= 1


@given(STATES, LIMITS, LIMITS, SAMPLES, JOBS, CAPS)
def test_law_a_more_restrictive_limit_never_yields_more_power(  # noqa: PLR0917 - drawn by position
    state: LadderState,
    one_w: float,
    other_w: float,
    sample: SitePower | None,
    jobs: tuple[LadderJob, ...],
    cap: CapRange | None,
) -> None:
    tight, loose = sorted((one_w, other_w))
    tighter = once(state, tight, sample, jobs, cap)
    for wider in (once(state, loose, sample, jobs, cap), once(state, None, sample, jobs, cap)):
        if tighter.predicted_w is not None and wider.predicted_w is not None:
            assert tighter.predicted_w <= wider.predicted_w + 1e-6
        assert set(wider.pause) <= set(tighter.pause)
