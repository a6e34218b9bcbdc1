"""The VEN against a real VTN over HTTP, with a real desk and store behind it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.openadr.plan import LimitSettings
from agent.grid.desk import GridDesk
from agent.grid.measured import FakeMeasurements
from agent.grid.openadr import OpenAdrVen
from agent.grid.openadr_feed import PlanFeed
from agent.grid.openadr_http import HttpClient
from agent.grid.openadr_mqtt import MqttNotifier
from agent.grid.openadr_reports import Reporter
from agent.grid.openadr_rest import RestVtn
from agent.model.figures import Figure, Quantity
from agent.model.limits import GridState, LimitKind
from agent.model.openadr import SignalKind
from agent.model.readings import Quality
from agent.simulator.vtn import SimulatedVtn
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import FakeClock
from sterna.errors import ConfigError, PeerProtocolError, TransientError
from tests.brokers import Broker
from tests.conftest import Eventually

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
SETTINGS = LimitSettings(fallback_w=1500.0, level_limits_w={1: 8000.0, 2: 4000.0, 3: 0.0})
EXPORT = "EXPORT_CAPACITY_LIMIT"
LASTING = {"start": "2026-01-01T00:00:00Z", "duration": "P9999Y"}
FIGURES = {
    Quantity.IMPORT_WH: Figure(value=2500.0, quality=Quality.OK),
    Quantity.IMPORT_W: Figure(value=5000.0, quality=Quality.ESTIMATED),
}


class Rig:
    """One site and one VTN; either can go away and come back."""

    def __init__(self, path: Path) -> None:
        self.clock = FakeClock(START)
        self.path = path
        self.vtn = SimulatedVtn(clock=self.clock)
        self.synced = True

    async def start(
        self,
        *,
        guarded: bool = True,
        settings: LimitSettings = SETTINGS,
        failsafe_export_w: float | None = None,
        **more: object,
    ) -> None:
        self.db = Database(self.path, MIGRATIONS)
        await self.db.open()
        self.desk = GridDesk(
            clock=self.clock,
            store=CommandStore(self.db, boot_id="boot"),
            operators=("openadr",) if guarded else (),
            settings=FailsafeSettings(failsafe_import_w=4200.0),
            rules=Rules(site="site-a"),
            clock_synced=lambda: self.synced,
            failsafe_exports_w={} if failsafe_export_w is None else {"openadr": failsafe_export_w},
        )
        await self.desk.recover()
        self.rest = self.client()
        self.feed, exports = (
            PlanFeed(
                desk=self.desk,
                source="openadr",
                kind=kind,
                clock=self.clock,
                clock_synced=lambda: self.synced,
            )
            for kind in LimitKind
        )
        self.reporter = Reporter(
            vtn=self.rest,
            measurements=FakeMeasurements(FIGURES),
            clock=self.clock,
            ven_name="site-a",
            resource_name="site-a-load",
            period_s=0.05,
        )
        self.ven = OpenAdrVen(
            vtn=self.rest,
            feed=self.feed,
            clock=self.clock,
            ven_name="site-a",
            resource_name="site-a-load",
            settings=settings,
            exports=(exports, LimitSettings(fallback_w=0.0)),
            max_import_w=11_000.0,
            **more,  # type: ignore[arg-type]
        )

    def client(self, secret: str = "secret", timeout_s: float = 2.0) -> RestVtn:
        return RestVtn(
            url=self.vtn.url,
            client_id="ven",
            client_secret=secret,
            http=HttpClient(timeout_s=timeout_s),
            clock=self.clock,
        )

    async def restart(self, **more: object) -> None:
        await self.db.close()
        await self.start(**more)  # type: ignore[arg-type]

    async def limit(
        self, kw: object, *, start_h: float = 0.0, kind: str = "IMPORT_CAPACITY_LIMIT", **more: object
    ) -> str:
        start = self.clock.now() + timedelta(hours=start_h)
        return await self.vtn.put_event(
            {
                "programID": "p1",
                "eventName": f"{kind} {kw}",
                "intervalPeriod": {"start": start.isoformat(), "duration": "PT1H"},
                "intervals": [{"id": 0, "payloads": [{"type": kind, "values": [kw]}]}],
                **more,
            }
        )

    async def subscription(self, kw: float) -> str:
        return await self.limit(
            kw,
            kind="IMPORT_CAPACITY_SUBSCRIPTION",
            intervalPeriod={"start": "2026-01-01T00:00:00Z", "duration": "P9999Y"},
        )

    def shown(self) -> tuple[GridState, float | None]:
        envelope = self.desk.envelope()
        return envelope.state, None if envelope.binding is None else envelope.binding.limit_w

    def exports(self) -> list[tuple[str, float]]:
        return [(limit.source, limit.limit_w) for limit in self.desk.exports()]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "agent.db")
    await rig.vtn.start()
    await rig.start()
    yield rig
    await rig.vtn.stop()
    await rig.db.close()


async def test_a_day_with_a_vtn(rig: Rig) -> None:
    assert rig.shown() == (GridState.INIT, 4200.0)
    await rig.subscription(12)
    await rig.limit(5, start_h=0.5)
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 12_000.0)
    for _ in range(31):
        rig.clock.advance(60)
        await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 5000.0)
    binding = rig.desk.envelope().binding
    assert binding is not None
    assert binding.reason == "OpenADR IMPORT_CAPACITY_LIMIT"
    assert binding.end_at == START + timedelta(hours=1.5)
    for _ in range(60):
        rig.clock.advance(60)
        await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 12_000.0)
    assert rig.desk.last_sequence("openadr") == 3, "only changes are sent"


async def test_without_limits_a_vtn_that_answers_releases(rig: Rig) -> None:
    await rig.ven.poll()
    assert rig.shown() == (GridState.UNLIMITED, None)


async def test_a_limit_that_ends_while_it_is_sent_holds_up_nothing(rig: Rig) -> None:
    hour = {"start": START.isoformat(), "duration": "PT1H"}
    await rig.limit(5, intervalPeriod=hour)
    await rig.limit(3, intervalPeriod={**hour, "start": (START + timedelta(hours=1)).isoformat()})
    rig.clock.advance(3599.95)
    await rig.ven.poll()
    rig.clock.advance(0.05)
    assert rig.shown() == (GridState.FAILSAFE, 3000.0), "it holds; but it was no word on the time until then"
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 3000.0)


async def test_deletion_cancels_and_a_change_replaces(rig: Rig) -> None:
    event_id = await rig.limit(5)
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 5000.0)
    await rig.limit(3, id=event_id)
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 3000.0)
    await rig.vtn.delete("events", event_id)
    await rig.ven.poll()
    assert rig.shown() == (GridState.UNLIMITED, None)


async def test_an_update_to_now_and_nothing_cancels(rig: Rig) -> None:
    event_id = await rig.limit(5)
    await rig.ven.poll()
    await rig.limit(5, id=event_id, intervalPeriod={"start": "0001-01-01", "duration": "PT0S"})
    await rig.ven.poll()
    assert rig.shown() == (GridState.UNLIMITED, None)


async def test_levels_and_set_points_limit_prices_and_alerts_are_shown(rig: Rig) -> None:
    await rig.limit(2, kind="SIMPLE")
    await rig.limit(0.31, kind="PRICE")
    await rig.limit("storm", kind="ALERT_WIND")
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 4000.0)
    kinds = {signal.kind: signal for signal in rig.ven.signals}
    assert kinds[SignalKind.PRICE].value == 0.31
    assert kinds[SignalKind.ALERT].text == "storm"
    await rig.limit(0.5, kind="DISPATCH_SETPOINT")
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 500.0)


async def test_what_cannot_be_read_is_never_unlimited(rig: Rig) -> None:
    await rig.limit("five")
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 1500.0)
    await rig.limit(5, intervalPeriod={"start": "tomorrow"})
    await rig.ven.poll()
    assert rig.ven.faults == (
        "event events-2: [1].intervalPeriod.start: not an instant with an offset from UTC",
    )
    rig.clock.advance(3700)
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 1500.0)


async def test_a_limit_of_the_export_is_held_like_one_of_the_import(rig: Rig) -> None:
    await rig.ven.poll()
    assert rig.desk.last_sequence("openadr-export") is None, "nobody waits to hear that there is none"
    event_id = await rig.limit(4, kind=EXPORT)
    await rig.limit(9, kind="EXPORT_CAPACITY_SUBSCRIPTION", intervalPeriod=LASTING)
    await rig.ven.poll()
    assert rig.exports() == [("openadr-export", 4000.0)]
    limit = rig.desk.exports()[0]
    assert (limit.end_at, limit.reason) == (START + timedelta(hours=1), "OpenADR EXPORT_CAPACITY_LIMIT")
    assert rig.shown() == (GridState.UNLIMITED, None), "the import is not limited by it"
    await rig.vtn.stop()
    await rig.restart()
    assert rig.exports() == [("openadr-export", 4000.0)], "a restart without the VTN forgets nothing"
    rig.clock.advance(3600.0)
    await rig.desk.tick()
    assert rig.exports() == [("openadr-export", 9000.0)], "the schedule has run out into the subscription"
    await rig.vtn.start()
    await rig.restart()
    await rig.vtn.delete("events", event_id)
    await rig.ven.poll()
    assert rig.exports() == [("openadr-export", 9000.0)]


@pytest.mark.parametrize("kw", ["five", -5, [1]])
async def test_an_export_limit_that_cannot_be_read_is_none_at_all(rig: Rig, kw: object) -> None:
    await rig.limit(kw, kind=EXPORT)
    await rig.ven.poll()
    assert rig.exports() == [("openadr-export", 0.0)]
    assert rig.shown() == (GridState.UNLIMITED, None)


async def test_without_a_calendar_the_least_export_that_was_told_holds(rig: Rig) -> None:
    rig.synced = False
    await rig.limit(4, kind=EXPORT, start_h=5)
    for _ in range(3):
        await rig.ven.poll()
    assert rig.exports() == [("openadr-export", 4000.0)]
    assert rig.desk.last_sequence("openadr-export") == 1, "said once"
    rig.synced = True
    await rig.ven.poll()
    assert rig.exports() == []
    rig.clock.advance(5 * 3600.0)
    assert rig.exports() == [("openadr-export", 4000.0)]


async def test_the_export_has_its_own_failsafe(rig: Rig) -> None:
    await rig.restart(failsafe_export_w=700.0)
    assert rig.exports() == [("failsafe", 700.0)]
    await rig.ven.poll()
    assert rig.exports() == [], "a plan that limits nothing is a word too"
    rig.clock.advance(121.0)
    assert rig.exports() == [("failsafe", 700.0)]
    await rig.ven.poll()
    assert rig.exports() == []


async def test_only_the_programs_that_are_followed_count(rig: Rig) -> None:
    await rig.restart(programs=["flex"])
    program_id = await rig.vtn.put_program({"programName": "flex"})
    await rig.limit(5)
    await rig.ven.poll()
    assert rig.shown() == (GridState.UNLIMITED, None)
    await rig.limit(6, programID=program_id)
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 6000.0)


async def test_every_page_is_read(rig: Rig) -> None:
    for number in range(120):
        await rig.limit(100 - number * 0.5, eventName=f"e{number}")
    assert len(await rig.rest.events()) == 120
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 40_500.0)


async def test_an_outage_lets_the_schedule_run_out_into_the_subscription(rig: Rig) -> None:
    await rig.restart(guarded=False, settings=LimitSettings(fallback_w=0.0, subscription_w=9000.0))
    await rig.subscription(12)
    await rig.limit(5)
    await rig.limit(3, start_h=1)
    await rig.ven.poll()
    await rig.vtn.stop()
    for limit_w in (5000.0, 3000.0, 12_000.0, 12_000.0):
        assert rig.shown() == (GridState.AUTONOMOUS, limit_w)
        rig.clock.advance(3600)
        with pytest.raises(TransientError):
            await rig.ven.poll()
    await rig.restart(guarded=False, settings=LimitSettings(fallback_w=0.0, subscription_w=9000.0))
    assert rig.shown() == (GridState.AUTONOMOUS, 12_000.0), "also across a restart without network"


async def test_an_outage_ends_in_the_failsafe_where_the_link_is_guarded(rig: Rig) -> None:
    await rig.limit(5)
    await rig.ven.poll()
    await rig.vtn.stop()
    rig.clock.advance(121)
    assert rig.shown() == (GridState.FAILSAFE, 4200.0)
    await rig.vtn.start()
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 5000.0), "a heartbeat and the limit anew"


async def test_after_an_outage_limits_from_before_are_discarded(rig: Rig) -> None:
    event_id = await rig.limit(5)
    await rig.ven.poll()
    await rig.vtn.stop()
    rig.clock.advance(600)
    del rig.vtn.objects["events"][event_id]
    await rig.subscription(12)
    await rig.vtn.start()
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 12_000.0)


async def test_an_agent_that_restarts_goes_on_with_what_was_stored(rig: Rig) -> None:
    await rig.limit(3)
    await rig.limit(5, start_h=1)
    await rig.ven.poll()
    await rig.restart()
    rig.clock.advance(60)
    assert rig.shown() == (GridState.INIT, 3000.0)
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 3000.0)


async def test_a_poll_that_fails_in_part_changes_nothing(rig: Rig) -> None:
    await rig.limit(5)
    await rig.ven.poll()
    held = rig.desk.last_sequence("openadr")
    rig.vtn.refuse_with = 503
    with pytest.raises(TransientError, match=r"/events.*: 503 refused") as refusal:
        await rig.ven.poll()
    assert refusal.value.retry_after_s == 1.0
    rig.vtn.refuse_with = 403
    with pytest.raises(PeerProtocolError, match=r"GET http://127.0.0.1:\d+/openadr3/3.1.0/events.*: 403"):
        await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 5000.0)
    assert rig.desk.last_sequence("openadr") == held


async def test_a_clock_that_cannot_be_trusted_reads_no_schedule(rig: Rig) -> None:
    rig.synced = False
    await rig.limit(5)
    await rig.ven.poll()
    assert rig.shown() == (GridState.INIT, 4200.0)
    rig.synced = True
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 5000.0)


async def test_a_stepped_calendar_has_the_plan_sent_anew(rig: Rig) -> None:
    await rig.limit(5, start_h=2)
    await rig.ven.poll()
    rig.clock.step_calendar(7200.0)
    assert rig.shown() == (GridState.UNLIMITED, None), "the desk counts on the boot clock"
    await rig.ven.poll()
    assert rig.shown() == (GridState.LIMITED, 5000.0)


async def test_a_site_that_nothing_guards_needs_a_subscription(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="subscription_w"):
        await rig.restart(guarded=False)


async def test_tokens_are_fetched_kept_renewed_and_fetched_again(rig: Rig) -> None:
    def fetched() -> int:
        return rig.vtn.requests.count("POST /auth/token")

    await rig.rest.events()
    await rig.rest.events()
    assert fetched() == 1
    rig.clock.advance(3580)
    await rig.rest.events()
    assert fetched() == 2, "renewed before its end"
    rig.vtn.revoke_tokens()
    await rig.rest.events()
    assert fetched() == 3
    with pytest.raises(PeerProtocolError, match="auth/token: 401 refused: unknown client"):
        await rig.client(secret="wrong").events()


async def test_registration_finds_what_it_made_before(rig: Rig, eventually: Eventually) -> None:
    for _ in range(2):
        await rig.restart(poll_period_s=0.1)
        task = asyncio.get_running_loop().create_task(rig.ven.run())
        await eventually(lambda: rig.ven.connected)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    (ven,) = rig.vtn.objects["vens"].values()
    assert (ven["venName"], ven["id"]) == ("site-a", "vens-1")
    (resource,) = rig.vtn.objects["resources"].values()
    assert (resource["resourceName"], resource["venID"]) == ("site-a-load", "vens-1")
    assert resource["attributes"] == [{"type": "MAX_POWER_CONSUMPTION", "values": [11.0]}]


async def test_a_vtn_that_is_away_at_the_start_is_found_when_it_comes(
    rig: Rig, eventually: Eventually
) -> None:
    contract = LimitSettings(fallback_w=0.0, subscription_w=9000.0)
    beats: list[int] = []
    await rig.restart(guarded=False, settings=contract, on_beat=lambda: beats.append(1))
    await rig.vtn.stop()
    task = asyncio.get_running_loop().create_task(rig.ven.run())
    await eventually(lambda: rig.shown()[1] == 9000.0, what="the contract's figure")
    await rig.limit(5)
    await rig.vtn.start()
    await eventually(lambda: rig.shown()[1] == 5000.0, within_s=8.0, what="the limit")
    assert len(beats) >= 2
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)


async def test_reports_are_delivered_once_and_after_an_outage(rig: Rig) -> None:
    wanted = [
        {"payloadType": "USAGE", "units": "KWH"},
        {"payloadType": "DEMAND"},
        {"payloadType": "BASELINE"},
    ]
    await rig.limit(5, reportDescriptors=wanted, eventName="peak")
    await rig.ven.poll()
    assert await rig.reporter.deliver(rig.ven.book) == 0
    rig.clock.advance(3600)
    await rig.vtn.stop()
    with pytest.raises(TransientError):
        await rig.reporter.deliver(rig.ven.book)
    await rig.vtn.start()
    assert await rig.reporter.deliver(rig.ven.book) == 1
    assert await rig.reporter.deliver(rig.ven.book) == 0
    (report,) = rig.vtn.reports
    assert (report["reportName"], report["clientName"], report["eventID"]) == (
        "peak-0-0",
        "site-a",
        "events-1",
    )
    (interval,) = report["resources"][0]["intervals"]
    assert interval["payloads"] == [
        {"type": "USAGE", "values": [2.5]},
        {"type": "DEMAND", "values": [5.0]},
        {"type": "DATA_QUALITY", "values": ["MISSING"]},
    ]


async def test_a_report_that_is_there_already_or_is_refused_is_not_sent_again(rig: Rig) -> None:
    await rig.limit(5, reportDescriptors=[{"payloadType": "USAGE"}], eventName="peak")
    await rig.ven.poll()
    rig.clock.advance(3600)
    await rig.rest.create_report({"reportName": "peak-0-0", "eventID": "x", "clientName": "y"})
    assert await rig.reporter.deliver(rig.ven.book) == 1
    posts = rig.vtn.requests.count("POST /reports")
    await rig.reporter.deliver(rig.ven.book)
    assert rig.vtn.requests.count("POST /reports") == posts == 2
    await rig.limit(5, reportDescriptors=[{"payloadType": "USAGE"}], eventName="second")
    await rig.ven.poll()
    rig.clock.advance(3600)
    rig.vtn.refuse_with = 400
    assert await rig.reporter.deliver(rig.ven.book) == 0
    assert await rig.reporter.deliver(rig.ven.book) == 0
    assert rig.vtn.requests.count("POST /reports") == 3


@pytest.mark.broker
async def test_a_notification_makes_the_agent_ask_at_once(
    rig: Rig, tmp_path: Path, eventually: Eventually
) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        rig.vtn.broker = (broker.host, broker.port)
        await rig.restart()
        notifier = MqttNotifier(vtn=rig.rest, client_id="site-a-openadr")
        await rig.restart(poll_period_s=3600.0, notifier=notifier, reporter=rig.reporter)
        task = asyncio.get_running_loop().create_task(rig.ven.run())
        await eventually(lambda: notifier.connected and rig.ven.connected)
        event_id = await rig.limit(5)
        await eventually(lambda: rig.shown()[1] == 5000.0, what="the limit")
        await rig.vtn.delete("events", event_id)
        await eventually(lambda: rig.shown()[1] is None, what="the release")
        broker.kill()
        await eventually(lambda: not notifier.connected)
        await rig.limit(6)
        assert rig.shown()[1] is None, "nobody has told"
        await broker.start()
        await eventually(lambda: rig.shown()[1] == 6000.0, within_s=10.0, what="a poll on reconnection")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        broker.kill()
