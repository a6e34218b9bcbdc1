"""The settlement's tables: written once, kept over restarts, readable beside a running agent."""

import ctypes
import os
import sqlite3
import tempfile
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.settlement import SiteLedger, opened
from agent.core.settlement_events import WORKLOAD, by_workload, events
from agent.model.readings import Quality
from agent.model.settlement import Compliance, Energy, EnergyMethod, LimitUse, SettlementRecord
from agent.store import settlement as settlement_store
from agent.store.db import Database
from agent.store.settlement import SettlementStore, read
from sterna.errors import ConfigError, CorruptError

START = datetime(2026, 3, 30, 12, tzinfo=UTC)
LENGTH_S = 900.0


def record(number: int, import_wh: float | None = 100.0, *limits: LimitUse) -> SettlementRecord:
    known = import_wh is not None
    return SettlementRecord(
        start_at=START + timedelta(seconds=number * LENGTH_S),
        length_s=LENGTH_S,
        grid_import=Energy(
            energy_wh=import_wh,
            method=EnergyMethod.COUNTED if known else None,
            known_s=LENGTH_S if known else 0.0,
        ),
        grid_export=Energy(energy_wh=0.0 if known else None, method=None),
        limits=limits,
        compliance=Compliance.KEPT if limits else Compliance.NO_LIMIT,
        counterfactual_w=800.0,
        quality=Quality.OK if known else Quality.BAD,
        closed_at=START + timedelta(seconds=(number + 1) * LENGTH_S),
    )


def use(source: str = "mqtt", command_id: str = "c1", held_s: float = 900.0) -> LimitUse:
    return LimitUse(source=source, command_id=command_id, limit_w=300.0, held_s=held_s)


def ledger() -> SiteLedger:
    return opened(LENGTH_S, START)


def span(first: int, last: int) -> tuple[datetime, datetime]:
    return START + timedelta(seconds=first * LENGTH_S), START + timedelta(seconds=last * LENGTH_S)


async def test_records_and_ledger_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    kept = [record(0), record(1, None), record(2, 50.0, use())]
    async with Database(path, settlement_store.MIGRATIONS) as db:
        store = SettlementStore(db)
        assert await store.recover() is None
        await store.keep(kept, ledger(), "boot-1")
    async with Database(path, settlement_store.MIGRATIONS) as db:
        store = SettlementStore(db)
        assert await store.recover() == (ledger(), "boot-1")
        assert list(await store.records(*span(0, 3))) == kept
        assert list(await store.records(*span(1, 2))) == kept[1:2]
        second, third = (await store.intervals(*span(1, 3)))[0:2]
        assert (second.import_wh, second.source) == (None, "")
        assert (third.import_wh, third.source, third.command_id) == (50.0, "mqtt", "c1")
        assert third.counterfactual_w == 800.0


async def test_a_record_is_written_once(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db", settlement_store.MIGRATIONS) as db:
        store = SettlementStore(db)
        await store.keep([record(0), record(1, None)], ledger(), "b")
        await store.keep([record(0, 999.0), record(1, None)], ledger(), "b")
        assert [found.grid_import.energy_wh for found in await store.records(*span(0, 2))] == [100.0, None]
        # Only what says that nothing was measured gives way, and only to what was.
        await store.keep([record(1, 70.0)], ledger(), "b")
        await store.keep([record(1, None), record(1, 80.0)], ledger(), "b")
        assert [found.grid_import.energy_wh for found in await store.records(*span(0, 2))] == [100.0, 70.0]


async def test_baselines_are_settled_once(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db", settlement_store.MIGRATIONS) as db:
        store = SettlementStore(db)
        await store.keep([record(0), record(1, 50.0, use())], ledger(), "b")
        (event,) = events(await store.intervals(*span(0, 2)))
        (line,) = by_workload(event)
        assert (line.baseline_w, line.delta_wh, line.delivered_wh) == (800.0, -150.0, 150.0)
        await store.settle([line])
        await store.settle([replace(line, baseline_w=1e9)])
        assert await store.settled(*span(0, 2)) == {(event.span.start_at, WORKLOAD)}
        records, lines = read(tmp_path / "agent.db", *span(0, 9))
        assert (len(records), lines) == (2, (line,))


async def test_a_ledger_that_cannot_be_read_is_said_to_be(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db", settlement_store.MIGRATIONS) as db:
        await db.run(
            lambda c: c.execute("INSERT INTO settlement_ledger VALUES (1, 'b', ?)", (b"{",)).rowcount
        )
        with pytest.raises(CorruptError, match="ledger cannot be read"):
            await SettlementStore(db).recover()


async def test_reading_beside_a_running_agent_and_after_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    async with Database(path, settlement_store.MIGRATIONS) as db:
        store = SettlementStore(db)
        await store.keep([record(0)], ledger(), "b")
        assert len(read(path, *span(0, 9))[0]) == 1, "while it runs, out of the write-ahead log"
        await store.keep([record(1)], ledger(), "b")
        assert len(read(path, *span(0, 9))[0]) == 2
    before = path.read_bytes()
    assert len(read(path, *span(0, 9))[0]) == 2, "when it has stopped"
    assert path.read_bytes() == before


async def test_reading_by_somebody_who_may_not_write_there() -> None:
    nobody, counts = 65534, [-1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.db"
        async with Database(path, settlement_store.MIGRATIONS) as db:
            await SettlementStore(db).keep([record(0)], ledger(), "b")
        Path(folder).chmod(0o555)
        path.chmod(0o444)

        def work() -> None:
            # The file system's rights of this thread alone; root may write everywhere.
            if os.geteuid() == 0:
                ctypes.CDLL(None).setfsuid(nobody)
            counts[0] = len(read(path, *span(0, 9))[0])

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert sorted(file.name for file in Path(folder).iterdir()) == [
            "agent.db",
            "agent.db.lock",
            "agent.db.reserve",
        ]
        Path(folder).chmod(0o755)
    assert counts == [1]


async def test_reading_what_is_no_settlement(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no store"):
        read(tmp_path / "absent.db", *span(0, 1))
    async with Database(tmp_path / "bare.db"):
        pass
    with pytest.raises(ConfigError, match="it holds no settlement"):
        read(tmp_path / "bare.db", *span(0, 1))
    (tmp_path / "letter.db").write_bytes(b"this is no database" * 500)
    with pytest.raises(CorruptError, match=r"letter\.db"):
        read(tmp_path / "letter.db", *span(0, 1))


async def test_nothing_can_be_written_by_reading(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    async with Database(path, settlement_store.MIGRATIONS):
        pass
    connection = settlement_store._open_read_only(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM settlement_record")
    connection.close()
