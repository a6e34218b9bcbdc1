"""A coordinator slows a job to the surplus over real gRPC, counts its work by that, and lets it go again."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.model.job import SlowRange
from sterna.v1 import site_service_pb2 as pb
from tests.coordinator.tasks.fakesite import until
from tests.coordinator.tasks.house import SPEC, House, house

SLOWABLE = replace(SPEC, may_migrate=False, slow=SlowRange(power_frac=0.5, speed_frac=0.8))
PLANNER = {"policy": "sterna", "tick_s": 0.1, "settle_s": 0.5}


def orders(home: House, site: str = "miami") -> list[pb.Order]:
    return [one for one in home.sites[site].orders if one.WhichOneof("action") in ("slow", "resume")]


async def test_a_job_is_slowed_to_the_surplus_and_let_go(tmp_path: Path) -> None:
    async with house(tmp_path, planner=PLANNER) as home:
        job_id = await home.submit(SLOWABLE)
        await home.running(job_id)
        home.sites["miami"].surplus_w = 7.5
        await until(lambda: home.job(job_id).speed_frac == pytest.approx(0.9), "its speed was not noted")
        first = orders(home)[0]
        assert (first.slow.power_w, first.slow.sequence, first.epoch) == (7.5, 1, 1)
        assert first.slow.expires_after.ToTimedelta() == timedelta(seconds=900)
        assert first.slow.reason.startswith("slowed to 8 of 10 W, 90% of its speed")
        told = await home.coordinator.desk.last_decision(job_id)
        assert told is not None and told.decision.reason == first.slow.reason

        home.sites["miami"].surplus_w = 6.0
        await until(lambda: home.job(job_id).speed_frac == pytest.approx(0.84), "it was not slowed more")
        home.sites["miami"].surplus_w = 1000.0
        await until(lambda: home.job(job_id).speed_frac == 1.0, "it was not let go")
        assert orders(home)[-1].HasField("resume")
        sequences = [one.slow.sequence or one.resume.sequence for one in orders(home)]
        assert sequences == sorted(sequences)
        assert home.coordinator.fleet._store.refold() == home.state


async def test_a_site_that_cannot_is_not_asked(tmp_path: Path) -> None:
    async with house(tmp_path, planner=PLANNER) as home:
        home.sites["nome"].surplus_w = 7.5
        there = await home.submit(replace(SLOWABLE, home_site="nome"), "nome")
        here = await home.submit(SLOWABLE, "miami")
        await home.running(there, "nome")
        await home.running(here)
        home.sites["miami"].surplus_w = 7.5
        await until(lambda: home.job(here).speed_frac < 1.0, "nobody was slowed where it can be")
        assert orders(home, "nome") == []
