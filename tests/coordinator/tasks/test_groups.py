"""Sites that empty, and jobs that wait where there is no room, with the whole coordinator over real gRPC."""

from dataclasses import replace
from pathlib import Path

from coordinator.model.fleet import JobState, MigrationState
from coordinator.model.job import JobPhase
from coordinator.model.live import report_of
from coordinator.service.operator_ports import Refusal
from tests.coordinator.tasks.fakesite import until
from tests.coordinator.tasks.house import CONFIG, SPEC, House, house

LINK_BPS = 1e8
SPEC_OF_SIZE = replace(SPEC, checkpoint_bytes=1000)


async def drain(home: House, site_id: str) -> None:
    done = await home.coordinator.desk.drain_site(request_id=f"drain-{site_id}", site_id=site_id)
    assert not isinstance(done, Refusal), done


async def two_at_miami(home: House) -> list[str]:
    job_ids = [await home.submit(SPEC_OF_SIZE, request_id=name) for name in ("one", "two")]
    for job_id in job_ids:
        await home.running(job_id)
    return job_ids


async def test_a_site_that_drains_empties_over_a_link_that_its_jobs_share(tmp_path: Path) -> None:
    planner = {**CONFIG["planner"], "policy": "sterna"}
    migration = {**CONFIG["migration"], "ahead_least_bytes": 10**15, "ahead_least_transfer_s": 1e9}
    async with house(tmp_path, planner=planner, migration=migration) as home:
        job_ids = await two_at_miami(home)
        nome = home.sites["nome"]
        nome.may_do = lambda order: not order.HasField("fetch")  # so that both are seen waiting for theirs
        await drain(home, "miami")
        moves = home.state.migrations

        def both_wait() -> bool:
            states = [one.state for one in home.state.migrations.values()]
            return states == [MigrationState.TRANSFERRING] * 2

        await until(both_wait, f"they do not share the link: {moves}")
        reserved = [one.reserved_bps for one in home.state.migrations.values()]
        assert reserved == [LINK_BPS / 2] * 2
        reasons = {one.reason for one in home.state.migrations.values()}
        assert all(reason.startswith("miami is draining; nome gains the most") for reason in reasons)
        assert any("shares the link with 1 more" in reason for reason in reasons)

        def last_rates() -> set[float]:
            fetches = {one.job_id: one.fetch.max_bps for one in nome.orders if one.HasField("fetch")}
            return {rate for job_id, rate in fetches.items() if job_id in job_ids}

        await until(lambda: last_rates() == {LINK_BPS / 2}, f"each may take half: {last_rates()}")
        nome.may_do = lambda _: True
        for job_id in job_ids:
            await home.running(job_id, "nome")


async def test_a_job_that_waits_where_no_slot_is_free_is_carried_elsewhere(tmp_path: Path) -> None:
    planner = {**CONFIG["planner"], "policy": "sterna"}
    migration = {**CONFIG["migration"], "carry_after_s": 0.3}
    async with house(tmp_path, planner=planner, migration=migration) as home:
        await drain(home, "nome")
        job_id, other = await two_at_miami(home)
        miami, nome = home.sites["miami"], home.sites["nome"]
        miami.model.seal_now(job_id)
        await drain(home, "miami")  # else it would start again where it stopped
        miami.model.record(job_id).phase = JobPhase.SEALED
        await until(lambda: home.job(job_id).state is JobState.QUEUED, "it does not wait")
        assert not home.begun(job_id)[1:]
        resumed = await home.coordinator.desk.resume_site(request_id="resume", site_id="nome")
        assert not isinstance(resumed, Refusal)
        await home.running(job_id, "nome")
        (_, first, nothing), (site_id, second, checkpoint) = home.begun(job_id)
        assert (nothing, site_id) == (None, "nome") and second > first
        assert checkpoint == miami.model.record(job_id).checkpoints[-1].checkpoint_id
        assert home.job(job_id).migrations == 0
        assert all(one.job_id == other for one in home.state.migrations.values())
        assert any(one.HasField("prepare") and one.migration_id.startswith("carry-") for one in nome.orders)
        report = report_of(home.live, "nome", job_id)
        assert report is not None and report.phase is JobPhase.RUNNING
        assert home.coordinator.fleet._store.refold() == home.state
