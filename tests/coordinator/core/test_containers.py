"""Jobs that run in containers go where their engine and folders are, under every policy; others anywhere."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import moving
from coordinator.core.arrivals import obstacle_to_arrival, obstacle_to_move
from coordinator.core.carrying import is_stuck
from coordinator.core.containers import lack, lack_at
from coordinator.core.fleet import fold
from coordinator.core.judgement import judge
from coordinator.core.policies import policy_named, policy_names
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.core.view import ViewSettings, build_view
from coordinator.model import events as ev
from coordinator.model.decision import DecisionKind
from coordinator.model.job import ContainerSpec
from coordinator.model.job import JobPhase as P
from coordinator.model.site import Capabilities
from coordinator.model.view import FleetView
from tests.coordinator.core.fleets import fleet, forecast, job, site
from tests.coordinator.core.histories import C2, NOW, SPEC, at_work, granted, here, report, seen, submitted
from tests.coordinator.core.test_planner_laws import fleets, numbers

PODMAN = ContainerSpec(image="i", engine="podman")
ANY = ContainerSpec(image="i")
DATA = ContainerSpec(image="i", mounts={"data": "/data", "more": "/more"})


@pytest.mark.parametrize(
    ("container", "engines", "folders", "said"),
    [
        (None, (), (), ""),
        (ANY, ("docker",), (), ""),
        (PODMAN, ("podman", "docker"), (), ""),
        (DATA, ("docker",), ("data", "more"), ""),
        (ANY, (), ("data",), "the site runs no containers"),
        (PODMAN, ("docker", "nerdctl"), (), "the site has no podman, but docker, nerdctl"),
        (DATA, ("docker",), ("data",), "the site has no folder more for containers"),
    ],
)
def test_what_a_site_lacks(
    container: ContainerSpec | None, engines: tuple[str, ...], folders: tuple[str, ...], said: str
) -> None:
    assert lack(container, engines, folders) == said
    site = Capabilities(slots=1, container_engines=engines, container_mounts=folders)
    assert lack_at(container, site) == said


@pytest.mark.parametrize("name", policy_names())
def test_a_job_starts_where_its_engine_is(name: str) -> None:
    sites = [site("a", surplus_w=900.0), replace(site("b", surplus_w=600.0), container_engines=("podman",))]
    view = fleet(sites, [replace(job("j"), container=PODMAN)])
    (decision,) = policy_named(name).decide(view, PlannerSettings())
    assert (decision.kind, decision.target_site) == (DecisionKind.START, "b")
    told = {one.site_id: one.rejections for one in decision.alternatives}
    assert "the site runs no containers" in told["a"]


@pytest.mark.parametrize("name", ["energy-only", "feasibility-aware", "sterna"])
def test_a_job_does_not_leave_its_engine(name: str) -> None:
    sun = forecast(*[900.0] * 60)
    sites = [replace(site("a"), container_engines=("podman",)), site("b", surplus_w=900.0, windows=sun)]
    planner = PlannerSettings()
    free = fleet(sites, [job("j", "a")])
    (moves,) = policy_named(name).decide(free, planner)
    assert (moves.kind, moves.target_site) == (DecisionKind.MIGRATE, "b"), "a process would"
    held = replace(free, jobs={"j": replace(free.jobs["j"], container=PODMAN)})
    (stays,) = policy_named(name).decide(held, planner)
    assert stays.kind is DecisionKind.STAY
    told = {one.site_id: one.rejections for one in stays.alternatives}
    if name != "energy-only":  # which does not say what speaks against each site where a job stays
        assert told["b"][0] == "the site runs no containers"
    assert "the site runs no containers" in judge(held, "j", "b", planner).rejections
    assert not judge(held, "j", "b", planner).feasible


@st.composite
def contained(draw: st.DrawFn) -> FleetView:
    """A fleet in which some jobs run in containers, and some sites have engines."""
    view = draw(fleets())
    kinds = st.sampled_from([None, ANY, PODMAN, DATA])
    engines = st.sampled_from([(), ("podman",), ("docker",), ("podman", "docker")])
    return replace(
        view,
        jobs={name: replace(one, container=draw(kinds)) for name, one in view.jobs.items()},
        sites={
            name: replace(
                one,
                container_engines=draw(engines),
                container_mounts=draw(st.sampled_from([(), ("data", "more")])),
            )
            for name, one in view.sites.items()
        },
    )


@settings(max_examples=60, deadline=None)
@given(contained(), numbers, st.sampled_from(policy_names()), st.booleans())
def test_no_job_goes_where_it_cannot_run(
    view: FleetView, planner: PlannerSettings, name: str, large: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if large:
            patch.setattr(moving, "LARGE_PAIRS", -1)
        decisions = [
            *policy_named(name).decide(view, planner),
            *changes_of(policy_named(name), view, planner),
        ]
    for one in decisions:
        if one.kind in (DecisionKind.START, DecisionKind.MIGRATE):
            target = view.sites[one.target_site or ""]
            container = view.jobs[one.job_id].container
            assert not lack(container, target.container_engines, target.container_mounts)


@settings(max_examples=30, deadline=None)
@given(fleets(), numbers, st.sampled_from(policy_names()))
def test_where_every_site_has_everything_containers_change_nothing(
    view: FleetView, planner: PlannerSettings, name: str
) -> None:
    given_all = replace(
        view,
        jobs={job_id: replace(one, container=PODMAN) for job_id, one in view.jobs.items()},
        sites={site_id: replace(one, container_engines=("podman",)) for site_id, one in view.sites.items()},
    )
    assert policy_named(name).decide(given_all, planner) == policy_named(name).decide(view, planner)


def _site_seen(site_id: str, *engines: str) -> ev.Event:
    capabilities = Capabilities(slots=2, checkpoint_address=f"{site_id}:1", container_engines=engines)
    return ev.SiteSeen(at=NOW, site_id=site_id, capabilities=capabilities)


def test_no_decision_and_no_operator_brings_it_where_it_cannot_run() -> None:
    spec = replace(SPEC, container=PODMAN)
    state = fold(
        [
            _site_seen("a", "podman"),
            _site_seen("b", "docker"),
            _site_seen("c", "podman"),
            *at_work(spec),
        ]
    )
    assert obstacle_to_move(state, here(), "j", "b") == "site b: the site has no podman, but docker"
    assert obstacle_to_move(state, here(), "j", "c") == ""
    assert obstacle_to_arrival(state, here(), "b") == ""
    view = build_view(state, here(), {}, NOW, ViewSettings())
    assert view.jobs["j"].container == PODMAN
    assert [view.sites[one].container_engines for one in "abc"] == [("podman",), ("docker",), ("podman",)]


def test_a_checkpoint_is_not_carried_to_where_nothing_runs_it() -> None:
    def waiting(*engines: str) -> bool:
        state = fold(
            [
                _site_seen("a", *engines),
                *seen("b"),
                *submitted(spec=replace(SPEC, container=PODMAN)),
                granted(),
                ev.CheckpointSealed(at=NOW, job_id="j", site_id="a", checkpoints=(C2,)),
                ev.JobRequeued(at=NOW, job_id="j", epoch=2, message="stopped"),
            ]
        )
        return is_stuck(state, state.jobs["j"], here(a=report(P.SEALED, checkpoints=(C2,))), {})

    assert waiting("docker"), "it cannot start where it lies"
    assert not waiting("podman")
