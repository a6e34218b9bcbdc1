from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from agent.core.power_budget_values import Because, Bound, BudgetActions, CapRange, FollowSettings
from agent.model.jobs import Flexibility
from agent.model.readings import Quality
from tests.agent.core.budget_site import CAP, HIGH, LOW, NOW, SETTINGS, Site, limit, limited, power


def test_nothing_limits_nothing_is_done() -> None:
    assert Site(LOW, HIGH, cap=CAP).look(None) == BudgetActions(
        cap_w=None,
        pause=(),
        resume=(),
        stop=(),
        request_move=(),
        wants_move=(),
        unachievable=False,
        predicted_w=2000.0,
        achievable_min_w=1000.0,
        achievable_max_w=2000.0,
        because=Because(),
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
def test_without_a_cap_the_most_flexible_is_paused_first(limit_w: float, pause: tuple[str, ...]) -> None:
    actions = Site(LOW, HIGH).look(limit_w)
    assert (actions.cap_w, actions.pause) == (None, pause)


def test_rebound_is_one_job_at_a_time_and_waits() -> None:
    site = Site(LOW, HIGH)
    assert site.look(1000.0).pause == ("low", "high")
    assert [site.look(None).resume for _ in range(29)] == [()] * 29
    assert site.look(None).resume == ("high",)
    assert [site.look(None).resume for _ in range(29)] == [()] * 29
    assert site.look(None).resume == ("low",)


def test_a_big_job_waits_until_the_ramp_has_room_for_it() -> None:
    site = Site(replace(LOW, power_w=3000.0))
    site.look(1000.0)
    resumed_s = next(second for second in range(1, 200) if site.look(None).resume)
    assert resumed_s == 3000.0 / SETTINGS.ramp_up_w_per_s


def test_hysteresis_no_resume_into_the_limit_and_no_flapping() -> None:
    site = Site(LOW, HIGH)
    site.look(1999.0)
    assert [site.look(2049.0, after_s=60).resume for _ in range(5)] == [()] * 5
    assert site.look(2061.0, after_s=60).resume == ("low",)


def test_the_cap_falls_at_once_and_rises_by_its_ramp_and_slower_near_the_limit() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    assert site.look(1300.0).cap_w == 300.0
    assert site.look(1305.0).cap_w == 300.0, "within the deadband"
    caps = [site.look(1800.0).cap_w for _ in range(40)]
    assert caps[:3] == [350.0, 400.0, 450.0]
    rises = [round(after - before, 6) for before, after in pairwise(caps)]
    assert all(0.0 <= rise <= 50.0 for rise in rises)
    assert rises == sorted(rises, reverse=True), "slower and slower"
    assert 800.0 - SETTINGS.deadband_w <= caps[-1] <= 800.0
    assert site.look(1250.0).cap_w == pytest.approx(250.0)


def test_after_the_limit_the_cap_rises_by_the_ramp_until_it_is_lifted() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    site.look(1250.0)
    caps = [site.look(None).cap_w for _ in range(17)]
    assert caps[:3] == [300.0, 350.0, 400.0]
    assert caps[-4:] == [950.0, None, None, None]


def test_a_job_that_goes_on_begins_at_the_lowest_cap() -> None:
    site = Site(LOW, HIGH, cap=CAP, settings=replace(SETTINGS, resume_hold_s=60.0))
    site.look(1000.0)
    assert site.paused == {"low", "high"}
    while not site.look(None).resume:
        pass
    assert site.paused == {"low"}
    assert site.state.cap_w == CAP.min_w, "not the 3000 W that the ramp had come to meanwhile"


@pytest.mark.parametrize(
    ("ramp_s", "ramp_down_w_per_s", "imports"),
    [
        (10.0, None, [1500.0] * 10),  # no ramp of our own: at once, well before the limit is due
        (10.0, 100.0, [1900.0, 1800.0, 1700.0, 1600.0, 1500.0, 1500.0]),
        (10.0, 10.0, [1950.0, 1900.0, 1850.0, 1800.0, 1750.0, 1700.0, 1650.0, 1600.0, 1550.0, 1500.0]),
        (0.0, 10.0, [1500.0]),  # a limit without time is met without time
    ],
)
def test_ramps_down_in_time_for_the_limit(
    ramp_s: float, ramp_down_w_per_s: float | None, imports: list[float]
) -> None:
    site = Site(LOW, HIGH, cap=CAP, settings=replace(SETTINGS, ramp_down_w_per_s=ramp_down_w_per_s))
    site.look(None)
    wanted = limited(limit(1500.0, start_at=site.now, ramp_s=ramp_s))
    seen = []
    for _ in imports:
        site.look(wanted)
        seen.append(round(site.import_w, 6))
    assert seen == imports


def test_each_limit_has_its_own_ramp_and_the_lowest_at_the_moment_binds() -> None:
    site = Site(LOW, HIGH, cap=CAP, settings=replace(SETTINGS, ramp_down_w_per_s=10.0))
    site.look(None)
    local, far = limit(1700.0, source="local"), limit(1500.0, start_at=site.now, ramp_s=10.0)
    actions = site.look(limited(local, far))
    assert (site.import_w, actions.because.bound, actions.because.source) == (1700.0, Bound.LIMIT, "local")
    actions = site.look(limited(local, far))
    assert (actions.because.bound, actions.because.source) == (Bound.RAMP_DOWN, "mqtt")
    for _ in range(10):
        actions = site.look(limited(local, far))
    assert (round(site.import_w, 6), actions.because.bound) == (1500.0, Bound.LIMIT)
    assert (actions.because.source, actions.because.command_id) == ("mqtt", "mqtt-1500")
    assert actions.because.budget_w == pytest.approx(500.0)


def test_sites_that_were_released_together_rise_each_in_its_turn() -> None:
    site = Site(LOW, HIGH, cap=CAP, settings=replace(SETTINGS, release_delay_s=20.0))
    site.look(1300.0)
    actions = site.look(None)
    assert actions.because.bound is Bound.RELEASE
    assert [site.look(None).cap_w for _ in range(19)] == [300.0] * 19
    assert [site.look(None).cap_w for _ in range(2)] == [350.0, 400.0]
    assert site.actions is not None
    assert site.actions.because.bound is Bound.RAMP_UP


def test_a_blink_of_the_meter_sheds_nothing() -> None:
    site = Site(LOW, HIGH)
    assert site.look(2000.0).pause == ()
    for quality in (Quality.STALE, Quality.BAD):
        assert site.look(2000.0, power(0.0, 0.0, quality)).pause == ()
    assert site.look(2000.0, blind=True).pause == ()
    assert site.look(2000.0, power(2000.0, None)).pause == (), "our own meter blinks"
    assert site.look(2000.0, power(2000.0, None), after_s=11).pause == ("low", "high"), "it stays silent"


def test_a_plant_that_is_silent_does_not_blind_a_site_whose_import_is_metered() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    site.look(1500.0)
    for _ in range(60):
        actions = site.look(1500.0, power(1000.0, site.draw_w(), Quality.BAD, grid_quality=Quality.OK))
    assert (actions.pause, actions.cap_w, actions.because.bound) == ((), 500.0, Bound.LIMIT)


def test_blind_nothing_rises_and_the_worst_of_others_is_assumed() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    site.look(1800.0, site.balance(1000.0, generation_w=0.0, site_load_w=1000.0))
    for _ in range(30):
        site.look(1800.0, site.balance(-500.0, generation_w=1500.0, site_load_w=1000.0))
    assert site.state.cap_w == 1000.0
    assert site.look(1800.0, blind=True, after_s=9.0).cap_w == 1000.0, "within the grace"
    actions = site.look(1800.0, blind=True, after_s=9.0)
    assert (actions.cap_w, actions.because.bound) == (800.0, Bound.METER), "as if the sun had set"
    assert site.look(1900.0, blind=True, after_s=60.0).cap_w == 800.0, "nothing rises blind"
    assert site.look(1700.0, blind=True).cap_w == 700.0, "a tighter limit is obeyed blind"


def test_blind_beyond_the_grace_nothing_is_resumed_under_a_limit() -> None:
    site = Site(LOW, HIGH)
    site.look(2000.0, power(others_w=1000.0, compute_w=100.0))
    actions = site.look(2000.0, blind=True, after_s=3600)
    assert (actions.pause, actions.predicted_w) == ((), 2000.0)
    assert site.look(1999.0, blind=True).pause == ("low",)
    assert site.look(5000.0, blind=True, after_s=3600).resume == ()
    assert site.look(None, blind=True, after_s=3600).resume == ("low",)


def test_never_measured_is_not_unlimited() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    actions = site.look(5000.0, blind=True)
    assert (actions.cap_w, actions.pause, actions.predicted_w) == (200.0, ("low", "high"), None)
    assert actions.because == Because(bound=Bound.METER, source="mqtt", command_id="mqtt-5000")
    assert not actions.unachievable, "what is not known is not claimed"
    assumed = Site(LOW, HIGH, settings=replace(SETTINGS, assumed_others_w=1000.0))
    assert assumed.look(2000.0, blind=True).pause == ()


def test_what_is_configured_for_a_blind_site_is_assumed() -> None:
    site = Site(LOW, HIGH, cap=CAP, settings=replace(SETTINGS, assumed_others_w=1200.0))
    assert site.look(1900.0).cap_w == 900.0, "not while a meter speaks"
    assert site.look(1900.0, blind=True, after_s=11).cap_w == 700.0


def test_a_job_that_draws_more_than_it_declared_is_believed_by_the_meter() -> None:
    site = Site(LOW, HIGH)
    site.look(2000.0, power(compute_w=1000.0))
    assert site.look(2000.0, power(compute_w=1100.0)).pause == (), "the meter may not have settled"
    assert site.look(2000.0, power(compute_w=1100.0), after_s=5).pause == ("low",)
    unknown = Site(replace(LOW, power_w=None))
    assert unknown.look(10_000.0).pause == ("low",)
    assert unknown.look(None, after_s=60).resume == ("low",)
    assert Site(replace(LOW, power_w=None), cap=CAP).look(1500.0).cap_w == 500.0


def test_a_meter_that_lags_does_not_shed_twice() -> None:
    site = Site(LOW, HIGH)
    site.look(2000.0)
    assert site.look(1700.0).pause == ("low",)
    for lagging_w in (2000.0, 2000.0, 1600.0):  # the GPU says 600 W at once, the grid meter two samples late
        actions = site.look(1700.0, power(compute_w=600.0, grid_w=lagging_w))
        assert (actions.pause, actions.predicted_w) == ((), 1600.0)


def test_a_load_that_grows_while_we_come_down_is_seen_as_soon_as_it_cannot_be_ours() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    site.look(2000.0)
    assert site.look(1700.0).cap_w == 700.0
    assert site.look(1700.0, power(compute_w=700.0, grid_w=2000.0)).cap_w == 700.0, "may be our old draw"
    cap_w = site.look(1700.0, power(compute_w=700.0, grid_w=2300.0)).cap_w
    assert cap_w == 325.0, "300 W are not, and 15 W/s more are to be expected until the meter shows them"
    for _ in range(60):
        actions = site.look(1700.0, site.balance(1300.0))
    assert actions.cap_w == pytest.approx(400.0, abs=SETTINGS.deadband_w)


def test_a_metered_load_is_believed_at_once() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    site.look(2000.0)
    site.look(1700.0)
    grown = power(compute_w=700.0, grid_w=2000.0, site_load_w=1300.0, generation_w=0.0, load_metered=True)
    assert site.look(1700.0, grown).cap_w == 325.0


def test_a_cloud_that_comes_is_met_before_the_meter_shows_all_of_it() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    for second in range(30):
        site.others_w = 1000.0 + 20.0 * second
        assert site.import_w <= 2100.0 + 50.0, "what was decided a second ago holds a second on"
        actions = site.look(2100.0)
    assert actions.cap_w is not None
    assert actions.cap_w < 2100.0 - site.others_w - 50.0, "ahead of the cloud"
    for _ in range(120):
        actions = site.look(2100.0)
    assert actions.cap_w == pytest.approx(2100.0 - site.others_w, abs=2 * SETTINGS.deadband_w)


def test_what_a_cap_lets_through_is_taken_off_the_cap() -> None:
    site = Site(LOW, HIGH, cap=CAP, beyond_cap_w=80.0)
    site.look(1600.0)
    for _ in range(5):
        actions = site.look(1600.0)
    assert actions.cap_w == pytest.approx(520.0)
    assert site.import_w == pytest.approx(1600.0)
    assert actions.predicted_w == pytest.approx(1600.0)
    site.beyond_cap_w = 0.0
    for _ in range(1500):
        actions = site.look(1600.0)
    assert actions.cap_w is not None
    assert 590.0 < actions.cap_w <= 600.0, "given back, slowly"


def test_a_cap_without_effect_ends_in_a_pause() -> None:
    site = Site(LOW, HIGH, cap=CAP, beyond_cap_w=10_000.0)
    for _ in range(6):
        site.look(1500.0)
    assert site.paused == {"low", "high"}, "600 W are still above what is left"


def test_a_cap_that_cannot_be_set_counts_for_nothing() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    actions = site.look(1700.0, cap_stuck=True)
    assert (actions.cap_w, actions.pause) == (700.0, ("low",)), "tried again, and a job pauses meanwhile"


def test_what_stays_paused_is_asked_to_be_moved_once() -> None:
    site = Site(replace(LOW, movable=False), HIGH)
    site.look(1000.0)
    assert site.look(1000.0, after_s=299).request_move == ()
    assert site.look(1000.0).request_move == ("high",)
    actions = site.look(1000.0, after_s=500)
    assert (actions.request_move, actions.wants_move) == ((), ("high",)), "it still should leave"
    assert site.look(None, after_s=60).resume == ("high",)
    assert site.look(1000.0, after_s=60).pause == ("high",)
    assert site.look(1000.0, after_s=300).request_move == ("high",)


def test_a_job_that_tolerates_no_loss_is_asked_to_be_moved_as_soon_as_it_is_paused() -> None:
    site = Site(replace(HIGH, flexibility=Flexibility.FLEX_0))
    assert site.look(1000.0).pause == ("high",)
    assert site.look(1000.0).request_move == ("high",)


def test_what_cannot_be_paused_is_asked_to_be_moved_at_once() -> None:
    site = Site(replace(HIGH, pausable=False), LOW)
    actions = site.look(1100.0)
    assert (actions.pause, actions.request_move, actions.unachievable) == (("low",), ("high",), True)
    assert actions.achievable_min_w == 1600.0
    assert site.look(1100.0).request_move == ()
    assert site.look(None).wants_move == (), "not any more"


def test_what_does_not_pause_is_stopped() -> None:
    site = Site(LOW)
    site.deaf = {"low"}
    stops = [site.look(1000.0).stop for _ in range(17)]
    assert stops == [()] * 15 + [("low",)] * 2
    site.deaf = set()
    site.look(1000.0)
    assert site.look(1000.0).stop == ()


def test_the_surplus_is_followed_and_never_above_a_limit() -> None:
    settings = replace(SETTINGS, follow=FollowSettings(import_w=100.0, smooth_s=0.0))
    site = Site(LOW, HIGH, cap=CAP, settings=settings, others_w=-700.0)

    def look(surplus_w: float | None, limit_w: float | None = None) -> BudgetActions:
        sample = power(-(surplus_w or 0.0), site.draw_w(), surplus_w=surplus_w)
        return site.look(limit_w, sample)

    actions = look(700.0)
    assert (actions.cap_w, actions.because.bound) == (800.0, Bound.SURPLUS)
    assert look(705.0).cap_w == 800.0, "a trifle moves nothing"
    assert look(400.0).cap_w == 500.0
    caps = [look(800.0).cap_w for _ in range(40)]
    assert caps[:2] == [550.0, 600.0]
    assert caps[-1] == pytest.approx(900.0, abs=SETTINGS.deadband_w)
    actions = look(0.0)
    assert (actions.cap_w, actions.pause) == (CAP.min_w, ()), "no pause unless it is configured"
    for _ in range(60):
        actions = look(800.0, -500.0)
    assert actions.cap_w == pytest.approx(300.0, abs=SETTINGS.deadband_w), "the limit is lower"
    assert actions.because.bound is Bound.LIMIT


def test_the_plan_slows_jobs_and_limits_bind_first() -> None:
    site = Site(LOW, HIGH, cap=CAP)
    assert site.look(None).cap_w is None
    site.jobs = (replace(LOW, slow_w=300.0), replace(HIGH, slow_w=400.0))
    actions = site.look(None)
    assert (actions.cap_w, actions.pause, actions.because.bound) == (700.0, (), Bound.PLAN)
    actions = site.look(1500.0)
    assert (actions.cap_w, actions.because.bound) == (500.0, Bound.LIMIT)
    for _ in range(60):
        actions = site.look(None)
    assert actions.cap_w == pytest.approx(700.0, abs=SETTINGS.deadband_w)
    site.jobs = (LOW, HIGH)
    caps = [site.look(None).cap_w for _ in range(60)]
    assert caps[0] == pytest.approx(actions.cap_w + SETTINGS.ramp_up_w_per_s), "by the ramp"
    assert caps[-1] is None, "the plan has let go of them"


def test_a_job_that_the_plan_does_not_slow_keeps_room_for_its_full_power() -> None:
    site = Site(replace(LOW, slow_w=200.0), HIGH, cap=CAP)
    assert site.look(None).cap_w == 800.0
    unknown = Site(replace(LOW, slow_w=200.0), replace(HIGH, power_w=None), cap=CAP)
    assert unknown.look(None).cap_w == CAP.max_w, "it may draw what the accelerators can"


@pytest.mark.parametrize("cap", [CAP, None])
def test_the_plan_alone_pauses_nobody(cap: CapRange | None) -> None:
    site = Site(replace(LOW, slow_w=10.0), replace(HIGH, slow_w=10.0), cap=cap)
    actions = site.look(None)
    assert (actions.cap_w, actions.pause) == (None if cap is None else cap.min_w, ())


def test_a_surplus_that_is_unknown_is_neither_none_nor_plenty() -> None:
    follow = FollowSettings(smooth_s=0.0, pause_below_w=100.0, hold_s=5.0)
    site = Site(LOW, HIGH, cap=CAP, settings=replace(SETTINGS, follow=follow))
    assert site.look(None, site.balance(surplus_w=700.0)).cap_w == 700.0
    for _ in range(10):
        assert site.look(None, site.balance(surplus_w=None)).cap_w == 700.0
    actions = [site.look(None, site.balance(surplus_w=None)) for _ in range(60)][-1]
    assert (actions.cap_w, site.paused) == (CAP.min_w, set())


def test_too_little_surplus_pauses_those_who_tolerate_it_and_only_while_it_lasts() -> None:
    follow = FollowSettings(smooth_s=0.0, pause_below_w=150.0, hold_s=5.0)
    firm = replace(HIGH, flexibility=Flexibility.FLEX_0)
    site = Site(LOW, firm, cap=CAP, settings=replace(SETTINGS, follow=follow, resume_hold_s=0.0))
    site.look(None, site.balance(surplus_w=700.0))
    for _ in range(4):
        site.look(None, site.balance(surplus_w=0.0))
    site.look(None, site.balance(surplus_w=500.0))
    for _ in range(5):
        site.look(None, site.balance(surplus_w=0.0))
    assert site.paused == set(), "a cloud"
    site.look(None, site.balance(surplus_w=0.0))
    assert site.paused == {"low"}
    for _ in range(20):
        site.look(None, site.balance(surplus_w=180.0))
    assert site.paused == {"low"}, "not before there is room to spare"
    for _ in range(7):
        site.look(None, site.balance(surplus_w=200.0))
    assert site.paused == set()


def test_smoothing_lets_a_cloud_pass() -> None:
    settings = replace(SETTINGS, follow=FollowSettings(smooth_s=60.0))
    site = Site(LOW, HIGH, cap=CAP, settings=settings)
    site.look(None, site.balance(surplus_w=800.0))
    dips = [site.look(None, site.balance(surplus_w=0.0)).cap_w for _ in range(5)]
    assert dips[0] == pytest.approx(800.0 * 2.718281828 ** (-1 / 60))
    assert dips[-1] is not None
    assert dips[-1] > 700.0


def test_following_comes_down_by_the_ramp_where_there_is_one() -> None:
    settings = replace(SETTINGS, ramp_down_w_per_s=100.0, follow=FollowSettings(smooth_s=0.0))
    site = Site(LOW, HIGH, cap=CAP, settings=settings)
    site.look(None, site.balance(surplus_w=1000.0))
    assert [site.look(None, site.balance(surplus_w=600.0)).cap_w for _ in range(5)] == [
        900,
        800,
        700,
        600,
        600,
    ]


def test_a_limit_that_starts_later_has_its_ramp_counted_from_there() -> None:
    site = Site(LOW, HIGH, cap=CAP, settings=replace(SETTINGS, ramp_down_w_per_s=1.0))
    site.look(None)
    begun = limited(limit(1000.0, start_at=NOW - timedelta(seconds=100), ramp_s=50.0))
    assert site.look(begun).pause == ("low", "high"), "it is over"
