"""What operators send, checked field by field: a value of the model, or every fault with its field."""

import math
import re
import signal
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import PurePosixPath

from google.protobuf.duration_pb2 import Duration

from coordinator.model.job import Flexibility, JobSpec, OnPartition
from coordinator.service import container_codec, slow_codec
from coordinator.service.lookup import no_site
from sterna.v1 import job_pb2

REQUEST_ID_CHARS_MAX = 64
NAME_CHARS_MAX = 128
ARGUMENT_BYTES_MAX = 128 * 1024
"""What Linux takes as one argument or variable (MAX_ARG_STRLEN); we hold all of them together to it."""
CHECKPOINT_BYTES_MAX = 2**63 - 1
DURATION_S_MAX = 315_576_000_000
"""The range that google.protobuf.Duration states: 10,000 years."""
STOP_GRACE_S = 30.0
DEADLINE_AFTER_S_MAX = 100 * 366 * 86_400
"""A century: calendars end before the longest Duration."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_STOP_SIGNALS = frozenset({"KILL", "STOP", "CONT", "CHLD"})
_ON_PARTITION: Mapping[int, OnPartition] = {
    job_pb2.ON_PARTITION_UNSPECIFIED: OnPartition.KEEP_RUNNING,
    **{job_pb2.OnPartition.Value(f"ON_PARTITION_{one.name}"): one for one in OnPartition},
}
_FLEXIBILITY: Mapping[int, Flexibility] = {
    job_pb2.FLEXIBILITY_UNSPECIFIED: Flexibility.FLEX_3,
    **{job_pb2.Flexibility.Value(f"FLEXIBILITY_{one.name}"): one for one in Flexibility},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFault:
    """A field of a request, by its path, and what is wrong with it."""

    field: str
    text: str


def request_id_faults(request_id: str) -> tuple[FieldFault, ...]:
    """Return what is wrong with a request id; empty when it is usable."""
    if 1 <= len(request_id) <= REQUEST_ID_CHARS_MAX and request_id.isprintable():
        return ()
    text = f"expected 1 to {REQUEST_ID_CHARS_MAX} printable characters, got {len(request_id)}"
    return (FieldFault(field="request_id", text=text),)


def job_spec(
    spec: job_pb2.JobSpec, known_sites: Collection[str], path: str = "spec"
) -> JobSpec | tuple[FieldFault, ...]:
    """Return the spec as a value, or every fault.

    Parameters
    ----------
    spec : sterna.v1.JobSpec
        As the operator sent it.
    known_sites : collection of str
        Ids that `home_site` may name.
    path : str
        Where the spec is within the request, for the faults' field paths.
    """
    found = (
        *_command_faults(spec),
        *_environment_faults(spec),
        *_path_faults(spec),
        *_stop_faults(spec),
        *_figure_faults(spec),
        *_home_faults(spec, known_sites),
        *_container_faults(spec),
        *_slow_faults(spec),
        *_deadline_faults(spec),
    )
    if found:
        return tuple(FieldFault(field=f"{path}.{fault.field}", text=fault.text) for fault in found)
    stop_grace_s = _optional_s(spec, "stop_grace")
    return JobSpec(
        name=spec.name,
        argv=tuple(spec.argv),
        resume_argv=tuple(spec.resume_argv),
        env=dict(spec.env),
        working_dir=spec.working_dir,
        checkpoint_glob=spec.checkpoint_glob,
        stop_signal=spec.stop_signal or "TERM",
        stop_grace_s=STOP_GRACE_S if stop_grace_s is None else stop_grace_s,
        power_w=spec.power_w,
        checkpoint_bytes=spec.checkpoint_bytes,
        on_partition=_ON_PARTITION[spec.on_partition],
        may_migrate=spec.may_migrate,
        min_residence_s=_optional_s(spec, "min_residence"),
        home_site=spec.home_site,
        load_s=_optional_s(spec, "load_time"),
        declared_work_s=_optional_s(spec, "declared_work"),
        flexibility=_FLEXIBILITY[spec.flexibility],
        container=container_codec.read(spec),
        slow=slow_codec.read(spec),
        deadline_at=spec.deadline_at.ToDatetime(tzinfo=UTC) if spec.HasField("deadline_at") else None,
        deadline_after_s=_optional_s(spec, "deadline_after"),
        stays=tuple(spec.stays),
    )


def duration_s(duration: Duration) -> float:
    """Return seconds."""
    return duration.ToTimedelta().total_seconds()


def _optional_s(spec: job_pb2.JobSpec, field: str) -> float | None:
    return duration_s(getattr(spec, field)) if spec.HasField(field) else None  # type: ignore[arg-type]


def _slow_faults(spec: job_pb2.JobSpec) -> Iterator[FieldFault]:
    return (FieldFault(field=field, text=text) for field, text in slow_codec.faults(spec))


def _command_faults(spec: job_pb2.JobSpec) -> Iterator[FieldFault]:
    if not (1 <= len(spec.name) <= NAME_CHARS_MAX and spec.name.isprintable()):
        yield FieldFault(field="name", text=f"expected 1 to {NAME_CHARS_MAX} printable characters")
    if not spec.argv or not spec.argv[0]:
        yield FieldFault(field="argv", text="expected a program and its arguments, got none")
    if spec.resume_argv and not spec.resume_argv[0]:
        yield FieldFault(field="resume_argv", text="expected a program first, got an empty word")
    for name, words in (("argv", spec.argv), ("resume_argv", spec.resume_argv)):
        for index, word in enumerate(words):
            if "\0" in word:
                yield FieldFault(field=f"{name}[{index}]", text="holds a NUL character")


def _environment_faults(spec: job_pb2.JobSpec) -> Iterator[FieldFault]:
    for name, value in spec.env.items():
        field = f"env[{name!r}]"
        if not _VARIABLE.fullmatch(name):
            yield FieldFault(field=field, text="expected letters, digits and '_', not beginning with a digit")
        elif name.startswith("STERNA_"):
            yield FieldFault(field=field, text="names beginning with STERNA_ are the agent's")
        if "\0" in value:
            yield FieldFault(field=field, text="its value holds a NUL character")
    words = (*spec.argv, *spec.resume_argv, *spec.env.keys(), *spec.env.values(), *spec.container.arguments)
    total_bytes = sum(len(word.encode()) for word in words)
    if total_bytes > ARGUMENT_BYTES_MAX:
        text = f"arguments and environment have {total_bytes} bytes, at most {ARGUMENT_BYTES_MAX} are passed"
        yield FieldFault(field="argv", text=text)


def _path_faults(spec: job_pb2.JobSpec) -> Iterator[FieldFault]:
    if spec.working_dir and not _is_path(spec.working_dir, absolute=True):
        yield FieldFault(field="working_dir", text=f"expected an absolute path, got {spec.working_dir!r}")
    if spec.checkpoint_glob and not _is_path(spec.checkpoint_glob, absolute=False):
        text = f"expected a relative pattern without '..', got {spec.checkpoint_glob!r}"
        yield FieldFault(field="checkpoint_glob", text=text)
    for index, pattern in enumerate(spec.stays):
        if not pattern or not _is_path(pattern, absolute=False):
            text = f"expected a relative pattern without '..', got {pattern!r}"
            yield FieldFault(field=f"stays[{index}]", text=text)


def _is_path(path: str, *, absolute: bool) -> bool:
    parsed = PurePosixPath(path)
    return parsed.is_absolute() == absolute and ".." not in parsed.parts and "\0" not in path


def _stop_faults(spec: job_pb2.JobSpec) -> Iterator[FieldFault]:
    name = spec.stop_signal or "TERM"
    if f"SIG{name}" not in signal.Signals.__members__:
        yield FieldFault(field="stop_signal", text=f"no signal is named {name!r}; write e.g. TERM or USR1")
    elif name in _NO_STOP_SIGNALS:
        yield FieldFault(field="stop_signal", text=f"{name} cannot ask a program for a checkpoint")
    if spec.on_partition not in _ON_PARTITION:
        yield FieldFault(field="on_partition", text=f"{spec.on_partition} is no policy that Sterna knows")
    if spec.flexibility not in _FLEXIBILITY:
        yield FieldFault(field="flexibility", text=f"{spec.flexibility} is no tier that Sterna knows")


def _figure_faults(spec: job_pb2.JobSpec) -> Iterator[FieldFault]:
    if not (math.isfinite(spec.power_w) and spec.power_w >= 0):
        yield FieldFault(field="power_w", text=f"expected watts, zero or more, got {spec.power_w:g}")
    if spec.checkpoint_bytes > CHECKPOINT_BYTES_MAX:
        yield FieldFault(field="checkpoint_bytes", text=f"expected at most {CHECKPOINT_BYTES_MAX}")
    for field in ("stop_grace", "min_residence", "load_time", "declared_work"):
        length: Duration = getattr(spec, field)
        if length.seconds < 0 or length.nanos < 0 or length.seconds > DURATION_S_MAX:
            text = f"expected a duration, zero to {DURATION_S_MAX} s, got {length.seconds} s"
            yield FieldFault(field=field, text=text)


def _deadline_faults(spec: job_pb2.JobSpec) -> Iterator[FieldFault]:
    field = spec.WhichOneof("deadline")
    if field is None:
        return
    if not spec.HasField("declared_work"):
        yield FieldFault(field=field, text="expected declared_work with it: how long the job needs to run")
    length = spec.deadline_after
    if length.seconds < 0 or length.nanos < 0 or length.seconds > DEADLINE_AFTER_S_MAX:
        text = f"expected a duration, zero to {DEADLINE_AFTER_S_MAX} s, got {length.seconds} s"
        yield FieldFault(field=field, text=text)
    try:
        spec.deadline_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        yield FieldFault(field=field, text="expected an instant between the years 1 and 9999")


def _container_faults(spec: job_pb2.JobSpec) -> Iterator[FieldFault]:
    for field, text in container_codec.faults(spec):
        yield FieldFault(field=field, text=text)


def _home_faults(spec: job_pb2.JobSpec, known_sites: Collection[str]) -> Iterator[FieldFault]:
    if spec.home_site and spec.home_site not in known_sites:
        yield FieldFault(field="home_site", text=no_site(spec.home_site, known_sites))
