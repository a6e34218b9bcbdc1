"""What the planner gets to see of what is stored and live."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from coordinator.core.fleet import fold
from coordinator.core.view import (
    ViewSettings,
    build_view,
    can_meet,
    fresh_sample,
    link_rate_bps,
    open_windows,
    slots_held,
)
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, JobState
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.import_cost import CostSlot, Objective
from coordinator.model.job import Flexibility, JobReport, SlowRange
from coordinator.model.job import JobPhase as P
from coordinator.model.live import Live, LiveSite
from coordinator.model.site import (
    ActiveLimit,
    Capabilities,
    DeclaredSurplus,
    GridState,
    GridStatus,
    MoveRequest,
    Quality,
    SiteSample,
)
from coordinator.model.view import FleetView, Phase
from tests.coordinator.core.histories import (
    C2,
    NOW,
    SPEC,
    M,
    at_work,
    events_to,
    here,
    moving,
    report,
    sample,
    seen,
    submitted,
)

SETTINGS = ViewSettings(seal_s=3, load_s=4, downtime_s=1, min_residence_s=9, default_bps=1e6)


def view(state: FleetState, live: Live | None = None, settings: ViewSettings = SETTINGS) -> FleetView:
    return build_view(state, here() if live is None else live, {}, NOW, settings)


PAUSED = ev.JobPhaseChanged(at=NOW, job_id="j", state=JobState.PAUSED)
ASKED = {"j": MoveRequest(job_id="j", epoch=1, reason="limit")}


@pytest.mark.parametrize(
    ("events", "live", "phase"),
    [
        (submitted(), here(), Phase.QUEUED),
        (at_work(), here(), Phase.RUNNING),
        (at_work(), {}, Phase.HELD),
        (at_work()[:2], here(), Phase.HELD),
        ([*at_work(), PAUSED], here(), Phase.HELD),
        ([*at_work(), PAUSED], {"a": LiveSite(connected=True, move_requests=ASKED)}, Phase.RUNNING),
        ([*at_work(), ev.CancelRequested(at=NOW, job_id="j")], here(), Phase.HELD),
        (events_to(M.STOPPING), here(), Phase.MIGRATING),
    ],
)
def test_phases(events: list[ev.Event], live: Live, phase: Phase) -> None:
    assert view(fold(events), live).jobs["j"].phase is phase


@pytest.mark.parametrize(
    ("hold_back_s", "work_s", "slack_s"),
    [(None, 600.0, None), (3600.0, None, None), (0.0, 600.0, 540.0), (3600.0, 600.0, 4140.0)],
)
def test_only_a_job_that_declares_its_work_may_wait_and_only_where_it_is_allowed(
    hold_back_s: float | None, work_s: float | None, slack_s: float | None
) -> None:
    spec = replace(SPEC, declared_work_s=work_s)
    state = fold([ev.JobSubmitted(at=NOW - timedelta(seconds=60), job_id="j", spec=spec)])
    seen_as = view(state, settings=replace(SETTINGS, hold_back_s=hold_back_s)).jobs["j"]
    assert seen_as.slack_s == slack_s and not seen_as.may_pause


PLANS_PAUSE = replace(report(P.PAUSED), held_until=NOW + timedelta(seconds=900), hold_sequence=1)


@pytest.mark.parametrize(
    ("said", "asks", "phase"),
    [
        (PLANS_PAUSE, {}, Phase.PAUSED),
        (report(P.PAUSED), {}, Phase.HELD),
        (PLANS_PAUSE, ASKED, Phase.RUNNING),
        (None, {}, Phase.HELD),
    ],
)
def test_a_job_that_the_plan_has_paused_is_the_planners_to_resume(
    said: JobReport | None, asks: Mapping[str, MoveRequest], phase: Phase
) -> None:
    live = LiveSite(connected=True, move_requests=asks, reports={} if said is None else {"j": said})
    seen_as = view(fold([*at_work(), PAUSED]), {"a": live}).jobs["j"]
    assert (seen_as.phase, seen_as.may_pause) == (phase, phase is Phase.PAUSED)


@pytest.mark.parametrize(
    ("changes", "seen_there", "may_pause"),
    [
        ({}, {}, True),
        ({"least_run_s": 1e9}, {}, False),
        ({"hold_back_s": None}, {}, False),
        ({}, {"surplus_w": None}, False),
        ({}, {"quality": Quality.STALE}, False),
    ],
)
def test_a_running_job_may_be_paused_where_the_surplus_is_known(
    changes: dict[str, float | None], seen_there: dict[str, object], may_pause: bool
) -> None:
    told = replace(sample(), **seen_there)  # type: ignore[arg-type]
    live = {"a": LiveSite(connected=True, sample=told)}
    settings = replace(SETTINGS, **{"hold_back_s": 100.0, **changes})  # type: ignore[arg-type]
    firm = fold([*seen("a"), *at_work()])
    assert view(firm, live, settings=settings).jobs["j"].may_pause is may_pause
    job = firm.jobs["j"]
    job = replace(job, spec=replace(job.spec, flexibility=Flexibility.FLEX_0))
    assert not view(replace(firm, jobs={"j": job}), live, settings=settings).jobs["j"].may_pause


HALF = SlowRange(power_frac=0.5, speed_frac=0.8)


@pytest.mark.parametrize(
    ("can_slow", "spec", "said", "slow", "slowed_to_w"),
    [
        (True, {}, {}, HALF, None),
        (True, {}, {"slowed_to_w": 300.0}, HALF, 300.0),
        (True, {}, {"slowed_to_w": 300.0, "epoch": 7}, HALF, None),  # of another run
        (False, {}, {}, None, None),
        (False, {}, {"slowed_to_w": 300.0}, None, 300.0),
        (True, {"flexibility": Flexibility.FLEX_0}, {}, None, None),
        (True, {"slow": None}, {"slowed_to_w": 300.0}, None, None),
    ],
)
def test_a_running_job_may_be_slowed_by_its_owners_word_where_somebody_can(
    can_slow: bool,
    spec: dict[str, object],
    said: dict[str, object],
    slow: SlowRange | None,
    slowed_to_w: float | None,
) -> None:
    asked = replace(SPEC, **({"slow": HALF, "power_w": 400.0} | spec))  # type: ignore[arg-type]
    able = ev.SiteSeen(at=NOW, site_id="a", capabilities=Capabilities(slots=2, can_slow=can_slow))
    seen_as = view(fold([able, *at_work(asked)]), here(a=report(P.RUNNING, **said))).jobs["j"]  # type: ignore[arg-type]
    assert (seen_as.phase, seen_as.slow, seen_as.slowed_to_w) == (Phase.RUNNING, slow, slowed_to_w)


def test_a_job_that_may_start_or_go_on_is_known_to_be_slowable_before_it_does() -> None:
    spec = replace(SPEC, slow=HALF, power_w=400.0)
    able = ev.SiteSeen(at=NOW, site_id="a", capabilities=Capabilities(slots=2, can_slow=True))
    assert view(fold(submitted(spec))).jobs["j"].slow == HALF
    paused = view(fold([able, *at_work(spec), PAUSED]), here(a=PLANS_PAUSE)).jobs["j"]
    assert (paused.phase, paused.slow, paused.slowed_to_w) == (Phase.PAUSED, HALF, None)


def test_a_slowed_job_that_its_site_has_paused_is_not_the_planners_to_resume() -> None:
    said = replace(PLANS_PAUSE, slowed_to_w=300.0)
    live = {"a": LiveSite(connected=True, reports={"j": said})}
    assert view(fold([*at_work(), PAUSED]), live).jobs["j"].phase is Phase.HELD


def test_a_slowed_job_uses_its_slack_up() -> None:
    spec = replace(SPEC, declared_work_s=600.0)
    slow = ev.JobPhaseChanged(at=NOW, job_id="j", state=JobState.RUNNING, speed_frac=0.75)
    state = fold([*at_work(spec), slow])

    def slack_s(after_s: float) -> float:
        now = NOW + timedelta(seconds=after_s)
        settings = replace(SETTINGS, hold_back_s=1000.0)
        found = build_view(state, here(), {}, now, settings).jobs["j"].slack_s
        assert found is not None
        return found

    assert slack_s(100.0) == slack_s(0.0) - 25.0


def test_while_it_runs_a_job_uses_no_slack() -> None:
    started = fold(at_work())
    job = started.jobs["j"]
    stood_s = (NOW - job.submitted_at).total_seconds()
    ran_s = (NOW - job.running_since).total_seconds() if job.running_since is not None else 0.0
    declared = replace(job, spec=replace(job.spec, declared_work_s=600.0))
    state = replace(started, jobs={"j": declared})
    seen_as = view(state, settings=replace(SETTINGS, hold_back_s=100.0)).jobs["j"]
    assert seen_as.slack_s == 700.0 - (stood_s - ran_s)


def test_a_job_is_taken_for_what_is_known_of_it() -> None:
    job = view(fold([*seen("a"), *submitted()])).jobs["j"]
    assert (job.seal_s, job.load_s, job.downtime_s, job.min_residence_s) == (3, 4, 1, 9)
    assert (job.checkpoint_bytes, job.home_site, job.must_start_at_holder) == (500, "a", False)
    known = [
        *submitted(replace(SPEC, load_s=7.0, min_residence_s=0.0, checkpoint_bytes=0)),
        ev.JobMeasured(at=NOW, job_id="j", seal_s=0.5),
    ]
    job = view(fold(known)).jobs["j"]
    assert (job.seal_s, job.load_s, job.min_residence_s, job.checkpoint_bytes) == (0.5, 7, 0, None)
    held = ev.CheckpointSealed(at=NOW, job_id="j", site_id="b", checkpoints=(C2,))
    job = view(fold([*known, held])).jobs["j"]
    assert (job.checkpoint_bytes, job.held_at, job.must_start_at_holder) == (2000, {"b"}, True)
    assert view(moving(M.STOPPING)).jobs["j"].bound_for == "b"
    ended = ev.JobEnded(at=NOW, job_id="j", state=JobState.COMPLETED, message="")
    assert view(fold([*at_work(), ended])).jobs == {}


@pytest.mark.parametrize(
    ("site", "surplus_w", "good"),
    [
        (LiveSite(connected=True, sample=sample()), 500.0, True),
        (LiveSite(connected=True, sample=sample(quality=Quality.BAD)), 500.0, False),
        (LiveSite(connected=True, sample=sample(None)), None, True),
        (LiveSite(connected=True, sample=sample(age_s=31)), None, False),
        (LiveSite(connected=False, sample=sample()), None, False),
        (LiveSite(connected=True), None, False),
    ],
)
def test_what_is_not_known_is_no_surplus(site: LiveSite, surplus_w: float | None, good: bool) -> None:
    seen_site = view(fold(seen("a")), {"a": site}).sites["a"]
    assert (seen_site.surplus_w, seen_site.surplus_quality_ok) == (surplus_w, good)


@pytest.mark.parametrize(
    ("heard", "from_s", "expected"),
    [
        (sample(), 0, (800.0, True)),
        (sample(900.0), 0, (900.0, True)),
        (sample(900.0, quality=Quality.BAD), 0, (800.0, True)),
        (sample(None), 0, (800.0, True)),
        (None, 0, (800.0, True)),
        (sample(), 60, (500.0, True)),
        (None, 60, (None, False)),
    ],
)
def test_what_is_declared_for_now_counts_where_it_is_more(
    heard: SiteSample | None, from_s: float, expected: tuple[float | None, bool]
) -> None:
    start_at = NOW + timedelta(seconds=from_s)
    told = DeclaredSurplus(start_at=start_at, end_at=start_at + timedelta(hours=1), surplus_w=800.0)
    status = GridStatus(state=GridState.UNLIMITED, limit_w=None, declared=(told,))
    site = LiveSite(connected=True, sample=heard, grid_status=status)
    seen_site = view(fold(seen("a")), {"a": site}).sites["a"]
    assert (seen_site.surplus_w, seen_site.surplus_quality_ok) == expected


HOUR = timedelta(hours=1)
DEAR = (CostSlot(start_at=NOW + HOUR, end_at=NOW + 2 * HOUR, per_kwh=0.4),)


@pytest.mark.parametrize(
    ("objective", "usual", "expected"),
    [
        (Objective.ENERGY, 0.1, None),
        (Objective.CARBON, None, None),
        (Objective.CARBON, 300.0, ("g/kWh", [(0, 48, 300.0)])),
        (Objective.PRICE, None, ("money/kWh", [(1, 2, 0.4)])),
        (Objective.PRICE, 0.1, ("money/kWh", [(0, 1, 0.1), (1, 2, 0.4), (2, 48, 0.1)])),
    ],
)
def test_import_costs_what_its_operator_says_else_what_is_usual(
    objective: Objective, usual: float | None, expected: tuple[str, list[tuple[int, int, float]]] | None
) -> None:
    status = GridStatus(state=GridState.UNLIMITED, limit_w=None, prices=DEAR)
    usually = {} if usual is None else {"a": usual}
    settings = replace(SETTINGS, objective=objective, cost_per_kwh=usually)
    live = {"a": LiveSite(connected=True, grid_status=status)}
    cost = view(fold(seen("a")), live, settings).sites["a"].import_cost
    if expected is None:
        assert cost is None
        return
    assert cost is not None
    slots = [((s.start_at - NOW) / HOUR, (s.end_at - NOW) / HOUR, s.per_kwh) for s in cost.slots]
    assert (cost.unit, slots) == expected


def test_sites() -> None:
    status = GridStatus(state=GridState.LIMITED, limit_w=4200.0)
    live = {"a": LiveSite(connected=True, grid_status=status, move_requests=ASKED)}
    shown = view(fold([*seen("a"), *at_work()]), live, replace(SETTINGS, sites=frozenset({"a", "new"})))
    site = shown.sites["a"]
    assert (site.available, site.slots, site.slots_held) == (True, 2, 1)
    assert site.wants_to_shed
    assert (shown.sites["new"].available, shown.sites["new"].slots) == (False, 0)
    for event in (ev.SiteDrained(at=NOW, site_id="a"), ev.SiteFenced(at=NOW, site_id="a")):
        assert not view(fold([*seen("a"), event])).sites["a"].available
    stale = {"a": replace(live["a"], move_requests={"j": replace(ASKED["j"], epoch=9)})}
    assert not view(fold([*seen("a"), *at_work()]), stale).sites["a"].wants_to_shed


def limit(start_s: float, reason: str = "") -> ActiveLimit:
    return ActiveLimit(
        source="mqtt",
        command_id="c",
        limit_w=900.0,
        start_at=NOW + timedelta(seconds=start_s),
        end_at=None,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("heard", "others_w"),
    [
        (replace(sample(), grid_w=300.0, compute_w=450.0), -50.0),
        (replace(sample(quality=Quality.ESTIMATED), grid_w=300.0, compute_w=450.0), -50.0),
        (replace(sample(quality=Quality.BAD), grid_w=300.0, compute_w=450.0), None),
        (replace(sample(age_s=99.0), grid_w=300.0, compute_w=450.0), None),
        (replace(sample(), grid_w=300.0, compute_w=None), None),
        (replace(sample(), compute_w=450.0), None),
        (None, None),
    ],
)
def test_what_a_site_would_import_without_jobs(heard: SiteSample | None, others_w: float | None) -> None:
    node = ev.SiteSeen(at=NOW, site_id="a", capabilities=Capabilities(slots=1, idle_power_w=100.0))
    live = {"a": LiveSite(connected=True, sample=heard)}
    assert view(fold([node]), live).sites["a"].others_w == others_w


def test_limits_that_hold_and_that_will_are_seen() -> None:
    now, later = limit(-5.0), limit(60.0, "ALERT_GRID_EMERGENCY: line down")
    status = GridStatus(state=GridState.LIMITED, limit_w=900.0, limits=(now,), coming=(later,))
    site = view(fold(seen("a")), {"a": LiveSite(connected=True, grid_status=status)}).sites["a"]
    assert site.limits == (now, later)
    assert not site.emergency, "it has not begun"
    begun = replace(status, limits=(limit(-5.0, "ALERT_GRID_EMERGENCY"),), coming=())
    assert view(fold(seen("a")), {"a": LiveSite(connected=True, grid_status=begun)}).sites["a"].emergency


def test_what_a_site_paused_under_a_limit_may_be_moved_at_once() -> None:
    status = GridStatus(state=GridState.LIMITED, limit_w=900.0, limits=(limit(-5.0),))
    live = {"a": LiveSite(connected=True, grid_status=status)}
    assert view(fold([*at_work(), PAUSED]), live).jobs["j"].phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("state", "held"),
    [
        (M.PLANNED, {"a": 1, "b": 1}),
        (M.VERIFIED, {"a": 1, "b": 1}),
        (M.COMMITTED, {"a": 0, "b": 1}),
        (M.COMPENSATING, {"a": 1, "b": 0}),
        (M.DONE, {"a": 0, "b": 1}),
    ],
)
def test_slots_are_held_at_both_ends_until_commit(state: M, held: dict[str, int]) -> None:
    fleet = moving(state)
    assert {site: slots_held(fleet, site) for site in held} == held


def test_links() -> None:
    fleet = fold(seen("a", "b"))
    assert view(fleet).links["a", "b"].free_bps == 1e6
    assert view(fleet, settings=replace(SETTINGS, default_bps=None)).links == {}
    named = replace(SETTINGS, link_bps={("a", "b"): 5.0})
    assert view(fleet, settings=named).links["a", "b"].free_bps == 5.0
    slow = ev.LinkMeasured(at=NOW, source="a", destination="b", goodput_bps=4e5)
    assert view(fold([slow], fleet)).links["a", "b"].free_bps == 4e5
    assert view(fold([slow], fleet), settings=replace(SETTINGS, eta=0.8)).links["a", "b"].free_bps == 5e5
    assert view(moving(M.TRANSFERRING)).links["a", "b"].free_bps == 0.0
    assert view(moving(M.TRANSFERRING)).links["b", "a"].free_bps == 1e6
    blind = fold(seen("a", "b", address=""))
    assert view(blind).links == {}, "neither can be dialled"


def test_open_windows() -> None:
    slot = ForecastSlot(start_at=NOW, end_at=NOW + timedelta(minutes=5), p10_w=100, p50_w=100, p90_w=100)
    forecast = SurplusForecast(issued_at=NOW, source="plant", slots=(slot,))
    forecasts = {"a": forecast, "b": None}
    shown = build_view(fold(seen("a", "b")), here(), forecasts, NOW, SETTINGS)
    assert open_windows(shown.sites, shown.now) == {"a": slot.end_at}
    assert fresh_sample(LiveSite(), NOW, 1.0) is None


@pytest.mark.parametrize("default_bps", [None, 1e6])
def test_links_are_told_at_once_as_one_by_one(default_bps: float | None) -> None:
    slow = ev.LinkMeasured(at=NOW, source="b", destination="c", goodput_bps=4e5)
    state = fold([*seen("c"), slow], moving(M.TRANSFERRING))
    mute = replace(state.sites["c"], capabilities=None)
    state = replace(state, sites={**state.sites, "c": mute, "d": replace(mute, site_id="d")})
    settings = replace(SETTINGS, default_bps=default_bps, link_bps={("a", "c"): 7e5, ("a", "gone"): 1.0})
    links = view(state, settings=settings).links
    for source in state.sites:
        for destination in state.sites:
            rate_bps = link_rate_bps(state, source, destination, settings)
            known = source != destination and rate_bps is not None and can_meet(state, source, destination)
            link = links.get((source, destination))
            assert (link is not None) is known
            assert link is None or link.whole_bps == rate_bps
    assert links["a", "c"].free_bps == 7e5
