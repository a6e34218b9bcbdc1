"""Booking: from stored telemetry and the fleet's own events to what each job drew, slot by slot."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from coordinator.core import audit
from coordinator.core.chain import Kind
from coordinator.core.fleet import fold
from coordinator.model import events as ev
from coordinator.model.events import Event, MigrationEvent
from coordinator.model.fleet import FleetState, JobState
from coordinator.model.job import Checkpoint, JobSpec
from coordinator.model.site import Quality, SiteSample
from coordinator.store import schema
from coordinator.store.database import Database, file_url
from coordinator.store.energy_store import EnergyStore
from coordinator.store.fleet_store import FleetStore
from coordinator.store.history import TelemetryStore
from coordinator.store.records import Recorder
from coordinator.tasks.accounting import Accountant
from coordinator.tasks.bell import Bell
from coordinator.tasks.fleet import Fleet
from sterna import pki
from sterna.clock import FakeClock
from sterna.signing import SigningKey, Verify, load_signing_key, load_verifier
from sterna.supervise import Heart, Pulse

START = datetime(2030, 6, 1, 12, tzinfo=UTC)
SLOT_S = 600.0
STEP_S = 5.0


def at(offset_s: float) -> datetime:
    return START + timedelta(seconds=offset_s)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningKey, Verify]:
    private, public = pki.make_signing_key(tmp_path_factory.mktemp("keys"), "ledger-key")
    return load_signing_key(private), load_verifier(public)


class Books:
    """A coordinator's store and its accountant, on a clock that is told."""

    def __init__(self, folder: Path, key: SigningKey | None, clock: FakeClock) -> None:
        self.clock = clock
        self.database = Database(file_url(folder / "coordinator.db"))
        self.store = FleetStore(self.database)
        self.telemetry = TelemetryStore(self.database)
        self.energy = EnergyStore(self.database, slot_s=SLOT_S)
        self.fleet = Fleet(self.store, Bell())
        self.recorder = (
            Recorder(database=self.database, key=key, fleet="tern", clock=clock) if key is not None else None
        )
        self.accountant = Accountant(
            fleet=self.fleet,
            energy=self.energy,
            recorder=self.recorder,
            head_file=folder / "ledger-head.json",
            carbon_g_per_kwh={"miami": 400.0, "nome": None},
            grid_renewable_frac=0.0,
            hold_s=10.0,
            clock=clock,
            period_s=10.0,
        )
        self.state = self.store.load()
        self.sequence = 0

    async def happen(self, *events: Event) -> None:
        after = fold(events, self.state)
        await self.store.append(events, self.state, after)
        self.state = after

    async def metered(
        self,
        site: str,
        start_s: float,
        end_s: float,
        *,
        surplus_w: float | None = 0.0,
        compute_w: float | None = 1000.0,
        quality: Quality = Quality.OK,
    ) -> None:
        count = round((end_s - start_s) / STEP_S)
        samples = [
            SiteSample(
                measured_at=at(start_s + STEP_S * number),
                sequence=self.sequence + number + 1,
                quality=quality,
                surplus_w=surplus_w,
                compute_w=compute_w,
            )
            for number in range(count)
        ]
        self.sequence += count
        await self.telemetry.add({site: samples})

    async def booked_at(self, offset_s: float) -> None:
        self.clock.advance((at(offset_s) - self.clock.now()).total_seconds())
        await self.accountant.round(heart())

    async def rows(self, **only: Any) -> dict[tuple[str, str], Any]:
        wanted = {"site_id": "", "job_id": "", "since": None, "until": None, **only}
        return {(row.site_id, row.job_id): row.entry for row in await self.energy.rows(**wanted)}

    async def exported(self, verify: Verify) -> tuple[audit.Report, list[dict[str, Any]]]:
        assert self.recorder is not None
        export = await self.recorder.export(None, None)
        lines = await self.recorder.page(export, export.first)
        whole = b"".join(lines) + self.recorder.seal(export)
        return audit.audit(audit.read_lines([whole]), verify), [json.loads(line)["record"] for line in lines]


