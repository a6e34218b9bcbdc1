"""Every value that goes up and every message that comes down, field by field, and what is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.forecast import ForecastSlot, PlantForecast
from agent.model.jobs import (
    Checkpoint,
    CheckpointFile,
    ContainerSpec,
    Flexibility,
    JobPhase,
    JobSpec,
    Manifest,
    OnPartition,
)
from agent.model.limits import Envelope, GridState, Limit
from agent.model.orders import (
    Fetch,
    JobReport,
    MoveRequest,
    Offer,
    OrderAck,
    OrderResult,
    Prepare,
    Release,
    Slow,
    Start,
    Stop,
)
from agent.model.readings import GpuReading, Quality, SitePower, Storage
from agent.model.telemetry import (
    DeclaredSurplus,
    FlexibilityOffer,
    FlexibilityOffers,
    GridStatus,
    ImportCost,
    SiteCapabilities,
    TelemetrySample,
)
from agent.uplink import decode, encode
from sterna.errors import PeerProtocolError
from sterna.v1 import job_pb2, site_pb2
from sterna.v1 import site_service_pb2 as pb

NOW = datetime(2026, 11, 3, 12, 30, 15, 250_000, tzinfo=UTC)
FIGURES = ("grid_w", "generation_w", "available_w", "battery_w", "compute_w", "site_load_w", "surplus_w")
maybe_watts = st.none() | st.floats(-1e9, 1e9)


def sample(**figures: float | None) -> TelemetrySample:
    power = SitePower(measured_at=NOW, quality=Quality.STALE, **dict.fromkeys(FIGURES) | figures)
    return TelemetrySample(sequence=7, power=power)


# Up


@given(st.fixed_dictionaries(dict.fromkeys(FIGURES, maybe_watts)))
def test_a_missing_figure_stays_missing_and_zero_stays_zero(figures: dict[str, float | None]) -> None:
    (message,) = encode.telemetry([sample(**figures)], historical=False).telemetry.samples
    for name, value in figures.items():
        assert message.HasField(name) == (value is not None)  # type: ignore[arg-type]
        assert value is None or getattr(message, name) == value


@pytest.mark.parametrize("historical", [False, True])
def test_samples_of_the_backlog_say_so(historical: bool) -> None:
    (message,) = encode.telemetry([sample()], historical=historical).telemetry.samples
    assert (message.historical, message.sequence) == (historical, 7)
    assert message.measured_at.ToDatetime(tzinfo=UTC) == NOW
    assert message.quality == site_pb2.QUALITY_STALE


def test_gpus_keep_their_gaps() -> None:
    gpu = GpuReading(name="gpu0", measured_at=NOW, power_w=0.0, temperature_degc=51.5)
    with_gpu = TelemetrySample(sequence=7, power=sample().power, gpus=(gpu,))
    message = encode.telemetry([with_gpu], historical=False).telemetry.samples[0].gpus[0]
    assert (message.name, message.power_w, message.temperature_degc) == ("gpu0", 0.0, 51.5)
    assert message.HasField("power_w")
    assert not message.HasField("utilization_frac") and not message.HasField("power_cap_w")
    assert not message.HasField("calibration_factor") and not message.HasField("clock_hz")


def test_what_a_gpus_watts_are_at_the_meter_is_told() -> None:
    gpu = GpuReading(name="gpu0", measured_at=NOW, power_w=17.0, clock_hz=612e6, calibration_factor=1.7)
    with_gpu = TelemetrySample(sequence=7, power=sample().power, gpus=(gpu,))
    message = encode.telemetry([with_gpu], historical=False).telemetry.samples[0].gpus[0]
    assert (message.power_w, message.calibration_factor, message.clock_hz) == (17.0, 1.7, 612e6)


def test_a_battery_keeps_its_gaps_and_a_site_without_one_says_nothing() -> None:
    storage = Storage(soc_frac=0.0, capacity_wh=1e4, reserve_wh=500.0, serves_site=True)
    stored = TelemetrySample(sequence=7, power=sample().power, storage=storage)
    messages = encode.telemetry([stored, sample()], historical=False).telemetry.samples
    assert [message.HasField("battery") for message in messages] == [True, False]
    told = {field.name: value for field, value in messages[0].battery.ListFields()}
    assert told == {"soc_frac": 0.0, "capacity_wh": 1e4, "reserve_wh": 500.0, "serves_site": True}


@pytest.mark.parametrize("quality", Quality)
def test_every_quality_has_its_word(quality: Quality) -> None:
    power = SitePower(measured_at=NOW, quality=quality, **dict.fromkeys(FIGURES))
    batch = encode.telemetry([TelemetrySample(sequence=1, power=power)], historical=False)
    assert site_pb2.Quality.Name(batch.telemetry.samples[0].quality) == f"QUALITY_{quality.value}"


@pytest.mark.parametrize("phase", JobPhase)
def test_every_phase_has_its_word(phase: JobPhase) -> None:
    report = JobReport(job_id="job-1", epoch=2, phase=phase, migration_id="", reported_at=NOW)
    assert job_pb2.JobPhase.Name(encode.job(report).job.phase) == f"JOB_PHASE_{phase.value}"


def test_a_full_job_report() -> None:
    manifest = Manifest(
        job_id="job-1",
        epoch=2,
        step=40,
        files=(CheckpointFile(path="a", size_bytes=3), CheckpointFile(path="b", size_bytes=4)),
        chunk_bytes=1024,
        chunk_hashes=(b"h" * 32,),
        sealed_at=NOW,
    )
    message = encode.job(
        JobReport(
            job_id="job-1",
            epoch=3,
            phase=JobPhase.RUNNING,
            migration_id="mig-1",
            reported_at=NOW,
            step=0,
            start_step=40,
            checkpoints=(Checkpoint(checkpoint_id="abc", manifest=manifest),),
            message="fine",
            fetched_bytes=7,
            seal_s=1.25,
            goodput_bps=8e6,
            load_s=0.5,
            pid=4711,
        )
    ).job
    assert (message.job_id, message.epoch, message.migration_id, message.pid) == ("job-1", 3, "mig-1", 4711)
    assert message.HasField("step") and message.step == 0 and message.start_step == 40
    (summary,) = message.checkpoints
    assert (summary.checkpoint_id, summary.step, summary.epoch, summary.size_bytes) == ("abc", 40, 2, 7)
    assert summary.sealed_at.ToDatetime(tzinfo=UTC) == NOW
    assert message.seal_time.ToTimedelta() == timedelta(seconds=1.25)
    assert message.load_time.ToTimedelta() == timedelta(seconds=0.5)
    assert (message.goodput_bps, message.fetched_bytes, message.message) == (8e6, 7, "fine")


def test_a_bare_job_report_leaves_gaps() -> None:
    report = JobReport(job_id="job-1", epoch=0, phase=JobPhase.RESERVED, migration_id="", reported_at=NOW)
    message = encode.job(report).job
    absent = ("step", "start_step", "seal_time", "goodput_bps", "load_time")
    assert not any(message.HasField(name) for name in absent)
    assert message.pid == 0


@pytest.mark.parametrize("state", GridState)
def test_grid_status(state: GridState) -> None:
    held = Limit(
        source="failsafe", command_id="", limit_w=0.0, start_at=NOW, end_at=None, ramp_s=0, reason="silent"
    )
    timed = Limit(
        source="mqtt:dso", command_id="c1", limit_w=4200.0, start_at=NOW, end_at=NOW, ramp_s=0, reason=""
    )
    status = GridStatus(
        measured_at=NOW,
        envelope=Envelope(state=state, limits=(held, timed), coming=(replace(timed, command_id="c2"),)),
        achievable_min_w=0.0,
        unachievable=True,
        breaches=3,
        declared=(DeclaredSurplus(start_at=NOW, end_at=NOW + timedelta(hours=1), surplus_w=0.0, source="p"),),
        exports=(replace(timed, source="modbus-wset"),),
        prices=(ImportCost(start_at=NOW, end_at=NOW + timedelta(hours=1), per_kwh=-0.05),),
        carbon=(ImportCost(start_at=NOW, end_at=NOW + timedelta(hours=2), per_kwh=400.0),),
    )
    message = encode.grid_status(status).grid_status
    assert site_pb2.GridState.Name(message.state) == f"GRID_STATE_{state.value}"
    assert message.HasField("limit_w") and message.limit_w == 0.0
    assert [limit.source for limit in message.limits] == ["failsafe", "mqtt:dso"]
    assert [limit.HasField("end_at") for limit in message.limits] == [False, True]
    assert [limit.command_id for limit in message.coming_limits] == ["c2"]
    assert message.HasField("achievable_min_w") and not message.HasField("achievable_max_w")
    assert (message.unachievable, message.breaches) == (True, 3)
    assert [(one.source, one.limit_w) for one in message.export_limits] == [("modbus-wset", 4200.0)]
    (declared,) = message.declared
    assert (declared.surplus_w, declared.source) == (0.0, "p")
    assert declared.end_at.ToDatetime(tzinfo=UTC) == NOW + timedelta(hours=1)
    assert ([one.per_kwh for one in message.prices], [one.per_kwh for one in message.carbon]) == (
        [-0.05],
        [400.0],
    )
    assert message.carbon[0].end_at.ToDatetime(tzinfo=UTC) == NOW + timedelta(hours=2)


def test_no_limit_is_absent_not_zero() -> None:
    status = GridStatus(measured_at=NOW, envelope=Envelope(state=GridState.UNLIMITED, limits=()))
    assert not encode.grid_status(status).grid_status.HasField("limit_w")


def test_forecast_hello_and_small_messages() -> None:
    slot = ForecastSlot(start_at=NOW, duration_s=900.5, surplus_p10_w=1, surplus_p50_w=2, surplus_p90_w=3)
    forecast = encode.forecast(PlantForecast(source="plant", issued_at=NOW, slots=(slot,))).forecast
    assert (forecast.source, forecast.slots[0].duration.ToTimedelta()) == ("plant", timedelta(seconds=900.5))
    assert [forecast.slots[0].surplus_p10_w, forecast.slots[0].surplus_p90_w] == [1, 3]
    capabilities = SiteCapabilities(
        slots=2,
        storage_free_bytes=9,
        idle_power_w=5,
        can_cap=True,
        container_engines=("podman",),
        container_mounts=("data",),
    )
    hello = encode.hello(
        site_id="north", agent_version="1", boot_id="b", capabilities=capabilities, jobs=()
    ).hello
    assert (hello.protocol_version, hello.capabilities.checkpoint_address) == (1, "")
    assert (hello.capabilities.slots, hello.capabilities.can_cap, hello.capabilities.can_slow) == (
        2,
        True,
        True,
    )
    ack = encode.order_ack(
        OrderAck(order_id="o", migration_id="m", job_id="j", result=OrderResult.DONE, reason="r")
    ).order_ack
    assert (ack.order_id, ack.migration_id, ack.result, ack.reason) == ("o", "m", pb.ORDER_RESULT_DONE, "r")
    renewal = encode.lease_renewal("job-1", 3).lease_renewal
    assert (renewal.job_id, renewal.epoch) == ("job-1", 3)
    move = encode.move_request(MoveRequest(job_id="job-1", epoch=3, reason="limit")).move_request
    assert (move.job_id, move.epoch, move.reason) == ("job-1", 3, "limit")


# Down


def spec(**changes: object) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(**{"name": "train", "argv": ["python", "train.py"]} | changes)  # type: ignore[arg-type]


def ordered(**action: object) -> pb.Order:
    return pb.Order(order_id="o-1", migration_id="m-1", job_id="job-1", epoch=4, **action)  # type: ignore[arg-type]


def prepare() -> pb.PrepareJob:
    message = pb.PrepareJob(spec=spec(), checkpoint_bytes=9)
    message.expires_after.FromSeconds(600)
    return message


def start(**changes: object) -> pb.StartJob:
    return pb.StartJob(**{"spec": spec()} | changes)  # type: ignore[arg-type]


def fetch(**changes: object) -> pb.FetchCheckpoint:
    return pb.FetchCheckpoint(  # type: ignore[arg-type]
        **{"checkpoint_id": "abc", "holder_site": "south", "ticket": "t"} | changes
    )


def slow(**changes: object) -> pb.SlowJob:
    message = pb.SlowJob(**{"sequence": 3, "power_w": 300.0, "reason": "dim"} | changes)  # type: ignore[arg-type]
    message.expires_after.FromSeconds(900)
    return message


def offer(**changes: object) -> pb.OfferCheckpoint:
    return pb.OfferCheckpoint(  # type: ignore[arg-type]
        **{"checkpoint_id": "abc", "receiver_site": "s", "receiver_address": "h:1", "ticket": "t"} | changes
    )


SPEC = JobSpec(name="train", argv=("python", "train.py"), may_migrate=False)


@pytest.mark.parametrize(
    ("message", "action"),
    [
        (ordered(prepare=prepare()), Prepare(spec=SPEC, checkpoint_bytes=9, expires_after_s=600.0)),
        (ordered(start=start()), Start(spec=SPEC, checkpoint_id=None, lease_ttl_s=None)),
        (ordered(start=start(checkpoint_id="abc")), Start(spec=SPEC, checkpoint_id="abc", lease_ttl_s=None)),
        (ordered(slow=slow()), Slow(sequence=3, expires_after_s=900.0, power_w=300.0, reason="dim")),
        (
            ordered(stop=pb.StopJob(reason="sun is gone", cancel=True)),
            Stop(reason="sun is gone", cancel=True),
        ),
        (
            ordered(fetch=fetch()),
            Fetch(checkpoint_id="abc", holder_site="south", holder_address=None, ticket="t", max_bps=None),
        ),
        (
            ordered(fetch=fetch(holder_address="h:1", max_bps=5.0, for_start=True)),
            Fetch(
                checkpoint_id="abc",
                holder_site="south",
                holder_address="h:1",
                ticket="t",
                max_bps=5.0,
                for_start=True,
            ),
        ),
        (
            ordered(offer=offer()),
            Offer(checkpoint_id="abc", receiver_site="s", receiver_address="h:1", ticket="t", max_bps=None),
        ),
        (ordered(release=pb.ReleaseJob(keep_checkpoints=2)), Release(keep_checkpoints=2)),
    ],
)
def test_orders(message: pb.Order, action: object) -> None:
    order = decode.down(pb.ConnectResponse(order=message))
    assert isinstance(order, decode.Order)
    assert (order.order_id, order.migration_id, order.job_id, order.epoch) == ("o-1", "m-1", "job-1", 4)
    assert order.action == action


def test_a_full_spec() -> None:
    message = spec(
        resume_argv=["python", "resume.py"],
        env={"A": "1"},
        working_dir="/srv",
        checkpoint_glob="*.npz",
        stop_signal="USR1",
        power_w=12.5,
        checkpoint_bytes=10**9,
        on_partition=job_pb2.ON_PARTITION_STOP,
        flexibility=job_pb2.FLEXIBILITY_FLEX_1,
        may_migrate=True,
        home_site="south",
        container=job_pb2.ContainerSpec(
            image="i",
            engine="podman",
            mounts={"data": "/data"},
            devices=["nvidia.com/gpu=0"],
            network="none",
            arguments=["--shm-size=1g"],
        ),
        stays=["cache/*"],
    )
    message.stop_grace.FromMilliseconds(1500)
    message.min_residence.FromSeconds(60)
    message.load_time.FromSeconds(2)
    message.declared_work.FromSeconds(0)
    order = decode.order(ordered(start=start(spec=message)))
    assert isinstance(order.action, Start)
    assert order.action.spec == JobSpec(
        name="train",
        argv=("python", "train.py"),
        resume_argv=("python", "resume.py"),
        env={"A": "1"},
        working_dir="/srv",
        checkpoint_glob="*.npz",
        stop_signal="USR1",
        stop_grace_s=1.5,
        power_w=12.5,
        checkpoint_bytes=10**9,
        on_partition=OnPartition.STOP,
        may_migrate=True,
        min_residence_s=60.0,
        home_site="south",
        load_s=2.0,
        declared_work_s=0.0,
        flexibility=Flexibility.FLEX_1,
        container=ContainerSpec(
            image="i",
            engine="podman",
            mounts={"data": "/data"},
            devices=("nvidia.com/gpu=0",),
            network="none",
            arguments=("--shm-size=1g",),
        ),
        stays=("cache/*",),
    )


def with_duration(message: pb.StartJob, seconds: int) -> pb.StartJob:
    message.lease_ttl.seconds = seconds
    return message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.Order(job_id="j", epoch=1, release=pb.ReleaseJob()), "order.order_id"),
        (pb.Order(order_id="o", epoch=1, release=pb.ReleaseJob()), "order.job_id"),
        (pb.Order(order_id="o", job_id="j", release=pb.ReleaseJob()), "order.epoch"),
        (pb.Order(order_id="o", job_id="j", epoch=1), "order.action"),
        (ordered(prepare=pb.PrepareJob(spec=spec())), "order.prepare.expires_after"),
        (ordered(prepare=pb.PrepareJob()), "order.prepare.spec"),
        (ordered(start=pb.StartJob()), "order.start.spec"),
        (ordered(start=start(spec=spec(argv=[]))), "order.start.spec.argv"),
        (ordered(start=start(spec=spec(power_w=-1.0))), "order.start.spec.power_w"),
        (ordered(start=start(spec=spec(power_w=float("inf")))), "order.start.spec.power_w"),
        (ordered(start=start(spec=spec(on_partition=9))), "order.start.spec.on_partition"),
        (ordered(start=start(spec=spec(flexibility=9))), "order.start.spec.flexibility"),
        (ordered(start=with_duration(start(), -5)), "order.start.lease_ttl"),
        (ordered(fetch=fetch(checkpoint_id="")), "order.fetch.checkpoint_id"),
        (ordered(fetch=fetch(holder_site="")), "order.fetch.holder_site"),
        (ordered(slow=slow(sequence=0)), "order.slow.sequence"),
        (ordered(slow=slow(power_w=-1.0)), "order.slow.power_w"),
        (ordered(slow=slow(power_w=float("nan"))), "order.slow.power_w"),
        (ordered(slow=pb.SlowJob(sequence=1, power_w=1.0)), "order.slow.expires_after"),
        (ordered(fetch=fetch(ticket="")), "order.fetch.ticket"),
        (ordered(fetch=fetch(max_bps=float("nan"))), "order.fetch.max_bps"),
        (ordered(offer=offer(receiver_address="")), "order.offer.receiver_address"),
        (ordered(offer=offer(receiver_site="")), "order.offer.receiver_site"),
    ],
)
def test_an_order_that_lacks_something_is_refused_by_field(message: pb.Order, field: str) -> None:
    with pytest.raises(PeerProtocolError, match=f"coordinator: {field}: "):
        decode.down(pb.ConnectResponse(order=message))


def welcome(**changes: object) -> pb.Welcome:
    message = pb.Welcome(**{"fleet": "f", "ticket_key": b"k" * 32} | changes)  # type: ignore[arg-type]
    message.sent_at.FromDatetime(NOW)
    return message


def flexibility(**changes: object) -> pb.FlexibilityOffer:
    message = pb.FlexibilityOffer(**{"offer_id": "o", "reduction_w": 100.0} | changes)  # type: ignore[arg-type]
    message.start_at.FromDatetime(NOW)
    message.duration.FromSeconds(900)
    return message


def offers(*given: pb.FlexibilityOffer) -> pb.ConnectResponse:
    message = pb.FlexibilityOffers(offers=given)
    message.issued_at.FromDatetime(NOW)
    message.expires_at.FromDatetime(NOW)
    return pb.ConnectResponse(offers=message)


def out_of_range() -> pb.Welcome:
    message = welcome()
    message.sent_at.seconds = 10**15
    return message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.ConnectResponse(), "message"),
        (pb.ConnectResponse(welcome=welcome(fleet="")), "welcome.fleet"),
        (pb.ConnectResponse(welcome=welcome(ticket_key=b"k")), "welcome.ticket_key"),
        (pb.ConnectResponse(welcome=pb.Welcome(fleet="f", ticket_key=b"k" * 32)), "welcome.sent_at"),
        (pb.ConnectResponse(welcome=out_of_range()), "welcome.sent_at"),
        (pb.ConnectResponse(lease=pb.LeaseGrant(epoch=1)), "lease.job_id"),
        (pb.ConnectResponse(lease=pb.LeaseGrant(job_id="j")), "lease.epoch"),
        (pb.ConnectResponse(offers=pb.FlexibilityOffers()), "offers.issued_at"),
        (offers(flexibility(offer_id="")), r"offers.offers\[0\].offer_id"),
        (offers(flexibility(), flexibility(reduction_w=-1.0)), r"offers.offers\[1\].reduction_w"),
        (offers(flexibility(increase_w=float("nan"))), r"offers.offers\[0\].increase_w"),
        (offers(pb.FlexibilityOffer(offer_id="o")), r"offers.offers\[0\].start_at"),
    ],
)
def test_other_messages_that_lack_something(message: pb.ConnectResponse, field: str) -> None:
    with pytest.raises(PeerProtocolError, match=f"coordinator: {field}: "):
        decode.down(message)


def test_other_messages() -> None:
    taken = decode.down(pb.ConnectResponse(welcome=welcome()))
    assert taken == decode.Welcome(fleet="f", sent_at=NOW, ticket_key=b"k" * 32)
    grant = pb.LeaseGrant(job_id="j", epoch=2)
    endless = decode.LeaseGrant(job_id="j", epoch=2, ttl_s=None)
    assert decode.down(pb.ConnectResponse(lease=grant)) == endless
    grant.ttl.FromMilliseconds(120_500)
    bounded = decode.LeaseGrant(job_id="j", epoch=2, ttl_s=120.5)
    assert decode.down(pb.ConnectResponse(lease=grant)) == bounded
    acked = decode.down(pb.ConnectResponse(telemetry_ack=pb.TelemetryAck(sequence=9)))
    assert acked == decode.TelemetryAck(sequence=9)
    one = FlexibilityOffer(offer_id="o", start_at=NOW, duration_s=900.0, reduction_w=100.0, steps_at_risk=0)
    assert decode.down(offers(flexibility(steps_at_risk=0))) == FlexibilityOffers(
        issued_at=NOW, expires_at=NOW, offers=(one,)
    )


@given(st.binary(max_size=200))
def test_any_bytes_that_parse_are_read_or_refused_never_worse(data: bytes) -> None:
    message = pb.ConnectResponse()
    try:
        message.MergeFromString(data)
    except Exception:
        return
    try:
        decode.down(message)
    except PeerProtocolError as error:
        assert str(error).startswith("coordinator: ")
