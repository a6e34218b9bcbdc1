"""The site in Home Assistant: announced, told every few seconds, and taken away again, over MQTT.

It only tells: nothing is subscribed to, and nobody commands the site here. The broker is the household's, not
the grid operator's; one that is away is a state, not an error.
"""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Callable

import aiomqtt

from agent.core.home_assistant import OFFLINE, ONLINE, Announcement
from sterna.backoff import Backoff
from sterna.cancellation import heed
from sterna.errors import ConfigError
from sterna.listening import is_loopback

log = logging.getLogger(__name__)

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 30.0
BEAT_PERIOD_S = 10.0


class HomeAssistant:
    """The site's link to a household's broker.

    Parameters
    ----------
    host, port
        Of the broker. Without `tls_context` only loopback is allowed.
    client_id : str
        Stable and unique there.
    announcement : Announcement
        What is announced, and under which topics.
    figures : callable
        What the entities show now, by key.
    enabled : bool
        False: what was announced is taken back, once per start.
    username, password : str or None
        For the broker.
    tls_context : ssl.SSLContext or None
        None: plaintext.
    timeout_s : float
        For connecting and for every acknowledged publish.
    on_beat : callable
        Called whenever the loop comes round, for the watchdog.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        client_id: str,
        announcement: Announcement,
        figures: Callable[[], dict[str, object]],
        enabled: bool = True,
        username: str | None = None,
        password: str | None = None,
        tls_context: ssl.SSLContext | None = None,
        timeout_s: float = 5.0,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        if tls_context is None and not is_loopback(host):
            raise ConfigError(f"MQTT broker {host}: plaintext is for loopback only")
        self._host, self._port = host, port
        self._client_id = client_id
        self._announcement = announcement
        self._figures = figures
        self._enabled = enabled
        self._credentials = username, password
        self._tls_context = tls_context
        self._timeout_s = timeout_s
        self._beat = on_beat
        self.connected = False

    async def run(self) -> None:
        """Hold the link for the daemon's life."""
        backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        reported = ""
        while True:
            self._beat()
            try:
                await self._session()
                break  # everything was taken back
            except (aiomqtt.MqttError, OSError) as error:
                heed()
                if self.connected or str(error) != reported:
                    log.warning("no link to Home Assistant's broker", extra={"reason": str(error)})
                    reported = str(error)
                if self.connected:
                    backoff.reset()
                self.connected = False
            await asyncio.sleep(backoff.next_s())
        while True:
            self._beat()
            await asyncio.sleep(BEAT_PERIOD_S)

    async def _session(self) -> None:
        username, password = self._credentials
        here = self._announcement.topic("availability")
        async with aiomqtt.Client(
            self._host,
            self._port,
            identifier=self._client_id,
            username=username,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5,
            timeout=self._timeout_s,
            tls_context=self._tls_context,
            will=aiomqtt.Will(here, OFFLINE, qos=1, retain=True) if self._enabled else None,
            max_queued_outgoing_messages=64,
        ) as client:
            heed()
            for topic, document in self._announcement.documents().items():
                await self._publish(client, topic, document if self._enabled else b"")
            await self._publish(client, here, ONLINE if self._enabled else b"")
            self.connected = True
            log.info("linked to Home Assistant's broker", extra={"announced": self._enabled})
            if self._enabled:
                await self._tell(client)

    async def _tell(self, client: aiomqtt.Client) -> None:
        """Publish the figures for ever; say goodbye on the way out, for a clean end drops the last will."""
        try:
            while True:
                figures = json.dumps(self._figures(), allow_nan=False).encode()
                await self._publish(client, self._announcement.topic("state"), figures, retain=False)
                await asyncio.sleep(self._announcement.period_s)
        except asyncio.CancelledError:
            with contextlib.suppress(aiomqtt.MqttError):
                await client.publish(self._announcement.topic("availability"), OFFLINE, 1, True)
            raise

    async def _publish(
        self, client: aiomqtt.Client, topic: str, payload: bytes, *, retain: bool = True
    ) -> None:
        self._beat()
        await client.publish(topic, payload, qos=1, retain=retain)
        heed()
