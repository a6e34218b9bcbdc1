"""The settlement on a real store: days of records, an event, restarts, a disk that takes nothing, reports."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.baselines import HIGH_4_OF_5, MATCH_DAY, SAME_DAY, TEN_OF_TEN, Calendar
from agent.core.breach import BreachTally, Judgement
from agent.core.settlement_events import WORKLOAD
from agent.grid.measured import FakeMeasurements
from agent.model.figures import Figure, Quantity
from agent.model.limits import Envelope, GridState, Limit
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower
from agent.model.settlement import Compliance, Energy, EnergyMethod, SettlementRecord
from agent.store import settlement as settlement_store
from agent.store.db import Database
from agent.store.settlement import SettlementStore, read
from agent.tasks.settlement import RETRY_S, Settlement
from agent.tasks.settlement_figures import SettledFigures
from sterna.clock import FakeClock
from sterna.errors import TransientError
from tests.agent.store.full_disk import FullDisk

# A Wednesday.
DAY = datetime(2026, 3, 18, tzinfo=UTC)
LENGTH_S = 900.0
STEP_S = 30.0


@dataclass(kw_only=True)
class Site:
    """A site that draws what it is told, and its settlement, restarted at will."""

    path: Path
    clock: FakeClock = field(default_factory=lambda: FakeClock(DAY))
    draw_w: float = 1000.0
    limit: Limit | None = None
    tally: BreachTally = field(default_factory=BreachTally)
    counterfactual_w: float | None = 1000.0
    count_wh: float = 5000.0
    silent: bool = False

    def make(self, database: Database, boot_id: str = "boot") -> Settlement:
        return Settlement(
            store=SettlementStore(database),
            clock=self.clock,
            boot_id=boot_id,
            length_s=LENGTH_S,
            roles={"grid": MeterRole.GRID},
            readings=self.readings,
            envelope=lambda: Envelope(
                state=GridState.LIMITED, limits=() if self.limit is None else (self.limit,)
            ),
            tally=lambda: self.tally,
            counterfactual_w=lambda: self.counterfactual_w,
            max_power_w=1e5,
            max_gap_s=2 * STEP_S,
            rules=(TEN_OF_TEN, HIGH_4_OF_5, SAME_DAY, MATCH_DAY),
            calendar=Calendar(zone=UTC),
        )

    def readings(self) -> tuple[MeterReading, ...]:
        if self.silent:
            return ()
        return (
            MeterReading(
                meter="grid",
                role=MeterRole.GRID,
                measured_at=self.clock.now(),
                measured_boottime_s=self.clock.boottime_s(),
                quality=Quality.OK,
                active_power_w=self.draw_w,
                energy_import_wh=self.count_wh,
            ),
        )

    def balance(self) -> SitePower:
        return SitePower(
            measured_at=self.clock.now(),
            quality=Quality.OK,
            grid_w=self.draw_w,
            generation_w=None,
            available_w=None,
            battery_w=None,
            compute_w=200.0,
            site_load_w=None,
            surplus_w=None,
        )

    def pass_time(self, duration_s: float) -> None:
        self.clock.advance(duration_s)
        self.count_wh += self.draw_w * duration_s / 3600

    async def live(self, settlement: Settlement, until_at: datetime) -> None:
        while self.clock.now() < until_at:
            self.pass_time(STEP_S)
            settlement.take(self.balance())
            if await settlement.step():
                await settlement.settle()

    def bind(self, limit_w: float | None, command_id: str = "c1") -> None:
        judgement = Judgement.NO_LIMIT if limit_w is None else Judgement.KEPT
        self.tally = BreachTally(judgement=judgement, bound_w=limit_w)
        self.limit = (
            None
            if limit_w is None
            else Limit(
                source="mqtt",
                command_id=command_id,
                limit_w=limit_w,
                start_at=self.clock.now(),
                end_at=None,
                ramp_s=0.0,
                reason="",
            )
        )


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[FullDisk]:
    async with FullDisk(tmp_path / "agent.db", settlement_store.MIGRATIONS) as db:
        yield db


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(path=tmp_path / "agent.db")


async def remember(store: SettlementStore, days: int, watts: Callable[[datetime], float]) -> None:
    """Fill the store with the records of the days before."""
    starts = [DAY - timedelta(seconds=LENGTH_S * n) for n in range(int(days * 86400 / LENGTH_S), 0, -1)]
    past = [
        SettlementRecord(
            start_at=start_at,
            length_s=LENGTH_S,
            grid_import=Energy(energy_wh=watts(start_at) / 4, method=EnergyMethod.COUNTED, known_s=LENGTH_S),
            grid_export=Energy(energy_wh=0.0, method=EnergyMethod.COUNTED, known_s=LENGTH_S),
            quality=Quality.OK,
            closed_at=start_at + timedelta(seconds=LENGTH_S),
        )
        for start_at in starts
    ]
    await store.keep(past, settlement_ledger(), "boot")


def settlement_ledger():
    from agent.core.settlement import opened

    return opened(LENGTH_S, DAY)


async def test_an_event_is_settled_by_every_method(site: Site, database: FullDisk) -> None:
    store = SettlementStore(database)
    await remember(store, 20, lambda at: 1000.0)
    settlement = site.make(database)
    await settlement.open()
    await site.live(settlement, DAY + timedelta(hours=10))
    site.bind(400.0)
    site.draw_w = 400.0
    await site.live(settlement, DAY + timedelta(hours=11))
    site.bind(None)
    site.draw_w = 1000.0
    await site.live(settlement, DAY + timedelta(hours=11, minutes=20))
    records, lines = read(site.path, DAY + timedelta(hours=10), DAY + timedelta(hours=11))
    assert [record.compliance for record in records] == [Compliance.KEPT] * 4
    assert {record.limits[0].command_id for record in records} == {"c1"}
    assert records[0].compute is not None
    assert records[0].compute.energy_wh == pytest.approx(50.0, abs=0.5)
    early = {line.method for line in lines}
    assert early == {"10-of-10", "high-4-of-5", WORKLOAD}, "the others wait for the hours after it"
    await site.live(settlement, DAY + timedelta(hours=24, minutes=20))
    _, lines = read(site.path, DAY, DAY + timedelta(days=1))
    assert {line.method for line in lines} == {*early, "same-day-3+2", "match-day"}
    assert len(lines) == 20
    for line in lines:
        assert line.event_id == "c1"
        # The edges of the event lie within a step of the clock.
        assert line.baseline_w == pytest.approx(1000.0, abs=5.0), line.method
        assert line.delivered_wh == pytest.approx(150.0, abs=7.0), line.method
    assert await settlement.settle() == 0, "what is settled is settled"


async def test_a_restart_within_an_interval_loses_nothing(site: Site, database: FullDisk) -> None:
    first = site.make(database)
    await first.open()
    await site.live(first, DAY + timedelta(minutes=20))
    # Killed: nothing is flushed; ten minutes later, after a boot, it goes on.
    site.pass_time(600.0)
    second = site.make(database, boot_id="another boot")
    await second.open()
    await site.live(second, DAY + timedelta(hours=1, minutes=1))
    records, _ = read(site.path, DAY, DAY + timedelta(hours=1))
    assert [record.start_at.minute for record in records] == [0, 15, 30, 45]
    energies = [record.grid_import.energy_wh for record in records[1:]]
    assert energies == pytest.approx([250.0] * 3, abs=1.0)
    assert [record.grid_import.method for record in records[1:]] == [
        EnergyMethod.ESTIMATED,
        EnergyMethod.ESTIMATED,
        EnergyMethod.COUNTED,
    ], "the gap lies over the end of an interval"


async def test_a_long_absence_has_a_record_for_each_interval(site: Site, database: FullDisk) -> None:
    settlement = site.make(database)
    await settlement.open()
    await site.live(settlement, DAY + timedelta(minutes=20))
    await settlement.flush()
    site.pass_time(86400.0)
    site.silent = True
    again = site.make(database)
    await again.open()
    await site.live(again, DAY + timedelta(days=1, minutes=40))
    records, _ = read(site.path, DAY, DAY + timedelta(days=3))
    starts = [record.start_at for record in records]
    assert starts == [DAY + timedelta(seconds=LENGTH_S * n) for n in range(len(starts))]
    assert len(starts) >= 97
    assert {record.quality for record in records[2:]} == {Quality.BAD}
    assert {record.grid_import.energy_wh for record in records[2:]} == {None}


async def test_a_full_disk_delays_records_and_loses_none(site: Site, database: FullDisk) -> None:
    settlement = site.make(database)
    await settlement.open()
    await site.live(settlement, DAY + timedelta(minutes=1))
    database.full = True
    refused = 0
    while site.clock.now() < DAY + timedelta(hours=2):
        site.pass_time(STEP_S)
        settlement.take(site.balance())
        try:
            await settlement.step()
        except TransientError:
            refused += 1
    assert refused > 0
    assert settlement.pending == 8
    await settlement.flush()
    database.full = False
    await site.live(settlement, DAY + timedelta(hours=2, minutes=1))
    assert settlement.pending == 0
    records, _ = read(site.path, DAY, DAY + timedelta(hours=2))
    assert len(records) == 8
    assert [record.grid_import.energy_wh for record in records[1:]] == pytest.approx([250.0] * 7, abs=1.0)
    assert RETRY_S < LENGTH_S


async def test_a_ledger_that_is_lost_begins_anew(site: Site, database: FullDisk) -> None:
    await database.run(
        lambda c: c.execute("INSERT INTO settlement_ledger VALUES (1, 'b', ?)", (b"{",)).rowcount
    )
    settlement = site.make(database)
    settlement.take(site.balance())
    assert await settlement.settle() == 0
    await settlement.open()
    await site.live(settlement, DAY + timedelta(minutes=31))
    records, _ = read(site.path, DAY, DAY + timedelta(hours=1))
    assert [record.quality for record in records] == [Quality.ESTIMATED, Quality.OK]


async def test_breaches_are_counted_in_their_interval(site: Site, database: FullDisk) -> None:
    settlement = site.make(database)
    await settlement.open()
    await site.live(settlement, DAY + timedelta(minutes=15))
    site.bind(400.0)
    for samples in range(1, 4):
        site.tally = BreachTally(samples=samples, judgement=Judgement.BREACH, bound_w=400.0)
        await site.live(settlement, site.clock.now() + timedelta(seconds=STEP_S))
    await site.live(settlement, DAY + timedelta(minutes=46))
    first, second, third = read(site.path, DAY, DAY + timedelta(hours=1))[0]
    assert (second.compliance, second.breach_samples) == (Compliance.BREACH, 3)
    assert second.worst_excess_w == pytest.approx(600.0)
    assert (first.breach_samples, third.breach_samples) == (0, 0)


async def test_reports_tell_baseline_and_difference(site: Site, database: FullDisk) -> None:
    store = SettlementStore(database)
    await remember(store, 20, lambda at: 1000.0 + 100.0 * (at.hour == 10))
    settlement = site.make(database)
    await settlement.open()
    figures = SettledFigures(
        inner=FakeMeasurements({Quantity.IMPORT_W: Figure(value=7.0, quality=Quality.OK)}),
        settlement=settlement,
        rule=TEN_OF_TEN,
    )

    async def value(quantity: Quantity, first_min: int, last_min: int) -> object:
        start_at = DAY + timedelta(hours=10, minutes=first_min)
        end_at = DAY + timedelta(hours=10, minutes=last_min)
        told = await figures.figure(quantity, start_at, end_at, forecast=False)
        return None if told is None else told.value

    await site.live(settlement, DAY + timedelta(hours=10))
    site.bind(400.0)
    site.draw_w = 400.0
    await site.live(settlement, DAY + timedelta(hours=10, minutes=31))
    assert await value(Quantity.BASELINE_W, 0, 30) == pytest.approx(1100.0, abs=1.0)
    assert await value(Quantity.BASELINE_W, 5, 10) == pytest.approx(1100.0, abs=1.0)
    assert await value(Quantity.BASELINE_W, 45, 75) == pytest.approx(1050.0, abs=1.0)
    assert await value(Quantity.IMPORT_WH, 0, 30) == pytest.approx(200.0, abs=6.0)
    assert await value(Quantity.DELTA_WH, 0, 30) == pytest.approx(-350.0, abs=7.0)
    assert await value(Quantity.IMPORT_WH, 0, 20) is None, "no record ends there, and the inner does not know"
    assert await value(Quantity.DELTA_WH, 0, 20) is None
    assert await value(Quantity.IMPORT_W, 0, 20) == 7.0
    database.full = True
    assert await value(Quantity.BASELINE_W, 0, 30) is None
    database.full = False
    soon = await figures.figure(
        Quantity.BASELINE_W, DAY + timedelta(hours=20), DAY + timedelta(hours=21), forecast=True
    )
    assert soon is not None
    assert soon.value == pytest.approx(1000.0, abs=60.0)


async def test_without_a_past_there_is_no_baseline(site: Site, database: FullDisk) -> None:
    settlement = site.make(database)
    await settlement.open()
    figures = SettledFigures(inner=FakeMeasurements({}), settlement=settlement, rule=TEN_OF_TEN)
    await site.live(settlement, DAY + timedelta(minutes=16))
    site.bind(400.0)
    await site.live(settlement, DAY + timedelta(minutes=31))
    site.bind(None)
    await site.live(settlement, DAY + timedelta(minutes=61))
    assert await figures.figure(Quantity.BASELINE_W, DAY, DAY + timedelta(minutes=15), forecast=False) is None
    _, lines = read(site.path, DAY, DAY + timedelta(days=1))
    reasons = {line.method: line.reason for line in lines}
    assert reasons["10-of-10"] == "0 eligible working days in 45, 5 are needed"
    assert {line.delivered_wh for line in lines if line.method == "10-of-10"} == {None}
