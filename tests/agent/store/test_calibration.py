from datetime import UTC, datetime
from pathlib import Path

from agent.core.calibration import Pair, PairMethod
from agent.store.calibration import MIGRATIONS, CalibrationStore
from agent.store.db import Database

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
PAIRS = (
    Pair(method=PairMethod.STEP, measured_at=NOW, rail_w=20.0, metered_w=34.5),
    Pair(method=PairMethod.METER, measured_at=NOW, rail_w=12.5, metered_w=20.0),
)


async def test_pairs_survive_a_restart(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db", MIGRATIONS) as database:
        store = CalibrationStore(database)
        assert await store.load("jetson") == ()
        await store.save("jetson", PAIRS[:1])
        await store.save("jetson", PAIRS)
    async with Database(tmp_path / "agent.db", MIGRATIONS) as database:
        assert await CalibrationStore(database).load("jetson") == PAIRS


async def test_pairs_of_other_sensors_are_not_used_and_are_replaced(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db", MIGRATIONS) as database:
        store = CalibrationStore(database)
        await store.save("jetson", PAIRS)
        assert await store.load("nvml") == ()
        await store.save("nvml", PAIRS[:1])
        assert await store.load("jetson") == ()


async def test_what_cannot_be_read_is_learnt_anew(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db", MIGRATIONS) as database:
        store = CalibrationStore(database)
        for body in (
            b"not json",
            b'[{"method":"guess"}]',
            b'[{"method":"step","measured_at":"2026-11-03T12:00:00Z","rail_w":0,"metered_w":1}]',
        ):
            await database.run(
                lambda connection, body=body: (
                    connection.execute(  # type: ignore[misc]
                        "INSERT OR REPLACE INTO calibration VALUES (1, 'jetson', ?)", (body,)
                    ).rowcount
                )
            )
            assert await store.load("jetson") == ()
