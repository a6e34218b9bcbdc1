"""A VTN that answers anything as a target: production reader, VEN, book, plan, feed, desk and store.

An answer that is refused as a whole must change nothing. Of a list of events one that cannot be read is told
as such; it may only take power away, and the events beside it must count as before.
"""

import contextlib
import copy
import json
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.openadr import documents, report_due
from agent.core.openadr.book import Book
from agent.core.openadr.plan import LimitSettings, Planned, plan
from agent.core.openadr.reading import MAX_DOCUMENT_BYTES, MAX_ITEMS, MAX_TEXT
from agent.grid.desk import GridDesk
from agent.grid.openadr import OpenAdrVen
from agent.grid.openadr_feed import PlanFeed
from agent.grid.openadr_http import Response
from agent.grid.openadr_rest import MAX_PAGES, PAGE, RestVtn
from agent.model.openadr import Event, Unreadable
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import FakeClock
from sterna.errors import PeerProtocolError, TransientError
from tests.hostile.mutants import flipped, junk, retyped, torn, wild, without, written

FIXTURES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fixtures" / "openadr3"
NOW = datetime(2026, 11, 22, 10, 37, 45, tzinfo=UTC)
AHEAD = NOW + timedelta(days=8)
URL = "http://127.0.0.1:1/openadr3/3.1.0"
FALLBACK_W, LIMIT_KW = 4000.0, 3.0
SETTINGS = LimitSettings(fallback_w=FALLBACK_W, subscription_w=9000.0, level_limits_w={1: 6000.0})
HARMLESS = "HARMLESS"
LONG = b"[" + b" " * MAX_DOCUMENT_BYTES + b"]"
RARE_FRAC = 0.01
"""What is costly to make comes up less often."""

Document = dict[str, Any]

DETAILS = {
    "NOT_JSON": "not JSON",
    "TOO_LONG": f"more than {MAX_DOCUMENT_BYTES} bytes",
    "NOT_A_LIST": f"not a list of at most {MAX_ITEMS}",
    "NOT_AN_OBJECT": "not an object",
    "NOT_A_STRING": f"to {MAX_TEXT} characters",
    "SURROGATE": "half of a surrogate pair",
    "NOT_AN_ID": "not an id of at most",
    "NOT_A_WHOLE_NUMBER": "not a whole number",
    "NOT_A_BOOLEAN": "not true or false",
    "NOT_AN_INSTANT": "not an instant",
    "NOT_A_DURATION": "not a duration",
    "NOT_A_NUMBER": "not a number",
    "NOT_FINITE": "not a finite number",
    "NEGATIVE": "negative",
    "WITHOUT_ID": "id: missing",
    "NOT_ONE_OBJECT": "expected the object that was created",
    "TOO_MANY_PAGES": f"more than {MAX_PAGES} pages",
    "BAD_TOKEN_URL": "tokenURL: ",
    "BAD_TOKEN": "has letters that no header has",
}
"""Every way in which a reader refuses, by words of its message."""
STATUSES = {
    400: "REFUSED",
    401: "UNAUTHORIZED",
    404: "REFUSED",
    409: "CONFLICT",
    418: "REFUSED",
    408: "LATER",
    429: "LATER",
    500: "LATER",
    503: "LATER",
}
NO_NOTIFICATION = "NO_NOTIFICATION"