def heart() -> Heart:
    return Pulse(FakeClock(START)).heart("ledger", 10.0)


@contextmanager
def books(folder: Path, key: SigningKey | None = None, clock: FakeClock | None = None) -> Iterator[Books]:
    made = Books(folder, key, clock or FakeClock(START))
    try:
        yield made
    finally:
        made.database.close()


@pytest.fixture
async def open_books(tmp_path: Path, keys: tuple[SigningKey, Verify]) -> AsyncIterator[Books]:
    with books(tmp_path, keys[0]) as made:
        # The first round says from when on the ledger is kept.
        await made.booked_at(30.0)
        yield made


def started(job_id: str, site_id: str, offset_s: float, power_w: float = 500.0) -> list[Event]:
    spec = JobSpec(name=job_id, argv=("train",), power_w=power_w)
    return [
        ev.JobSubmitted(at=at(offset_s), job_id=job_id, spec=spec),
        ev.JobGranted(
            at=at(offset_s), job_id=job_id, site_id=site_id, epoch=1, checkpoint_id=None, lease_ttl_s=None
        ),
        ev.JobPhaseChanged(at=at(offset_s), job_id=job_id, state=JobState.RUNNING),
    ]


CHECKPOINT = Checkpoint(checkpoint_id="c", step=1, epoch=1, size_bytes=1, sealed_at=START)


def moved(job_id: str) -> list[Event]:
    """Return a move from miami to nome: sealed at 300 s, committed at 400 s."""

    def advanced(offset_s: float, event: MigrationEvent) -> Event:
        return ev.MigrationAdvanced(at=at(offset_s), migration_id="m", event=event)

    return [
        ev.MigrationPlanned(
            at=at(200), migration_id="m", job_id=job_id, destination_site="nome", reason="r",
            predicted_s=None, reserved_bps=None,
        ),
        advanced(210, MigrationEvent.RESERVED),
        advanced(220, MigrationEvent.STOP),
        ev.MigrationSealed(at=at(300), migration_id="m", checkpoint=CHECKPOINT, seal_s=None),
        advanced(310, MigrationEvent.FETCH),
        advanced(390, MigrationEvent.VERIFY),
        ev.MigrationCommitted(at=at(400), migration_id="m", epoch=2, lease_ttl_s=None),
        ev.JobPhaseChanged(at=at(410), job_id=job_id, state=JobState.RUNNING),
    ]  # fmt: skip


async def test_a_job_that_moves_draws_where_it_is(open_books: Books) -> None:
    home = open_books
    await home.happen(*started("a", "miami", 0.0))
    for event in moved("a"):
        await home.happen(event)
    await home.metered("miami", 0, 600, surplus_w=600.0)
    await home.metered("nome", 0, 600, surplus_w=None)
    await home.booked_at(629.0)
    assert await home.rows() == {}  # not yet: the last samples of the slot may be on their way
    await home.booked_at(631.0)
    got = await home.rows()
    assert set(got) == {("miami", "a"), ("miami", ""), ("nome", "a"), ("nome", "")}
    here, there = got["miami", "a"], got["nome", "a"]
    assert (here.renewable_wh, here.nonrenewable_wh) == pytest.approx((600 * 300 / 3600, 400 * 300 / 3600))
    assert here.known_carbon_g == pytest.approx(400 * 300 / 3600 * 0.4)
    assert there.unattributed_wh == pytest.approx(1000 * 200 / 3600)
    assert there.known_carbon_g is None
    assert got["miami", ""].drawn_wh == pytest.approx(1000 * 300 / 3600)
    assert await home.energy.span() == (START, at(600))
    assert await home.rows(site_id="nome", job_id="a") == {("nome", "a"): there}
    assert await home.rows(since=at(600)) == {}
    assert await home.rows(until=START) == {}
    assert len(await home.rows(since=at(599), until=at(601))) == 4


