"""The desk: limits, sequences, fail-safe and breaches."""

import asyncio
import json
from datetime import timedelta

import pytest

from agent.core.breach import BreachTally, Judgement
from agent.grid.wire import stamp
from agent.model.grid import Reason
from agent.model.limits import GridState
from agent.model.readings import Quality, SitePower
from sterna.errors import TransientError
from tests.agent.grid.desk_rig import Rig


async def test_a_day_with_an_operator(rig: Rig) -> None:
    assert rig.shown() == (GridState.INIT, 4200.0)
    rig.beat()
    assert await rig.limit(1, None) == "c1 ACCEPTED"
    assert rig.shown() == (GridState.UNLIMITED, 11_000.0)
    assert await rig.limit(2, 3000.0, durationS=60) == "c2 ACCEPTED"
    await rig.desk.tick()
    assert await rig.acks() == ["c1 SUCCEEDED", "c2 STARTED"]
    rig.clock.advance(59)
    assert rig.shown() == (GridState.LIMITED, 3000.0)
    rig.clock.advance(1)
    assert rig.shown() == (GridState.UNLIMITED, 11_000.0)
    await rig.desk.tick()
    assert await rig.acks() == ["c2 SUCCEEDED"]
    rig.clock.advance(60)
    assert rig.shown() == (GridState.FAILSAFE, 4200.0)
    rig.clock.advance(86_400)
    assert rig.shown() == (GridState.FAILSAFE, 4200.0)
    rig.beat()
    assert rig.shown() == (GridState.FAILSAFE, 4200.0)
    assert await rig.limit(3, None) == "c3 ACCEPTED"
    assert await rig.limit(4, 8000.0, start=stamp(rig.clock.now() + timedelta(seconds=10))) == "c4 ACCEPTED"
    assert rig.shown() == (GridState.UNLIMITED, 11_000.0)
    rig.clock.advance(10)
    assert rig.shown() == (GridState.LIMITED, 8000.0)


async def test_limit_writes_reset_the_failsafe_clock_29705(rig: Rig) -> None:
    rig.beat()
    for seq in range(1, 12):
        await rig.limit(seq, 5000.0)
        rig.clock.advance(11)
    assert rig.shown() == (GridState.FAILSAFE, 4200.0)


@pytest.mark.parametrize("value_w", [None, 9000.0])
async def test_a_command_for_later_does_not_end_the_failsafe_now(rig: Rig, value_w: float | None) -> None:
    rig.beat()
    start = (rig.clock.now() + timedelta(seconds=60)).isoformat()
    assert await rig.limit(1, value_w, start=start) == "c1 ACCEPTED"
    assert rig.shown() == (GridState.INIT, 4200.0)
    rig.clock.advance(60)
    rig.beat()
    await rig.desk.tick()
    assert rig.shown() == (GridState.INIT, 4200.0), "nor later: it was no word on the time until then"
    assert await rig.limit(2, None) == "c2 ACCEPTED"
    assert rig.shown() == (GridState.UNLIMITED, 11_000.0)


async def test_a_slewed_clock_opens_no_gap_between_two_limits(rig: Rig) -> None:
    rig.beat()
    await rig.limit(1, 3000.0, durationS=60)
    start = (rig.clock.now() + timedelta(seconds=60)).isoformat()
    rig.clock.advance(10)
    rig.clock.step_calendar(-0.5)
    await rig.limit(2, 2000.0, start=start)
    rig.clock.advance(50)
    assert rig.shown() == (GridState.LIMITED, 2000.0)


async def test_a_repeat_is_acknowledged_again_and_does_not_prolong(rig: Rig) -> None:
    rig.beat()
    issued = stamp(rig.clock.now())
    await rig.limit(1, 3000.0, durationS=60, issued=issued)
    rig.clock.advance(50)
    assert await rig.limit(1, 3000.0, durationS=60, issued=issued) == "c1 ACCEPTED repeated"
    rig.clock.advance(10)
    assert rig.shown()[0] is GridState.UNLIMITED
    await rig.desk.tick()
    await rig.acks()
    assert await rig.limit(1, 3000.0, durationS=60, issued=issued) == "c1 SUCCEEDED repeated"
    assert (await rig.limit(1, 9000.0)).startswith("c1 REJECTED REPLAY_OTHER_CONTENT")
    assert rig.desk.last_sequence("mqtt") == 1


