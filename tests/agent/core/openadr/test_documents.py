import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.openadr import documents
from agent.core.openadr.book import Book
from agent.core.openadr.plan import LimitSettings, plan
from agent.core.openadr.reading import MAX_DOCUMENT_BYTES, Fault
from agent.model.openadr import Event, Notification, Notifiers, Operation, Unreadable
from tests.agent.core.openadr.events import T0, at


def limit_event(**more: object) -> dict[str, object]:
    return {
        "id": "e1",
        "programID": "p1",
        "intervalPeriod": {"start": "2026-06-01T12:00:00Z", "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [5]}]}],
        **more,
    }


FAULTS = {
    "programID: not a string": {"programID": 7},
    "programID: not a string of 1": {"programID": ""},
    "programID: not an id": {"programID": "p\n"},
    "id: not a string": {"id": 1},
    "priority: negative": {"priority": -1},
    "priority: not a whole number": {"priority": 1.5},
    "eventName: half of a surrogate": {"eventName": "\ud800"},
    "duration: not a duration": {"duration": "1 hour"},
    "intervalPeriod: not an object": {"intervalPeriod": "now"},
    "intervalPeriod.start: not an instant": {"intervalPeriod": {"start": "2026-06-01T12:00:00"}},
    "intervalPeriod.randomizeStart: not a duration": {"intervalPeriod": {"randomizeStart": "PT"}},
    "intervals: not a list": {"intervals": {}},
    "intervals[0]: not an object": {"intervals": [None]},
    "intervals[0].id: not a whole number": {"intervals": [{"payloads": []}]},
    "intervals[0].payloads[0].type: not a string": {"intervals": [{"id": 0, "payloads": [{"values": []}]}]},
    "intervals[0].payloads[0].values[1]: not a number": {
        "intervals": [{"id": 0, "payloads": [{"type": "PRICE", "values": [1, None]}]}]
    },
    "intervals[0].payloads[0].values[0]: not a finite": {
        "intervals": [{"id": 0, "payloads": [{"type": "PRICE", "values": [1e300]}]}]
    },
    "intervals[0].payloads[0].values[0].y: not a number": {
        "intervals": [{"id": 0, "payloads": [{"type": "CURVE", "values": [{"x": 1}]}]}]
    },
    "reportDescriptors[0].payloadType: not a string": {"reportDescriptors": [{}]},
    "reportDescriptors[0].historical: not true": {
        "reportDescriptors": [{"payloadType": "USAGE", "historical": 1}]
    },
    "reportDescriptors[0].repeat: not a whole": {
        "reportDescriptors": [{"payloadType": "USAGE", "repeat": 2**40}]
    },
    "targets[0]: not a string": {"targets": [1]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_their_field_and_spoil_no_other_event(fault: str) -> None:
    broken = limit_event(**FAULTS[fault])
    found = documents.events(json.dumps([broken, limit_event(id="e2")]).encode())
    assert isinstance(found[0], Unreadable)
    assert found[0].fault.startswith(f"[0].{fault}")
    assert isinstance(found[1], Event)


@pytest.mark.parametrize(
    "document",
    [b"", b"nope", b"[", b"7", b"[7]", b"\xff", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 100_000],
)
def test_what_is_no_document_is_a_fault(document: bytes) -> None:
    with pytest.raises(Fault):
        documents.events(document)


def test_documents_are_bounded() -> None:
    with pytest.raises(Fault, match="more than"):
        documents.events(b" " * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(Fault, match="not a list of at most"):
        documents.events(b"[" + b"{}," * 6000 + b"{}]")


def test_unknown_fields_and_types_pass() -> None:
    body = limit_event(colour="green", objectType="EVENT_OF_THE_FUTURE")
    body["intervals"] = [{"id": 0, "flavour": 1, "payloads": [{"type": "X_NEW", "values": [True, "a"]}]}]
    (found,) = documents.events(json.dumps([body]).encode())
    assert isinstance(found, Event)
    assert found.intervals[0].payloads[0].values == (True, "a")


def test_a_stored_event_has_an_id() -> None:
    body = limit_event()
    del body["id"]
    (found,) = documents.events(json.dumps(body).encode())
    assert found == Unreadable(id=None, fault="id: missing", may_limit=True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"id": "n1", "objectType": "EVENT", "operation": "UPDATE", "object": {"id": "e1"}},
            Notification(id="n1", object_type="EVENT", operation=Operation.UPDATE, object_id="e1"),
        ),
        (
            {"objectType": "EVENT", "operation": "CREATE", "object": {"id": "e1"}},
            Notification(id=None, object_type="EVENT", operation=Operation.CREATE, object_id="e1"),
        ),
        (
            {"id": "e1", "objectType": "EVENT", "programID": "p1"},
            Notification(id=None, object_type="EVENT", operation=None, object_id="e1"),
        ),
        (
            {"ID": "e1", "notificationID": "n1", "objectType": "EVENT", "operation": "DELETE"},
            Notification(id="n1", object_type="EVENT", operation=Operation.DELETE, object_id="e1"),
        ),
        ({"operation": "EXPLODE"}, Notification(id=None, object_type=None, operation=None, object_id=None)),
        ([], None),
        ({"object": 7}, None),
    ],
)
def test_notifications_come_wrapped_bare_and_slim(body: object, expected: Notification | None) -> None:
    assert documents.notification(json.dumps(body).encode()) == expected


def test_how_a_vtn_notifies() -> None:
    def read(body: object) -> Notifiers:
        return documents.notifiers(json.dumps(body).encode())

    uris = {"URIS": ["mqtts://broker:8883"], "serialization": "JSON"}
    assert read({"WEBHOOK": True}) == Notifiers(webhook=True, mqtt_uris=())
    assert read({"MQTT": uris}) == Notifiers(webhook=False, mqtt_uris=("mqtts://broker:8883",))
    secured = {**uris, "authentication": {"method": "OAUTH2_BEARER_TOKEN", "username": "{clientID}"}}
    found = read({"MQTT": secured})
    assert (found.method, found.username) == ("OAUTH2_BEARER_TOKEN", "{clientID}")


def test_topics_are_taken_as_they_are_told() -> None:
    def read(**topics: str) -> tuple[str, ...]:
        return documents.topics(json.dumps({"topics": topics}).encode())

    assert read(ALL="a/+", CREATE="a/c") == ("a/+",)
    assert read(CREATE="a/c", UPDATE="a/u", DELETE="a/d") == ("a/c", "a/u", "a/d")
    assert read() == ()


def test_tokens_and_problems() -> None:
    assert documents.token_url(b'{"tokenURL": "https://x/t"}') == "https://x/t"
    assert documents.token(b'{"access_token": "t", "expires_in": 60}') == ("t", 60.0)
    assert documents.token(b'{"access_token": "t"}') == ("t", None)
    assert (
        documents.problem(b'{"title": "Forbidden", "detail": "scope", "status": 403}') == "Forbidden: scope"
    )
    assert documents.problem(b"<html>") == ""


def test_subscriptions() -> None:
    body = {
        "id": "s1",
        "clientName": "c",
        "programID": "p1",
        "objectOperations": [{"objects": ["EVENT", "PROGRAM"], "operations": ["CREATE"], "callbackUrl": "x"}],
    }
    (found,) = documents.documents(json.dumps(body).encode(), documents.subscription)
    assert (found.id, found.program_id, found.object_types) == ("s1", "p1", ("EVENT", "PROGRAM"))


def test_attributes_of_vens_and_resources() -> None:
    attributes = [{"type": "MAX_POWER_CONSUMPTION", "values": [11.0]}]
    body = {"venName": "site-a", "attributes": attributes}
    (found,) = documents.documents(json.dumps(body).encode(), documents.ven)
    assert found.attributes[0].values == (11.0,)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(
    {*limit_event(), "duration", "priority", "targets", "reportDescriptors", "payloadDescriptors"}
)


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3), json_values)
def test_no_document_ends_in_anything_but_a_value(changes: dict[str, object], inner: object) -> None:
    body = limit_event(**changes)
    if isinstance(body["intervals"], list):
        body["intervals"] = [*body["intervals"], inner]
    found = documents.events(json.dumps([body]).encode())
    outlook = Book().polled(found, T0).outlook(site="s", from_at=T0, until_at=at(200))
    planned = plan(outlook, LimitSettings(fallback_w=1000.0), T0)
    if isinstance(found[0], Unreadable) and found[0].may_limit:
        assert planned[0].limit_w == 1000.0


@given(st.binary(max_size=60))
def test_noise_is_no_notification(noise: bytes) -> None:
    found = documents.notification(noise)
    assert found is None or isinstance(found, Notification)
