"""Limits of the export at the desk: their own sequences and fail-safe, beside those of the import."""

import asyncio
from datetime import timedelta

import pytest

from agent.model.limits import GridState, LimitKind
from tests.agent.grid.desk_rig import Rig

EXPORT = LimitKind.EXPORT_CAPACITY_LIMIT


async def test_both_directions_hold_at_once_and_neither_ends_the_other(rig: Rig) -> None:
    rig.beat()
    assert await rig.limit(1, 5000.0) == "c1 ACCEPTED"
    assert await rig.export(2, 3000.0) == "c2 ACCEPTED"
    assert (rig.shown(), rig.exports()) == ((GridState.LIMITED, 5000.0), [("mqtt-export", 3000.0)])
    assert await rig.export(3, None) == "c3 ACCEPTED"
    assert (rig.shown(), rig.exports()) == ((GridState.LIMITED, 5000.0), [])
    assert await rig.export(4, 0.0) == "c4 ACCEPTED", "a site can always be told to feed in nothing"
    assert await rig.limit(5, None) == "c5 ACCEPTED"
    assert (rig.shown(), rig.exports()) == ((GridState.UNLIMITED, 11_000.0), [("mqtt-export", 0.0)])


async def test_sequences_are_counted_per_direction(rig: Rig) -> None:
    """One that was lost on the way is repeated unchanged, whatever the other direction was told since."""
    assert await rig.export(2, 3000.0) == "c2 ACCEPTED"
    assert await rig.limit(1, 5000.0) == "c1 ACCEPTED"
    assert await rig.export(2, 3000.0) == "c2 ACCEPTED repeated"
    assert await rig.export(1, 9000.0) == "c1 REJECTED STALE_SEQUENCE: seq: last was 2"
    assert await rig.export(2, 9000.0) == "c2 REJECTED REPLAY_OTHER_CONTENT: seq"
    assert rig.exports() == [("mqtt-export", 3000.0)]


async def test_it_survives_a_restart_and_a_reboot_with_its_remaining_time(rig: Rig) -> None:
    assert await rig.export(1, 3000.0, durationS=900) == "c1 ACCEPTED"
    await rig.stop()
    rig.clock.advance(100.0)
    desk = await rig.start()
    assert desk.exports()[0].end_at == rig.clock.now() + timedelta(seconds=800)
    await rig.reboot(300.0)
    assert rig.desk.exports()[0].end_at == rig.clock.now() + timedelta(seconds=500)
    assert await rig.export(1, 9000.0) == "c1 REJECTED REPLAY_OTHER_CONTENT: seq"
    rig.clock.advance(500.0)
    assert rig.exports() == []


@pytest.mark.parametrize("step_s", [-7200.0, 3600.0, 400 * 86_400.0], ids=["back", "an hour ahead", "a year"])
async def test_a_stepped_calendar_neither_lifts_nor_prolongs_it(rig: Rig, step_s: float) -> None:
    await rig.export(1, 3000.0, durationS=900)
    rig.clock.advance(100.0)
    rig.clock.step_calendar(step_s)
    await rig.desk.tick()
    limit = rig.desk.exports()[0]
    assert (limit.limit_w, limit.end_at) == (3000.0, rig.clock.now() + timedelta(seconds=800))
    rig.clock.advance(799.9)
    assert rig.exports() == [("mqtt-export", 3000.0)]
    rig.clock.advance(0.1)
    assert rig.exports() == []


async def test_of_two_that_end_at_the_same_instant_neither_outlives_it(rig: Rig) -> None:
    await rig.export(1, 3000.0, durationS=60)
    await rig.export(1, 2000.0, "modbus", durationS=60)
    await rig.export(1, 9000.0, "openadr")
    assert rig.exports() == [("modbus-export", 2000.0), ("mqtt-export", 3000.0), ("openadr-export", 9000.0)]
    rig.clock.advance(60.0)
    assert rig.exports() == [("openadr-export", 9000.0)]
    await rig.desk.tick()
    assert rig.exports() == [("openadr-export", 9000.0)]


