"""What a full disk and flipped bits do to the agent's store: a tmpfs filled to its last byte, real files."""

import contextlib
import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.commands import Accepted, LimitRequest, Rules
from agent.core.failsafe import FailsafeSettings
from agent.grid.desk import GridDesk
from agent.model.jobs import JobPhase
from agent.model.limits import GridState, LimitKind
from agent.model.readings import Quality, SitePower
from agent.model.records import JobRecord
from agent.store import commands, jobs, settlement, telemetry
from agent.store.ballast import Ballast
from agent.store.db import Database
from sterna.clock import FakeClock
from sterna.errors import CorruptError, TransientError
from tests.agent.store.test_settlement import ledger, record, span

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
MIGRATIONS = (
    *commands.MIGRATIONS,
    *jobs.MIGRATIONS,
    *telemetry.MIGRATIONS,
    *settlement.MIGRATIONS,
)
SAFE_W = 1500.0


def database(path: Path) -> Database:
    """As the daemon opens it."""
    return Database(path, MIGRATIONS, checks=(commands.check, jobs.check), salvaged=settlement.TABLES)


async def desk_over(db: Database, clock: FakeClock) -> GridDesk:
    desk = GridDesk(
        clock=clock,
        store=commands.CommandStore(db, boot_id="b"),
        operators=("mqtt",),
        settings=FailsafeSettings(failsafe_import_w=SAFE_W),
        rules=Rules(site="s"),
    )
    await desk.recover()
    return desk


def request(clock: FakeClock, sequence: int, value_w: float) -> LimitRequest:
    return LimitRequest(
        command_id=f"c{sequence}",
        sequence=sequence,
        kind=LimitKind.IMPORT_CAPACITY_LIMIT,
        issued_at=clock.now(),
        value_w=value_w,
        start_at=None,
        duration_s=None,
        ramp_s=0.0,
        reason="",
        expires_at=None,
        site=None,
        digest=str(sequence),
    )