EVENT: Document = {
    "id": "e-1",
    "objectType": "EVENT",
    "programID": "p-1",
    "eventName": "limit",
    "priority": 3,
    "createdDateTime": "2026-11-22T09:00:00Z",
    "targets": ["site-a"],
    "duration": "PT8H",
    "intervalPeriod": {
        "start": "2026-11-22T09:00:00Z",
        "duration": "PT1H",
        "randomizeStart": "PT0S",
    },
    "payloadDescriptors": [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"}],
    "reportDescriptors": [
        {
            "payloadType": "USAGE",
            "readingType": "DIRECT_READ",
            "aggregate": False,
            "startInterval": -1,
            "numIntervals": -1,
            "historical": True,
            "frequency": 1,
            "repeat": 1,
        }
    ],
    "intervals": [
        {"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [5.5]}]},
        {
            "id": 1,
            "intervalPeriod": {"start": "2026-11-22T12:00:00Z", "duration": "PT30M"},
            "payloads": [{"type": "SIMPLE", "values": [1]}, {"type": "CURVE", "values": [{"x": 1, "y": 2}]}],
        },
    ],
}
SHIPPED: dict[str, list[Document]] = {
    "event": [EVENT],
    "program": [{"id": "p-1", "programName": "envelope", "targets": ["site-a"], "payloadDescriptors": []}],
    "ven": [
        {
            "id": "v-1",
            "venName": "site-a",
            "clientID": "c",
            "attributes": [{"type": "PLACE", "values": ["here", 1, True]}],
        }
    ],
    "resource": [{"id": "r-1", "resourceName": "load", "venID": "v-1", "targets": []}],
    "notifiers": [
        {
            "WEBHOOK": True,
            "MQTT": {"URIS": ["mqtt://127.0.0.1"], "authentication": {"method": "ANONYMOUS"}},
        }
    ],
    "topics": [{"topics": {"CREATE": "a/c", "UPDATE": "a/u", "DELETE": "a/d"}}],
    "server": [{"tokenURL": "http://127.0.0.1:1/token"}],
    "token": [{"access_token": "abc", "token_type": "Bearer", "expires_in": 60}],
    "notification": [{"notificationID": "n", "objectType": "EVENT", "operation": "UPDATE", "object": EVENT}],
}
BASE: Document = {
    **EVENT,
    "id": "base",
    "priority": 1,
    "duration": "P30D",
    "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [LIMIT_KW]}]}],
    "intervalPeriod": {"start": "2026-11-22T00:00:00Z", "duration": "P30D"},
}


class Vtn:
    """Stands in for `HttpClient`: answers as it is told; by the end of a URL where that is given."""

    def __init__(self) -> None:
        self.answer: Response = _ok(b"[]")
        self.by_end: dict[str, Response] = {}
        self.pages: Iterator[bytes] | None = None

    async def request(self, _method: str, url: str, **_more: object) -> Response:
        """Answer one request."""
        if self.pages is not None:
            return _ok(next(self.pages))
        return next((answer for end, answer in self.by_end.items() if url.endswith(end)), self.answer)


def _ok(body: bytes) -> Response:
    return Response(status=200, headers={}, body=body)


def _body(value: object) -> Response:
    return _ok(written(value))


class OpenAdrTarget:
    """Hostile answers to everything that the VEN asks, and hostile notifications."""

    name = "openadr"
    reasons = frozenset(DETAILS) | frozenset(STATUSES.values()) | {NO_NOTIFICATION}

    def __init__(self, http: Vtn, ven: OpenAdrVen, desk: GridDesk, clock: FakeClock) -> None:
        self._http, self._ven, self._desk, self._clock = http, ven, desk, clock
        self._vtn = _client(http, clock, secret=None)
        self._valid = _documents()
        self._base = Book().polled([_event(BASE)], NOW)
        self._base_plan = _planned(self._base)
        self._targeted: list[Callable[[random.Random], Awaitable[str]]] = [
            *[self._twisted] * 8,
            self._status,
            self._created,
            self._token,
            self._notified,
        ]

    def state(self) -> object:
        """Return all that a refused answer must not change."""
        return self._ven.book, self._desk.envelope(NOW), self._desk.last_sequence("openadr")

    async def offer(self, rng: random.Random) -> str:
        """Give one bad answer."""
        rare = rng.random()
        if rare < RARE_FRAC:
            return await (self._pages if rare < RARE_FRAC / 2 else self._long)(rng)
        if rng.random() < 0.65:
            return await rng.choice(self._targeted)(rng)
        kind = rng.choice(list(self._valid))
        if rng.random() < 0.3:
            payload = written(rng.choice(self._valid[kind]))
            payload = rng.choice((torn, flipped))(payload, rng)
        else:
            payload = junk(rng)
        return await self._answered(kind, payload)

    async def _long(self, rng: random.Random) -> str:
        """Answer with more than is ever read."""
        kind = rng.choice([kind for kind in self._valid if kind != "notification"])
        return await self._answered(kind, LONG)

    async def _twisted(self, rng: random.Random) -> str:
        """Answer with a sound document in which one field is wrong, for a reason that is known or any."""
        kind = "event" if rng.random() < 0.6 else rng.choice(list(self._valid))
        document = copy.deepcopy(rng.choice(self._valid[kind]))
        expected = _twist(document, rng)
        if kind not in ("event", "program", "ven", "resource"):
            return await self._answered(kind, written(document))
        beside = [rng.choice(self._valid[kind]) for _ in range(rng.randrange(2))]
        body = written([*beside, document] if rng.random() < 0.8 else document)
        reason = await self._answered(kind, body)
        if expected is not None and kind == "event" and reason != expected:
            raise AssertionError(f"{reason} instead of {expected}: {written(document)[:400]!r}")
        return reason

    async def _answered(self, kind: str, payload: bytes) -> str:
        if kind == "notification":
            return NO_NOTIFICATION if documents.notification(payload) is None else HARMLESS
        if kind == "event":
            return await self._polled(payload)
        self._http.answer = _ok(payload)
        if kind in ("server", "token"):
            return await self._asked_token({kind: payload})
        asks: dict[str, Callable[[], Awaitable[object]]] = {
            "program": self._vtn.programs,
            "ven": lambda: self._vtn.vens("site-a"),
            "resource": lambda: self._vtn.resources("v-1", "load"),
            "notifiers": self._vtn.notifiers,
            "topics": lambda: self._vtn.topics("v-1", "events"),
        }
        return await _outcome(asks[kind]())

    async def _polled(self, payload: bytes) -> str:
        """Have the VEN poll if it must refuse the answer; else judge what it would do."""
        self._http.answer = _ok(payload)
        try:
            found = documents.events(payload)
        except Exception as error:
            reason = _reason(str(error))
            with contextlib.suppress(PeerProtocolError):
                await self._ven.poll()
                raise AssertionError("a poll took what the reader refuses") from error
            return reason
        unread = [event for event in found if isinstance(event, Unreadable)]
        with_base = self._base.polled([_event(BASE), *found], NOW)
        planned = _planned(with_base)
        for known in with_base.held.values():
            report_due.due(known, site="site-a", now=NOW, done={})
        if not unread:
            return HARMLESS
        if len(unread) == len(found):
            self._only_less(planned)
        return _reason(unread[0].fault)

    def _only_less(self, planned: tuple[Planned, ...]) -> None:
        """Fail if events that cannot be read let more power in than holds without them."""
        for piece in planned:
            before_w, after_w = _limit_w(self._base_plan, piece.start_at), _limit_w(planned, piece.start_at)
            if after_w > before_w:
                raise AssertionError(f"an unreadable event raised {before_w} W to {after_w} W")

    async def _pages(self, rng: random.Random) -> str:
        """Never end."""
        number = rng.randrange(10**6)

        def pages() -> Iterator[bytes]:
            for page in range(number, number + MAX_PAGES + 1):
                yield written([{"programName": str(page)}] * PAGE)

        self._http.pages = pages()
        try:
            return await _outcome(self._vtn.programs())
        finally:
            self._http.pages = None

    async def _status(self, rng: random.Random) -> str:
        """Answer a poll with a problem, sound or not."""
        status = rng.choice(list(STATUSES))
        problem = written({"title": wild(rng), "detail": "x" * rng.randrange(600), "status": status})
        body = rng.choice((problem, junk(rng)))
        retry = rng.choice(("", "5", "-1", "soon", "9" * 400, "\u0665"))
        self._http.answer = Response(status=status, headers={"retry-after": retry}, body=body)
        try:
            await self._ven.poll()
        except TransientError as error:
            assert error.retry_after_s is None or 0 <= error.retry_after_s < 1e6
            return "LATER"
        except PeerProtocolError as error:
            assert f": {status}" in str(error)
            return STATUSES[status]
        raise AssertionError(status)

    async def _created(self, rng: random.Random) -> str:
        """Answer a creation with none, or several."""
        kind = rng.choice(("ven", "resource"))
        document = rng.choice(self._valid[kind])
        self._http.answer = _body([document] * rng.choice((0, 2, 3, 50)))
        create = self._vtn.create_ven if kind == "ven" else self._vtn.create_resource
        return await _outcome(create(document))

    async def _token(self, rng: random.Random) -> str:
        """Send the client to fetch its token where it must not, or hand it one that it cannot use."""
        if rng.random() < 0.5:
            urls = ("http://vtn.example/t", "ftp://127.0.0.1/", "/token", "http://", "http://[::1", "x" * 300)
            return await self._asked_token({"server": written({"tokenURL": rng.choice(urls)})})
        letters = "".join(chr(rng.choice((10, 13, 0, 127, 233, 0x2603, 65))) for _ in range(8)) + "\n"
        life = rng.choice((60, 0, -5, 1e14, None))
        return await self._asked_token({"token": written({"access_token": letters, "expires_in": life})})

    async def _asked_token(self, given: Mapping[str, bytes]) -> str:
        good = {kind: written(self._valid[kind][0]) for kind in ("server", "token")}
        self._http.by_end = {
            "/auth/server": _ok({**good, **given}["server"]),
            "/token": _ok({**good, **given}["token"]),
        }
        self._http.answer = _ok(good["token"])
        try:
            client = _client(self._http, self._clock, secret="s")
            reason = await _outcome(client.token())
            assert reason != HARMLESS or (await client.token() or "").isprintable()
            return reason
        finally:
            self._http.by_end = {}

    async def _notified(self, rng: random.Random) -> str:
        """Notify of nonsense; a notification never does more than have the VTN asked."""
        value = rng.choice((wild(rng), {"object": wild(rng)}, [EVENT], "EVENT", None))
        return NO_NOTIFICATION if documents.notification(written(value)) is None else HARMLESS


async def _outcome(asked: Awaitable[object]) -> str:
    try:
        await asked
    except PeerProtocolError as error:
        return _reason(str(error))
    return HARMLESS


def _reason(message: str) -> str:
    for reason, words in DETAILS.items():
        if words in message:
            return reason
    raise AssertionError(f"no reason is known for: {message[:300]}")


def _event(document: Document) -> Event | Unreadable:
    (event,) = documents.events(written(document))
    return event


def _planned(book: Book) -> tuple[Planned, ...]:
    return plan(book.outlook(site="site-a", from_at=NOW, until_at=AHEAD), SETTINGS, NOW)


def _limit_w(planned: tuple[Planned, ...], at: datetime) -> float:
    for piece in planned:
        if piece.start_at <= at and (piece.end_at is None or at < piece.end_at):
            return math.inf if piece.limit_w is None else piece.limit_w
    raise AssertionError(f"nothing is planned for {at}")


def _twist(document: Document, rng: random.Random) -> str | None:
    """Make one field of a document wrong; return the reason for an event's refusal, None where it is open."""
    kind = rng.randrange(16)
    if kind < 13 and "intervals" in document and "reportDescriptors" in document:
        return _twist_event(document, rng, kind)
    if kind < 14:
        name = rng.choice(list(document))
        document[name] = retyped(document[name], rng)
        return None
    if kind == 14:
        name = rng.choice(list(document))
        changed = without(document, name)
        document.clear()
        document.update(changed)
        return None
    holder, key = rng.choice(list(_places(document)))
    holder[key] = wild(rng)
    return None


def _twist_event(document: Document, rng: random.Random, kind: int) -> str | None:
    interval = rng.choice(document["intervals"] or [{}])
    wrong: list[tuple[Any, str, Any, str]] = [
        (document, "programID", rng.choice(("x" * 129, "a\nb", "\x7f")), "NOT_AN_ID"),
        (document, "priority", rng.choice((0.5, "1", True, 2**31, -(2**40))), "NOT_A_WHOLE_NUMBER"),
        (document, "priority", -rng.randrange(1, 2**31), "NEGATIVE"),
        (document, "eventName", rng.choice(("\ud800", "a\udfffb")), "SURROGATE"),
        (document, "eventName", rng.choice(("x" * 4097, 5, [], {})), "NOT_A_STRING"),
        (
            document,
            "duration",
            rng.choice(("P", "PT", "-PT1H", "1h", "PT1.5H", "P1Y2", "")),
            "NOT_A_DURATION",
        ),
        (
            document,
            "intervalPeriod",
            {"start": rng.choice(("now", "2026-11-22T10:00:00", "0"))},
            "NOT_AN_INSTANT",
        ),
        (document, "intervalPeriod", rng.choice((5, "x", [])), "NOT_AN_OBJECT"),
        (document, "intervals", rng.choice((5, "x", {"0": 1})), "NOT_A_LIST"),
        (document, "targets", [None] * rng.choice((5001, 5002)), "NOT_A_LIST"),
        (interval, "id", rng.choice((None, "0", 1.5, False)), "NOT_A_WHOLE_NUMBER"),
        (interval, "payloads", [{"type": "X", "values": [rng.choice((None, []))]}], "NOT_A_NUMBER"),
        (
            interval,
            "payloads",
            [{"type": "X", "values": [{"x": rng.choice(("1", None)), "y": 1}]}],
            "NOT_A_NUMBER",
        ),
        (
            interval,
            "payloads",
            [{"type": "X", "values": [rng.choice((1e16, -(10**30), 10**400))]}],
            "NOT_FINITE",
        ),
        (
            document,
            "reportDescriptors",
            [{"payloadType": "USAGE", "historical": rng.choice((0, "x", []))}],
            "NOT_A_BOOLEAN",
        ),
    ]
    if not document["intervals"]:
        wrong = [each for each in wrong if each[0] is document]
    if kind == 0:
        document.pop("id", None)
        return "WITHOUT_ID"
    document.setdefault("id", "e-2")
    holder, key, value, reason = rng.choice(wrong)
    holder[key] = value
    return reason


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return every place in a document that holds something, as its holder and key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs):
        yield value, key
        yield from _places(item)


def _documents() -> dict[str, list[Document]]:
    """Return sound documents by kind: those that ship, and the examples of the User Guide where they are."""
    found = copy.deepcopy(SHIPPED)
    for file in sorted(FIXTURES.glob("*.json")) if FIXTURES.is_dir() else ():
        kind = file.name.split("_")[1]
        if kind in ("event", "program", "ven", "resource"):
            read = json.loads(file.read_text())
            found[kind] += [
                {"id": f"{file.stem}-{n}", **each}
                for n, each in enumerate(read if isinstance(read, list) else [read])
            ]
    return found


def _client(http: Vtn, clock: FakeClock, *, secret: str | None) -> RestVtn:
    return RestVtn(
        url=URL,
        client_id=None if secret is None else "c",
        client_secret=secret,
        http=http,  # type: ignore[arg-type]
        clock=clock,
    )


@asynccontextmanager
async def openadr_target(folder: Path) -> AsyncIterator[OpenAdrTarget]:
    """Open a VEN that has polled once and is limited by one event."""
    clock, http = FakeClock(NOW), Vtn()
    async with Database(folder / "agent.db", MIGRATIONS) as db:
        desk = GridDesk(
            clock=clock,
            store=CommandStore(db, boot_id="boot"),
            operators=("openadr",),
            settings=FailsafeSettings(failsafe_import_w=FALLBACK_W),
            rules=Rules(site="site-a"),
        )
        await desk.recover()
        ven = OpenAdrVen(
            vtn=_client(http, clock, secret=None),
            feed=PlanFeed(desk=desk, source="openadr", clock=clock),
            clock=clock,
            ven_name="site-a",
            resource_name="load",
            settings=SETTINGS,
        )
        http.answer = _body([BASE])
        await ven.poll()
        yield OpenAdrTarget(http, ven, desk, clock)
