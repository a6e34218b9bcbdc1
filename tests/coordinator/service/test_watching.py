"""Watching the fleet: changes add up to the whole, watchers share looks, and looks cost a bounded share."""

import asyncio
import time
from contextlib import aclosing
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.cli.watching import changed
from coordinator.model import events as ev
from coordinator.model.fleet import JobState
from coordinator.service.operator_fake import FakeDesk
from coordinator.service.operator_ports import FleetPicture
from coordinator.service.watching import LEAST_GAP_LOOKS, Watched
from sterna.v1 import operator_service_pb2 as api
from tests.coordinator.service import operator_world as world
from tests.coordinator.service.operator_world import NOW, RUNNING

SITES = ("kiel", "malaga", "miami")


def happenings(index: int) -> st.SearchStrategy[tuple[ev.Event, ...]]:
    """What may happen between two looks; jobs that are named have not been there before."""
    job_id = f"new-{index}"
    submitted = ev.JobSubmitted(at=NOW, job_id=job_id, spec=world.spec(job_id))
    ended = ev.JobEnded(at=NOW, job_id=job_id, state=JobState.CANCELLED, message="")
    return st.one_of(
        st.just((submitted,)),
        st.just((submitted, ended)),
        st.sampled_from(SITES).map(lambda site: (ev.SiteDrained(at=NOW, site_id=site),)),
        st.sampled_from(SITES).map(lambda site: (ev.SiteResumed(at=NOW, site_id=site),)),
    )


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 6).flatmap(lambda n: st.tuples(*(happenings(index) for index in range(n)))),
    hours=st.lists(st.integers(0, 1), min_size=6, max_size=6),
)
def test_changes_add_up_to_the_whole(steps: tuple[tuple[ev.Event, ...], ...], hours: list[int]) -> None:
    async def watch() -> None:
        now = [NOW]
        desk = world.desk(now=lambda: now[0])
        watched = Watched(desk, period_s=1e-6)
        async with (
            aclosing(watched.messages(changes_only=True)) as changes,
            aclosing(watched.messages(changes_only=False)) as wholes,
        ):
            held = await anext(changes)
            assert held == await anext(wholes)
            assert not held.HasField("left")
            held = changed(held, await anext(changes))  # the look that the other came with
            for happened, passed_h in zip(steps, hours, strict=False):
                # What ended an hour ago is not watched any more.
                now[0] += timedelta(hours=passed_h)
                for event in happened:
                    await desk.happen(event)
                message, whole = await asyncio.gather(anext(changes), anext(wholes))
                assert message.HasField("left") and not whole.HasField("left")
                held = changed(held, message)
                assert held == whole

    asyncio.run(watch())


async def test_what_did_not_change_is_not_sent_again() -> None:
    desk = world.desk()
    async with aclosing(Watched(desk, period_s=0.001).messages(changes_only=True)) as messages:
        first = await anext(messages)
        assert len(first.sites) == 3 and len(first.jobs) > 2
        await desk.happen(ev.SiteDrained(at=NOW, site_id="kiel"))
        second = await anext(messages)
        assert [site.site_id for site in second.sites] == ["kiel"]
        assert (list(second.jobs), list(second.migrations)) == ([], [])
        await desk.happen(ev.JobEnded(at=NOW, job_id=RUNNING, state=JobState.COMPLETED, message=""))
        third = await anext(messages)
        assert [job.job_id for job in third.jobs] == [RUNNING]
        assert third.left == api.FleetLeft()


class SlowDesk(FakeDesk):
    """One that takes its time to look, and counts."""

    looks = 0
    takes_s = 0.0

    def picture(self) -> FleetPicture:
        self.looks += 1
        time.sleep(self.takes_s)
        return super().picture()


async def test_watchers_share_the_looks_and_whoever_comes_sees_the_present() -> None:
    desk = world.desk(SlowDesk)
    assert isinstance(desk, SlowDesk)
    watched = Watched(desk, period_s=0.001)
    async with (
        aclosing(watched.messages(changes_only=True)) as one,
        aclosing(watched.messages(changes_only=False)) as other,
    ):
        await anext(one)
        await desk.happen(ev.SiteDrained(at=NOW, site_id="kiel"))
        assert (await anext(other)).sites[0].draining, "it was told of the past"
        assert [site.draining for site in (await anext(one)).sites] == [True]
        looks = desk.looks
        await desk.happen(ev.SiteResumed(at=NOW, site_id="kiel"))
        await asyncio.gather(anext(one), anext(other))
        assert desk.looks == looks + 1


async def test_a_look_that_takes_long_is_taken_seldom() -> None:
    desk = world.desk(SlowDesk)
    assert isinstance(desk, SlowDesk)
    desk.takes_s = 0.02
    async with aclosing(Watched(desk, period_s=0.001).messages(changes_only=True)) as messages:
        await anext(messages)
        await desk.happen(ev.SiteDrained(at=NOW, site_id="kiel"))
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await anext(messages)
        assert loop.time() - began_s >= LEAST_GAP_LOOKS * desk.takes_s


async def test_when_nobody_watches_nothing_is_kept() -> None:
    watched = Watched(world.desk(), period_s=1.0)
    messages = watched.messages(changes_only=True)
    await anext(messages)
    assert watched._look is not None
    await messages.aclose()
    assert watched._look is None
