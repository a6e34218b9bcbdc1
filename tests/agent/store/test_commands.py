from datetime import UTC, datetime
from pathlib import Path

from agent.core.breach import BreachTally
from agent.model.limits import LimitKind
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


async def test_breaches_that_an_older_release_has_counted_are_of_the_import(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    async with Database(path, MIGRATIONS[:2]) as db:
        await db.write("INSERT INTO grid_breach VALUES (1, ?, ?, ?)", (7, 2, 1100.0))
    async with Database(path, MIGRATIONS) as db:
        store = CommandStore(db, boot_id="boot-1")
        ours = BreachTally(samples=7, episodes=2, worst_excess_w=1100.0)
        assert (await store.recover(NOW, 5.0, calendar_kept=True)).tallies == {
            LimitKind.IMPORT_CAPACITY_LIMIT: ours
        }
        exports = BreachTally(samples=1, episodes=1, worst_excess_w=60.0)
        await store.keep_tally(LimitKind.EXPORT_CAPACITY_LIMIT, exports)
        assert (await store.recover(NOW, 5.0, calendar_kept=True)).tallies == {
            LimitKind.IMPORT_CAPACITY_LIMIT: ours,
            LimitKind.EXPORT_CAPACITY_LIMIT: exports,
        }