async def test_paused_ended_and_requeued_jobs_draw_nowhere(open_books: Books) -> None:
    home = open_books
    await home.happen(*started("a", "miami", 0.0, power_w=300.0), *started("b", "miami", 0.0, power_w=100.0))
    await home.happen(ev.JobPhaseChanged(at=at(100), job_id="a", state=JobState.PAUSED))
    await home.happen(ev.JobPhaseChanged(at=at(200), job_id="a", state=JobState.RUNNING))
    await home.happen(ev.JobEnded(at=at(300), job_id="a", state=JobState.COMPLETED, message=""))
    await home.metered("miami", 0, 600)
    await home.booked_at(631.0)
    got = await home.rows(site_id="miami")
    share_wh = 1000 / 3600
    assert got["miami", "a"].drawn_wh == pytest.approx(0.75 * 200 * share_wh)
    assert got["miami", "b"].drawn_wh == pytest.approx((0.25 * 200 + 100 + 300) * share_wh)
    assert ("miami", "") not in got


async def test_silence_is_unmetered_and_what_comes_late_is_booked_then(
    open_books: Books, keys: tuple[SigningKey, Verify]
) -> None:
    home = open_books
    await home.happen(*started("a", "miami", 0.0))
    await home.metered("miami", 0, 300)
    await home.booked_at(631.0)
    first = (await home.rows())["miami", "a"]
    # The last sample holds for ten seconds; nome never said anything.
    assert (first.drawn_wh, first.unmetered_s) == pytest.approx((1000 * 305 / 3600, 295.0))
    assert (await home.rows())["nome", ""].unmetered_s == 600.0
    await home.metered("miami", 300, 600, quality=Quality.ESTIMATED)
    await home.booked_at(700.0)
    second = (await home.rows())["miami", "a"]
    assert (second.drawn_wh, second.unmetered_s) == pytest.approx((1000 * 600 / 3600, 0.0))
    assert second.estimated_wh == pytest.approx(1000 * 300 / 3600)
    report, records = await home.exported(keys[1])
    assert report.fault == ""
    assert [one["body"]["site"] for one in records] == ["miami", "nome", "miami"]
    entry = records[-1]["body"]["entries"][0]
    assert entry["job"] == "a"
    assert entry["nonrenewable_wh"] == pytest.approx(second.nonrenewable_wh, abs=1e-6)


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.BAD])
async def test_a_reading_that_nobody_may_trust_meters_nothing(open_books: Books, quality: Quality) -> None:
    home = open_books
    await home.metered("miami", 0, 600, quality=quality)
    await home.booked_at(631.0)
    assert (await home.rows())["miami", ""].unmetered_s == 600.0


@pytest.mark.parametrize("watts", [float("inf"), -float("inf"), 1e300])
async def test_a_draw_that_cannot_be_is_unknown(open_books: Books, watts: float) -> None:
    home = open_books
    await home.metered("miami", 0, 600, compute_w=watts)
    await home.metered("nome", 0, 600, surplus_w=watts)
    await home.booked_at(631.0)
    got = await home.rows()
    assert got["miami", ""].unmetered_s == 600.0
    assert got["nome", ""].unattributed_wh == pytest.approx(1000 / 6)


async def test_what_was_booked_stays_when_its_telemetry_was_trimmed(open_books: Books) -> None:
    home = open_books
    await home.metered("miami", 0, 600)
    await home.booked_at(631.0)
    before = await home.rows()
    await home.database.run(lambda c: c.execute(delete(schema.telemetry)))
    # One late sample of a slot whose others are gone.
    await home.metered("miami", 100, 105, surplus_w=9e9)
    await home.booked_at(700.0)
    assert await home.rows() == before