async def test_an_agent_restart_resumes_limits_sequences_and_undelivered_acks(rig: Rig) -> None:
    rig.beat()
    body = {"v": 1, "id": "c7", "seq": 7, "issued": stamp(rig.clock.now()), "active": True, "valueW": 3000}
    await rig.desk.limit(
        "mqtt", json.dumps({**body, "kind": "IMPORT_CAPACITY_LIMIT", "durationS": 900}).encode()
    )
    await rig.stop()
    rig.clock.advance(100)
    rig.clock.step_calendar(3600.0)
    await rig.start()
    assert await rig.acks() == ["c7 ACCEPTED"]
    assert rig.shown() == (GridState.INIT, 3000.0)
    assert rig.desk.envelope().binding.end_at - rig.clock.now() == timedelta(seconds=800)
    assert (await rig.limit(6, 9000.0)).startswith("c6 REJECTED STALE_SEQUENCE")


async def test_a_reboot_takes_the_time_that_went_by_off_the_remaining_time(rig: Rig) -> None:
    await rig.limit(1, 3000.0, durationS=900)
    await rig.reboot(300)
    assert rig.desk.envelope().binding.end_at - rig.clock.now() == timedelta(seconds=600)
    await rig.reboot(300)
    assert rig.desk.envelope().binding.end_at - rig.clock.now() == timedelta(seconds=300)
    await rig.reboot(-10 * 365 * 86_400)
    assert rig.desk.envelope().binding.limit_w == 3000.0, "a clock without a battery ends no limit"
    await rig.reboot(20 * 365 * 86_400)
    assert rig.shown() == (GridState.INIT, 4200.0)


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_calendar_that_is_wrong_after_a_reboot_ends_no_limit_early(rig: Rig, restarts: bool) -> None:
    def remaining_s() -> list[float]:
        limits = (rig.desk.envelope().binding, *rig.desk.exports())
        return [(one.end_at - rig.clock.now()).total_seconds() for one in limits if one and one.end_at]

    rig.beat()
    await rig.limit(1, 3000.0, durationS=900)
    await rig.export(1, 2000.0, durationS=900)
    true = rig.clock.now() + timedelta(seconds=300)
    rig.synced = False
    await rig.reboot(20 * 365 * 86_400)
    await rig.desk.tick()
    assert remaining_s() == [900.0, 900.0], "nobody can say how long it was off"
    rig.clock.advance(30.0)
    rig.clock.step_calendar((true + timedelta(seconds=30) - rig.clock.now()).total_seconds())
    assert remaining_s() == [870.0, 870.0]
    rig.synced = True
    if restarts:
        await rig.stop()
        await rig.start()
    else:
        await rig.desk.tick()
    assert remaining_s() == [570.0, 570.0], "now it is known"
    await rig.stop()
    await rig.start()
    assert remaining_s() == [570.0, 570.0]


async def test_heartbeat_routed_to_another_device_31561(rig: Rig) -> None:
    await rig.stop()
    await rig.start(operators=("mqtt", "modbus"))
    rig.beat("mqtt")
    await rig.limit(1, None)
    assert rig.shown() == (GridState.INIT, 4200.0), "the other link has not spoken"
    assert rig.desk.alive("modbus") is None
    await rig.limit(1, 9000.0, source="modbus")
    assert rig.shown() == (GridState.LIMITED, 9000.0)
    for _ in range(3):
        rig.clock.advance(60)
        rig.desk.alive("modbus")
    assert rig.shown() == (GridState.FAILSAFE, 4200.0), "one link's heartbeat keeps no other alive"
    assert rig.beat("openadr") is Reason.UNKNOWN_SOURCE


