import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.model.readings import GpuReading, Quality, SitePower, Storage, StorageStatus
from agent.model.telemetry import TelemetrySample
from agent.store.telemetry import MIGRATIONS, TelemetryStore
from sterna.clock import FakeClock
from sterna.supervise import Pulse
from tests.agent.store.full_disk import FullDisk
from tests.waiting import until

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
SEED = int(NOW.timestamp() * 1000)


def power(index: int = 0) -> SitePower:
    return SitePower(
        measured_at=NOW + timedelta(seconds=index),
        quality=Quality.OK,
        grid_w=-120.5,
        generation_w=float(index),
        available_w=None,
        battery_w=None,
        compute_w=15.0,
        site_load_w=300.0,
        surplus_w=0.0,
    )


@asynccontextmanager
async def opened(
    path: Path, *, clock: FakeClock | None = None, max_samples: int = 1000, spill_after: int = 10
) -> AsyncIterator[tuple[TelemetryStore, FullDisk]]:
    async with FullDisk(path, MIGRATIONS) as database:
        store = TelemetryStore(
            database=database,
            clock=clock or FakeClock(NOW),
            max_samples=max_samples,
            spill_after=spill_after,
        )
        await store.open()
        yield store, database


def sequences(samples: tuple[TelemetrySample, ...]) -> list[int]:
    return [sample.sequence - SEED for sample in samples]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "agent.db"


async def test_samples_come_back_as_they_were(path: Path) -> None:
    gpu = GpuReading(name="gpu0", measured_at=NOW, power_w=12.5)
    async with opened(path) as (store, _):
        charge = Storage(soc_frac=0.5, status=StorageStatus.OK)
        assert store.append(power(1), [gpu], charge) == SEED + 1
        expected = (TelemetrySample(sequence=SEED + 1, power=power(1), gpus=(gpu,), storage=charge),)
        assert await store.unsent(10) == expected
        await store.flush()
        assert await store.unsent(10) == expected


async def test_a_quick_link_costs_no_write(path: Path) -> None:
    async with opened(path) as (store, database), asyncio.TaskGroup() as group:
        writer = group.create_task(store.run(Pulse(FakeClock(NOW)).heart("telemetry", 60)))
        before = database.transactions
        for index in range(300):
            sequence = store.append(power(index))
            assert sequence is not None
            assert len(await store.unsent(500)) == 1
            await store.ack(sequence)
            await asyncio.sleep(0)
        assert database.transactions == before
        writer.cancel()


async def test_a_silent_link_spills_in_batches(path: Path) -> None:
    async with opened(path) as (store, database), asyncio.TaskGroup() as group:
        writer = group.create_task(store.run(Pulse(FakeClock(NOW)).heart("telemetry", 60)))
        before = database.transactions
        for batch in range(5):
            for index in range(10):
                store.append(power(index))
            await until(lambda wrote=before + batch + 1: database.transactions >= wrote)  # type: ignore[misc]
        await until(lambda: store.waiting == 50)
        assert database.transactions - before == 5
        writer.cancel()


async def seven_on_disk_and_three_in_memory(store: TelemetryStore) -> None:
    for index in range(7):
        store.append(power(index))
    await store.flush()
    for index in range(3):
        store.append(power(index))


async def test_unsent_pages_over_disk_and_memory_in_order(path: Path) -> None:
    async with opened(path) as (store, _):
        await seven_on_disk_and_three_in_memory(store)
        assert sequences(await store.unsent(4)) == [1, 2, 3, 4]
        assert sequences(await store.unsent(4, SEED + 4)) == [5, 6, 7, 8]
        assert sequences(await store.unsent(4, SEED + 8)) == [9, 10]
        assert sequences(await store.unsent(4, SEED + 10)) == []


@pytest.mark.parametrize(("acked", "left"), [(0, 10), (3, 7), (7, 3), (8, 2), (10, 0), (99, 0)])
async def test_ack_lets_go_of_everything_up_to_it(path: Path, acked: int, left: int) -> None:
    async with opened(path) as (store, _):
        await seven_on_disk_and_three_in_memory(store)
        await store.ack(SEED + acked)
        assert store.waiting == left
        assert sequences(await store.unsent(99)) == list(range(10 - left + 1, 11))


async def test_an_ack_may_begin_above_what_is_older(path: Path) -> None:
    async with opened(path) as (store, _):
        await seven_on_disk_and_three_in_memory(store)
        await store.ack(SEED + 9, SEED + 5)
        assert sequences(await store.unsent(99)) == [1, 2, 3, 4, 5, 10]
        assert sequences(await store.unsent(99, SEED + 2, SEED + 4)) == [3, 4]
        assert sequences(await store.unsent(99, SEED + 5, SEED + 9)) == []
        assert sequences(await store.unsent(2, SEED + 4, SEED + 10)) == [5, 10]
        await store.ack(SEED + 5)
        assert (store.waiting, sequences(await store.unsent(99))) == (1, [10])


