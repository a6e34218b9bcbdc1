"""A job that the plan slows: it runs on, the record says so over restarts, and it ends by itself."""

from agent.model.jobs import JobPhase as P
from agent.model.orders import OrderResult, Pause, Slow
from tests.agent.jobs.conftest import Site, SpecMaker, until
from tests.agent.jobs.test_keeper import start, stepping


async def test_a_job_that_the_plan_slows_runs_on_and_has_its_power_back_by_itself(
    site: Site, trainer: SpecMaker
) -> None:
    await site.order(start(trainer(steps=100_000)))
    await stepping(site, 2)
    ack = await site.order(Slow(sequence=1, expires_after_s=600.0, power_w=300.0, reason="little surplus"))
    assert ack.result is OrderResult.ACCEPTED
    assert (site.keeper.slowed(), site.keeper.held()) == ({"j1": 300.0}, frozenset())
    report = site.report()
    assert (report.phase, report.slowed_to_w, report.hold_sequence) == (P.RUNNING, 300.0, 1)
    assert report.held_until is not None
    await site.down()
    await site.up()
    assert site.keeper.slowed() == {"j1": 300.0}
    await stepping(site, site.report().step + 3)
    await site.order(Pause(sequence=2, expires_after_s=600.0))
    await site.phase(P.PAUSED)
    assert (site.keeper.slowed(), site.keeper.held()) == ({}, {"j1"})
    await site.order(Slow(sequence=3, expires_after_s=0.5, power_w=250.0))
    assert site.keeper.held() == frozenset(), "the site's limits say when it goes on"
    await until(lambda: not site.keeper.slowed(), "what the plan asked has expired")
    assert (site.report().held_until, site.report().slowed_to_w) == (None, None)
