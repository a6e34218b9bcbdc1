"""The loops by themselves: live book, telemetry, planner, reception, bell."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.core.endings import GrantSettings
from coordinator.core.feasibility_aware import FeasibilityAwarePolicy
from coordinator.core.grants import LeaseBook, LeaseMargins
from coordinator.core.policy import PlannerSettings
from coordinator.core.static import StaticPolicy
from coordinator.core.view import ViewSettings
from coordinator.forecast.feed import FeedForecaster
from coordinator.model import events as ev
from coordinator.model.fleet import JobState
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.job import JobPhase, JobReport
from coordinator.model.orders import Order
from coordinator.model.site import ActiveLimit, GridState, GridStatus, MoveRequest, SiteSample
from coordinator.model.view import FleetView
from coordinator.store.database import Database, file_url
from coordinator.store.fleet_store import FleetStore
from coordinator.store.history import DecisionStore, TelemetryStore
from coordinator.tasks.bell import Bell
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.live import LiveBook
from coordinator.tasks.lookout import Lookout
from coordinator.tasks.planning import OnTick, Planner
from coordinator.tasks.reception import Reception
from coordinator.tasks.telemetry import Housekeeper, TelemetryDesk
from sterna.clock import FakeClock
from sterna.errors import IllegalTransitionError, TransientError
from sterna.supervise import Pulse
from tests.coordinator.core.histories import NOW, SPEC, STOPS, at_work, report, sample, seen, submitted
from tests.coordinator.tasks.fakesite import until


class Outbox:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[object, ...]] = []

    def order(self, order_id: str, order: Order) -> bool:
        self.sent.append(("order", order.site_id, order.action))
        return True

    def lease(self, site_id: str, job_id: str, epoch: int, ttl_s: float | None) -> bool:
        self.sent.append(("lease", site_id, job_id, epoch, ttl_s))
        return True

    def telemetry_ack(self, site_id: str, sequence: int) -> bool:
        self.sent.append(("ack", site_id, sequence))
        return True

    def hang_up(self, site_id: str, why: str) -> None:
        self.sent.append(("hang up", site_id))


class Desk:
    """A running fleet with everything around it, on a fake clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(NOW)
        self.database = Database(file_url(folder / "coordinator.db"))
        self.bell = Bell()
        self.fleet = Fleet(FleetStore(self.database), self.bell)
        self.live = LiveBook(self.bell)
        self.outbox = Outbox()
        self.leases = LeaseBook(LeaseMargins())
        self.samples = TelemetryStore(self.database)
        self.decisions = DecisionStore(self.database)
        self.telemetry = TelemetryDesk(store=self.samples, sender=self.outbox, flush_s=0.01)
        self.acks: list[tuple[object, ...]] = []
        self.reception = Reception(
            fleet=self.fleet,
            live=self.live,
            leases=self.leases,
            telemetry=self.telemetry,
            sender=self.outbox,
            on_ack=self.take_ack,
            clock=self.clock,
        )

    async def take_ack(self, *ack: object) -> None:
        self.acks.append(ack)

    async def tell(self, *events: ev.Event) -> None:
        await self.fleet.change(lambda _: events)

    def lookout(self) -> Lookout:
        return Lookout(
            fleet=self.fleet,
            live=self.live,
            forecaster=FeedForecaster(max_age_s=600.0),
            settings=ViewSettings(default_bps=1e9, stale_s=30.0),
            clock=self.clock,
        )


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(desk.fleet.run())
        yield desk
        running.cancel()
    desk.database.close()


async def test_changes_are_made_one_after_the_other(desk: Desk) -> None:
    await desk.tell(*submitted())

    def grant_next(state: object) -> tuple[ev.Event, ...]:
        job = desk.fleet.state.jobs["j"]
        return (ev.EpochAdopted(at=NOW, job_id="j", epoch=job.epoch + 1, owner=None, lease_ttl_s=None),)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(desk.fleet.change(grant_next))
    assert desk.fleet.state.jobs["j"].epoch == 20
    assert desk.fleet.version == 21
    with pytest.raises(IllegalTransitionError):
        await desk.tell(*submitted())
    assert desk.fleet.version == 21
    assert await desk.fleet.change(lambda _: ()) == ()


