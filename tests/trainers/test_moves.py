"""Unmodified scripts moved from site to site by the agent: shim, seal, verified copy, resume. Same losses."""

import asyncio
import dataclasses
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.model.jobs import JobPhase as P
from agent.model.jobs import JobSpec
from agent.model.orders import Fetch, Prepare, Start, Stop
from tests.agent.jobs import conftest as sites
from tests.agent.jobs.endings import end_runs
from tests.trainers import conftest, running

pytestmark = [pytest.mark.long, pytest.mark.trainers, pytest.mark.timeout(600)]


@pytest.fixture
async def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[sites.Site]]:
    patient = functools.partial(sites.until, within_s=running.DEADLINE_S)
    monkeypatch.setattr(sites, "until", patient)  # libraries take their time to be imported
    both = [sites.Site(tmp_path / name, name) for name in ("a", "b")]
    for site in both:
        await site.up()
    yield both
    for site in both:
        await site.down()
        await asyncio.to_thread(end_runs, site.jobs, 1.0)


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("hf.py", ["steps=40", "every=10", "workers=2"]),
        ("pl.py", ["steps=40", "every=10", "stateful=1"]),
    ],
)
async def test_a_move_changes_no_loss(
    pair: list[sites.Site], start: conftest.Start, tmp_path: Path, script: str, options: list[str]
) -> None:
    losses = tmp_path / "losses.txt"
    argv = (running.trainer_python(), str(running.SCRIPTS / script), str(losses), *options)
    spec = JobSpec(name="x", argv=(*argv, "step_s=0.2"), env={"OMP_NUM_THREADS": "1"}, stop_grace_s=60.0)
    here, there = pair
    await here.order(Start(spec=spec, checkpoint_id=None, lease_ttl_s=None))
    await sites.until(lambda: (r := here.report()) and (r.step or 0) >= 13, "step 13")
    assert here.report().checkpoints, "the periodic checkpoint of step 10 is sealed while it runs"
    await there.order(Prepare(spec=spec, checkpoint_bytes=10_000, expires_after_s=60))
    await here.order(Stop(reason="moves", cancel=False))
    sealed = await here.phase(P.SEALED)
    newest = sealed.checkpoints[0]
    assert newest.manifest.step == sealed.step, "no step is lost"
    there.carrier._sites = {"a": here.checkpoints}
    await there.order(
        Fetch(
            checkpoint_id=newest.checkpoint_id, holder_site="a", holder_address=None, ticket="t", max_bps=None
        )
    )
    await there.phase(P.HELD)
    faster = dataclasses.replace(spec, argv=argv)
    await there.order(Start(spec=faster, checkpoint_id=newest.checkpoint_id, lease_ttl_s=None), epoch=2)
    done = await there.phase(P.COMPLETED)
    assert (done.step, done.start_step) == (40, sealed.step)
    whole = start(tmp_path / "whole", script, *options)
    assert await asyncio.to_thread(whole.end) == 0
    assert losses.read_text().splitlines() == whole.losses
