"""The calendar is believed while somebody keeps it; what waits for it is told."""

import asyncio

import pytest

from agent.tasks.clock_trust import ClockTrust, run_clock_trust
from sterna.clock import SystemClock
from sterna.supervise import Pulse


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(";")[0] for record in caplog.records]


@pytest.mark.parametrize("answer", [False, None])
def test_not_believed_unless_it_is_kept(answer: bool | None) -> None:
    trust = ClockTrust(ask=lambda: answer)
    assert not trust()
    trust.look()
    assert not trust()


def test_changes_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    answers: list[bool | None] = [None, False, True, True, False]
    trust = ClockTrust(ask=lambda: answers.pop(0))
    while answers:
        trust.look()
    assert said(caplog) == [
        "the clock is not synchronised",
        "the clock is synchronised",
        "the clock is not synchronised",
    ]


def test_always_asks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def ask() -> bool | None:
        raise AssertionError

    trust = ClockTrust(ask=ask, always=True)
    trust.look()
    assert trust()
    assert said(caplog) == []


async def test_whoever_waits_is_told_each_time_it_comes_back() -> None:
    answers = [False, True, True, False, True]
    told: list[bool] = []
    enough = asyncio.Event()
    trust = ClockTrust(ask=lambda: answers.pop(0) if len(answers) > 1 else answers[0])

    def tell() -> None:
        told.append(trust())
        if len(told) == 2:
            enough.set()

    trust.listeners.append(tell)
    heart = Pulse(SystemClock()).heart("clock", 30.0)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(run_clock_trust(trust, period_s=0.0, heart=heart))
        await enough.wait()
        task.cancel()
    assert told == [True, True]
