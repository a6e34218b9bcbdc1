"""A small fleet for the operator's service and command: every kind of job, site and migration once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import grpc.aio

from coordinator.model import events as ev
from coordinator.model.decision import Alternative, Decision, DecisionKind, Term
from coordinator.model.events import MigrationEvent
from coordinator.model.fleet import JobState
from coordinator.model.import_cost import CostSlot
from coordinator.model.job import Checkpoint, JobPhase, JobReport, JobSpec
from coordinator.model.live import LiveSite
from coordinator.model.offers import Direction, Offer, OfferSet
from coordinator.model.site import (
    ActiveLimit,
    Capabilities,
    DeclaredSurplus,
    GpuSample,
    GridState,
    GridStatus,
    Quality,
    SiteBattery,
    SiteSample,
)
from coordinator.service.operator_fake import FakeDesk
from coordinator.service.operator_ports import OperatorDesk, StoredDecision
from coordinator.service.operator_service import OperatorServicer
from sterna.identity import Identity, Role
from sterna.rpc import bind, make_server, open_channel
from sterna.v1.operator_service_pb2_grpc import OperatorServiceStub, add_OperatorServiceServicer_to_server
from tests.conftest import Fleet
from tests.coordinator.core import fleets
from tests.coordinator.core.fleets import NOW

RUNNING, QUEUED, MOVING, DONE, LOST, FRESH = (
    "a1f0-run",
    "a1e2-que",
    "d4c1-mov",
    "e500-don",
    "f6aa-los",
    "b7-new",
)
POLICY = "feasibility-aware"


def before(seconds: float):
    return NOW - timedelta(seconds=seconds)


def spec(name: str) -> JobSpec:
    return JobSpec(
        name=name,
        argv=("python3", "train.py", "--resume"),
        env={"SEED": "7", "EPOCHS": "3"},
        checkpoint_glob="*.npz",
        power_w=500.0,
        checkpoint_bytes=1_000_000_000,
        home_site="kiel",
        min_residence_s=60.0,
    )


def started(job_id: str, site_id: str, name: str, checkpoint: Checkpoint | None = None) -> list[ev.Event]:
    events: list[ev.Event] = [
        ev.JobSubmitted(at=before(7200), job_id=job_id, spec=spec(name)),
        ev.JobGranted(
            at=before(7100), job_id=job_id, site_id=site_id, epoch=1, checkpoint_id=None, lease_ttl_s=None
        ),
        ev.JobPhaseChanged(at=before(7000), job_id=job_id, state=JobState.RUNNING),
    ]
    if checkpoint is not None:
        events.append(
            ev.CheckpointSealed(at=before(600), job_id=job_id, site_id=site_id, checkpoints=(checkpoint,))
        )
    return events


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        checkpoint_id=f"{step:064x}", step=step, epoch=1, size_bytes=987_654_321, sealed_at=before(600)
    )


def history() -> list[ev.Event]:
    moved = "m-0001"
    return [
        *(
            ev.SiteSeen(
                at=before(9000),
                site_id=site_id,
                capabilities=Capabilities(
                    slots=2,
                    storage_free_bytes=5_000_000_000_000,
                    idle_power_w=60.0,
                    gpus=("gpu0",),
                    can_cap=True,
                    checkpoint_address=f"{site_id}.example:7401",
                ),
            )
            for site_id in ("kiel", "malaga", "miami")
        ),
        *started(RUNNING, "kiel", "bert", checkpoint(1000)),
        ev.JobSubmitted(at=before(100), job_id=QUEUED, spec=spec("queued")),
        *started(MOVING, "kiel", "moving"),
        ev.MigrationPlanned(
            at=before(50),
            migration_id=moved,
            job_id=MOVING,
            destination_site="malaga",
            reason="the surplus at kiel ends",
            predicted_s=22.5,
            reserved_bps=4e8,
        ),
        ev.MigrationAdvanced(at=before(49), migration_id=moved, event=MigrationEvent.RESERVED),
        ev.MigrationAdvanced(at=before(48), migration_id=moved, event=MigrationEvent.STOP),
        ev.MigrationSealed(at=before(40), migration_id=moved, checkpoint=checkpoint(900), seal_s=1.5),
        ev.MigrationAdvanced(at=before(39), migration_id=moved, event=MigrationEvent.FETCH),
        *started(DONE, "malaga", "done"),
        ev.JobEnded(at=before(300), job_id=DONE, state=JobState.COMPLETED, message=""),
        *started(LOST, "miami", "lost"),
        ev.JobSubmitted(at=before(20), job_id=FRESH, spec=spec("fresh")),
    ]


def sample(surplus_w: float | None) -> SiteSample:
    return SiteSample(
        measured_at=before(1),
        sequence=4711,
        quality=Quality.OK,
        grid_w=-200.0,
        generation_w=900.0,
        battery_w=0.0,
        compute_w=500.0,
        site_load_w=200.0,
        surplus_w=surplus_w,
        battery=SiteBattery(soc_frac=0.5, capacity_wh=1e4, available_wh=5e3, reserve_wh=1e3),
        gpus=(
            GpuSample(
                name="gpu0",
                power_w=430.0,
                utilization_frac=0.97,
                power_cap_w=450.0,
                calibration_factor=1.2,
                clock_hz=1.98e9,
            ),
        ),
    )


def live() -> dict[str, LiveSite]:
    limit = ActiveLimit(
        source="mqtt:dso-x",
        command_id="c-9",
        limit_w=4200.0,
        start_at=before(60),
        end_at=NOW + timedelta(seconds=540),
        reason="ALERT_GRID_EMERGENCY",
    )
    reported = JobReport(
        job_id=RUNNING, epoch=1, phase=JobPhase.RUNNING, step=1200, start_step=0, reported_at=before(1)
    )
    fetching = JobReport(
        job_id=MOVING, epoch=0, phase=JobPhase.FETCHING, migration_id="m-0001", fetched_bytes=123_456_789
    )
    return {
        "kiel": LiveSite(
            connected=True,
            session=1,
            last_seen_at=before(1),
            sample=sample(0.0),
            grid_status=GridStatus(
                state=GridState.LIMITED,
                limit_w=4200.0,
                limits=(limit,),
                coming=(replace(limit, command_id="c-later"),),
                export_limits=(replace(limit, source="modbus-wset", limit_w=3000.0),),
                achievable_min_w=100.0,
                achievable_max_w=5000.0,
                measured_at=before(1),
                declared=(
                    DeclaredSurplus(
                        start_at=before(60),
                        end_at=NOW + timedelta(seconds=3540),
                        surplus_w=5000.0,
                        source="openadr price",
                    ),
                ),
                prices=(CostSlot(start_at=before(60), end_at=NOW, per_kwh=-0.05),),
            ),
            reports={RUNNING: reported},
        ),
        "malaga": LiveSite(
            connected=True, session=2, last_seen_at=before(1), sample=sample(None), reports={MOVING: fetching}
        ),
        "miami": LiveSite(connected=False, session=1, last_seen_at=before(400)),
    }


def decision() -> StoredDecision:
    slow = Term(
        name="time", value=22.5, limit=9.0, unit="s", satisfied=False, remedy="a link above 2e+09 bit/s"
    )
    return StoredDecision(
        decision_id="d-17",
        decision=Decision(
            job_id=RUNNING,
            decided_at=before(5),
            policy=POLICY,
            kind=DecisionKind.STAY,
            source_site="kiel",
            target_site="kiel",
            reason="no move is feasible",
            alternatives=(
                Alternative(site_id="kiel", feasible=True, score=0.0, terms=(), rejections=()),
                Alternative(
                    site_id="malaga",
                    feasible=False,
                    score=-3.25,
                    terms=(slow,),
                    rejections=("time: 22.500 s, but 0.1 of the window left on arrival is 9.000 s",),
                ),
            ),
        ),
    )


def judgements() -> dict[tuple[str, str], Alternative]:
    """Fixed ones, so that what is printed of them does not hang on how the planner judges."""

    def term(name: str, value: float, limit: float | None, unit: str, remedy: str = "") -> Term:
        return Term(name=name, value=value, limit=limit, unit=unit, satisfied=not remedy, remedy=remedy)

    here = (term("surplus", 0.0, 500.0, "W", "500 W more surplus"),)
    good = (
        term("slots", 2.0, 1.0, "1"),
        term("surplus", 5000.0, 500.0, "W"),
        term("transfer", 8.0, None, "s"),
        term("window", 1188.0, 0.0, "s"),
        term("time", 12.0, 118.8, "s"),
        term("energy", 2.46, None, "Wh"),
        term("break_even", 17.7, 1188.0, "s"),
    )
    slow = "a window of more than 132 s from now or a checkpoint below 2e+08 B or a link above 4e+09 bit/s"
    bad = (
        term("link", 6e8, None, "bit/s"),
        term("window", 90.0, 0.0, "s"),
        term("time", 12.0, 9.0, "s", slow),
    )
    reasons = (
        "the site is not available",
        "time: 12.000 s, but 0.1 of the window is 9.000 s; mended by " + slow,
    )
    return {
        (RUNNING, "kiel"): Alternative(
            site_id="kiel", feasible=False, score=0.0, terms=here, rejections=("the job is there already",)
        ),
        (RUNNING, "malaga"): Alternative(
            site_id="malaga", feasible=True, score=1188.0, terms=good, rejections=()
        ),
        (RUNNING, "miami"): Alternative(
            site_id="miami", feasible=False, score=-3.0, terms=bad, rejections=reasons
        ),
    }


def view() -> fleets.FleetView:
    sites = [
        fleets.site("kiel", surplus_w=0.0, slots_held=2),
        fleets.site("malaga", surplus_w=5000.0, windows=fleets.forecast(5000.0, 5000.0), slots_held=0),
        fleets.site("miami", surplus_w=None, available=False),
    ]
    jobs = [
        fleets.job(RUNNING, "kiel", home="kiel"),
        fleets.job(QUEUED, None, home="kiel"),
        fleets.job(MOVING, "kiel"),
        fleets.job(LOST, "miami"),
        fleets.job(FRESH, None, home="kiel"),
    ]
    return fleets.fleet(sites, jobs, link_bps=1e9)


def offers() -> dict[str, OfferSet]:
    """What two sites offer; the third was never told of any."""
    down = Offer(
        offer_id="kiel-20260601T120000-down-900-1",
        direction=Direction.DOWN,
        power_w=400.0,
        start_at=NOW,
        duration_s=900.0,
        jobs=1,
        delay_s=900.0,
        steps_at_risk=70,
        shifted_wh=100.0,
    )
    move = Offer(
        offer_id="kiel-20260601T120000-down-14400-1",
        direction=Direction.DOWN,
        power_w=400.0,
        start_at=NOW,
        duration_s=14400.0,
        jobs=1,
        moves=1,
        delay_s=320.0,
        shifted_wh=35.6,
        extra_wh=9.0,
    )
    up = Offer(
        offer_id="kiel-20260601T120000-up-900-1",
        direction=Direction.UP,
        power_w=1250.0,
        start_at=NOW,
        duration_s=900.0,
        jobs=2,
        steps_at_risk=0,
        shifted_wh=312.5,
    )
    until = NOW + timedelta(seconds=300)
    return {
        "kiel": OfferSet(site_id="kiel", issued_at=NOW, expires_at=until, offers=(down, up, move)),
        "malaga": OfferSet(site_id="malaga", issued_at=NOW, expires_at=until, reason="a grid emergency"),
    }


def desk(kind: type[FakeDesk] = FakeDesk, *, now: Callable[[], datetime] = lambda: NOW) -> FakeDesk:
    return kind(
        now=now,
        view=view(),
        events=history(),
        live=live(),
        decisions={RUNNING: decision()},
        window_end_at={"malaga": NOW + timedelta(seconds=1200)},
        judgements=judgements(),
        offers=offers(),
    )


@asynccontextmanager
async def serving(
    desk: OperatorDesk, fleet: Fleet, *, watch_period_s: float = 1.0, fleet_name: str | None = None
) -> AsyncIterator[int]:
    """Serve a desk over mTLS on a free port."""
    server = make_server()
    servicer = OperatorServicer(desk=desk, fleet=fleet_name or fleet.name, watch_period_s=watch_period_s)
    add_OperatorServiceServicer_to_server(servicer, server)
    port = bind(server, "127.0.0.1:0", credentials=fleet.credentials(Role.COORDINATOR, "main"))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def calling(port: int, fleet: Fleet, role: Role, name: str) -> AsyncIterator[OperatorServiceStub]:
    """Call as somebody of a fleet."""
    async with _channel(port, fleet, role, name) as channel:
        yield OperatorServiceStub(channel)


def _channel(port: int, fleet: Fleet, role: Role, name: str) -> grpc.aio.Channel:
    return open_channel(
        f"127.0.0.1:{port}",
        credentials=fleet.credentials(role, name),
        expected=Identity(fleet=fleet.name, role=Role.COORDINATOR, name="main"),
    )
