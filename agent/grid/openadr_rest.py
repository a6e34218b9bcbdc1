"""A VTN over REST: tokens, pages, documents. Every failure names the URL, and the field where there is one.

Knows what to ask and how to read it; when to ask, and what follows, is `agent.grid.openadr`'s.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

from agent.core.openadr import documents
from agent.core.openadr.reading import Fault, Node
from agent.grid.openadr_http import HttpClient, Response, check_url
from agent.model.openadr import Event, Notifiers, Program, Resource, Unreadable, Ven
from sterna.clock import Clock
from sterna.errors import ConfigError, PeerProtocolError, TransientError

log = logging.getLogger(__name__)

PAGE = 50
MAX_PAGES = 100
TOKEN_MARGIN_S = 30.0
TOKEN_LIFE_S = 600.0
"""Assumed where the server does not tell how long a token lives."""
SCOPES = "read_targets read_ven_objects write_reports write_vens"
UNAUTHORIZED, CONFLICT, TOO_MANY = 401, 409, 429

T = TypeVar("T")


class ConflictError(PeerProtocolError):
    """The VTN has such an object already."""


class RestVtn:
    """One VTN, as one client of it.

    Parameters
    ----------
    url : str
        Base of its API, e.g. ``https://vtn.example/openadr3/3.1.0``.
    client_id, client_secret : str or None
        OAuth2 client credentials; None: the VTN serves anybody.
    http : HttpClient
        Sends requests.
    clock : Clock
        Tells when a token is over.
    scope : str
        Asked for with the token; empty: the server's default.
    """

    def __init__(
        self,
        *,
        url: str,
        client_id: str | None,
        client_secret: str | None,
        http: HttpClient,
        clock: Clock,
        scope: str = SCOPES,
    ) -> None:
        check_url(url)
        if (client_id is None) != (client_secret is None):
            raise ConfigError(f"{url}: client_id and client_secret go together")
        self._url = url.rstrip("/")
        self._credentials = None if client_id is None or client_secret is None else (client_id, client_secret)
        self._http = http
        self._clock = clock
        self._scope = scope
        self._token = ""
        self._token_until_s = 0.0

    @property
    def client_id(self) -> str | None:
        """Name under which the VTN knows us; None: it serves anybody."""
        return None if self._credentials is None else self._credentials[0]

    async def events(self) -> tuple[Event | Unreadable, ...]:
        """Return every event that is meant for us; ones that cannot be read are among them as such."""
        return await self._search("/events", documents.event_or_fault)

    async def programs(self) -> tuple[Program, ...]:
        """Return every program that we may see."""
        return await self._search("/programs", documents.program)

    async def vens(self, name: str) -> tuple[Ven, ...]:
        """Return the VENs of a name."""
        return await self._search("/vens", documents.ven, {"venName": name})

    async def resources(self, ven_id: str, name: str) -> tuple[Resource, ...]:
        """Return a VEN's resources of a name."""
        query = {"venID": ven_id, "resourceName": name}
        return await self._search("/resources", documents.resource, query)

    async def create_ven(self, body: Mapping[str, object]) -> Ven:
        """Register a VEN."""
        return await self._create("/vens", body, documents.ven)

    async def create_resource(self, body: Mapping[str, object]) -> Resource:
        """Register a resource."""
        return await self._create("/resources", body, documents.resource)

    async def create_report(self, body: Mapping[str, object]) -> None:
        """Deliver a report.

        Raises
        ------
        ConflictError
            The VTN has it already.
        """
        await self._call("POST", "/reports", body)

    async def notifiers(self) -> Notifiers:
        """Return how the VTN notifies."""
        return _read("/notifiers", (await self._call("GET", "/notifiers")).body, documents.notifiers)

    async def topics(self, ven_id: str, collection: str) -> tuple[str, ...]:
        """Return the MQTT topics on which changes of a VEN's ``events`` or ``programs`` are told."""
        path = f"/notifiers/mqtt/topics/vens/{quote(ven_id, safe='')}/{collection}"
        return _read(path, (await self._call("GET", path)).body, documents.topics)

    async def token(self) -> str | None:
        """Return an access token that is good for a while; None: the VTN serves anybody."""
        if self._credentials is None:
            return None
        if not self._token or self._clock.boottime_s() >= self._token_until_s:
            await self._fetch_token(*self._credentials)
        return self._token

    async def _fetch_token(self, client_id: str, client_secret: str) -> None:
        server = await self._send("GET", f"{self._url}/auth/server", {}, None)
        where = _read(f"{self._url}/auth/server", server.body, documents.token_url)
        try:
            check_url(where)  # a secret goes there
        except ConfigError as error:
            raise PeerProtocolError(f"{self._url}/auth/server: tokenURL: {error}") from error
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        if self._scope:
            form["scope"] = self._scope
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await self._send("POST", where, headers, urlencode(form).encode())
        self._token, life_s = _read(where, answer.body, documents.token)
        if not self._token.isascii() or not self._token.isprintable():
            self._token = ""
            raise PeerProtocolError(f"{where}: access_token: has letters that no header has")
        life_s = TOKEN_LIFE_S if life_s is None else life_s
        self._token_until_s = self._clock.boottime_s() + max(1.0, life_s - min(TOKEN_MARGIN_S, life_s / 2))

    async def _search(
        self, path: str, read: Callable[[Node], T], query: Mapping[str, str] | None = None
    ) -> tuple[T, ...]:
        """Fetch every page of a search; a VTN that knows no pages answers the same twice."""
        found: list[T] = []
        before = b""
        for page in range(MAX_PAGES):
            asked = {**(query or {}), "skip": str(page * PAGE), "limit": str(PAGE)}
            body = (await self._call("GET", f"{path}?{urlencode(asked)}")).body
            items = _read(path, body, lambda payload: documents.documents(payload, read))
            if body == before and items:
                return tuple(found)
            found.extend(items)
            if len(items) != PAGE:
                return tuple(found)
            before = body
        raise PeerProtocolError(f"{self._url}{path}: more than {MAX_PAGES} pages")

    async def _create(self, path: str, body: Mapping[str, object], read: Callable[[Node], T]) -> T:
        answer = await self._call("POST", path, body)
        items = _read(path, answer.body, lambda payload: documents.documents(payload, read))
        if len(items) != 1:
            raise PeerProtocolError(f"{self._url}{path}: expected the object that was created")
        return items[0]

    async def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Response:
        """Send a request with a token; one that has run out early is renewed once."""
        url = f"{self._url}{path}"
        payload = None if body is None else json.dumps(body, allow_nan=False).encode()
        for attempt in range(2):
            headers = {} if payload is None else {"Content-Type": "application/json"}
            token = await self.token()
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            try:
                return await self._send(method, url, headers, payload)
            except _UnauthorizedError:
                self._token = ""
                if attempt or token is None:
                    raise
        raise AssertionError

    async def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        response = await self._http.request(method, url, headers=headers, body=body)
        if 200 <= response.status < 300:
            return response
        said = documents.problem(response.body)
        words = f"{method} {url}: {response.status}" + (f" {said}" if said else "")
        if response.status >= 500 or response.status in (408, TOO_MANY):
            raise TransientError(words, retry_after_s=_retry_after_s(response))
        if response.status == UNAUTHORIZED:
            raise _UnauthorizedError(words)
        if response.status == CONFLICT:
            raise ConflictError(words)
        raise PeerProtocolError(words)


class _UnauthorizedError(PeerProtocolError):
    """The VTN does not take our token."""


def _read(where: str, payload: bytes, read: Callable[[bytes], T]) -> T:
    try:
        return read(payload)
    except Fault as fault:
        raise PeerProtocolError(f"{where}: {fault}") from fault


def _retry_after_s(response: Response) -> float | None:
    stated = response.headers.get("retry-after", "")
    return float(stated) if stated.isascii() and stated.isdigit() and len(stated) < 6 else None
