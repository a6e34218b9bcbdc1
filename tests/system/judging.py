"""What a job's own trainers and weights say of how it went."""

from collections import Counter

from agent.simulator import steplog
from agent.simulator.evidence import digest
from sterna.v1 import fleet_pb2
from tests.system.harness import CHECKPOINT_EVERY, Admin, System, Training, reference_digest


async def judge(
    system: System, admin: Admin, job_id: str, training: Training, *, within_s: float = 60.0
) -> fleet_pb2.Job:
    """Wait for a job's end; nothing may be lost, run twice at once, or differ from an undisturbed run."""
    job = await admin.ended(job_id, within_s=within_s)
    assert job.state == fleet_pb2.JOB_STATE_COMPLETED, job.message
    entries = system.entries(training)
    counts = Counter(entry.step for entry in entries)
    assert set(counts) == set(range(1, training.steps + 1)), "steps were lost"
    assert counts.total() - len(counts) <= CHECKPOINT_EVERY, "more than a checkpoint interval was repeated"
    assert steplog.double_runs(entries) == 0, "two trainers ran at once"
    assert not system.trainers(job_id)
    assert digest(system.final(training)) == reference_digest(training, system.folder)
    return job
