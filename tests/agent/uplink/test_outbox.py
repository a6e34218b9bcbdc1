from dataclasses import replace
from datetime import timedelta

from agent.model.forecast import PlantForecast
from agent.model.jobs import JobPhase
from agent.model.limits import Envelope, GridState, Limit
from agent.model.orders import JobReport, MoveRequest, OrderAck, OrderResult
from agent.model.telemetry import GridStatus, SiteCapabilities
from agent.uplink.outbox import Item, Outbox, Renewal
from tests.agent.uplink.standin import NOW


def job(step: int, job_id: str = "job-1") -> JobReport:
    return JobReport(
        job_id=job_id, epoch=1, phase=JobPhase.RUNNING, migration_id="", reported_at=NOW, step=step
    )


def ack(order_id: str) -> OrderAck:
    return OrderAck(order_id=order_id, migration_id="", job_id="job-1", result=OrderResult.ACCEPTED)


def grid(state: GridState = GridState.UNLIMITED, at_s: float = 0) -> GridStatus:
    return GridStatus(measured_at=NOW + timedelta(seconds=at_s), envelope=Envelope(state=state, limits=()))


FORECAST = PlantForecast(source="plant", issued_at=NOW, slots=())
MOVE = MoveRequest(job_id="job-1", epoch=1, reason="limit")
SITE = SiteCapabilities(slots=1, storage_free_bytes=1000, idle_power_w=5.0)
RENEWAL = Renewal(job_id="job-1", epoch=1)


def drained(outbox: Outbox, now_s: float = 0.0) -> list[Item]:
    items = []
    while (item := outbox.take(now_s)) is not None:
        items.append(item)
    return items


def test_the_urgent_goes_first() -> None:
    outbox = Outbox()
    for item in (FORECAST, grid(), job(1), MOVE, RENEWAL, ack("o")):
        outbox.put(item)
    assert drained(outbox) == [ack("o"), RENEWAL, MOVE, job(1), grid(), FORECAST]
    assert outbox.wake.is_set()


def test_the_newest_report_of_each_job_wins() -> None:
    outbox = Outbox()
    for step in range(100):
        outbox.put(job(step))
        outbox.put(job(step, "job-2"))
    assert drained(outbox) == [job(99), job(99, "job-2")]


def test_what_was_not_written_goes_back_unless_newer_came() -> None:
    outbox = Outbox()
    outbox.put_back(job(1))
    outbox.put(job(2, "job-2"))
    outbox.put_back(job(1, "job-2"))
    outbox.put_back(ack("o"))
    outbox.put_back(MOVE)
    outbox.put_back(RENEWAL)
    outbox.put_back(grid())
    assert drained(outbox) == [ack("o"), MOVE, job(1), job(2, "job-2")]


def test_grid_is_told_on_change_on_refresh_and_to_every_new_peer() -> None:
    outbox = Outbox(refresh_s=30.0)
    outbox.put(grid())
    assert drained(outbox, 0) == [grid()]
    outbox.wake.clear()
    outbox.put(grid(at_s=1))
    assert not outbox.wake.is_set()
    assert drained(outbox, 29) == []
    assert drained(outbox, 30) == [grid(at_s=1)]
    outbox.put(grid(GridState.FAILSAFE))
    assert outbox.wake.is_set()
    assert drained(outbox, 31) == [grid(GridState.FAILSAFE)]
    outbox.begin_session(SITE)
    assert drained(outbox, 32) == [grid(GridState.FAILSAFE)]


def test_what_a_site_is_is_told_when_it_is_no_longer_what_hello_said() -> None:
    outbox, grown = Outbox(), replace(SITE, gpus=("gpu0",), can_cap=True)
    outbox.put(SITE)
    assert drained(outbox) == [], "before a session it is for Hello to say"
    outbox.begin_session(SITE)
    outbox.wake.clear()
    outbox.put(replace(SITE, storage_free_bytes=7))
    assert not outbox.wake.is_set()
    for _ in range(2):
        outbox.put(grown)
    assert outbox.wake.is_set()
    assert drained(outbox) == [grown]
    outbox.put(SITE)
    outbox.begin_session(SITE)
    assert drained(outbox) == [], "Hello has said it meanwhile"


def test_a_range_that_jitters_is_no_news_and_one_that_drifts_is() -> None:
    outbox = Outbox(refresh_s=30.0)

    def ranged(power_w: float | None) -> GridStatus:
        return replace(grid(), achievable_min_w=power_w, achievable_max_w=2000.0)

    outbox.put(ranged(1000.0))
    assert drained(outbox, 0) == [ranged(1000.0)]
    outbox.wake.clear()
    outbox.put(ranged(1015.0))
    assert not outbox.wake.is_set()
    outbox.put(ranged(1030.0))
    assert drained(outbox, 1) == [ranged(1030.0)]
    outbox.put(ranged(None))
    assert drained(outbox, 2) == [ranged(None)]
    outbox.put(ranged(0.0))
    assert drained(outbox, 3) == [ranged(0.0)]


def test_limits_whose_instants_are_reckoned_anew_are_no_news_until_one_changes() -> None:
    outbox = Outbox(refresh_s=30.0)

    def limited(*, late_s: float = 0.0, limit_w: float = 4000.0, lasting: bool = False) -> GridStatus:
        start_at = grid().measured_at + timedelta(seconds=late_s)
        limit = Limit(
            source="mqtt",
            command_id="c-1",
            limit_w=limit_w,
            start_at=start_at,
            end_at=None if lasting else start_at + timedelta(hours=1),
            ramp_s=2.0,
            reason="congestion",
        )
        envelope = Envelope(state=GridState.LIMITED, limits=(limit,), coming=(limit,))
        return replace(grid(), envelope=envelope, exports=(limit,))

    outbox.put(limited())
    assert drained(outbox, 0) == [limited()]
    outbox.put(limited(late_s=0.0001))
    assert drained(outbox, 1) == []
    for number, news in enumerate(
        [limited(late_s=2.0), limited(late_s=2.0, limit_w=3000.0), limited(lasting=True), grid()], start=2
    ):
        outbox.put(news)
        assert drained(outbox, number) == [news]


def test_a_forecast_is_told_once_and_refreshed() -> None:
    outbox = Outbox(refresh_s=30.0)
    outbox.put(FORECAST)
    outbox.put(FORECAST)
    assert drained(outbox, 0) == [FORECAST]
    assert drained(outbox, 10) == []
    assert drained(outbox, 30) == [FORECAST]


def test_answers_are_bounded() -> None:
    outbox = Outbox()
    for index in range(1500):
        outbox.put(ack(str(index)))
    assert drained(outbox) == [ack(str(index)) for index in range(500, 1500)]
