"""Instants, durations and job specs as messages: the same for operators and for sites."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.model.job import JobSpec
from coordinator.service import container_codec, slow_codec
from sterna.v1 import job_pb2


def timestamp(at: datetime | None) -> Timestamp | None:
    """Return the instant as a message; None stays None, which a message reads as absent."""
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def duration(length_s: float | None) -> Duration | None:
    """Return seconds as a message; None stays None."""
    if length_s is None:
        return None
    message = Duration()
    message.FromTimedelta(timedelta(seconds=length_s))
    return message


def job_spec(spec: JobSpec) -> job_pb2.JobSpec:
    """Return what is to be run."""
    return job_pb2.JobSpec(
        name=spec.name,
        argv=spec.argv,
        resume_argv=spec.resume_argv,
        env=spec.env,
        working_dir=spec.working_dir,
        checkpoint_glob=spec.checkpoint_glob,
        stop_signal=spec.stop_signal,
        stop_grace=duration(spec.stop_grace_s),
        power_w=spec.power_w,
        checkpoint_bytes=spec.checkpoint_bytes,
        on_partition=job_pb2.OnPartition.Value(f"ON_PARTITION_{spec.on_partition.name}"),
        may_migrate=spec.may_migrate,
        min_residence=duration(spec.min_residence_s),
        home_site=spec.home_site,
        load_time=duration(spec.load_s),
        declared_work=duration(spec.declared_work_s),
        flexibility=job_pb2.Flexibility.Value(f"FLEXIBILITY_{spec.flexibility.name}"),
        container=container_codec.write(spec.container),
        slow=slow_codec.write(spec.slow),
        deadline_at=timestamp(spec.deadline_at),
        deadline_after=duration(spec.deadline_after_s),
        stays=spec.stays,
    )
