"""OpenADR 3.1 documents from JSON. Whatever the bytes are, the answer is a value or a `Fault` with its path.

Strict on what decides (times, figures, ids), tolerant of the rest: unknown fields pass, a misspelt
``payLoadType`` (the User Guide's own examples have it) is read, an object type that we do not know is kept.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from agent.core.openadr.reading import Fault, Node, figure, listed, load, text
from agent.core.openadr.times import parse_start
from agent.model.openadr import (
    NOW,
    Attribute,
    Event,
    Interval,
    IntervalPeriod,
    Notification,
    Notifiers,
    Operation,
    Payload,
    PayloadDescriptor,
    PayloadValue,
    Point,
    Program,
    Report,
    ReportDescriptor,
    ReportResource,
    Resource,
    Subscription,
    Unreadable,
    Ven,
)

LIMITING = ("IMPORT_CAPACITY", "CAPACITY_SUBSCRIPTION", "DISPATCH_SETPOINT", "SIMPLE")
"""Words that, found anywhere in an event that cannot be read, mean that it may limit us."""
LIMITING_EXPORT = "EXPORT_CAPACITY"

T = TypeVar("T")


def documents(payload: bytes, read: Callable[[Node], T]) -> tuple[T, ...]:
    """Read one object, or a list of them as a search returns it.

    Raises
    ------
    Fault
        The first field that cannot be used, by its path.
    """
    value = load(payload)
    if isinstance(value, list):
        return tuple(read(Node.of(item, path)) for item, path in listed(value, ""))
    return (read(Node.of(value)),)


def events(payload: bytes) -> tuple[Event | Unreadable, ...]:
    """Read a list of events; one that cannot be read is told as such and spoils no other."""
    return documents(payload, event_or_fault)


def event_or_fault(node: Node) -> Event | Unreadable:
    """Read an event that the VTN has stored; a fault becomes a value."""
    try:
        found = event(node)
    except Fault as fault:
        return _unreadable(node, str(fault))
    if found.id is None:
        return _unreadable(node, f"{node.at('id')}: missing")
    return found


def _unreadable(node: Node, fault: str) -> Unreadable:
    body = json.dumps(node.value)
    known = node.value.get("id")
    return Unreadable(
        id=known if isinstance(known, str) and 0 < len(known) <= 128 and known.isprintable() else None,
        fault=fault,
        may_limit=any(word in body for word in LIMITING),
        may_limit_export=LIMITING_EXPORT in body,
    )


def program(node: Node) -> Program:
    """Read a program."""
    return Program(
        id=node.maybe(node.identity, "id"),
        name=node.text("programName", shortest=1),
        descriptors=_descriptors(node),
        targets=node.texts("targets"),
    )


def event(node: Node) -> Event:
    """Read an event."""
    priority = node.maybe(node.integer, "priority")
    if priority is not None and priority < 0:
        raise Fault(node.at("priority"), "negative")
    return Event(
        id=node.maybe(node.identity, "id"),
        program_id=node.identity("programID"),
        name=node.maybe(node.text, "eventName"),
        priority=priority,
        targets=node.texts("targets"),
        period=_period(node),
        duration=node.maybe(node.duration, "duration"),
        intervals=_intervals(node),
        descriptors=_descriptors(node),
        report_descriptors=tuple(report_descriptor(each) for each in node.children("reportDescriptors")),
        stated_at=_stated_at(node),
    )


def report_descriptor(node: Node) -> ReportDescriptor:
    """Read what an event wants reported."""

    def number(name: str, default: int) -> int:
        value = node.maybe(node.integer, name)
        return default if value is None else value

    def word(name: str, default: bool) -> bool:
        value = node.maybe(node.boolean, name)
        return default if value is None else value

    return ReportDescriptor(
        payload_type=_payload_type(node),
        reading_type=node.maybe(node.text, "readingType"),
        units=node.maybe(node.text, "units"),
        targets=node.texts("targets"),
        aggregate=word("aggregate", False),
        start_interval=number("startInterval", -1),
        num_intervals=number("numIntervals", -1),
        historical=word("historical", True),
        frequency=number("frequency", -1),
        repeat=number("repeat", 1),
        report_intervals=node.maybe(node.text, "reportIntervals") or "INTERVALS",
    )


def report(node: Node) -> Report:
    """Read a report."""
    return Report(
        id=node.maybe(node.identity, "id"),
        event_id=node.identity("eventID"),
        client_name=node.text("clientName", shortest=1),
        name=node.maybe(node.text, "reportName"),
        resources=tuple(_report_resource(each) for each in node.children("resources")),
        descriptors=_descriptors(node),
    )


def ven(node: Node) -> Ven:
    """Read a VEN."""
    return Ven(
        id=node.maybe(node.identity, "id"),
        name=node.text("venName", shortest=1),
        client_id=node.maybe(node.text, "clientID"),
        targets=node.texts("targets"),
        attributes=_attributes(node),
    )


def resource(node: Node) -> Resource:
    """Read a resource."""
    return Resource(
        id=node.maybe(node.identity, "id"),
        name=node.text("resourceName", shortest=1),
        ven_id=node.identity("venID"),
        client_id=node.maybe(node.text, "clientID"),
        targets=node.texts("targets"),
        attributes=_attributes(node),
    )


def subscription(node: Node) -> Subscription:
    """Read a subscription."""
    types = (kind for each in node.children("objectOperations") for kind in each.texts("objects"))
    return Subscription(
        id=node.maybe(node.identity, "id"),
        client_name=node.text("clientName", shortest=1),
        program_id=node.maybe(node.identity, "programID"),
        object_types=tuple(dict.fromkeys(types)),
    )


def notification(payload: bytes) -> Notification | None:
    """Read a notification, wrapped, bare or slim; None when it is not even an object."""
    try:
        node = Node.of(load(payload))
        inner = node.maybe(node.child, "object")
    except Fault:
        return None
    # Beside the wrapper of the standard there are a bare object, and a slim form with ids only.
    word = _word(node, "operation")
    return Notification(
        id=_word(node, "notificationID") or (_word(node, "id") if inner is not None else None),
        object_type=_word(node, "objectType"),
        operation=next((each for each in Operation if each.value == word), None),
        object_id=_word(inner or node, "id") or _word(node, "ID"),
    )


def notifiers(payload: bytes) -> Notifiers:
    """Read how a VTN notifies."""
    node = Node.of(load(payload))
    mqtt = node.maybe(node.child, "MQTT")
    webhook = node.value.get("WEBHOOK") is True
    if mqtt is None:
        return Notifiers(webhook=webhook, mqtt_uris=())
    authentication = mqtt.maybe(mqtt.child, "authentication")
    if authentication is None:
        return Notifiers(webhook=webhook, mqtt_uris=mqtt.texts("URIS"))
    return Notifiers(
        webhook=webhook,
        mqtt_uris=mqtt.texts("URIS"),
        method=authentication.text("method", shortest=1),
        username=authentication.maybe(authentication.text, "username"),
    )


def topics(payload: bytes) -> tuple[str, ...]:
    """Read the topics to subscribe to: the one for all operations where it is given, else each."""
    node = Node.of(load(payload)).child("topics")
    everything = node.maybe(node.text, "ALL")
    if everything:
        return (everything,)
    found = (node.maybe(node.text, name) for name in ("CREATE", "UPDATE", "DELETE"))
    return tuple(dict.fromkeys(topic for topic in found if topic))


def token_url(payload: bytes) -> str:
    """Read where tokens are fetched."""
    return Node.of(load(payload)).text("tokenURL", shortest=1)


def token(payload: bytes) -> tuple[str, float | None]:
    """Read an access token, and its life in seconds; None where it is not told."""
    node = Node.of(load(payload))
    life = node.value.get("expires_in")
    return node.text("access_token", shortest=1), None if life is None else figure(life, "expires_in")


def problem(payload: bytes) -> str:
    """Say what a problem document says, in one line; empty when it is none."""
    try:
        node = Node.of(load(payload))
    except Fault:
        return ""
    words = (_word(node, name) for name in ("title", "detail", "error", "error_description"))
    return ": ".join(word for word in words if word)[:300]


def _word(node: Node, name: str) -> str | None:
    value = node.value.get(name)
    return value if isinstance(value, str) and len(value) <= 256 else None


def _stated_at(node: Node) -> datetime | None:
    for name in ("modificationDateTime", "createdDateTime"):
        # Examples of the User Guide give the time of day alone; that tells nothing and harms nothing.
        stated = parse_start(_word(node, name) or "")
        if stated is not None and stated != NOW:
            return stated
    return None


def _payload_type(node: Node) -> str:
    name = "payLoadType" if "payloadType" not in node.value and "payLoadType" in node.value else "payloadType"
    return node.text(name, shortest=1)


def _descriptors(node: Node) -> tuple[PayloadDescriptor, ...]:
    return tuple(
        PayloadDescriptor(
            payload_type=_payload_type(each),
            units=each.maybe(each.text, "units"),
            currency=each.maybe(each.text, "currency"),
            reading_type=each.maybe(each.text, "readingType"),
        )
        for each in node.children("payloadDescriptors")
    )


def _period(node: Node) -> IntervalPeriod | None:
    period = node.maybe(node.child, "intervalPeriod")
    if period is None:
        return None
    return IntervalPeriod(
        start=period.maybe(period.start, "start"),
        duration=period.maybe(period.duration, "duration"),
        randomize_start=period.maybe(period.duration, "randomizeStart"),
    )


def _intervals(node: Node) -> tuple[Interval, ...]:
    return tuple(
        Interval(
            id=each.integer("id"),
            period=_period(each),
            payloads=tuple(_payload(payload) for payload in each.children("payloads")),
        )
        for each in node.children("intervals")
    )


def _payload(node: Node) -> Payload:
    return Payload(
        type=node.text("type", shortest=1),
        values=tuple(_value(value, path) for value, path in node.items("values")),
    )


def _value(value: object, path: str) -> PayloadValue:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, path)
    if isinstance(value, dict):
        return Point(x=figure(value.get("x"), f"{path}.x"), y=figure(value.get("y"), f"{path}.y"))
    return figure(value, path)


def _report_resource(node: Node) -> ReportResource:
    return ReportResource(
        name=node.text("resourceName", shortest=1),
        period=_period(node),
        intervals=_intervals(node),
        descriptors=_descriptors(node),
    )


def _attributes(node: Node) -> tuple[Attribute, ...]:
    return tuple(
        Attribute(
            type=each.text("type", shortest=1),
            values=tuple(_value(value, path) for value, path in each.items("values")),
        )
        for each in node.children("attributes")
    )
