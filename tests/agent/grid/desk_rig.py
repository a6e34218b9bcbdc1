"""The desk on a real store and a clock that moves when told to."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.grid.desk import GridDesk
from agent.grid.wire import stamp
from agent.model.grid import Reason
from agent.model.limits import GridState
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import FakeClock
from tests.agent.grid import operators

START = datetime(2026, 11, 22, 10, tzinfo=UTC)


class Rig:
    """One site whose agent and machine can be restarted."""

    def __init__(self, path: Path) -> None:
        self.clock = FakeClock(START)
        self.path = path
        self.boot = 1
        self.synced = True
        self.count = 0

    async def start(
        self, operators: tuple[str, ...] = ("mqtt",), exports_w: dict[str, float] | None = None
    ) -> GridDesk:
        self.db = Database(self.path, MIGRATIONS)
        await self.db.open()
        self.store = CommandStore(self.db, boot_id=f"boot-{self.boot}")
        self.desk = GridDesk(
            clock=self.clock,
            store=self.store,
            operators=operators,
            settings=FailsafeSettings(failsafe_import_w=4200.0),
            rules=Rules(site="site-a"),
            standing_limits_w={"hardware": 11_000.0},
            clock_synced=lambda: self.synced,
            failsafe_exports_w=exports_w or {},
        )
        await self.desk.recover()
        return self.desk

    async def stop(self) -> None:
        await self.db.close()

    async def reboot(self, gone_s: float, **more: dict[str, float]) -> GridDesk:
        """Power off, come back later on a boot clock that starts anew."""
        await self.stop()
        self.boot += 1
        self.clock = FakeClock(self.clock.now() + timedelta(seconds=gone_s), boottime_s=5.0)
        return await self.start(**more)  # type: ignore[arg-type]

    def beat(self, source: str = "mqtt") -> Reason | None:
        self.count += 1
        body = {"n": self.count, "t": stamp(self.clock.now())}
        refusal = self.desk.heartbeat(source, json.dumps(body).encode())
        return None if refusal is None else refusal.reason

    async def limit(self, seq: int, value_w: float | None, source: str = "mqtt", **more: object) -> str:
        told = operators.limit(seq, value_w, now=self.clock.now(), **{"rampS": None, **more})
        await self._send(source, told)
        return (await self.acks(source))[-1]

    async def export(self, seq: int, value_w: float | None, source: str = "mqtt", **more: object) -> str:
        """Limit the export, or with None release it; return the answer."""
        told = operators.limit(seq, value_w, now=self.clock.now(), kind="EXPORT_CAPACITY_LIMIT", **more)
        await self._send(source, told)
        return (await self.acks(f"{source}-export"))[-1]

    async def _send(self, source: str, message: dict[str, object]) -> None:
        await self.desk.limit(source, json.dumps(message).encode())

    async def acks(self, source: str = "mqtt") -> list[str]:
        batch = await self.desk.pending_acks(source)
        await self.desk.delivered(number for number, _ in batch if number is not None)
        return [f"{ack.command_id} {ack.status.value} {ack.reason}".strip() for _, ack in batch]

    def shown(self) -> tuple[GridState, float | None]:
        envelope = self.desk.envelope()
        return envelope.state, None if envelope.binding is None else envelope.binding.limit_w

    def exports(self) -> list[tuple[str, float]]:
        return [(limit.source, limit.limit_w) for limit in self.desk.exports()]
