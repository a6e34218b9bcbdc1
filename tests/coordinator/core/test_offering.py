"""Who is at a site to be offered, by what the plan has decided and what the site last said."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from coordinator.core.offering import Plan, plan_offers, why_blocked
from coordinator.core.offers import OfferSettings
from coordinator.model.decision import Alternative, Decision, DecisionKind, Term
from coordinator.model.fleet import FleetState, Grant, Job, JobState, Site
from coordinator.model.job import Checkpoint, Flexibility, JobPhase, JobReport, JobSpec
from coordinator.model.live import LiveSite
from coordinator.model.offers import Direction, Offer, OfferSet
from coordinator.model.site import ActiveLimit, Capabilities, GridState, GridStatus, Quality, SiteSample
from coordinator.model.view import JobView, Phase, SiteView
from tests.coordinator.core import fleets
from tests.coordinator.core.fleets import NOW

FREE = GridStatus(state=GridState.UNLIMITED, limit_w=None)
SETTINGS = OfferSettings(durations_s=(900.0,))
FOREVER = OfferSettings(durations_s=(14400.0,))


def live_site(**more: object) -> LiveSite:
    sample = SiteSample(measured_at=NOW, sequence=1, quality=Quality.OK, grid_w=5000.0, compute_w=4060.0)
    made = LiveSite(connected=True, session=1, sample=sample, grid_status=FREE)
    return replace(made, **more)  # type: ignore[arg-type]


def job(view: JobView, state: JobState = JobState.RUNNING, tier: Flexibility = Flexibility.FLEX_3) -> Job:
    grant = None
    if view.site_id is not None:
        grant = Grant(site_id=view.site_id, epoch=3, checkpoint_id=None, granted_at=NOW, lease_ttl_s=None)
    spec = JobSpec(name=view.job_id, argv=("train",), power_w=view.power_w, flexibility=tier)
    state = state if grant is not None else JobState.QUEUED
    return Job(job_id=view.job_id, spec=spec, state=state, submitted_at=NOW, epoch=3, grant=grant)


def place(site_id: str, time_s: float | None = 50.0, *, feasible: bool = True) -> Alternative:
    figures = {} if time_s is None else {"time": (time_s, "s"), "energy": (9.0, "Wh")}
    terms = tuple(
        Term(name=name, value=value, limit=None, unit=unit, satisfied=True)
        for name, (value, unit) in figures.items()
    )
    return Alternative(site_id=site_id, feasible=feasible, score=0.0, terms=terms, rejections=())


def decided(
    job_id: str, kind: DecisionKind = DecisionKind.STAY, *places: Alternative, to: str | None = None
) -> Decision:
    return Decision(
        job_id=job_id,
        decided_at=NOW,
        policy="sterna",
        kind=kind,
        source_site=None,
        target_site=to,
        reason="",
        alternatives=places,
    )


def offered(
    sites: Sequence[SiteView],
    jobs: Sequence[JobView],
    decisions: Sequence[Decision] = (),
    *,
    live: Mapping[str, LiveSite] | None = None,
    records: Mapping[str, Job] | None = None,
    settings: OfferSettings = SETTINGS,
    now: datetime = NOW,
) -> Mapping[str, OfferSet]:
    known = {one.job_id: job(one) for one in jobs} | dict(records or {})
    capabilities = Capabilities(slots=2, idle_power_w=60.0)
    state = FleetState(
        jobs=known, sites={one.site_id: Site(site_id=one.site_id, capabilities=capabilities) for one in sites}
    )
    view = replace(fleets.fleet(sites, jobs), now=now)
    book = {one.site_id: live_site() for one in sites} | dict(live or {})
    return plan_offers(Plan(state=state, live=book, view=view, decisions=decisions), settings)


def down(made: OfferSet) -> list[Offer]:
    return [one for one in made.offers if one.direction is Direction.DOWN]


def test_each_connected_site_offers_what_runs_there() -> None:
    sites = [fleets.site("kiel"), fleets.site("miami")]
    jobs = [fleets.job("a", "kiel"), fleets.job("b", "miami", power_w=300.0)]
    made = offered(sites, jobs)
    assert {site_id: [one.power_w for one in down(made[site_id])] for site_id in made} == {
        "kiel": [500.0],
        "miami": [300.0],
    }
    gone = offered(sites, jobs, live={"kiel": live_site(connected=False)})
    assert set(gone) == {"miami"}


@pytest.mark.parametrize("kind", [DecisionKind.MIGRATE, DecisionKind.PAUSE])
def test_what_is_about_to_go_is_not_offered_but_draws(kind: DecisionKind) -> None:
    sites = [fleets.site("kiel")]
    jobs = [fleets.job("a", "kiel"), fleets.job("b", "kiel")]
    sample = SiteSample(measured_at=NOW, sequence=1, quality=Quality.OK, grid_w=5000.0, compute_w=560.0)
    made = offered(sites, jobs, [decided("a", kind, to="x")], live={"kiel": live_site(sample=sample)})
    assert [one.power_w for one in down(made["kiel"])] == [250.0]


@pytest.mark.parametrize(
    ("phase", "state"), [(Phase.HELD, JobState.STARTING), (Phase.MIGRATING, JobState.RUNNING)]
)
def test_what_does_not_stay_is_not_offered(phase: Phase, state: JobState) -> None:
    one = fleets.job("a", "kiel", phase=phase)
    made = offered([fleets.site("kiel")], [one], records={"a": job(one, state)})
    assert made["kiel"].reason == "no job there can give way or come forward"


def test_a_paused_job_draws_nothing_and_can_come_forward() -> None:
    runs, rests = fleets.job("a", "kiel"), fleets.job("b", "kiel", phase=Phase.PAUSED, slack_s=9e4)
    records = {"b": job(rests, JobState.PAUSED)}
    sample = SiteSample(measured_at=NOW, sequence=1, quality=Quality.OK, grid_w=5000.0, compute_w=560.0)
    made = offered(
        [fleets.site("kiel")], [runs, rests], records=records, live={"kiel": live_site(sample=sample)}
    )
    assert [(one.direction, one.power_w) for one in made["kiel"].offers] == [
        (Direction.DOWN, 500.0),
        (Direction.UP, 500.0),
    ]


def test_a_queued_job_is_offered_once_at_home_if_it_can() -> None:
    sites = [fleets.site("kiel"), fleets.site("miami")]
    waits = fleets.job("a", home="miami", slack_s=9e4)
    both = (place("kiel", None), place("miami", None))
    made = offered(sites, [waits], [decided("a", DecisionKind.WAIT, *both)])
    assert (len(made["kiel"].offers), len(made["miami"].offers)) == (0, 1)
    full = [fleets.site("kiel"), fleets.site("miami", slots=1, slots_held=1)]
    made = offered(full, [waits], [decided("a", DecisionKind.WAIT, *both)])
    assert (len(made["kiel"].offers), len(made["miami"].offers)) == (1, 0)
    at_once = fleets.job("a", home="miami")
    assert not any(
        one.offers for one in offered(sites, [at_once], [decided("a", DecisionKind.WAIT)]).values()
    )


def test_a_slot_elsewhere_is_promised_once_and_not_when_it_is_taken() -> None:
    sites = [fleets.site("kiel"), fleets.site("miami", slots=1)]
    jobs = [fleets.job("a", "kiel"), fleets.job("b", "kiel")]
    stays = [decided(one.job_id, DecisionKind.STAY, place("miami")) for one in jobs]
    made = offered(sites, jobs, stays, settings=FOREVER)
    assert [(one.jobs, one.moves, one.power_w) for one in down(made["kiel"])] == [(1, 1, 500.0)]
    arrives = fleets.job("c", home="miami")
    taken = [*stays, decided("c", DecisionKind.START, to="miami")]
    assert down(offered(sites, [*jobs, arrives], taken, settings=FOREVER)["kiel"]) == []


@pytest.mark.parametrize(
    "places",
    [
        (place("miami", feasible=False),),
        (place("miami", None),),
        (place("kiel"),),
        (),
    ],
)
def test_no_place_no_move(places: tuple[Alternative, ...]) -> None:
    sites, jobs = [fleets.site("kiel"), fleets.site("miami")], [fleets.job("a", "kiel")]
    made = offered(sites, jobs, [decided("a", DecisionKind.STAY, *places)], settings=FOREVER)
    assert made["kiel"].offers == ()
    stuck = [fleets.job("a", "kiel", may_migrate=False)]
    made = offered(sites, stuck, [decided("a", DecisionKind.STAY, place("miami"))], settings=FOREVER)
    assert made["kiel"].offers == ()


def test_the_place_with_the_shortest_standstill_is_taken() -> None:
    sites = [fleets.site(name) for name in ("kiel", "miami", "nome")]
    stay = decided("a", DecisionKind.STAY, place("miami", 90.0), place("nome", 20.0))
    made = offered(sites, [fleets.job("a", "kiel")], [stay], settings=FOREVER)
    assert [one.delay_s for one in down(made["kiel"])] == [320.0]


def limit(reason: str) -> GridStatus:
    active = ActiveLimit(source="mqtt", command_id="c", limit_w=1.0, start_at=NOW, end_at=None, reason=reason)
    return GridStatus(state=GridState.LIMITED, limit_w=1.0, limits=(active,))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "the site has not said what its grid asks"),
        (replace(FREE, state=GridState.INIT), "the grid operator has not been heard"),
        (replace(FREE, state=GridState.FAILSAFE), "the grid operator has not been heard"),
        (limit("ALERT_GRID_EMERGENCY: line down"), "a grid emergency"),
        (limit("ALERT_BLACK_START"), "a grid emergency"),
        (replace(FREE, unachievable=True), "the site cannot keep its limit"),
        (limit("congestion"), ""),
        (replace(FREE, state=GridState.AUTONOMOUS), ""),
    ],
)
def test_what_the_grid_asks_may_forbid_to_offer(status: GridStatus | None, reason: str) -> None:
    assert why_blocked(status) == reason
    made = offered(
        [fleets.site("kiel")], [fleets.job("a", "kiel")], live={"kiel": live_site(grid_status=status)}
    )
    assert made["kiel"].reason == reason
    assert bool(made["kiel"].offers) is (reason == "")


def test_sites_that_jobs_leave_offer_nothing() -> None:
    jobs = [fleets.job("a", "kiel")]
    assert offered([fleets.site("kiel", draining=True)], jobs)["kiel"].reason == "the site is draining"
    shedding = offered([fleets.site("kiel", shed=True)], jobs)["kiel"].reason
    assert shedding == "the site asks for jobs to be moved away"


@pytest.mark.parametrize(
    ("quality", "age_s", "known"),
    [
        (Quality.OK, 30.0, True),
        (Quality.ESTIMATED, 0.0, True),
        (Quality.OK, 31.0, False),
        (Quality.BAD, 0.0, False),
    ],
)
def test_what_is_old_or_not_believed_is_not_measured(quality: Quality, age_s: float, known: bool) -> None:
    at = NOW - timedelta(seconds=age_s)
    sample = SiteSample(measured_at=at, sequence=1, quality=quality, grid_w=5000.0, compute_w=560.0)
    made = offered([fleets.site("kiel")], [fleets.job("a", "kiel")], live={"kiel": live_site(sample=sample)})
    assert bool(made["kiel"].offers) is known


def test_steps_at_risk_are_those_since_the_newest_seal_under_this_grant() -> None:
    view = fleets.job("a", "kiel")
    saved = Checkpoint(
        checkpoint_id="c", step=40, epoch=3, size_bytes=1, sealed_at=NOW - timedelta(minutes=5)
    )
    report = JobReport(job_id="a", epoch=3, phase=JobPhase.RUNNING, step=52, checkpoints=(saved,))

    def risk(report: JobReport) -> int | None:
        live = {"kiel": live_site(reports={"a": report})}
        records = {"a": replace(job(view), copies={"kiel": (saved,)})}
        return down(offered([fleets.site("kiel")], [view], live=live, records=records)["kiel"])[
            0
        ].steps_at_risk

    assert risk(report) == 12
    assert risk(replace(report, checkpoints=())) == 52
    assert risk(replace(report, step=None)) is None
    assert risk(replace(report, epoch=2)) is None
