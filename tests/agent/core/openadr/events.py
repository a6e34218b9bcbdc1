"""Short ways to write events in tests."""

from datetime import UTC, datetime, timedelta

from agent.core.openadr.documents import event
from agent.core.openadr.reading import Node
from agent.model.openadr import Event

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def period(start: float | str | None = None, duration: str | None = None, **more: str) -> dict[str, str]:
    body = dict(more)
    if start is not None:
        body["start"] = start if isinstance(start, str) else at(start).isoformat()
    if duration is not None:
        body["duration"] = duration
    return body


def interval(
    number: int, *values: object, kind: str = "IMPORT_CAPACITY_LIMIT", when: dict[str, str] | None = None
) -> dict[str, object]:
    body: dict[str, object] = {"id": number, "payloads": [{"type": kind, "values": list(values)}]}
    return body if when is None else {**body, "intervalPeriod": when}


def make(*intervals: dict[str, object], when: dict[str, str] | None = None, **more: object) -> Event:
    body: dict[str, object] = {"id": "e1", "programID": "p1", "intervals": list(intervals), **more}
    if when is not None:
        body["intervalPeriod"] = when
    return event(Node(body))