async def test_a_change_outlives_whoever_asked_for_it(desk: Desk) -> None:
    asked = asyncio.get_running_loop().create_task(desk.tell(*submitted()))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await desk.tell(*seen("a"))
    assert "j" in desk.fleet.state.jobs


async def test_a_bell_that_rang_before_the_wait_is_heard() -> None:
    bell = Bell()
    with bell.listen() as ring:
        bell.ring()
        await ring.wait()
        ring.clear()
        await ring.wait(0.01)
        bell.ring()
        await ring.wait(5.0)
    bell.ring()


def test_the_live_book() -> None:
    live = LiveBook(Bell())
    live.connect("a", 1, NOW)
    early = report(JobPhase.RUNNING, reported_at=NOW)
    late = report(JobPhase.PAUSED, reported_at=NOW + timedelta(seconds=1))
    assert live.report("a", late, NOW)
    assert not live.report("a", early, NOW), "an older report changes nothing"
    live.move_request("a", MoveRequest(job_id="j", epoch=1, reason="limit"))
    assert "j" in live.sites["a"].move_requests
    assert live.report("a", replace(late, phase=JobPhase.RUNNING), NOW)
    assert live.sites["a"].move_requests == {}, "it runs again"
    live.disconnect("a", 7)
    assert live.sites["a"].connected, "it was another session that ended"
    live.disconnect("a", 1)
    assert not live.sites["a"].connected
    live.greet("a", [], NOW)
    assert live.sites["a"].reports == {}, "what a Hello does not name is not known"
    edition = live.edition
    live.sample("a", sample(age_s=5), NOW)
    live.sample("a", sample(age_s=9), NOW)
    live.sample("a", replace(sample(age_s=1), historical=True), NOW)
    kept = live.sites["a"].sample
    assert kept is not None and kept.measured_at == NOW - timedelta(seconds=5)
    assert live.edition > edition


async def test_telemetry_is_acknowledged_once_it_is_stored(desk: Desk) -> None:
    one = [replace(sample(), sequence=sequence) for sequence in (1, 2)]
    desk.reception.on_telemetry("a", one)
    assert desk.outbox.sent == []
    await desk.telemetry.flush()
    assert desk.outbox.sent == [("ack", "a", 2)]
    assert [kept.sequence for kept in await desk.samples.since("a", NOW - timedelta(hours=1))] == [1, 2]
    await desk.telemetry.flush()
    assert len(desk.outbox.sent) == 1


class FullStore(TelemetryStore):
    """A store on a full disk."""

    full = True

    async def add(self, samples: object) -> None:
        if self.full:
            raise TransientError("store: disk full")
        await super().add(samples)  # type: ignore[arg-type]


async def test_what_cannot_be_stored_waits(desk: Desk) -> None:
    store = FullStore(desk.database)
    telemetry = TelemetryDesk(store=store, sender=desk.outbox)
    telemetry.take("a", [sample()])
    await telemetry.flush()
    assert desk.outbox.sent == []
    telemetry.take("a", [replace(sample(), sequence=2)])
    store.full = False
    await telemetry.flush()
    assert desk.outbox.sent == [("ack", "a", 2)]


async def test_no_ack_covers_what_was_turned_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.tasks.telemetry.WAITING_SAMPLES_MAX", 2)
    first, second, third, fourth = (replace(sample(), sequence=number) for number in (1, 2, 3, 4))
    desk.telemetry.take("a", [first, second])
    desk.telemetry.take("a", [third])
    await desk.telemetry.flush()
    desk.telemetry.take("a", [fourth])
    await desk.telemetry.flush()
    assert desk.outbox.sent == [("ack", "a", 2)]
    desk.telemetry.begin("a")
    desk.telemetry.take("a", [third, fourth])
    await desk.telemetry.flush()
    assert desk.outbox.sent[-1] == ("ack", "a", 4)


