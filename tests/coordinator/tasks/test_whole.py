"""The whole coordinator with sites on real gRPC: jobs start, move, survive deaths, refusals and silence."""

from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.build import build
from coordinator.config import CoordinatorConfig
from coordinator.model.fleet import Job, JobState, MigrationState
from coordinator.model.job import JobPhase, JobSpec, OnPartition
from coordinator.service.operator_ports import Fenced, Move, Refusal, RefusalKind
from coordinator.tasks.desk import PATIENCE_S
from sterna.clock import FakeClock
from sterna.config import parse
from tests.coordinator.tasks.fakesite import until, utc
from tests.coordinator.tasks.house import CONFIG, SPEC, House, KilledError, house

M = MigrationState


async def move(home: House, job_id: str, site_id: str = "nome", request_id: str = "move") -> Move:
    made = await home.coordinator.desk.migrate_job(
        request_id=request_id, job_id=job_id, site_id=site_id, force=True
    )
    assert isinstance(made, Move), made
    return made


async def ended(home: House, state: MigrationState) -> None:
    await until(lambda: home.migration().ended, f"the move did not end: {home.migration()}")
    assert home.migration().state is state, home.migration()


async def test_a_job_starts_at_home_and_moves_without_losing_a_step(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit()
        await home.running(job_id)
        await until(lambda: (home.sites["miami"].model.record(job_id).step or 0) > 3, "no steps")
        await move(home, job_id)
        await ended(home, M.DONE)
        await home.running(job_id, "nome")
        (_, first, nothing), (_, second, checkpoint) = home.begun(job_id)
        sealed = home.migration().checkpoint
        assert sealed is not None and (first, nothing) == (1, None)
        assert (second, checkpoint) == (2, sealed.checkpoint_id)
        assert home.sites["nome"].model.record(job_id).start_step == sealed.step
        assert home.job(job_id).migrations == 1
        downtime_s = home.migration().downtime_s
        assert downtime_s is not None and 0 < downtime_s < 5
        released = home.sites["miami"].model.record(job_id)
        await until(lambda: released.phase is JobPhase.RELEASED, "the source was not released")
        assert released.checkpoints  # kept: nothing is deleted when there are no more than two
        assert home.coordinator.fleet._store.refold() == home.state
        decision = await home.coordinator.desk.last_decision(job_id)
        assert decision is not None and decision.decision.policy == "static"
        await until(lambda: home.sites["nome"].acked > 0, "telemetry was never acknowledged")


@pytest.mark.parametrize("dies_in", [state for state in M if state not in (M.PRESTAGING, M.ABORTED)])
async def test_a_coordinator_that_dies_in_any_state_goes_on_after_its_restart(
    tmp_path: Path, dies_in: MigrationState
) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit()
        await home.running(job_id)
        if dies_in is M.COMPENSATING:
            home.sites["nome"].refuse = lambda order: "full" if order.HasField("prepare") else ""
        await home.kill()
        await home.start(dies_in)
        await home.connected()
        await home.running(job_id)
        if dies_in is M.PLANNED:
            with pytest.raises(KilledError):
                await move(home, job_id)
        else:
            await move(home, job_id)
        await until(lambda: home.killed, f"it did not get to {dies_in}")
        await home.kill()
        await home.start()
        await until(lambda: home.migration().ended, f"the move did not end: {home.migration()}")
        arrives = dies_in is not M.COMPENSATING
        assert home.migration().state is (M.DONE if arrives else M.ABORTED), home.migration()
        await home.running(job_id, "nome" if arrives else "miami")
        assert len(home.begun(job_id)) == (2 if arrives else 1)
        assert home.coordinator.fleet._store.refold() == home.state


async def test_a_refused_reservation_leaves_the_process_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit()
        await home.running(job_id)
        home.sites["nome"].refuse = lambda order: "no disk space" if order.HasField("prepare") else ""
        await move(home, job_id)
        await ended(home, M.ABORTED)
        assert "no disk space" in home.migration().failure
        await home.running(job_id)
        assert len(home.begun(job_id)) == 1
        assert home.sites["miami"].model.record(job_id).epoch == home.job(job_id).epoch == 2


async def test_a_destination_that_never_fetches_gives_the_job_back(tmp_path: Path) -> None:
    config = {"migration": {"retry_s": 0.2, "transferring_s": 0.5}}
    async with house(tmp_path, **config) as home:
        job_id = await home.submit()
        await home.running(job_id)
        home.sites["nome"].may_do = lambda order: not order.HasField("fetch")
        await move(home, job_id)
        await ended(home, M.ABORTED)
        assert "TRANSFERRING" in home.migration().failure
        await home.running(job_id)
        (_, _, _), (site, epoch, checkpoint) = home.begun(job_id)
        assert (site, epoch, checkpoint) == ("miami", 2, home.migration().checkpoint.checkpoint_id)  # type: ignore[union-attr]
        record = home.sites["nome"].model.record(job_id)
        await until(lambda: record.phase is JobPhase.RELEASED, "the reservation stays")


async def test_a_refused_first_start_frees_the_job(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.sites["miami"].refuse = lambda order: "no such program" if order.HasField("start") else ""
        spec = JobSpec(name="t", argv=("train",), stop_grace_s=0.1)
        job_id = await home.submit(spec)
        await until(lambda: home.job(job_id).epoch > 2, "the grant was not taken back")
        assert home.begun(job_id) == []
        home.sites["miami"].refuse = lambda _: ""
        await home.running(job_id)
        record = home.sites["miami"].model.record(job_id)
        assert record.epoch == home.job(job_id).epoch > 2


async def test_a_job_that_completes_while_it_is_stopped_ends_the_move(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit()
        await home.running(job_id)
        home.sites["miami"].may_do = lambda order: not order.HasField("stop")
        await move(home, job_id)
        await until(lambda: home.migration().state is M.STOPPING, "it does not come to stop")
        home.sites["miami"].model.complete(job_id)
        await ended(home, M.ABORTED)
        assert home.job(job_id).state is JobState.COMPLETED
        record = home.sites["nome"].model.record(job_id)
        await until(lambda: record.phase is JobPhase.RELEASED, "the reservation stays")


@pytest.mark.parametrize("hold", ["nothing", "prepare", "stop", "fetch", "start"])
async def test_a_job_can_be_cancelled_at_any_point_of_a_move(tmp_path: Path, hold: str) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit()
        await home.running(job_id)
        if hold != "nothing":
            for site in home.sites.values():
                site.may_do = lambda order: not order.HasField(hold) or order.stop.cancel
            await move(home, job_id)
            reached = {"prepare": M.PLANNED, "stop": M.STOPPING, "fetch": M.TRANSFERRING, "start": M.STARTING}
            await until(lambda: home.migration().state is reached[hold], f"it does not get to {hold}")
        await home.coordinator.desk.cancel_job(request_id="cancel", job_id=job_id)
        await until(lambda: home.job(job_id).ended, f"it is not cancelled: {home.job(job_id)}")
        assert home.job(job_id).state is JobState.CANCELLED
        assert all(site.model.running(job_id) is None for site in home.sites.values())
        again = await home.coordinator.desk.cancel_job(request_id="cancel2", job_id=job_id)
        assert isinstance(again, Refusal) and again.kind is RefusalKind.PRECONDITION


async def test_a_queued_job_is_cancelled_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit(JobSpec(name="t", argv=("x",), home_site="oslo"))
        await home.coordinator.desk.cancel_job(request_id="cancel", job_id=job_id)
        await until(lambda: home.job(job_id).state is JobState.CANCELLED, "it is not cancelled")


async def test_silence_never_ends_a_job_that_is_to_keep_running(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit()
        await home.running(job_id)
        await home.kill()
        model = home.sites["miami"].model
        before = model.record(job_id).step or 0
        await until(lambda: (model.record(job_id).step or 0) > before + 20, "it stopped")
        home.sites["miami"].may_do = lambda _: False
        await home.start()
        await home.connected()
        await home.running(job_id)
        assert [order for order in home.sites["miami"].orders if not order.HasField("start")] == []
        assert len(home.begun(job_id)) == 1


async def test_a_job_that_stops_in_silence_starts_elsewhere_after_its_lease(tmp_path: Path) -> None:
    spec = JobSpec(
        name="t", argv=("train",), home_site="miami", on_partition=OnPartition.STOP, stop_grace_s=0.1
    )
    async with house(tmp_path) as home:
        job_id = await home.submit(spec)
        await home.running(job_id)
        await move(home, job_id)
        await ended(home, M.DONE)
        await home.running(job_id, "nome")
        await until(lambda: (job_id, 2) in home.sites["nome"].leases, "the lease was not renewed")
        before = home.job(job_id).epoch
        silent, model = home.sites["nome"], home.sites["nome"].model
        silent.site_id = "nobody"  # its sessions are refused from here on
        home.coordinator.driver._sender.hang_up("nome", "test")
        began_s = home.coordinator.clock.boottime_s()
        await until(lambda: home.job(job_id).owner_site == "miami", "nobody took it over")
        assert home.coordinator.clock.boottime_s() - began_s > 1.0
        model.enforce_leases(home.coordinator.clock.boottime_s())
        assert model.running(job_id) is None
        await home.running(job_id)
        assert home.job(job_id).epoch > before
        assert home.begun(job_id)[-1][0] == "nome" or home.begun(job_id)[1][2] is not None
        silent.site_id = "nome"
        await until(lambda: model.record(job_id).phase is JobPhase.RELEASED, "the old site was not released")


async def test_fencing_restarts_jobs_where_a_checkpoint_is(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        desk = home.coordinator.desk
        job_id = await home.submit()
        await home.running(job_id)
        await move(home, job_id)
        await ended(home, M.DONE)
        await home.running(job_id, "nome")
        refused = await desk.fence_site(request_id="f1", site_id="nome", confirm="")
        assert isinstance(refused, Refusal) and refused.kind is RefusalKind.PRECONDITION
        fenced = await desk.fence_site(request_id="f1", site_id="nome", confirm="nome")
        assert isinstance(fenced, Fenced) and fenced.job_ids == (job_id,)
        await home.running(job_id, "miami")
        # It came back although the operator had thought it dead: what it runs is stopped.
        await until(lambda: home.sites["nome"].model.running(job_id) is None, "it runs twice")
        again = await desk.fence_site(request_id="f1", site_id="nome", confirm="nome")
        assert again == fenced
        resumed = await desk.resume_site(request_id="r", site_id="nome")
        assert not isinstance(resumed, Refusal) and not resumed.fenced


@pytest.mark.parametrize("fenced", [False, True])
async def test_a_restored_store_is_not_acted_upon_before_every_site_is_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, fenced: bool
) -> None:
    async with house(tmp_path) as home:
        await home.kill()
        missing = home.sites["nome"]
        missing.site_id = "atlantis"  # nobody of that name may connect
        await home.start(restored=True)
        job_id = await home.submit()
        await until(lambda: home.live.get("miami") and home.live["miami"].connected, "miami did not connect")
        before = home.sites["miami"].acked
        await until(lambda: home.sites["miami"].acked > before + 50, "no time passes")
        assert home.job(job_id).state is JobState.QUEUED and home.coordinator.driver.waits
        told = [record for record in caplog.records if record.message.startswith("the store was restored")]
        assert told[-1].sites == "nome"  # type: ignore[attr-defined]
        if fenced:
            desk = home.coordinator.desk
            done = await desk.fence_site(request_id="f", site_id="nome", confirm="nome")
            assert isinstance(done, Fenced)
        else:
            missing.site_id = "nome"
        await home.running(job_id)
        assert not home.coordinator.driver.waits


async def test_a_higher_epoch_is_adopted_never_undercut(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit()
        await home.running(job_id)
        record = home.sites["miami"].model.record(job_id)
        record.epoch = record.highest = 7  # our memory is older than the fleet's
        await until(lambda: home.job(job_id).epoch == 7, "the epoch was not adopted")
        await home.running(job_id)
        await move(home, job_id)
        await ended(home, M.DONE)
        assert home.sites["nome"].model.record(job_id).epoch == 8


async def test_a_destination_that_fails_to_start_is_tried_again_then_the_job_has_failed(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        job_id = await home.submit()
        await home.running(job_id)
        home.sites["nome"].period_s = 0.001
        model = home.sites["nome"].model
        begin = model._begin

        def crash(*args: object) -> None:
            begin(*args)  # type: ignore[arg-type]
            model.record(job_id).phase = JobPhase.FAILED

        model._begin = crash  # type: ignore[method-assign]
        await move(home, job_id)
        await until(lambda: home.job(job_id).ended, "it goes on for ever")
        assert home.job(job_id).state is JobState.FAILED
        assert [site for site, _, _ in home.begun(job_id)].count("nome") == 3
        assert home.migration().state is M.DONE and home.migration().failure
        assert home.job(job_id).copies["miami"] and home.job(job_id).copies["nome"]


async def test_requests_are_answered_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        desk = home.coordinator.desk
        first = await desk.submit_job(request_id="r", spec=SPEC)
        assert await desk.submit_job(request_id="r", spec=SPEC) == first
        other = await desk.submit_job(request_id="r", spec=JobSpec(name="u", argv=("x",)))
        assert isinstance(other, Refusal) and other.kind is RefusalKind.REQUEST_REUSED
        assert isinstance(first, Job)
        await home.running(first.job_id)
        made = await move(home, first.job_id)
        await ended(home, M.DONE)
        assert await move(home, first.job_id) == made
        assert len(home.state.migrations) == 1
        await home.kill()
        await home.start()
        assert await home.coordinator.desk.submit_job(request_id="r", spec=SPEC) == first


async def test_what_the_desk_refuses(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        desk = home.coordinator.desk
        job_id = await home.submit()
        await home.running(job_id)

        async def kind_of(job: str, site: str, force: bool = False) -> RefusalKind:
            made = await desk.migrate_job(request_id="x", job_id=job, site_id=site, force=force)
            assert isinstance(made, Refusal), made
            return made.kind

        assert await kind_of("nobody", "nome") is RefusalKind.NOT_FOUND
        assert await kind_of(job_id, "oslo") is RefusalKind.NOT_FOUND
        assert await kind_of(job_id, "nome") is RefusalKind.INFEASIBLE
        assert await kind_of(job_id, "miami", force=True) is RefusalKind.PRECONDITION
        drained = await desk.drain_site(request_id="d", site_id="nome")
        assert not isinstance(drained, Refusal) and drained.draining
        assert await kind_of(job_id, "nome", force=True) is RefusalKind.PRECONDITION
        for act in (desk.drain_site, desk.resume_site):
            unknown = await act(request_id="z", site_id="oslo")
            assert isinstance(unknown, Refusal) and unknown.kind is RefusalKind.NOT_FOUND
        assert home.state.migrations == {}


async def test_the_picture_changes_with_the_fleet(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        desk = home.coordinator.desk
        picture = desk.picture()
        await desk.wait_for_change(picture.version)
        job_id = await home.submit()
        await home.running(job_id)
        picture = desk.picture()
        assert picture.policy == "static" and job_id in picture.state.jobs
        assert picture.live["miami"].sample is not None
        assert picture.at - picture.live["miami"].last_seen_at < timedelta(seconds=5)  # type: ignore[operator]
        assert desk.known_sites == {"miami", "nome"}
        assert picture.at > utc(2020)


async def test_a_coordinator_that_has_just_started_waits_for_its_sites_for_a_while(tmp_path: Path) -> None:
    clock = FakeClock(utc(2026))
    parts = build(parse(CONFIG, CoordinatorConfig, name="coordinator.toml"), tmp_path, clock)
    desk = parts.desk
    try:
        at_start = desk.picture()
        assert at_start.waiting_since == clock.now()
        parts.live.connect("miami", 1, clock.now())
        one_is_back = desk.picture()
        assert one_is_back.waiting_since == at_start.waiting_since
        clock.advance(PATIENCE_S)
        assert desk.picture().waiting_since is None
        await desk.wait_for_change(one_is_back.version)  # told to whoever watches, though no site said a word
    finally:
        await parts.close()


async def test_nobody_is_waited_for_once_all_are_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.connected()
        assert home.coordinator.desk.picture().waiting_since is None
