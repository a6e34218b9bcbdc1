"""What `--json` prints: one document of schema ``sterna.cli/1``, described in docs/operations.md.

Field names are those of the protos. Missing is null, never 0; times are RFC 3339 in UTC; durations are
seconds and their names end ``_s``; states are lower-case words; numbers are numbers, also those of 64 bits.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

import msgspec
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

JSON_SCHEMA = "sterna.cli/1"


def document(kind: str, data: Any) -> dict[str, Any]:
    """Return ``{"schema": …, "kind": …, "data": …}``.

    Parameters
    ----------
    kind : str
        What the data is, e.g. ``jobs``.
    data : Message, sequence of Message, or plain
        Messages become objects.
    """
    return {"schema": JSON_SCHEMA, "kind": kind, "data": _plain(data)}


def encode(kind: str, data: Any, *, indent: int = 2) -> bytes:
    """Return the document as UTF-8 with a newline; `indent` 0 keeps it on one line."""
    encoded = msgspec.json.encode(document(kind, data))
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return _object(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(one) for one in value]
    return value


def _object(message: Message) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        absent = field.has_presence and not message.HasField(field.name)
        is_duration = field.message_type is not None and field.message_type.full_name == _DURATION
        name = f"{field.name}_s" if is_duration else field.name
        entries[name] = None if absent else _value(field, getattr(message, field.name))
    return entries


_DURATION = Duration.DESCRIPTOR.full_name


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {key: value[key] for key in sorted(value)}
    if field.is_repeated:
        return [_one(field, one) for one in value]
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToDatetime(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Duration):
        return value.ToTimedelta().total_seconds()
    if field.enum_type is not None:
        return enum_word(field.enum_type, value)
    return _object(value) if isinstance(value, Message) else value


def enum_word(kind: EnumDescriptor, number: int) -> str | None:
    """``JOB_STATE_CONTACT_LOST`` → ``contact_lost``; unspecified is None, unknown its number."""
    if number == 0:
        return None
    named = kind.values_by_number.get(number)
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return named.name.removeprefix(prefix).lower() if named is not None else str(number)
