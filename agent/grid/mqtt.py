"""Direct dispatch over MQTT 5; the one module of the daemon that imports aiomqtt.

One loop, a new client per attempt, jittered back-off. The link takes bytes to the `GridDesk` and brings acks,
status and telemetry out; it decides nothing about limits. A silent broker ends the attempt (a publish times
out); a silent operator is the desk's business.
"""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.core.limits import export_source
from agent.grid import wire
from agent.grid.desk import GridDesk
from agent.grid.wire import SiteSnapshot, Topics
from sterna import pace
from sterna.backoff import Backoff
from sterna.cancellation import heed
from sterna.clock import Clock
from sterna.errors import ConfigError, TransientError
from sterna.listening import is_loopback

log = logging.getLogger(__name__)

SOURCE = "mqtt"
EXPORTS = export_source(SOURCE)
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 8.0
"""Short enough to be back within 10 s of the broker's return."""
MAX_REPORTS = 64
"""Reports that wait for a broker that is away; beyond it the oldest is forgotten."""

ForecastSink = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notice:
    """A retained message; the broker forgets it at `expires_s` on CLOCK_BOOTTIME (None: never)."""

    payload: bytes
    expires_s: float | None

    def left_s(self, now_boot_s: float) -> float:
        return math.inf if self.expires_s is None else self.expires_s - now_boot_s