async def test_loops_beat_and_go_on(desk: Desk) -> None:
    housekeeper = Housekeeper(
        telemetry=desk.samples, decisions=desk.decisions, samples_per_site=1, period_s=0.01
    )
    desk.telemetry.take("a", [sample(), replace(sample(), sequence=2)])
    hearts = Pulse(desk.clock)
    async with asyncio.TaskGroup() as group:
        loops = [
            group.create_task(desk.telemetry.run(hearts.heart("telemetry", 5.0))),
            group.create_task(housekeeper.run(hearts.heart("housekeeping", 5.0))),
        ]
        kept: list[SiteSample] = []
        async with asyncio.timeout(5):
            while len(kept) != 1:
                await asyncio.sleep(0.01)
                kept = list(await desk.samples.since("a", NOW - timedelta(hours=1)))
        assert kept[0].sequence == 2
        for loop in loops:
            loop.cancel()


async def test_a_lease_is_renewed_for_the_current_grant_alone(desk: Desk) -> None:
    await desk.tell(*seen("a"), *at_work(STOPS))
    desk.reception.on_renewal("b", "j", 1)
    desk.reception.on_renewal("a", "j", 2)
    desk.reception.on_renewal("a", "who", 1)
    assert desk.outbox.sent == []
    desk.reception.on_renewal("a", "j", 1)
    assert desk.outbox.sent == [("lease", "a", "j", 1, 60.0)]
    free_at_s = desk.leases.free_at_s(desk.fleet.state.jobs["j"])
    assert free_at_s is not None and free_at_s > desk.clock.boottime_s() + 60


async def test_a_hello_is_recorded_when_it_is_news(desk: Desk) -> None:
    capabilities = seen("a")[0].capabilities  # type: ignore[union-attr]
    await desk.reception.on_hello("a", capabilities, [report(JobPhase.RUNNING)])
    version = desk.fleet.version
    await desk.reception.on_hello("a", capabilities, [])
    await desk.reception.on_capabilities("a", capabilities)
    assert desk.fleet.version == version
    await desk.reception.on_capabilities("a", replace(capabilities, gpus=("gpu0",)))
    assert desk.fleet.state.sites["a"].capabilities.gpus == ("gpu0",)
    await desk.reception.on_ack("a", "o1", True, "")
    assert desk.acks == [("a", "o1", True, "")]
    desk.reception.on_move_request("a", MoveRequest(job_id="j", epoch=1, reason="limit"))
    assert desk.live.sites["a"].move_requests["j"].reason == "limit"


def forecast(until_s: float, surplus_w: float) -> SurplusForecast:
    slot = ForecastSlot(
        start_at=NOW - timedelta(seconds=60),
        end_at=NOW + timedelta(seconds=until_s),
        p10_w=surplus_w,
        p50_w=surplus_w,
        p90_w=surplus_w,
    )
    return SurplusForecast(issued_at=NOW, source="plant", slots=(slot,))


def surplus(surplus_w: float) -> SiteSample:
    return replace(sample(surplus_w), measured_at=NOW)


def planner(desk: Desk, policy: object, tick_s: float = 0.01, on_tick: Sequence[OnTick] = ()) -> Planner:
    return Planner(
        fleet=desk.fleet,
        live=desk.live,
        lookout=desk.lookout(),
        policy=policy,  # type: ignore[arg-type]
        settings=PlannerSettings(),
        grants=GrantSettings(),
        decisions=desk.decisions,
        expected_sites=("a", "b"),
        clock=desk.clock,
        settle_s=5.0,
        tick_s=tick_s,
        on_tick=on_tick,
    )


async def test_the_planner_moves_a_job_to_the_surplus(desk: Desk) -> None:
    await desk.tell(*seen("a", "b"), *at_work())
    for number, (site, surplus_w) in enumerate((("a", 0.0), ("b", 900.0)), start=1):
        desk.live.connect(site, number, NOW)
        desk.live.sample(site, surplus(surplus_w), NOW)
        desk.live.forecast(site, forecast(7200.0, surplus_w))
    acting = planner(desk, FeasibilityAwarePolicy())
    await acting.tick()
    (migration,) = desk.fleet.state.migrations.values()
    assert (migration.source_site, migration.destination_site) == ("a", "b")
    assert migration.predicted_s is not None and migration.reserved_bps
    stored = await desk.decisions.last("j")
    assert stored is not None and stored[1].target_site == "b"
    await acting.tick()
    assert len(desk.fleet.state.migrations) == 1


