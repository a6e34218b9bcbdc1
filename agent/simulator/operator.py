"""A stand-in for the grid operator: heartbeats, a release for who starts, and one limit in the middle.

It speaks the direct dispatch of the agents over MQTT 5 as a real operator would, chooses by the sites' own
status where a limit bites, and writes what it saw to a journal (one JSON object per line) for others to
count. Only for demonstrations and tests.
"""

import argparse
import asyncio
import base64
import json
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.core.signed import signed_bytes
from agent.model.limits import LimitKind
from sterna.cancellation import heed
from sterna.clock import Clock, SystemClock
from sterna.errors import TransientError
from sterna.listening import interface

log = logging.getLogger(__name__)

HEARTBEAT_PERIOD_S = 10.0
REDIAL_S = 1.0
# A limit that asks for less shows nothing.
WORTHWHILE_W = 100.0
_KINDS = {"import": LimitKind.IMPORT_CAPACITY_LIMIT, "export": LimitKind.EXPORT_CAPACITY_LIMIT}


@dataclass(slots=True, kw_only=True)
class GridOperator:
    """One operator with several sites.

    Parameters
    ----------
    name : str
        The operator's id in the topics.
    sites : sequence of str
        Sites that it looks after.
    limit_after_s, limit_before_s : float
        When the limit is sent: at the first moment after `limit_after_s` at which a site imports for compute,
        at `limit_before_s` at the latest to the site that computes most; one of the export as soon as a site
        exports. Seconds from the start.
    limit_s : float
        How long the limit holds.
    shed_frac : float
        Share of what the site can shed, or of its export, that the limit asks for.
    kind : LimitKind
        The limit's.
    journal : Path
        Where acks, statuses, reports and the limit are written.
    sign : callable or None
        Signs bytes with the operator's Ed25519 key; None: messages are not signed.
    """

    name: str
    sites: Sequence[str]
    limit_after_s: float
    limit_before_s: float
    limit_s: float
    shed_frac: float
    journal: Path
    kind: LimitKind = LimitKind.IMPORT_CAPACITY_LIMIT
    sign: Callable[[bytes], bytes] | None = None
    clock: Clock = field(default_factory=SystemClock)
    _status: dict[str, dict[str, Any]] = field(default_factory=dict)
    _standing: dict[str, float] = field(default_factory=dict)
    """Sites under a limit, with its watts."""
    _limited: tuple[str, dict[str, Any], float] | None = None
    """The site that got the limit, the command, and when it ends by the boot clock, in seconds."""
    _greet: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    _sequence: int = 0
    _beats: int = 0

    async def run(self, host: str, port: int) -> None:
        """Play the part until cancelled; a broker that has gone is dialled again.

        Raises
        ------
        aiomqtt.MqttError
            The broker was never there.
        """
        import aiomqtt  # the simulator only: the shipped daemon has its own module for MQTT

        def client() -> aiomqtt.Client:
            return aiomqtt.Client(
                host, port, identifier=f"operator-{self.name}", protocol=aiomqtt.ProtocolVersion.V5
            )

        started_s = self.clock.boottime_s()
        async with client():
            pass
        while True:
            try:
                await self._converse(client(), started_s)
            except* aiomqtt.MqttError as errors:
                log.warning("the broker has gone", extra={"error": str(errors.exceptions[0])})
            await asyncio.sleep(REDIAL_S)

    async def _converse(self, client: Any, started_s: float) -> None:
        """Play the part until the broker goes."""
        async with client:
            for leaf in ("ack", "status", "report"):
                await client.subscribe(f"dr/v1/{self.name}/+/{leaf}", qos=1)
                heed()

            async def send(site: str, leaf: str, message: dict[str, Any], *, retain: bool) -> None:
                topic = f"dr/v1/{self.name}/{site}/{leaf}"
                await client.publish(topic, json.dumps(self._sealed(topic, message)), qos=1, retain=retain)
                heed()

            async with asyncio.TaskGroup() as group:
                group.create_task(self._heartbeats(send))
                group.create_task(self._greetings(send))
                group.create_task(self._limit(send, started_s))
                async for message in client.messages:
                    self._on_message(str(message.topic), bytes(message.payload or b""))

    def _sealed(self, topic: str, message: dict[str, Any]) -> dict[str, Any]:
        """Add the signature, where there is a key."""
        if self.sign is None:
            return message
        signature = base64.b64encode(self.sign(signed_bytes(topic, message))).decode()
        return {**message, "sig": signature}

    async def _heartbeats(self, send: Any) -> None:
        while True:
            for site in self.sites:
                await self._heartbeat(send, site)
            await asyncio.sleep(HEARTBEAT_PERIOD_S)

    async def _heartbeat(self, send: Any, site: str) -> None:
        self._beats += 1
        await send(site, "heartbeat", {"n": self._beats, "t": _stamp(self.clock.now())}, retain=False)

    async def _greetings(self, send: Any) -> None:
        """Answer sites that have just started with a heartbeat and a limit or release (EEBus LPC-913)."""
        while True:
            site = await self._greet.get()
            await self._heartbeat(send, site)
            for kind in dict.fromkeys((LimitKind.IMPORT_CAPACITY_LIMIT, self.kind)):
                standing_w = self._standing.get(site) if kind is self.kind else None
                await send(site, "limit", self._command(standing_w, kind), retain=True)

    async def _limit(self, send: Any, started_s: float) -> None:
        """Send the limit once a site is chosen; a broker that has forgotten it gets the same once more."""
        if self._limited is None:
            self._limited = await self._choose(started_s)
            site, command, _ = self._limited
            self._standing[site] = command["valueW"]
            self._write({"event": "limit", "site": site, **command})
        site, command, ends_s = self._limited
        left_s = ends_s - self.clock.boottime_s()
        if left_s > 0.0:
            await send(site, "limit", command, retain=True)
            await asyncio.sleep(left_s)
        self._standing.pop(site, None)

    async def _choose(self, started_s: float) -> tuple[str, dict[str, Any], float]:
        await asyncio.sleep(started_s + self.limit_after_s - self.clock.boottime_s())
        while True:
            now_s = self.clock.boottime_s()
            if choice := self._choice(anywhere=now_s - started_s >= self.limit_before_s):
                site, limit_w = choice
                return site, self._command(limit_w, self.kind), now_s + self.limit_s
            await asyncio.sleep(0.5)

    def _choice(self, *, anywhere: bool) -> tuple[str, float] | None:
        if self.kind is LimitKind.EXPORT_CAPACITY_LIMIT:
            return choose_exporter(self._status, self.shed_frac)
        return choose_site(self._status, self.shed_frac, anywhere=anywhere)

    def _command(self, limit_w: float | None, kind: LimitKind) -> dict[str, Any]:
        # Above anything that an earlier operator process has sent.
        self._sequence = max(self._sequence + 1, int(self.clock.now().timestamp() * 1000))
        return {
            "v": 1,
            "id": str(uuid.uuid4()),
            "seq": self._sequence,
            "issued": _stamp(self.clock.now()),
            "kind": kind.value,
            "active": limit_w is not None,
            "valueW": limit_w,
            "start": None,
            "durationS": self.limit_s if limit_w is not None else None,
            "rampS": 5,
            "priority": 0,
            "reason": "ALERT_GRID_EMERGENCY" if limit_w is not None else "release",
            "source": self.name,
            "sig": None,
        }

    def _on_message(self, topic: str, payload: bytes) -> None:
        _, _, _, site, leaf = topic.split("/")
        try:
            body = json.loads(payload)
        except ValueError:
            log.warning("a site published something that is not JSON", extra={"topic": topic})
            return
        if leaf == "status" and body.get("online") and body.get("state") == "INIT":
            self._greet.put_nowait(site)
        if leaf == "status":
            self._status[site] = body
        self._write({"event": leaf, "site": site, **body})

    def _write(self, row: dict[str, Any]) -> None:
        with self.journal.open("a") as journal:
            journal.write(json.dumps({"at": _stamp(self.clock.now()), **row}) + "\n")


