"""The uplink against a real grpc.aio server on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest

from agent.model.forecast import ForecastSlot, PlantForecast
from agent.model.jobs import JobPhase
from agent.model.limits import Envelope, GridState
from agent.model.orders import JobReport, MoveRequest
from agent.model.readings import Quality, SitePower
from agent.model.telemetry import GridStatus
from agent.store.telemetry import MIGRATIONS, TelemetryStore
from agent.uplink.link import Uplink
from sterna.clock import SystemClock
from sterna.errors import PermanentError, TransientError
from sterna.identity import Identity
from sterna.rpc import open_channel
from sterna.supervise import Pulse
from sterna.v1 import job_pb2
from sterna.v1 import site_service_pb2 as pb
from tests.agent.store.full_disk import FullDisk
from tests.agent.uplink.standin import (
    KEY,
    NOW,
    Coordinator,
    Handler,
    lease,
    release_order,
    running,
)
from tests.waiting import until

CLOCK = SystemClock()


def power(index: int = 0) -> SitePower:
    return SitePower(
        measured_at=NOW + timedelta(seconds=index),
        quality=Quality.OK,
        grid_w=float(index),
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=None,
        site_load_w=None,
        surplus_w=None,
    )


def report(job_id: str, step: int, phase: JobPhase = JobPhase.RUNNING) -> JobReport:
    return JobReport(job_id=job_id, epoch=1, phase=phase, migration_id="", reported_at=NOW, step=step)


def grid(state: GridState = GridState.UNLIMITED, index: int = 0) -> GridStatus:
    return GridStatus(measured_at=NOW + timedelta(seconds=index), envelope=Envelope(state=state, limits=()))


class Site:
    """An uplink with its handler and store."""

    def __init__(self, uplink: Uplink, handler: Handler, store: TelemetryStore, disk: FullDisk) -> None:
        self.uplink, self.handler, self.store, self.disk = uplink, handler, store, disk


@asynccontextmanager
async def site(
    coordinator: Coordinator,
    tmp_path: Path,
    *,
    jobs: tuple[JobReport, ...] = (),
    silence_s: float = 5.0,
    handler_timeout_s: float = 5.0,
    refresh_s: float = 30.0,
) -> AsyncIterator[Site]:
    handler = Handler(jobs)
    async with FullDisk(tmp_path / "agent.db", MIGRATIONS) as database:
        store = TelemetryStore(database=database, clock=CLOCK)
        await store.open()
        uplink = Uplink(
            open_channel=lambda: open_channel(
                f"127.0.0.1:{coordinator.port}",
                credentials=None,
                expected=None,
                insecure=True,
                claim=Identity.parse("spiffe://fleet/site/north"),
            ),
            site_id="north",
            agent_version="0.1.0",
            boot_id="boot-1",
            handler=handler,
            telemetry=store,
            clock=CLOCK,
            backoff_min_s=0.05,
            backoff_max_s=0.2,
            health_timeout_s=2.0,
            welcome_timeout_s=1.0,
            silence_s=silence_s,
            telemetry_period_s=0.02,
            refresh_s=refresh_s,
            handler_timeout_s=handler_timeout_s,
        )
        pulse = Pulse(CLOCK)
        async with running(uplink.run(pulse.heart("uplink", 60)), store.run(pulse.heart("telemetry", 60))):
            yield Site(uplink, handler, store, database)


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    standin = Coordinator()
    await standin.start()
    yield standin
    await standin.stop()


async def test_a_session_says_hello_and_learns_the_fleet(coordinator: Coordinator, tmp_path: Path) -> None:
    jobs = (report("job-1", 7), report("job-2", 9, JobPhase.RELEASED))
    async with site(coordinator, tmp_path, jobs=jobs) as north:
        await until(lambda: north.uplink.connected)
        hello = coordinator.session.hello
        assert hello is not None
        assert (hello.site_id, hello.protocol_version, hello.boot_id) == ("north", 1, "boot-1")
        assert [(job.job_id, job.step) for job in hello.jobs] == [("job-1", 7), ("job-2", 9)]
        assert (hello.capabilities.slots, list(hello.capabilities.gpus)) == (2, ["gpu0"])
        assert coordinator.session.metadata["sterna-identity"] == "spiffe://fleet/site/north"
        assert north.handler.welcomes == [KEY]
        assert north.uplink.fault is None
    await until(lambda: coordinator.session.ended)


async def test_a_gpu_that_comes_late_is_told(coordinator: Coordinator, tmp_path: Path) -> None:
    async with site(coordinator, tmp_path) as north:
        north.handler.gpus = ()
        north.uplink.publish_capabilities()
        await until(lambda: north.uplink.connected)
        north.uplink.publish_capabilities()
        north.handler.gpus = ("gpu0", "gpu1")
        north.uplink.publish_capabilities()
        await until(lambda: coordinator.session.of("capabilities"))
        (told,) = coordinator.session.of("capabilities")
        assert (list(told.gpus), told.slots) == (["gpu0", "gpu1"], 2)


async def test_telemetry_flows_live_and_is_let_go_when_acknowledged(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        given = []
        for index in range(20):
            given.append(north.store.append(power(index)))
            await until(lambda: north.store.waiting == 0)
        assert list(coordinator.samples) == coordinator.arrivals == given
        assert not any(sample.historical for sample in coordinator.samples.values())


async def test_what_was_measured_without_a_coordinator_arrives_once_marked_historical(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    await coordinator.stop()
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.fault is not None)
        missed = []
        for index in range(1700):
            missed.append(north.store.append(power(index)))
            if index % 100 == 99:
                await north.store.flush()
        await coordinator.start()
        await until(lambda: north.uplink.connected)
        live = north.store.append(power(1700))
        await until(lambda: north.store.waiting == 0)
        assert sorted(coordinator.arrivals) == [*missed, live]
        assert [sequence for sequence in coordinator.arrivals if sequence != live] == missed
        marked = [sequence for sequence, sample in coordinator.samples.items() if sample.historical]
        assert marked == missed
        assert max(len(batch.samples) for batch in coordinator.session.of("telemetry")) <= 500


async def test_what_is_new_does_not_wait_for_the_backlog(coordinator: Coordinator, tmp_path: Path) -> None:
    await coordinator.stop()
    coordinator.acks = False
    async with site(coordinator, tmp_path, silence_s=1.0) as north:
        await until(lambda: north.uplink.fault is not None)
        missed = []
        for begin in range(0, 1900, 500):
            missed += [north.store.append(power(index)) for index in range(begin, min(1900, begin + 500))]
            await north.store.flush()
        await coordinator.start()
        await until(lambda: len(coordinator.sessions) > 0 and len(coordinator.session.samples()) == 1000)
        live = north.store.append(power(1900))
        await until(lambda: coordinator.session.samples()[-1].sequence == live)
        told = [(sample.sequence, sample.historical) for sample in coordinator.session.samples()]
        assert told == [*((sequence, True) for sequence in missed[:1000]), (live, False)]
        coordinator.acks = True  # the agent finds it silent, and comes again
        await until(lambda: north.store.waiting == 0)
        assert sorted(coordinator.samples) == [*missed, live]


async def test_an_ack_covers_what_was_sent_before_it(coordinator: Coordinator, tmp_path: Path) -> None:
    await coordinator.stop()
    coordinator.acks = False
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.fault is not None)
        missed = [north.store.append(power(index)) for index in range(600)]
        await coordinator.start()
        await until(lambda: len(coordinator.sessions) > 0 and len(coordinator.session.samples()) == 600)
        live = [north.store.append(power(index)) for index in (600, 601)]
        await until(lambda: coordinator.session.samples()[-1].sequence == live[-1])
        for acked, left in ((missed[499], 102), (missed[499], 102), (live[-1], 0)):
            ack = pb.TelemetryAck(sequence=acked)
            coordinator.session.down.put_nowait(pb.ConnectResponse(telemetry_ack=ack))
            await until(lambda left=left: north.store.waiting == left)  # type: ignore[misc]
        assert len(coordinator.sessions) == 1


async def test_a_disk_that_fails_ends_no_session(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.acks = False
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        north.store.append(power())
        await until(coordinator.session.samples)
        await north.store.flush()
        north.disk.full = True
        ack = pb.TelemetryAck(sequence=north.store.last_sequence)
        coordinator.session.down.put_nowait(pb.ConnectResponse(telemetry_ack=ack))
        coordinator.session.down.put_nowait(release_order("order-1"))
        await until(lambda: coordinator.session.of("order_ack"))
        assert (len(coordinator.sessions), north.uplink.connected) == (1, True)
        assert north.store.waiting == 1, "the disk could not let go of it"


async def test_a_restarted_coordinator_is_found_again_and_told_everything(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path, jobs=(report("job-1", 7),)) as north:
        north.uplink.publish_grid(grid())
        await until(lambda: coordinator.sessions and coordinator.session.of("grid_status"))
        await coordinator.stop()
        await until(lambda: not north.uplink.connected)
        north.uplink.publish_job(report("job-1", 8))
        north.uplink.publish_job(report("job-1", 9))
        north.uplink.request_move(MoveRequest(job_id="job-1", epoch=1, reason="limit"))
        await coordinator.start()
        await until(lambda: len(coordinator.sessions) == 2 and len(coordinator.session.received) >= 3)
        assert [job.step for job in coordinator.session.of("job")] == [9]
        assert [move.reason for move in coordinator.session.of("move_request")] == ["limit"]
        assert len(coordinator.session.of("grid_status")) == 1
        assert north.uplink.sessions == 2


async def test_grid_and_forecast_go_on_change_and_on_refresh(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    slot = ForecastSlot(start_at=NOW, duration_s=900, surplus_p10_w=1, surplus_p50_w=2, surplus_p90_w=3)
    async with site(coordinator, tmp_path, refresh_s=0.5) as north:
        await until(lambda: north.uplink.connected)
        for index in range(50):
            north.uplink.publish_grid(grid(index=index))
            await asyncio.sleep(0)
        north.uplink.publish_grid(grid(GridState.FAILSAFE))
        north.uplink.publish_forecast(PlantForecast(source="plant", issued_at=NOW, slots=(slot,)))
        log = coordinator.session
        await until(lambda: len(log.of("grid_status")) >= 3 and len(log.of("forecast")) >= 2)
        assert len(log.of("grid_status")) < 10
        assert log.of("grid_status")[-1].state == 4
        assert log.of("forecast")[0].slots[0].duration.seconds == 900


async def test_orders_are_answered_and_offers_handed_on(coordinator: Coordinator, tmp_path: Path) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        before_s = CLOCK.boottime_s()
        coordinator.session.down.put_nowait(release_order("order-1"))
        offers = pb.FlexibilityOffers(offers=[pb.FlexibilityOffer(offer_id="offer-1", reduction_w=100.0)])
        for at in (offers.issued_at, offers.expires_at, offers.offers[0].start_at):
            at.FromDatetime(NOW)
        offers.offers[0].duration.FromSeconds(900)
        coordinator.session.down.put_nowait(pb.ConnectResponse(offers=offers))
        await until(lambda: coordinator.session.of("order_ack") and north.handler.offers)
        (ack,) = coordinator.session.of("order_ack")
        assert (ack.order_id, ack.job_id, ack.result) == ("order-1", "job-1", pb.ORDER_RESULT_ACCEPTED)
        assert before_s <= north.handler.received_boot_s[0] <= CLOCK.boottime_s()
        assert north.handler.offers[0].offers[0].duration_s == 900


async def test_a_slow_handler_delays_neither_telemetry_nor_leases(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        north.handler.gate.clear()
        coordinator.session.down.put_nowait(release_order("order-1"))
        coordinator.session.down.put_nowait(release_order("order-2"))
        await until(lambda: north.handler.received_boot_s)
        north.uplink.renew_lease("job-1", 3)
        await until(lambda: coordinator.session.of("lease_renewal"))
        coordinator.session.down.put_nowait(lease("job-1", 3, 120))
        await until(lambda: north.handler.leases)
        for index in range(5):
            north.store.append(power(index))
            await until(lambda: north.store.waiting == 0)
        assert north.handler.orders == []
        north.handler.gate.set()
        await until(lambda: len(coordinator.session.of("order_ack")) == 2)
        assert [order.order_id for order in north.handler.orders] == ["order-1", "order-2"]
        assert len(coordinator.sessions) == 1


async def test_a_hanging_handler_is_given_up_and_the_next_order_served(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path, handler_timeout_s=0.1) as north:
        await until(lambda: north.uplink.connected)
        north.handler.gate.clear()
        coordinator.session.down.put_nowait(release_order("order-1"))
        await until(lambda: north.handler.received_boot_s)
        coordinator.session.down.put_nowait(release_order("order-2"))
        await until(lambda: len(north.handler.received_boot_s) == 2)
        north.handler.gate.set()
        await until(lambda: coordinator.session.of("order_ack"))
        assert [ack.order_id for ack in coordinator.session.of("order_ack")] == ["order-2"]


async def test_orders_of_before_a_hello_that_still_wait_are_not_done_after_it(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        north.handler.gate.clear()
        coordinator.session.down.put_nowait(release_order("order-1"))
        coordinator.session.down.put_nowait(release_order("order-2"))
        north.uplink.renew_lease("job-1", 3)
        await until(lambda: coordinator.session.of("lease_renewal"))
        coordinator.session.down.put_nowait(lease("job-1", 3, 120))  # comes after both
        await until(lambda: north.handler.leases)
        await coordinator.stop()
        await coordinator.start()
        await until(lambda: north.uplink.sessions == 2)
        coordinator.session.down.put_nowait(release_order("order-3"))
        north.handler.gate.set()
        await until(lambda: len(north.handler.orders) == 2)
        assert [order.order_id for order in north.handler.orders] == ["order-1", "order-3"]


@pytest.mark.parametrize(
    ("fails", "results"),
    [
        (PermanentError("epoch 1 is stale"), [(pb.ORDER_RESULT_REFUSED, "epoch 1 is stale")]),
        (TransientError("disk full"), []),
    ],
)
async def test_a_handler_that_fails_refuses_or_stays_silent(
    coordinator: Coordinator,
    tmp_path: Path,
    fails: PermanentError | TransientError,
    results: list[tuple[int, str]],
) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        north.handler.fails = fails
        north.uplink.renew_lease("job-1", 1)
        coordinator.session.down.put_nowait(release_order("order-1"))
        coordinator.session.down.put_nowait(lease("job-1", 1, None))
        await until(lambda: north.handler.received_boot_s)
        north.handler.fails = None
        coordinator.session.down.put_nowait(release_order("order-2"))
        await until(lambda: north.handler.orders)
        await until(lambda: len(coordinator.session.of("order_ack")) == len(results) + 1)
        acks = coordinator.session.of("order_ack")[:-1]
        assert [(ack.result, ack.reason) for ack in acks] == results


async def test_a_lease_counts_from_the_sending_of_its_renewal(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        before_s = CLOCK.boottime_s()
        north.uplink.renew_lease("job-1", 3)
        await until(lambda: coordinator.session.of("lease_renewal"))
        arrived_s = CLOCK.boottime_s()
        # The coordinator takes its time; the lease must not gain it.
        await until(lambda: CLOCK.boottime_s() > arrived_s + 0.2)
        coordinator.session.down.put_nowait(lease("job-1", 3, 120))
        await until(lambda: north.handler.leases)
        ((job_id, epoch, ttl_s, counted_from_s),) = north.handler.leases
        assert (job_id, epoch, ttl_s) == ("job-1", 3, 120.0)
        assert before_s <= counted_from_s <= arrived_s


async def test_a_lease_that_answers_nothing_gives_no_time(coordinator: Coordinator, tmp_path: Path) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        coordinator.session.down.put_nowait(lease("job-1", 3, 120))
        north.uplink.renew_lease("job-1", 4)
        await until(lambda: coordinator.session.of("lease_renewal"))
        coordinator.session.down.put_nowait(lease("job-1", 4, 60))
        await until(lambda: north.handler.leases)
        assert [entry[:3] for entry in north.handler.leases] == [("job-1", 4, 60.0)]


async def test_unusable_messages_are_refused_or_skipped_and_the_session_lives(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        down = coordinator.session.down
        down.put_nowait(pb.ConnectResponse())
        down.put_nowait(pb.ConnectResponse(order=pb.Order(order_id="no-action", job_id="job-1", epoch=1)))
        down.put_nowait(pb.ConnectResponse(order=pb.Order(job_id="no-id", epoch=1, release=pb.ReleaseJob())))
        down.put_nowait(
            pb.ConnectResponse(
                order=pb.Order(
                    order_id="bad-spec",
                    job_id="job-1",
                    epoch=1,
                    start=pb.StartJob(spec=job_pb2.JobSpec(argv=["x"], power_w=float("nan"))),
                )
            )
        )
        down.put_nowait(pb.ConnectResponse(telemetry_ack=pb.TelemetryAck(sequence=2**62)))
        down.put_nowait(pb.ConnectResponse(welcome=pb.Welcome(fleet="x", ticket_key=b"short")))
        down.put_nowait(b"\x7a\x01x")  # a kind of message from a later release
        down.put_nowait(release_order("fine"))
        await until(lambda: len(coordinator.session.of("order_ack")) == 3)
        answers = {ack.order_id: (ack.result, ack.reason) for ack in coordinator.session.of("order_ack")}
        assert answers["fine"] == (pb.ORDER_RESULT_ACCEPTED, "")
        assert answers["no-action"][0] == pb.ORDER_RESULT_REFUSED
        assert "order.action" in answers["no-action"][1]
        assert "order.start.spec.power_w" in answers["bad-spec"][1]
        assert [order.order_id for order in north.handler.orders] == ["fine"]
        sequence = north.store.append(power())
        await until(lambda: sequence in coordinator.samples)
        assert len(coordinator.sessions) == 1


async def test_bytes_that_are_no_message_end_the_session_not_the_agent(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        coordinator.session.down.put_nowait(b"\xff\xff\xff not a message")
        await until(lambda: north.uplink.sessions == 2 and north.uplink.connected)
        coordinator.session.down.put_nowait(release_order("order-1"))
        await until(lambda: north.handler.orders)


@pytest.mark.parametrize("key", [b"", b"short"])
async def test_a_welcome_without_a_usable_key_is_no_welcome(
    coordinator: Coordinator, tmp_path: Path, key: bytes
) -> None:
    coordinator.ticket_key = key
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.fault is not None)
        assert north.uplink.fault is not None and "welcome.ticket_key" in north.uplink.fault
        assert not north.uplink.connected
        coordinator.ticket_key = KEY
        await until(lambda: north.uplink.connected)


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED],
)
async def test_a_refusal_is_told_and_tried_again_later(
    coordinator: Coordinator, tmp_path: Path, code: grpc.StatusCode
) -> None:
    coordinator.refuse = code
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.fault is not None)
        assert north.uplink.fault is not None
        assert code.name in north.uplink.fault and "not today" in north.uplink.fault
        coordinator.refuse = None
        await until(lambda: north.uplink.connected)


async def test_a_coordinator_that_does_not_welcome_is_left(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.welcomes = False
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.fault is not None)
        assert north.uplink.fault == "coordinator: no welcome in time"
        coordinator.welcomes = True
        await until(lambda: north.uplink.connected)


async def test_no_hello_is_said_while_it_is_not_known_what_the_disk_has(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    async with site(coordinator, tmp_path, jobs=(report("job-1", 7),)) as north:
        await until(lambda: north.uplink.connected)
        north.handler.records_fail = TransientError("job records: the disk is full")
        await coordinator.stop()
        await coordinator.start()
        await until(lambda: north.uplink.fault == "job records: the disk is full")
        assert all(session.hello is None for session in coordinator.sessions[1:])
        north.handler.records_fail = None
        await until(lambda: north.uplink.connected)


async def test_no_stream_is_opened_before_the_service_serves(tmp_path: Path) -> None:
    standin = Coordinator()
    await standin.start(serving=False)
    async with site(standin, tmp_path) as north:
        await until(lambda: north.uplink.fault is not None)
        assert north.uplink.fault == "sterna.v1.SiteService does not serve yet"
        assert standin.sessions == []
        await standin.stop()
    await standin.stop()


async def test_a_coordinator_that_acknowledges_nothing_counts_as_gone(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    coordinator.acks = False
    async with site(coordinator, tmp_path, silence_s=0.3) as north:
        await until(lambda: north.uplink.connected)
        quiet_until_s = CLOCK.boottime_s() + 0.5
        await until(lambda: CLOCK.boottime_s() > quiet_until_s)  # owed nothing, it may be silent
        assert len(coordinator.sessions) == 1
        sequence = north.store.append(power())
        await until(lambda: north.uplink.fault == "coordinator: nothing came down for 0.3 s")
        coordinator.acks = True
        await until(lambda: sequence in coordinator.samples)
        assert coordinator.samples[sequence].historical
        await until(lambda: north.store.waiting == 0)


@pytest.mark.parametrize("skew_s", [0.0, -30.0, 3600.0])
async def test_the_coordinators_clock_is_compared(
    coordinator: Coordinator, tmp_path: Path, skew_s: float
) -> None:
    coordinator.skew_s = skew_s
    async with site(coordinator, tmp_path) as north:
        await until(lambda: north.uplink.connected)
        assert north.uplink.skew_s == pytest.approx(skew_s, abs=1.0)