async def test_without_a_key_it_is_booked_all_the_same(tmp_path: Path) -> None:
    with books(tmp_path) as home:
        await home.booked_at(30.0)
        await home.metered("miami", 0, 600)
        await home.booked_at(631.0)
        assert (await home.rows())["miami", ""].nonrenewable_wh == pytest.approx(1000 / 6)
        assert not (tmp_path / "ledger-head.json").exists()


async def test_a_restart_goes_on_and_books_what_was_missed(
    tmp_path: Path, keys: tuple[SigningKey, Verify]
) -> None:
    clock = FakeClock(START)
    with books(tmp_path, keys[0], clock) as home:
        await home.booked_at(30.0)
        await home.metered("miami", 0, 600)
        await home.booked_at(631.0)
    with books(tmp_path, keys[0], clock) as home:
        home.sequence = 500
        await home.accountant._begin()
        await home.metered("miami", 600, 2400)
        await home.booked_at(2431.0)
        assert (await home.rows())["miami", ""].nonrenewable_wh == pytest.approx(4 * 1000 / 6)
        report, records = await home.exported(keys[1])
        assert (report.fault, len(records)) == ("", 8)
        assert Kind.RESTORED.value not in {one["kind"] for one in records}


async def test_a_store_that_came_back_older_says_so_in_the_chain(
    tmp_path: Path, keys: tuple[SigningKey, Verify], caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(START)
    with books(tmp_path, keys[0], clock) as home:
        await home.booked_at(30.0)
        await home.booked_at(631.0)
        older, _ = await home.exported(keys[1])
        await home.booked_at(1231.0)
        kept, _ = await home.exported(keys[1])
        # The copy: the chain ends where it ended then.
        table = schema.records
        await home.database.run(lambda c: c.execute(delete(table).where(table.c.seq > older.last)))
    with books(tmp_path, keys[0], clock) as home:
        await home.accountant._begin()
        await home.booked_at(1900.0)
        forked, records = await home.exported(keys[1])
    assert "older than what was signed" in caplog.text
    told = [one["body"] for one in records if one["kind"] == Kind.RESTORED.value]
    assert told == [{"had_hash": kept.last_hash, "had_seq": kept.last}]
    assert forked.fault == audit.fork(older, forked) == ""
    assert audit.fork(kept, forked).startswith(f"record {older.records}: is not what it was")


async def test_jobs_that_ran_before_there_was_a_ledger_are_adopted(tmp_path: Path) -> None:
    with books(tmp_path) as home:
        await home.happen(*started("a", "miami", 0.0))
        await home.database.run(lambda c: c.execute(delete(schema.stays)))
    with books(tmp_path) as home:
        for _ in range(2):
            await home.accountant._begin()
        query = select(schema.stays.c.job_id, schema.stays.c.site_id)
        assert await home.database.run(lambda c: c.execute(query).all()) == [("a", "miami")]


async def test_stays_follow_the_fleet_and_only_the_fleet(open_books: Books) -> None:
    home = open_books
    await home.happen(*started("a", "miami", 0.0))
    for event in moved("a"):
        await home.happen(event)
    table = schema.stays
    query = select(table.c.site_id, table.c.start_at, table.c.end_at).order_by(table.c.seq)
    found = await home.database.run(lambda c: c.execute(query).all())
    spans = [
        (site, *((one.replace(tzinfo=UTC) - START).total_seconds() if one else None for one in (first, last)))
        for site, first, last in found
    ]
    assert spans == [("miami", 0.0, 300.0), ("nome", 400.0, None)]
    assert FleetState() != home.state == home.store.refold()


async def test_a_note_that_is_torn_is_no_fork(tmp_path: Path, keys: tuple[SigningKey, Verify]) -> None:
    (tmp_path / "ledger-head.json").write_text('{"hash"')
    with books(tmp_path, keys[0]) as home:
        await home.accountant._begin()
        assert home.recorder is not None
        assert home.recorder.mark is None