class MqttLink:
    """The site's link to its grid operator's broker.

    Parameters
    ----------
    host, port
        Of the broker. Without `tls_context` only loopback is allowed.
    operator, site : str
        Ids in the topics.
    client_id : str
        Stable and unique: two clients with one id throw each other out.
    desk : GridDesk
        Takes limits, settings and heartbeats under the source name ``mqtt``; limits of the export under one
        of their own.
    snapshot : callable
        What the site looks like now; called once per status and telemetry message.
    clock : Clock
        Both clocks.
    on_forecast : coroutine function or None
        Gets the payload of each forecast of the plant; None: not subscribed.
    username, password : str or None
        For the broker.
    tls_context : ssl.SSLContext or None
        None: plaintext.
    telemetry_period_s, status_period_s, heartbeat_period_s : float
        How often each is published.
    keepalive_s : int
        A frozen broker is noticed after twice this, or by the next status that is not acknowledged.
    timeout_s : float
        For connecting and for every acknowledged publish.
    session_expiry_s : int
        How long the broker keeps what is addressed to us while we are away.
    backoff_s : tuple of float
        First and longest pause between two attempts to connect.
    on_beat : callable or None
        Called whenever the supervisor loop comes round, for the watchdog.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        operator: str,
        site: str,
        client_id: str,
        desk: GridDesk,
        snapshot: Callable[[], SiteSnapshot],
        clock: Clock,
        on_forecast: ForecastSink | None = None,
        username: str | None = None,
        password: str | None = None,
        tls_context: ssl.SSLContext | None = None,
        telemetry_period_s: float = 2.0,
        status_period_s: float = 5.0,
        heartbeat_period_s: float = 10.0,
        keepalive_s: int = 10,
        timeout_s: float = 5.0,
        session_expiry_s: int = 3600,
        backoff_s: tuple[float, float] = (FIRST_BACKOFF_S, LONGEST_BACKOFF_S),
        on_beat: Callable[[], None] | None = None,
    ) -> None:
        if tls_context is None and not is_loopback(host):
            raise ConfigError(f"MQTT broker {host}: plaintext is for loopback only")
        self._host = host
        self._port = port
        self._topics = Topics(operator=operator, site=site)
        self._client_id = client_id
        self._desk = desk
        self._snapshot = snapshot
        self._clock = clock
        self._on_forecast = on_forecast
        self._credentials = (username, password)
        self._tls_context = tls_context
        self._telemetry_period_s = telemetry_period_s
        self._status_period_s = status_period_s
        self._heartbeat_period_s = heartbeat_period_s
        self._keepalive_s = keepalive_s
        self._timeout_s = timeout_s
        self._session_expiry_s = session_expiry_s
        self._backoff_s = backoff_s
        self._beat = on_beat or (lambda: None)
        self._changed = asyncio.Event()
        self._reports: deque[bytes] = deque(maxlen=MAX_REPORTS)
        self._reported = asyncio.Event()
        self._notices: dict[str, _Notice] = {}
        self._posted = asyncio.Event()
        self.attempts = 0
        self.connected = False

    async def run(self) -> None:
        """Hold the link for the daemon's life; a broker that is away is a state, not an error."""
        async with asyncio.TaskGroup() as group:
            await self._supervise(group)

    async def _supervise(self, group: asyncio.TaskGroup) -> None:
        backoff = Backoff(*self._backoff_s)
        reported = ""
        while True:
            self.attempts += 1
            started_s = self._clock.boottime_s()
            # A task of its own per attempt: before Python 3.13 a task whose inner group has failed counts as
            # cancelled ever after, and could not tell that from being asked to stop.
            reason = await group.create_task(self._attempt(), name="mqtt session")
            heed()
            was_connected, self.connected = self.connected, False
            if was_connected or reason != reported:
                log.warning("no link to the grid operator's broker", extra={"reason": reason})
                reported = reason
            # Of two clients with one id each throws the other out at once: that must not start anew.
            if was_connected and self._clock.boottime_s() - started_s >= backoff.full_s:
                backoff.reset()
            self._beat()
            await asyncio.sleep(backoff.next_s())

    async def _attempt(self) -> str:
        """Hold one session; return why it ended."""
        reason = "the broker ended the session"
        try:
            await self._session()
        except* (aiomqtt.MqttError, TransientError, OSError) as failures:
            reason = str(failures.exceptions[0])
        return reason

    def report(self, payload: bytes) -> None:
        """Have a report published, now or when the broker is back."""
        self._reports.append(payload)
        self._reported.set()

    def post(self, leaf: str, payload: bytes, kept_s: float | None = None) -> None:
        """Have a message retained on a topic of ours, now or when the broker is back, in place of the last.

        The broker keeps it for `kept_s` seconds from now; None: until it is replaced.
        """
        expires_s = None if kept_s is None else self._clock.boottime_s() + kept_s
        self._notices[leaf] = _Notice(payload=payload, expires_s=expires_s)
        self._posted.set()

    def status_changed(self) -> None:
        """Have the status published now rather than at its next turn."""
        self._changed.set()

    async def _session(self) -> None:
        """One connection, from birth to whatever ends it."""
        async with self._client() as client:
            await self._subscribe(client)
            self.connected = True
            log.info("linked to the grid operator's broker", extra={"client_id": self._client_id})
            await self._publish_status(client)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(client), name="mqtt reader")
                    group.create_task(self._send_acks(client, SOURCE), name="mqtt acks")
                    group.create_task(self._send_acks(client, EXPORTS), name="mqtt export acks")
                    group.create_task(self._send_reports(client), name="mqtt reports")
                    group.create_task(self._send_notices(client), name="mqtt notices")
                    group.create_task(self._send_status(client), name="mqtt status")
                    group.create_task(self._send_telemetry(client), name="mqtt telemetry")
                    group.create_task(self._send_heartbeats(client), name="mqtt heartbeat")
            except asyncio.CancelledError:
                # A clean goodbye makes the broker drop the last will, so we say it ourselves.
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.publish(self._topics.of("status"), wire.encode_offline(), 1, True)
                    for leaf in self._notices:
                        await client.publish(self._topics.of(leaf), b"", 1, True)
                raise

    def _client(self) -> aiomqtt.Client:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_expiry_s
        username, password = self._credentials
        return aiomqtt.Client(
            self._host,
            self._port,
            identifier=self._client_id,
            username=username,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
            keepalive=self._keepalive_s,
            timeout=self._timeout_s,
            tls_context=self._tls_context,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            will=aiomqtt.Will(self._topics.of("status"), wire.encode_offline(), qos=1, retain=True),
            max_queued_incoming_messages=256,
            max_queued_outgoing_messages=256,
            max_concurrent_outgoing_calls=8,
        )

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        # Heartbeats at QoS 0: one that was queued while we were away is no sign of life.
        for leaf, qos in (("limit", 1), ("config", 1), ("heartbeat", 0)):
            await client.subscribe(self._topics.of(leaf), qos=qos)
            heed()
        if self._on_forecast is not None:
            await client.subscribe(self._topics.forecast, qos=1)
            heed()

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            _confirm(client)
            payload = message.payload if isinstance(message.payload, bytes) else b""
            try:
                await self.take(str(message.topic), payload, retained=bool(message.retain))
            except TransientError as error:
                log.error("a grid message could not be stored", extra={"reason": str(error)})

    async def take(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Hand one message to whom it is for; empty payloads clear a retained topic and say nothing."""
        if not payload:
            return
        if topic == self._topics.of("limit"):
            await self._desk.limit(SOURCE, payload)
            self._changed.set()
        elif topic == self._topics.of("heartbeat"):
            # A retained heartbeat tells that somebody lived once.
            if not retained:
                self._desk.heartbeat(SOURCE, payload)
        elif topic == self._topics.of("config"):
            await self._desk.operators.take(SOURCE, payload)
            self._changed.set()
        elif topic == self._topics.forecast and self._on_forecast is not None:
            await self._on_forecast(payload)

    async def _send_acks(self, client: aiomqtt.Client, source: str) -> None:
        while True:
            while batch := await self._desk.pending_acks(source):
                for _, ack in batch:
                    await self._publish(client, "ack", wire.encode_ack(ack), qos=1)
                await self._desk.delivered(number for number, _ in batch if number is not None)
            await self._desk.wait_for_acks(source)

    async def _send_reports(self, client: aiomqtt.Client) -> None:
        while True:
            while self._reports:
                report = self._reports[0]
                await self._publish(client, "report", report, qos=1)
                if self._reports and self._reports[0] is report:  # else the bound has pushed it out meanwhile
                    self._reports.popleft()
            self._reported.clear()
            await self._reported.wait()

    async def _send_notices(self, client: aiomqtt.Client) -> None:
        """Publish what the broker has not had in this session; a message that has expired never."""
        sent: dict[str, _Notice] = {}
        while True:
            self._posted.clear()
            for leaf, notice in list(self._notices.items()):
                left_s = notice.left_s(self._clock.boottime_s())
                if sent.get(leaf) is not notice and left_s > 0:
                    await self._publish(client, leaf, notice.payload, qos=1, retain=True, kept_s=left_s)
                sent[leaf] = notice
            await self._posted.wait()

    async def _publish(
        self,
        client: aiomqtt.Client,
        leaf: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool = False,
        kept_s: float = math.inf,
    ) -> None:
        properties = None
        if kept_s < math.inf:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = math.ceil(kept_s)
        try:
            await client.publish(
                self._topics.of(leaf), payload, qos=qos, retain=retain, properties=properties
            )
            if qos:
                _confirm(client)
        finally:
            heed()

    async def _publish_status(self, client: aiomqtt.Client) -> None:
        now = self._clock.now()
        payload = wire.encode_status(
            self._desk.envelope(now),
            self._snapshot(),
            sequence=self._desk.last_sequence(SOURCE),
            export_sequence=self._desk.last_sequence(EXPORTS),
            now=now,
        )
        await self._publish(client, "status", payload, qos=1, retain=True)

    async def _send_status(self, client: aiomqtt.Client) -> None:
        while True:
            self._beat()
            self._changed.clear()
            await self._publish_status(client)
            try:
                async with asyncio.timeout(self._status_period_s):
                    await self._changed.wait()
            except TimeoutError:
                continue  # its turn has come

    async def _send_telemetry(self, client: aiomqtt.Client) -> None:
        while True:
            snapshot = self._snapshot()
            if snapshot.power is not None:
                told = wire.encode_telemetry(snapshot, snapshot.power)
                await self._publish(client, "telemetry", told, qos=0)
            await pace.rest(self._telemetry_period_s)

    async def _send_heartbeats(self, client: aiomqtt.Client) -> None:
        number = 0
        while True:
            now = self._clock.now()
            mirror = wire.encode_mirror(number, self._desk.envelope(now), now)
            await self._publish(client, "heartbeat/site", mirror, qos=0)
            number += 1
            await asyncio.sleep(self._heartbeat_period_s)


def _confirm(client: aiomqtt.Client) -> None:
    """Have the kernel tell the broker's machine at once that its last packet has come.

    It puts that off for 40 ms where we do not answer, and until then a broker with Nagle's algorithm, as
    Mosquitto is unless told otherwise, keeps the next packet: a limit right after a heartbeat. The wish holds
    for what has come so far, so it is said after each packet.
    """
    line = client._client.socket()
    if isinstance(line, socket.socket):
        with contextlib.suppress(OSError):  # the link is lost; its reader says so
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