def choose_site(
    status: dict[str, dict[str, Any]], shed_frac: float, *, anywhere: bool
) -> tuple[str, float] | None:
    """Return (site, import limit in watts) where a limit bites, None when nowhere does yet.

    Parameters
    ----------
    status : mapping of site to its last status message
        ``gridW`` and ``achievableMinW`` may be None: then the site is passed over.
    shed_frac : float
        Share of what the site can shed that the limit asks for.
    anywhere : bool
        Take the site that can shed most, even if it exports.
    """
    found = []
    for site, body in status.items():
        grid_w, least_w = body.get("gridW"), body.get("achievableMinW")
        if grid_w is None or least_w is None or grid_w - least_w < WORTHWHILE_W:
            continue
        limit_w = grid_w - shed_frac * (grid_w - least_w)
        if limit_w >= 0 or anywhere:
            found.append((grid_w - least_w, site, round(max(0.0, limit_w))))
    if not found:
        return None
    _, site, limit_w = max(found)
    return site, limit_w


def choose_exporter(status: dict[str, dict[str, Any]], shed_frac: float) -> tuple[str, float] | None:
    """Return (site, export limit in watts) of the site that exports most, None when none does.

    Parameters
    ----------
    status : mapping of site to its last status message
        ``gridW`` may be None: then the site is passed over.
    shed_frac : float
        Share of the export that the limit asks for.
    """
    told = ((-(body.get("gridW") or 0.0), site) for site, body in status.items())
    export_w, site = max(told, default=(0.0, ""))
    return (site, round((1 - shed_frac) * export_w)) if export_w >= WORTHWHILE_W else None


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``sterna-agent simulate-operator``."""
    parser.add_argument("--broker", type=interface, required=True, metavar="HOST:PORT")
    parser.add_argument("--operator", required=True, help="operator id in the topics")
    parser.add_argument("--site", action="append", required=True, help="site id; may be repeated")
    parser.add_argument("--journal", type=Path, required=True, help="file for what was sent and answered")
    parser.add_argument("--limit-after-s", type=float, required=True)
    parser.add_argument("--limit-before-s", type=float, required=True)
    parser.add_argument("--limit-s", type=float, required=True)
    parser.add_argument("--shed-frac", type=float, default=0.6)
    parser.add_argument(
        "--limit", choices=list(_KINDS), default="import", help="which way the limit goes (default: import)"
    )
    parser.add_argument(
        "--signing-key", type=Path, metavar="PEM", help="Ed25519 private key; absent: nothing is signed"
    )


def run(args: argparse.Namespace) -> int:
    """Run the stand-in until it is ended.

    Raises
    ------
    ConfigError
        The key cannot be used.
    TransientError
        The broker is away.
    """
    import aiomqtt

    from sterna.signing import load_signing_key

    operator = GridOperator(
        name=args.operator,
        sites=args.site,
        limit_after_s=args.limit_after_s,
        limit_before_s=args.limit_before_s,
        limit_s=args.limit_s,
        shed_frac=args.shed_frac,
        journal=args.journal,
        kind=_KINDS[args.limit],
        sign=None if args.signing_key is None else load_signing_key(args.signing_key).sign,
    )
    try:
        asyncio.run(operator.run(*args.broker))
    except aiomqtt.MqttError as error:
        host, port = args.broker
        raise TransientError(f"--broker: {host}:{port}: {error}") from error
    return 0