async def test_a_site_without_an_operator_is_autonomous_and_still_obeys_its_own_people(rig: Rig) -> None:
    await rig.stop()
    await rig.start(operators=())
    assert rig.shown() == (GridState.AUTONOMOUS, 11_000.0)
    assert await rig.limit(1, 2000.0, source="local") == "c1 ACCEPTED"
    assert rig.shown() == (GridState.AUTONOMOUS, 2000.0)
    await rig.limit(2, None, source="local")
    assert rig.shown() == (GridState.AUTONOMOUS, 11_000.0)


async def test_a_local_release_frees_nobody_from_the_failsafe(rig: Rig) -> None:
    rig.beat()
    await rig.limit(1, None, source="local")
    assert rig.shown() == (GridState.INIT, 4200.0)


async def test_an_untrusted_clock_accepts_only_less_power(rig: Rig) -> None:
    rig.beat()
    rig.synced = False
    assert (await rig.limit(1, 5000.0)).startswith("c1 REJECTED CLOCK_UNSYNCHRONISED")
    assert await rig.limit(2, 1000.0) == "c2 ACCEPTED"
    assert (await rig.limit(3, None)).startswith("c3 REJECTED CLOCK_UNSYNCHRONISED")
    assert rig.shown() == (GridState.LIMITED, 1000.0)


async def test_what_cannot_be_stored_is_refused_and_does_not_hold(rig: Rig) -> None:
    rig.beat()
    await rig.limit(1, None)
    await rig.db.run(lambda c: c.execute("PRAGMA max_page_count = 1").fetchall())
    big = "x" * 250
    verdicts = [await rig_limit_without_acks(rig, seq, big) for seq in range(2, 60)]
    await rig.db.run(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchall())
    refused = [seq for seq, ok in enumerate(verdicts, start=2) if not ok]
    assert refused, "the disk never filled"
    assert rig.desk.last_sequence("mqtt") == max(seq for seq, ok in enumerate(verdicts, start=2) if ok)
    assert any("STORE_UNAVAILABLE" in ack for ack in await rig.acks())
    assert await rig.limit(100, 2000.0) == "c100 ACCEPTED"


@pytest.mark.parametrize(
    ("first_w", "then_w", "obeyed_w"),
    [(3000.0, 2000.0, 2000.0), (3000.0, 4000.0, 3000.0), (3000.0, None, 3000.0), (None, 2000.0, 2000.0)],
)
@pytest.mark.parametrize("stored", [True, False])
async def test_a_stricter_limit_is_obeyed_while_it_is_stored_and_no_other(
    rig: Rig, first_w: float | None, then_w: float | None, obeyed_w: float, stored: bool
) -> None:
    store, gate, reached = rig.store.accept, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: object) -> None:
        reached.set()
        await gate.wait()
        if not stored:
            raise TransientError("disk full")
        await store(*arguments)  # type: ignore[arg-type]

    rig.beat()
    await rig.limit(1, first_w)
    before, calls = rig.shown(), []
    rig.store.accept = slow  # type: ignore[method-assign]
    rig.desk.on_limit = lambda: calls.append(rig.shown())
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(rig.limit(2, then_w))
        await reached.wait()
        binding = rig.desk.envelope().binding
        assert binding is not None
        assert binding.limit_w == obeyed_w
        assert bool(calls) == (obeyed_w == then_w)
        assert rig.desk.last_sequence("mqtt") == 1
        gate.set()
    rig.store.accept = store  # type: ignore[method-assign]
    assert ("ACCEPTED" in answer.result()) == stored
    expected = GridState.UNLIMITED if then_w is None else GridState.LIMITED
    assert rig.shown() == ((expected, then_w or 11000.0) if stored else before)


async def rig_limit_without_acks(rig: Rig, seq: int, reason: str) -> bool:
    body = {"v": 1, "id": f"c{seq}", "seq": seq, "issued": stamp(rig.clock.now()), "active": True}
    body |= {"kind": "IMPORT_CAPACITY_LIMIT", "valueW": 6000.0, "durationS": 1000 + seq, "reason": reason}
    await rig.desk.limit("mqtt", json.dumps(body).encode())
    return rig.desk.last_sequence("mqtt") == seq


