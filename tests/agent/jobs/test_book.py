"""The job records when the disk lies, and reports when the calendar is set back."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.core.jobtable import JobEvent
from agent.jobs.book import JobBook
from agent.model.jobs import JobPhase
from agent.model.orders import JobReport
from agent.model.records import JobRecord
from sterna.clock import FakeClock
from sterna.errors import CorruptError, TransientError

START = datetime(2030, 1, 1, tzinfo=UTC)


class LyingStore:
    """Records in memory. `lies`: what the next saves do, "lost" or "kept"; both say that they failed."""

    def __init__(self) -> None:
        self.rows: dict[str, JobRecord] = {}
        self.lies: list[str] = []

    async def load(self) -> tuple[JobRecord, ...]:
        return tuple(self.rows.values())

    async def save(self, record: JobRecord) -> None:
        known = self.rows.get(record.job_id)
        if known is not None and known.highest_epoch > record.highest_epoch:
            raise CorruptError("a higher epoch is stored")
        lie = self.lies.pop(0) if self.lies else ""
        if lie != "lost":
            self.rows[record.job_id] = record
        if lie:
            raise TransientError("the disk does not take it now")


def book(store: LyingStore, reports: list[JobReport], clock: FakeClock) -> JobBook:
    return JobBook(store=store, clock=clock, on_report=reports.append, report_interval_s=0.0)


@pytest.mark.parametrize(
    ("lie", "highest_epoch", "phase"),
    [
        ("lost", 2, JobPhase.RELEASED),
        ("kept", 2, JobPhase.STARTING),  # a higher epoch is there: it counts
        ("kept", 1, JobPhase.RELEASED),  # of the same epoch: what was believed is written over it
    ],
)
async def test_after_a_failed_save_memory_and_disk_agree_again(
    lie: str, highest_epoch: int, phase: JobPhase
) -> None:
    store, reports = LyingStore(), list[JobReport]()
    jobs = book(store, reports, FakeClock(START))
    await jobs.put(JobRecord(job_id="j", highest_epoch=1))
    store.lies = [lie]
    with pytest.raises(TransientError):
        await jobs.put(replace(jobs.get("j"), highest_epoch=highest_epoch), JobEvent.START)
    assert jobs.get("j").phase is JobPhase.RELEASED
    assert (await jobs.settled("j")).phase is phase
    assert store.rows["j"] == jobs.get("j")
    assert reports[-1].phase is phase


async def test_while_the_disk_takes_nothing_nothing_is_known() -> None:
    store = LyingStore()
    jobs = book(store, [], FakeClock(START))
    store.lies = ["lost", "lost"]
    with pytest.raises(TransientError):
        await jobs.put(JobRecord(job_id="j", highest_epoch=1), JobEvent.START)
    with pytest.raises(TransientError):
        await jobs.settled("j")
    assert (await jobs.settled("j")).phase is JobPhase.RELEASED
    assert "j" in store.rows


async def test_hello_says_what_the_next_life_would_say() -> None:
    """A start whose save seemed to have failed: a coordinator that has forgotten it must hear of it."""
    store = LyingStore()
    jobs = book(store, [], FakeClock(START))
    await jobs.put(JobRecord(job_id="j", highest_epoch=1))
    store.lies = ["kept", "lost"]
    with pytest.raises(TransientError):
        await jobs.put(replace(jobs.get("j"), epoch=2, highest_epoch=2), JobEvent.START)
    await jobs.settle()
    assert [(one.epoch, one.phase) for one in jobs.reports()] == [(2, JobPhase.STARTING)]
    with pytest.raises(TransientError):
        await jobs.put(jobs.get("j"), JobEvent.STARTED)
    store.lies = ["lost"]
    with pytest.raises(TransientError):
        await jobs.settle()
    await jobs.settle()
    assert store.rows["j"] == jobs.get("j")


async def test_reports_are_in_order_whatever_the_calendar_does() -> None:
    store, reports = LyingStore(), list[JobReport]()
    clock = FakeClock(START)
    jobs = book(store, reports, clock)
    await jobs.put(JobRecord(job_id="j", highest_epoch=1), JobEvent.START)
    clock.step_calendar(-3600.0)
    await jobs.put(jobs.get("j"), JobEvent.STARTED)
    clock.step_calendar(7200.0)
    await jobs.put(jobs.get("j"), JobEvent.STOP)
    assert [report.phase.name for report in reports] == ["STARTING", "RUNNING", "STOPPING"]
    instants = [report.reported_at for report in reports]
    assert instants == sorted(set(instants))
