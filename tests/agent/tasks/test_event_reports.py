"""Reports of a limit's intervals, from a real desk and the samples of a site."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.grid.desk import GridDesk
from agent.grid.measured import Measurements
from agent.grid.wire import SiteSnapshot
from agent.model.figures import Figure, Quantity
from agent.model.readings import Quality, SitePower
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from agent.tasks.event_reports import EventReports
from agent.tasks.measurements import SiteMeasurements
from sterna.clock import FakeClock
from tests.agent.grid.operators import limit

START = datetime(2026, 11, 22, 10, tzinfo=UTC)


def balance(at: datetime, grid_w: float) -> SitePower:
    return SitePower(
        measured_at=at,
        quality=Quality.OK,
        grid_w=grid_w,
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=None,
        site_load_w=None,
        surplus_w=None,
    )


def make(
    desk: GridDesk,
    clock: FakeClock,
    measured: Measurements,
    publish: Callable[[bytes], None],
    source: str = "mqtt",
) -> EventReports:
    return EventReports(
        speaking=lambda: desk.speaking(source),
        measurements=measured,
        publish=publish,
        client_name="site-a",
        interval_s=60.0,
        clock=clock,
    )


def make_desk(db: Database, clock: FakeClock) -> GridDesk:
    return GridDesk(
        clock=clock,
        store=CommandStore(db, boot_id="boot"),
        operators=("mqtt",),
        settings=FailsafeSettings(failsafe_import_w=4200.0),
        rules=Rules(site="site-a"),
    )


def payloads(report: dict) -> dict[str, object]:
    [resource] = report["resources"]
    [interval] = resource["intervals"]
    return {each["type"]: each["values"][0] for each in interval["payloads"]}


async def test_each_interval_of_a_limit_is_reported_with_what_was_measured(tmp_path: Path) -> None:
    clock, written = FakeClock(START), []
    async with Database(tmp_path / "agent.db", MIGRATIONS) as db:
        desk = make_desk(db, clock)
        measurements = SiteMeasurements(snapshot=SiteSnapshot, envelope=desk.envelope)
        reports = make(desk, clock, measurements, written.append)
        body = limit(1, 3000.0, now=clock.now(), durationS=90)
        await desk.limit("mqtt", json.dumps(body).encode())
        for second in range(120):
            measurements.take(balance(clock.now(), 2400.0 if second < 60 else 3600.0))
            await reports.step()
            clock.advance(1)
    first, second = map(json.loads, written)
    assert (first["reportName"], first["eventID"], first["clientName"]) == ("c1-0-0", "c1", "site-a")
    # 2,400 W for a minute are 0.04 kWh.
    assert payloads(first) == {"DEMAND": 2.4, "USAGE": 0.04, "SETPOINT": 3.0, "DATA_QUALITY": "OK"}
    assert payloads(second) == {"DEMAND": 3.6, "USAGE": 0.03, "SETPOINT": 3.0, "DATA_QUALITY": "OK"}
    [interval] = second["resources"][0]["intervals"]
    assert interval["intervalPeriod"] == {"start": "2026-11-22T10:01:00.000Z", "duration": "PT30S"}


async def test_a_limit_of_the_export_is_reported_with_the_connections_own_sign(tmp_path: Path) -> None:
    clock, written = FakeClock(START), []
    async with Database(tmp_path / "agent.db", MIGRATIONS) as db:
        desk = make_desk(db, clock)
        measurements = SiteMeasurements(snapshot=SiteSnapshot, envelope=desk.envelope)
        reports = make(desk, clock, measurements, written.append, "mqtt-export")
        await desk.limit("mqtt", json.dumps(limit(1, 9000.0, now=clock.now())).encode())
        body = limit(4, 3000.0, now=clock.now(), kind="EXPORT_CAPACITY_LIMIT", durationS=60)
        await desk.limit("mqtt", json.dumps(body).encode())
        for _ in range(62):
            measurements.take(balance(clock.now(), -2400.0))
            await reports.step()
            clock.advance(1)
    [report] = map(json.loads, written)
    assert report["eventID"] == "c4", "of the import another one tells"
    assert payloads(report) == {"DEMAND": -2.4, "USAGE": -0.04, "SETPOINT": 3.0, "DATA_QUALITY": "OK"}
    assert "BASELINE" not in {each["payloadType"] for each in report["payloadDescriptors"]}


class Settled:
    """Measurements that know a baseline too."""

    async def figure(
        self, quantity: Quantity, start_at: datetime, end_at: datetime, *, forecast: bool
    ) -> Figure | None:
        """Tell the baseline and what was saved."""
        hours = (end_at - start_at) / timedelta(hours=1)
        known = {Quantity.BASELINE_W: 6000.0, Quantity.DELTA_WH: -3000.0 * hours}
        value = known.get(quantity)
        return None if value is None else Figure(value=value, quality=Quality.ESTIMATED)


async def test_a_baseline_is_told_where_it_is_known_and_what_was_not_measured_is_missing(
    tmp_path: Path,
) -> None:
    clock, written = FakeClock(START), []
    async with Database(tmp_path / "agent.db", MIGRATIONS) as db:
        desk = make_desk(db, clock)
        reports = make(desk, clock, Settled(), written.append)
        await desk.limit("mqtt", json.dumps(limit(1, 3000.0, now=clock.now())).encode())
        await reports.step()
        clock.advance(60)
        await desk.limit("mqtt", json.dumps(limit(2, None, now=clock.now())).encode())
        await reports.step()
        clock.advance(60)
        await reports.step()
    [report] = map(json.loads, written)
    assert payloads(report) == {
        "SETPOINT": 3.0,
        "BASELINE": 6.0,
        "DELTA_USAGE": -0.05,
        "DATA_QUALITY": "MISSING",
    }