async def test_failing_disk_reaches_the_caller_of_tick_as_transient(rig: Rig) -> None:
    rig.beat()
    await rig.limit(1, 3000.0)

    async def full(*_args: object) -> None:
        raise TransientError("disk full")

    kept, rig.store.advance = rig.store.advance, full  # type: ignore[method-assign]
    with pytest.raises(TransientError):
        await rig.desk.tick()
    rig.store.advance = kept  # type: ignore[method-assign]
    await rig.desk.tick()
    assert await rig.acks() == ["c1 STARTED"]


def sample(rig: Rig, grid_w: float, compute_w: float | None = 2000.0) -> SitePower:
    return SitePower(
        measured_at=rig.clock.now(),
        quality=Quality.OK,
        grid_w=grid_w,
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=compute_w,
        site_load_w=None,
        surplus_w=None,
    )


async def judged(rig: Rig, power: SitePower) -> Judgement:
    await rig.desk.observe(power)
    return rig.desk.tally.judgement


async def test_breaches_are_counted_and_survive(rig: Rig) -> None:
    rig.beat()
    await rig.limit(1, 3000.0, rampS=5)
    assert await judged(rig, sample(rig, 4000.0)) is Judgement.RAMPING
    rig.clock.advance(8)
    for grid_w in (4000.0, 4100.0):
        await rig.desk.observe(sample(rig, grid_w))
        rig.clock.advance(1)
    await rig.stop()
    await rig.start()
    assert (rig.desk.tally.samples, rig.desk.tally.episodes, rig.desk.tally.worst_excess_w) == (2, 1, 1100.0)
    assert rig.desk.export_tally == BreachTally()


async def test_breaches_of_export_limits_are_counted_apart_and_survive(rig: Rig) -> None:
    rig.beat()
    await rig.limit(1, 0.0)
    await rig.export(1, 3000.0, rampS=5)
    rig.clock.advance(8)
    for grid_w, least_export_w in ((-3500.0, 0.0), (-4000.0, 4000.0), (-3000.0, 0.0), (-3600.0, None)):
        await rig.desk.observe(sample(rig, grid_w), least_export_w)
        rig.clock.advance(1)
    await rig.stop()
    await rig.start()
    counted = rig.desk.export_tally
    assert (counted.samples, counted.episodes, counted.worst_excess_w) == (2, 2, 600.0)
    assert rig.desk.tally == BreachTally()


async def test_a_release_between_two_samples_gives_the_next_limit_its_ramp(rig: Rig) -> None:
    rig.beat()
    await rig.limit(1, 1300.0)
    rig.clock.advance(5)
    assert await judged(rig, sample(rig, 1300.0, 1300.0)) is Judgement.KEPT
    await rig.limit(2, None)
    rig.clock.advance(0.5)
    await rig.limit(3, 1500.0)
    rig.clock.advance(0.4)
    assert await judged(rig, sample(rig, 1800.0, 1800.0)) is Judgement.RAMPING
    rig.clock.advance(3)
    assert await judged(rig, sample(rig, 1800.0, 1800.0)) is Judgement.BREACH


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("noticed_by", ["tick", "repeat"])
async def test_a_link_that_is_lost_while_a_command_is_stored_loses_no_command(
    rig: Rig, committed: bool, noticed_by: str
) -> None:
    store, reached = rig.store.accept, asyncio.Event()

    async def interrupted(*arguments: object) -> None:
        if committed:
            await store(*arguments)  # type: ignore[arg-type]
        reached.set()
        await asyncio.Event().wait()

    rig.beat()
    issued = stamp(rig.clock.now())
    rig.store.accept = interrupted  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(rig.limit(1, 3000.0, issued=issued))
        await reached.wait()
        reader.cancel()
    rig.store.accept = store  # type: ignore[method-assign]
    if noticed_by == "tick":
        await rig.desk.tick()
        assert rig.shown() == ((GridState.LIMITED, 3000.0) if committed else (GridState.INIT, 4200.0))
    word = "repeated" if committed else "ACCEPTED"
    assert word in await rig.limit(1, 3000.0, issued=issued)
    assert rig.shown() == (GridState.LIMITED, 3000.0)
    assert await rig.limit(2, 2000.0) == "c2 ACCEPTED"