def power(clock: FakeClock) -> SitePower:
    return SitePower(
        measured_at=clock.now(),
        quality=Quality.OK,
        grid_w=1.0,
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=None,
        site_load_w=None,
        surplus_w=None,
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take every block that is left."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as target:
        for size in (65536, 4096, 1):
            try:
                while True:
                    target.write(b"x" * size)
            except OSError:
                continue
    return path


async def test_a_full_disk_stops_neither_metering_nor_obeying(small_disk: Path) -> None:
    clock = FakeClock(NOW)
    async with database(small_disk / "agent.db") as db:
        desk = await desk_over(db, clock)
        samples = telemetry.TelemetryStore(database=db, clock=clock, spill_after=10)
        await samples.open()
        settled = settlement.SettlementStore(db)
        desk.alive("mqtt")
        assert isinstance(await desk.request("mqtt", request(clock, 1, 900.0)), Accepted)
        filler = fill(small_disk)
        # What is asked is obeyed and remembered, what is settled is kept; telemetry waits in memory.
        for sequence in range(2, 40):
            clock.advance(1.0)
            assert isinstance(
                await desk.request("mqtt", request(clock, sequence, 800.0 + sequence)), Accepted
            )
            assert samples.append(power(clock)) is not None
            await settled.keep([record(sequence)], ledger(), "b")
        await samples.flush()
        assert samples.waiting == 38
        binding = desk.envelope().binding
        assert binding is not None
        assert binding.limit_w == 839.0
        filler.unlink()
        for _ in range(60):  # room is looked for now and then
            await samples.flush()
            if (small_disk / "agent.db.reserve").exists():
                break
        assert len(await samples.unsent(100)) == 38
        assert (small_disk / "agent.db.reserve").exists()
    async with database(small_disk / "agent.db") as db:
        again = await desk_over(db, clock)
        assert again.last_sequence("mqtt") == 39
        assert len(await settlement.SettlementStore(db).records(*span(0, 99))) == 38


async def test_an_agent_starts_on_a_full_disk(small_disk: Path) -> None:
    clock = FakeClock(NOW)
    async with database(small_disk / "agent.db") as db:
        desk = await desk_over(db, clock)
        desk.alive("mqtt")
        await desk.request("mqtt", request(clock, 1, 900.0))
    fill(small_disk)
    async with database(small_disk / "agent.db") as db:
        desk = await desk_over(db, clock)
        assert desk.last_sequence("mqtt") == 1
        assert isinstance(await desk.request("mqtt", request(clock, 2, 800.0)), Accepted)


async def test_with_nothing_left_at_all_it_is_said(small_disk: Path) -> None:
    clock = FakeClock(NOW)
    async with database(small_disk / "agent.db") as db:
        settled = settlement.SettlementStore(db)
        fill(small_disk)
        (small_disk / "agent.db.reserve").unlink()
        fill(small_disk)
        with pytest.raises(TransientError):
            for number in range(20_000):
                await settled.keep([record(100 * number + n) for n in range(100)], ledger(), "b")
        kept = await settled.records(NOW - timedelta(days=1), NOW + timedelta(days=36_500))
        assert len(kept) % 100 == 0, "all or nothing"
        desk = await desk_over(db, clock)
        binding = desk.envelope().binding
        assert binding is not None
        assert binding.limit_w == SAFE_W


def test_ballast(small_disk: Path) -> None:
    ballast = Ballast(small_disk / "reserve", size_bytes=2**20)
    assert ballast.take()
    assert ballast.take()
    assert (small_disk / "reserve").stat().st_blocks * 512 >= 2**20
    assert ballast.release()
    assert not ballast.release()
    fill(small_disk)
    assert not ballast.take()
    assert not (small_disk / "reserve").exists()
    assert not Ballast(small_disk / "absent" / "reserve").take()


async def _filled(path: Path) -> bytes:
    clock = FakeClock(NOW)
    async with database(path) as db:
        desk = await desk_over(db, clock)
        desk.alive("mqtt")
        for sequence in range(1, 6):
            await desk.request("mqtt", request(clock, sequence, 900.0 + sequence))
        kept = jobs.JobRecords(db)
        for number in range(5):
            await kept.save(JobRecord(job_id=f"j{number}", phase=JobPhase.RELEASED))
        await settlement.SettlementStore(db).keep([record(n) for n in range(20)], ledger(), "b")
    return path.read_bytes()


async def _start(path: Path) -> tuple[bool, GridDesk, int]:
    """Open everything as the daemon does; return whether the file was put aside, the desk, and records."""
    clock = FakeClock(NOW)
    async with database(path) as db:
        desk = await desk_over(db, clock)
        await commands.CommandStore(db, boot_id="b").pending_acks("mqtt", 100)
        await jobs.JobRecords(db).load()
        samples = telemetry.TelemetryStore(database=db, clock=clock)
        await samples.open()
        kept = settlement.SettlementStore(db)
        with contextlib.suppress(CorruptError):  # the settlement begins its open interval anew
            await kept.recover()
        await kept.intervals(*span(0, 99))
        return db.quarantined is not None, desk, len(await kept.records(*span(0, 99)))


@pytest.mark.parametrize("flips", [40, pytest.param(2000, marks=pytest.mark.long)])
async def test_flipped_bits_never_keep_the_agent_from_starting(tmp_path: Path, flips: int) -> None:
    """One bit anywhere: the file is read, or put aside for a fresh one that holds the fail-safe limit."""
    body = await _filled(tmp_path / "agent.db")
    rng, aside = random.Random(7), 0
    folder = tmp_path / "flipped"
    folder.mkdir()
    for _ in range(flips):
        path = folder / "agent.db"
        damaged = bytearray(body)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        quarantined, desk, _ = await _start(path)
        if quarantined:
            aside += 1
            assert desk.last_sequence("mqtt") is None
            assert desk.machines["mqtt"].state is GridState.INIT
            binding = desk.envelope().binding
            assert binding is not None
            assert (binding.limit_w, binding.source) == (SAFE_W, "failsafe")
        for file in folder.iterdir():
            file.unlink()
    assert aside > 0


@pytest.mark.parametrize("where", [b'"job_id":"j3"', b"IMPORT_CAPACITY_LIMIT", b"2026-03-30T12"])
async def test_the_settlement_is_carried_over_from_a_corrupt_store(tmp_path: Path, where: bytes) -> None:
    path = tmp_path / "agent.db"
    body = await _filled(path)
    path.write_bytes(body.replace(where, b"\x07" * len(where)))
    quarantined, desk, records = await _start(path)
    assert quarantined
    assert desk.last_sequence("mqtt") is None
    # Four records were in the hour that is unreadable: left out, not believed.
    assert records == (16 if where == b"2026-03-30T12" else 20)
    assert (tmp_path / "agent.db.corrupt-1").exists()


async def test_a_record_whose_bits_were_flipped_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    body = await _filled(path)
    assert body.count(b'"energy_wh":100.0') >= 20
    path.write_bytes(body.replace(b'"energy_wh":100.0', b'"energy_wh":900.0', 1))
    assert (await _start(path))[2] == 19