async def test_a_clean_stop_loses_nothing_and_numbers_go_up(path: Path) -> None:
    async with opened(path) as (store, _):
        for index in range(3):
            store.append(power(index))
        await store.flush()
    async with opened(path) as (store, _):
        assert sequences(await store.unsent(99)) == [1, 2, 3]
        fresh = store.append(power())
        assert fresh is not None and fresh > SEED + 3


async def test_a_kill_loses_only_what_was_not_spilled_and_reuses_no_number(path: Path) -> None:
    async with opened(path) as (store, _):
        given = [store.append(power(index)) for index in range(25)]
        await store.flush()
        given += [store.append(power(index)) for index in range(4)]
    async with opened(path, clock=FakeClock(NOW - timedelta(days=1))) as (store, _):
        assert store.waiting == 25
        fresh = store.append(power())
        assert fresh is not None and fresh > max(number for number in given if number)


async def test_a_lost_store_starts_above_its_predecessor(path: Path) -> None:
    clock = FakeClock(NOW)
    async with opened(path, clock=clock) as (store, _):
        for index in range(100):
            clock.advance(1.0)
            store.append(power(index))
        newest = store.last_sequence
    path.unlink()
    async with opened(path, clock=clock) as (store, _):
        assert store.last_sequence > newest


@pytest.mark.parametrize("bound", [1, 2, 3, 100])
async def test_the_disk_is_bounded_and_the_oldest_thins_first(path: Path, bound: int) -> None:
    async with opened(path, max_samples=bound) as (store, _):
        for index in range(400):
            store.append(power(index))
            if index % 20 == 19:
                await store.flush()
        kept = sequences(await store.unsent(1000))
        assert len(kept) == store.waiting <= bound
        assert kept == sorted(set(kept))
        if bound == 100:
            gaps = [later - earlier for earlier, later in itertools.pairwise(kept)]
            assert kept[0] == 1 and kept[-20:] == list(range(381, 401))
            assert max(gaps[:10]) > max(gaps[-40:]) and gaps[-30:] == [1] * 30


async def test_a_full_disk_drops_the_oldest_and_recovers(path: Path) -> None:
    async with opened(path) as (store, database):
        database.full = True
        for index in range(700):
            store.append(power(index))
        await store.flush()
        assert (store.waiting, store.dropped) == (600, 100)
        database.full = False
        await store.flush()
        assert sequences(await store.unsent(1))[0] == 101


async def test_a_disk_that_fails_delays_what_lies_on_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(path) as (store, database):
        for index in range(3):
            store.append(power(index))
        await store.flush()
        store.append(power(3))
        database.full = True
        assert await store.unsent(9) == await store.unsent(9) == (), "the fourth does not overtake the others"
        await store.ack(SEED + 2)
        assert [record.message for record in caplog.records] == ["stored telemetry waits for the disk"]
        database.full = False
        assert sequences(await store.unsent(9, SEED + 2)) == [3, 4]
        await store.ack(SEED + 3)
        assert (store.waiting, sequences(await store.unsent(9))) == (1, [4])


async def test_numbers_that_could_not_be_reserved_are_not_given_out(path: Path) -> None:
    async with opened(path) as (store, database):
        database.full = True
        given = [store.append(power()) for _ in range(7300)]
        assert given.count(None) == 100 and given[-1] is None
        database.full = False
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(store.run(Pulse(FakeClock(NOW)).heart("telemetry", 60)))
            await until(lambda: store.append(power()) is not None)
            writer.cancel()
        assert store.last_sequence == SEED + 7201


async def test_unreadable_rows_are_dropped_not_stumbled_over(path: Path) -> None:
    async with opened(path) as (store, _):
        for index in range(4):
            store.append(power(index))
        await store.flush()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE telemetry SET sample = x'7b' WHERE sequence <= ?", (SEED + 2,))
    async with opened(path) as (store, _):
        assert sequences(await store.unsent(1)) == [3]
        assert store.waiting == 2


async def test_a_write_that_was_cancelled_is_not_doubled(path: Path) -> None:
    async with opened(path) as (store, _):
        for index in range(5):
            store.append(power(index))
        async with asyncio.TaskGroup() as group:
            cancelled = group.create_task(store.flush())
            await asyncio.sleep(0)
            cancelled.cancel()
        await store.flush()
        assert sequences(await store.unsent(99)) == [1, 2, 3, 4, 5]
        assert store.waiting == 5
