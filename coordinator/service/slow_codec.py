"""How far a job may be slowed: sterna.v1.SlowRange to a value, its faults, and back."""

from collections.abc import Iterator

from coordinator.model.job import SlowRange
from sterna.v1 import job_pb2


def read(spec: job_pb2.JobSpec) -> SlowRange | None:
    """Return the range of a spec; None: it has none."""
    if not spec.HasField("slow"):
        return None
    return SlowRange(power_frac=spec.slow.power_frac, speed_frac=spec.slow.speed_frac)


def faults(spec: job_pb2.JobSpec) -> Iterator[tuple[str, str]]:
    """Yield (field, what was expected) of what is wrong with it."""
    slow = read(spec)
    if slow is None:
        return
    yield from ((f"slow.{field}", text) for field, text in slow.faults())
    if not spec.power_w > 0.0:
        yield "slow", "it is a share of power_w, and that is not above zero"


def write(slow: SlowRange | None) -> job_pb2.SlowRange | None:
    """Return the message; None where there is no range."""
    if slow is None:
        return None
    return job_pb2.SlowRange(power_frac=slow.power_frac, speed_frac=slow.speed_frac)