async def test_a_decision_is_stored_when_it_is_news(desk: Desk) -> None:
    await desk.tell(*seen("a"), *submitted(replace(SPEC, home_site="b")))
    acting = planner(desk, StaticPolicy())
    ids = set()
    for _ in range(3):
        await acting.tick()
        stored = await desk.decisions.last("j")
        assert stored is not None
        ids.add(stored[0])
    assert len(ids) == 1
    await planner(desk, StaticPolicy()).tick()  # as after a restart: the last one is read from the store
    stored = await desk.decisions.last("j")
    assert stored is not None and stored[0] in ids


async def test_nothing_is_decided_before_the_sites_are_back(desk: Desk) -> None:
    await desk.tell(*seen("a", "b"), *submitted())
    acting = planner(desk, StaticPolicy())
    desk.live.connect("a", 1, NOW)
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(acting.run(Pulse(desk.clock).heart("planner", 5.0)))
        for _ in range(10):
            await asyncio.sleep(0.005)
        assert desk.fleet.state.jobs["j"].state is JobState.QUEUED
        desk.live.connect("b", 2, NOW)
        await until(lambda: desk.fleet.state.jobs["j"].state is JobState.STARTING, "nothing is decided")
        assert desk.fleet.state.jobs["j"].owner_site == "a"
        loop.cancel()


async def test_another_limit_is_answered_at_once(desk: Desk) -> None:
    await desk.tell(*seen("a", "b"))
    ticks: list[FleetView] = []
    acting = planner(desk, StaticPolicy(), tick_s=3600.0, on_tick=[lambda view, _: ticks.append(view)])
    desk.live.connect("a", 1, NOW)
    desk.live.connect("b", 1, NOW)
    limit = ActiveLimit(source="m", command_id="c", limit_w=5.0, start_at=NOW, end_at=None, reason="")
    free = GridStatus(state=GridState.UNLIMITED, limit_w=None)
    told = [
        replace(free, limits=(limit,)),
        replace(free, limits=(replace(limit, limit_w=4.0),)),
        replace(free, coming=(limit,)),
        free,
    ]
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(acting.run(Pulse(desk.clock).heart("planner", 5000.0)))
        await until(lambda: len(ticks) == 1, "no first tick")
        desk.reception.on_grid_status("a", free)
        for number, status in enumerate(told, start=2):
            desk.reception.on_grid_status("a", status)
            await until(lambda number=number: len(ticks) == number, "the limit has to wait")  # type: ignore[misc]
            assert ticks[-1].sites["a"].limits == status.limits + status.coming
            # The same again, with times that are reckoned anew, is no news.
            later = tuple(replace(one, start_at=NOW + timedelta(seconds=0.1)) for one in status.limits)
            desk.reception.on_grid_status("a", replace(status, limits=later))
        loop.cancel()
    assert len(ticks) == 1 + len(told)


async def test_a_site_that_stays_away_holds_the_planner_up_for_a_while_only(desk: Desk) -> None:
    await desk.tell(*seen("a", "b"), *submitted())
    acting = planner(desk, StaticPolicy())
    desk.live.connect("a", 1, NOW)
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(acting.run(Pulse(desk.clock).heart("planner", 50.0)))
        await asyncio.sleep(0.005)
        desk.clock.advance(6.0)
        await until(lambda: desk.fleet.state.jobs["j"].state is JobState.STARTING, "nothing is decided")
        loop.cancel()


async def test_a_report_of_the_current_epoch_confirms_the_lease(desk: Desk) -> None:
    await desk.tell(*seen("a"), *submitted(STOPS), *at_work(STOPS)[1:2])
    job = desk.fleet.state.jobs["j"]
    desk.leases.given("j", "a", 1, 100.0)
    await desk.reception.on_report("a", JobReport(job_id="j", epoch=0, phase=JobPhase.HELD))
    assert desk.leases.free_at_s(job) is None
    await desk.reception.on_report("a", report(JobPhase.STARTING))
    assert desk.leases.free_at_s(job) is not None
