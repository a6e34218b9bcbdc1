"""A small OpenADR 3.1 VTN over real HTTP: tokens, objects, reports, notifiers. For tests and demonstrations.

Keeps everything in memory. It plays the business side through Python methods (`put_event`, `delete`), the
VEN side over the socket, and tells of changes over MQTT where it is given a broker.
"""

import argparse
import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import h11

from sterna.clock import Clock, SystemClock
from sterna.errors import ConfigError
from sterna.listening import interface

log = logging.getLogger(__name__)

COLLECTIONS = {
    "programs": ("PROGRAM", "programName"),
    "events": ("EVENT", "eventName"),
    "reports": ("REPORT", "reportName"),
    "vens": ("VEN", "venName"),
    "resources": ("RESOURCE", "resourceName"),
    "subscriptions": ("SUBSCRIPTION", "clientName"),
}
FILTERS = ("venName", "resourceName", "venID", "programID")
MAX_PAGE = 50
Json = dict[str, Any]


class _Problem(Exception):  # noqa: N818 - an answer like every other
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class SimulatedVtn:
    """One VTN.

    Parameters
    ----------
    client_id, client_secret : str
        The one client that it knows.
    base : str
        Path of its API.
    token_life_s : float
        How long a token lives.
    broker : tuple of (host, port) or None
        Where it tells of changes.
    clock : Clock
        Stamps objects and ends tokens.
    """

    client_id: str = "ven"
    client_secret: str = "secret"
    base: str = "/openadr3/3.1.0"
    token_life_s: float = 3600.0
    broker: tuple[str, int] | None = None
    clock: Clock = field(default_factory=SystemClock)
    port: int = 0
    refuse_with: int | None = None
    """Status with which every request but those for tokens is refused; None: none is."""
    requests: list[str] = field(default_factory=list)
    objects: dict[str, dict[str, Json]] = field(default_factory=lambda: {name: {} for name in COLLECTIONS})
    _tokens: dict[str, float] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _number: int = 0

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}{self.base}"

    @property
    def reports(self) -> list[Json]:
        """The reports that it was given, oldest first."""
        return list(self.objects["reports"].values())

    async def start(self) -> None:
        """Listen; after `stop` on the same port as before, with everything that it knew."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def put_event(self, body: Mapping[str, object]) -> str:
        """Publish an event, or change the one whose id is given; return its id."""
        known = str(body.get("id", "")) in self.objects["events"]
        return str((await self._store("events", dict(body), "UPDATE" if known else "CREATE"))["id"])

    async def put_program(self, body: Mapping[str, object]) -> str:
        """Publish a program; return its id."""
        return str((await self._store("programs", dict(body), "CREATE"))["id"])

    async def delete(self, collection: str, object_id: str) -> None:
        """Delete an object."""
        gone = self.objects[collection].pop(object_id)
        await self._notify(collection, "DELETE", gone)

    def revoke_tokens(self) -> None:
        """Take back every token that was given out."""
        self._tokens.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(our_role=h11.SERVER)
        try:
            async with asyncio.timeout(10.0):
                request, body = await _receive(reader, connection)
                status, answer = await self._answer(request, body)
                for event in _response(status, answer):
                    writer.write(connection.send(event) or b"")
                await writer.drain()
        except (TimeoutError, OSError, h11.RemoteProtocolError) as error:
            log.info("a request came to nothing", extra={"reason": str(error)})
        finally:
            writer.close()

    async def _answer(self, request: h11.Request, body: bytes) -> tuple[int, object]:
        parts = urlsplit(request.target.decode("ascii"))
        method = request.method.decode("ascii")
        self.requests.append(f"{method} {parts.path.removeprefix(self.base)}")
        try:
            if not parts.path.startswith(self.base + "/"):
                raise _Problem(404, parts.path)
            path = parts.path.removeprefix(self.base + "/").split("/")
            if path == ["auth", "server"]:
                return 200, {"tokenURL": f"{self.url}/auth/token"}
            if path == ["auth", "token"]:
                return 200, self._grant(dict(parse_qsl(body.decode())))
            if self.refuse_with is not None:
                raise _Problem(self.refuse_with, "refused on purpose")
            self._authorise(request)
            return await self._route(method, path, parse_qs(parts.query), body)
        except _Problem as problem:
            return problem.status, {"title": "refused", "status": problem.status, "detail": problem.detail}

    def _grant(self, form: Mapping[str, str]) -> Json:
        wanted = ("client_credentials", self.client_id, self.client_secret)
        if (form.get("grant_type"), form.get("client_id"), form.get("client_secret")) != wanted:
            raise _Problem(401, "unknown client")
        token = secrets.token_hex(16)
        self._tokens[token] = self.clock.boottime_s() + self.token_life_s
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.token_life_s}

    def _authorise(self, request: h11.Request) -> None:
        given = next((v for n, v in request.headers if n == b"authorization"), b"").decode("latin-1")
        if self._tokens.get(given.removeprefix("Bearer "), 0.0) <= self.clock.boottime_s():
            raise _Problem(401, "no token, or one that is over")

    async def _route(
        self, method: str, path: list[str], query: Mapping[str, list[str]], body: bytes
    ) -> tuple[int, object]:
        match method, path:
            case "GET", ["notifiers"]:
                return 200, self._notifiers()
            case "GET", ["notifiers", "mqtt", "topics", "vens", ven_id, collection]:
                return 200, {"topics": {"ALL": f"{collection}/vens/{ven_id}/+"}}
            case "GET", [collection] if collection in COLLECTIONS:
                return 200, self._search(collection, query)
            case "POST", [collection] if collection in COLLECTIONS:
                return 201, await self._create(collection, body)
            case "GET", [collection, object_id] if object_id in self.objects.get(collection, {}):
                return 200, self.objects[collection][object_id]
            case _:
                raise _Problem(404, "/".join(path))

    def _notifiers(self) -> Json:
        if self.broker is None:
            return {"WEBHOOK": False}
        uri = "mqtt://{}:{}".format(*self.broker)
        authentication = {"method": "OAUTH2_BEARER_TOKEN", "username": "{clientID}"}
        return {"MQTT": {"URIS": [uri], "serialization": "JSON", "authentication": authentication}}

    def _search(self, collection: str, query: Mapping[str, list[str]]) -> list[Json]:
        wanted = {name: query[name][0] for name in FILTERS if name in query}
        found = [
            each
            for each in self.objects[collection].values()
            if all(each.get(name) == value for name, value in wanted.items())
        ]
        skip = int(query.get("skip", ["0"])[0])
        return found[skip : skip + min(MAX_PAGE, int(query.get("limit", [str(MAX_PAGE)])[0]))]

    async def _create(self, collection: str, body: bytes) -> Json:
        try:
            given = json.loads(body)
        except ValueError as error:
            raise _Problem(400, "not JSON") from error
        name = COLLECTIONS[collection][1]
        if not isinstance(given, dict) or not given.get(name):
            raise _Problem(400, f"{name}: missing")
        if any(each.get(name) == given[name] for each in self.objects[collection].values()):
            raise _Problem(409, f"{name}: exists")
        return await self._store(collection, given, "CREATE")

    async def _store(self, collection: str, body: Json, operation: str) -> Json:
        self._number += 1
        now = self.clock.now().isoformat()
        object_id = str(body.get("id") or f"{collection}-{self._number}")
        before = self.objects[collection].get(object_id, {})
        stored = {
            **body,
            "id": object_id,
            "objectType": COLLECTIONS[collection][0],
            "createdDateTime": before.get("createdDateTime", now),
            "modificationDateTime": now,
        }
        self.objects[collection][object_id] = stored
        await self._notify(collection, operation, stored)
        return stored

    async def _notify(self, collection: str, operation: str, about: Json) -> None:
        """Tell every VEN, as openleadr-rs does: QoS 0, not retained, with an id."""
        if self.broker is None or collection not in ("events", "programs"):
            return
        import aiomqtt

        body = {
            "id": secrets.token_hex(8),
            "objectType": COLLECTIONS[collection][0],
            "operation": operation,
            "object": about,
        }
        try:
            async with aiomqtt.Client(*self.broker) as client:
                for ven_id in self.objects["vens"]:
                    topic = f"{collection}/vens/{ven_id}/{operation.lower()}"
                    await client.publish(topic, json.dumps(body))
        except aiomqtt.MqttError as error:
            log.warning("a notification was lost", extra={"reason": str(error)})


async def _receive(reader: asyncio.StreamReader, connection: h11.Connection) -> tuple[h11.Request, bytes]:
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif request is None:
            raise h11.RemoteProtocolError("no request")
        else:
            return request, body


def _response(status: int, answer: object) -> list[h11.Event]:
    payload = json.dumps(answer).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(payload))),
        ("Connection", "close"),
    ]
    if status in (429, 503):
        headers.append(("Retry-After", "1"))
    return [h11.Response(status_code=status, headers=headers), h11.Data(data=payload), h11.EndOfMessage()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``sterna-agent simulate-vtn``."""
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--client-id", default="ven")
    parser.add_argument("--client-secret-file", type=Path, required=True)
    parser.add_argument("--broker", type=interface, metavar="HOST:PORT", help="tell of changes over MQTT")
    parser.add_argument("--events", type=Path, help="JSON file with a list of events to publish")


def run(args: argparse.Namespace) -> int:
    """Run the stand-in until it is ended.

    Raises
    ------
    ConfigError
        A file cannot be read, or the port cannot be had.
    """
    try:
        secret = args.client_secret_file.read_text().strip()
        events = [] if args.events is None else json.loads(args.events.read_text())
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{args.events}: {error}") from error
    vtn = SimulatedVtn(client_id=args.client_id, client_secret=secret, broker=args.broker, port=args.port)
    try:
        asyncio.run(_run(vtn, events))
    except OSError as error:
        raise ConfigError(f"--port {args.port}: {error.strerror}") from error
    return 0


async def _run(vtn: SimulatedVtn, events: list[Json]) -> None:
    await vtn.start()
    log.info("a VTN listens", extra={"url": vtn.url})
    for event in events:
        await vtn.put_event(event)
    await asyncio.Event().wait()