async def test_what_was_superseded_never_comes_back(rig: Rig) -> None:
    await rig.export(1, 1000.0)
    await rig.export(2, 3000.0)
    assert await rig.export(1, None) == "c1 REJECTED STALE_SEQUENCE: seq: last was 2", "cannot be cancelled"
    assert rig.exports() == [("mqtt-export", 3000.0)]
    await rig.export(3, None, durationS=60)
    assert rig.exports() == [], "a release for a minute"
    await rig.desk.tick()
    rig.clock.advance(60.0)
    assert rig.exports() == [("mqtt-export", 3000.0)], "gives way to what holds until replaced"
    await rig.export(4, None)
    await rig.desk.tick()
    await rig.stop()
    await rig.start()
    assert rig.exports() == []


async def test_one_that_ends_while_the_operator_is_away_leaves_the_failsafe(rig: Rig) -> None:
    await rig.stop()
    await rig.start(exports_w={"mqtt": 500.0})
    assert rig.exports() == [("failsafe", 500.0)], "a cold start"
    rig.beat()
    await rig.limit(1, None)
    assert rig.exports() == [("failsafe", 500.0)], "a word on the import is none on the export"
    assert rig.shown()[0] is GridState.UNLIMITED
    await rig.export(1, 3000.0, durationS=600)
    assert rig.exports() == [("mqtt-export", 3000.0)]
    rig.clock.advance(120.0)
    assert rig.exports() == [("failsafe", 500.0), ("mqtt-export", 3000.0)]
    rig.clock.advance(1e6)
    await rig.desk.tick()
    assert rig.exports() == [("failsafe", 500.0)]
    rig.beat()
    await rig.export(2, None)
    assert (rig.exports(), rig.shown()) == ([], (GridState.FAILSAFE, 4200.0)), "nor the other way round"


async def test_the_links_state_in_the_log_follows_its_limits(rig: Rig) -> None:
    await rig.stop()
    desk = await rig.start(exports_w={"mqtt": 500.0})

    def state() -> GridState:
        desk.exports()
        machine = desk.guard("mqtt", EXPORT)
        assert machine is not None
        return machine.state

    rig.beat()
    await rig.export(1, 3000.0, durationS=60)
    assert state() is GridState.LIMITED
    rig.clock.advance(60.0)
    assert state() is GridState.UNLIMITED
    start = (rig.clock.now() + timedelta(seconds=30)).isoformat()
    await rig.export(2, 2000.0, start=start)
    assert state() is GridState.UNLIMITED
    rig.clock.advance(30.0)
    assert state() is GridState.LIMITED
    assert desk.guard("modbus", EXPORT) is None


async def test_without_a_calendar_only_less_export_is_accepted(rig: Rig) -> None:
    await rig.limit(1, 1000.0)
    await rig.export(1, 3000.0)
    rig.synced = False
    refused = "REJECTED CLOCK_UNSYNCHRONISED: only less power is accepted"
    assert await rig.export(2, 3001.0) == f"c2 {refused}"
    assert await rig.export(2, None) == f"c2 {refused}"
    assert await rig.export(2, 2000.0) == "c2 ACCEPTED", "however low the import is limited"
    assert rig.exports() == [("mqtt-export", 2000.0)]


@pytest.mark.parametrize("committed", [True, False])
async def test_a_link_that_is_lost_while_it_is_stored_tells_no_lie(
    rig: Rig, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, reached = rig.store.accept, asyncio.Event()

    async def interrupted(*words: object) -> None:
        if committed:
            await accept(*words)  # type: ignore[arg-type]
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "accept", interrupted)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(rig.export(1, 3000.0))
            await reached.wait()
            reader.cancel()
    await rig.desk.tick()
    assert rig.exports() == ([("mqtt-export", 3000.0)] if committed else [])
    assert rig.desk.last_sequence("mqtt-export") == (1 if committed else None)
