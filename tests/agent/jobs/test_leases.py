from dataclasses import replace

import pytest

from agent.jobs.launch import fill
from agent.jobs.leases import LeaseClock, is_held
from agent.model.jobs import JobPhase
from agent.model.records import JobRecord, Lease

LEASE = Lease(ttl_s=120.0, expires_s=1120.0, boot_id="b")
RECORD = JobRecord(job_id="j", phase=JobPhase.RUNNING, epoch=2, lease=LEASE)


@pytest.mark.parametrize(
    ("record", "now_s", "due"),
    [
        (RECORD, 1039.0, []),
        (RECORD, 1040.0, [("j", 2)]),
        (RECORD, 1119.0, [("j", 2)]),
        (RECORD, 1120.0, []),
        (replace(RECORD, phase=JobPhase.SEALED), 1050.0, []),
        (replace(RECORD, lease=replace(LEASE, boot_id="c")), 1050.0, []),
        (replace(RECORD, lease=Lease(ttl_s=None, expires_s=None, boot_id="b")), 1050.0, []),
        (replace(RECORD, lease=None), 1050.0, []),
    ],
)
def test_due(record: JobRecord, now_s: float, due: list[tuple[str, int]]) -> None:
    assert LeaseClock().due([record], now_s, "b") == due


def test_an_unanswered_renewal_is_asked_for_again_after_a_while() -> None:
    clock = LeaseClock()
    asked = [now_s for now_s in range(1000, 1125) if clock.due([RECORD], float(now_s), "b")]
    assert asked == [1040, 1060, 1080, 1100]


def test_held() -> None:
    assert is_held(LEASE, 1119.9, "b")
    assert not is_held(LEASE, 1120.0, "b")
    assert not is_held(LEASE, 1000.0, "c")


def test_templates() -> None:
    words = fill(["--out={checkpoint_dir}", "{job_id}", "{x: 1}"], job_id="j", checkpoint_dir="/c")
    assert words == ["--out=/c", "j", "{x: 1}"]
