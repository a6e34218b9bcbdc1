"""The VTN's MQTT notifier: word that something has changed makes the VEN ask over REST, at once.

Topics come from REST. Nothing that arrives here is obeyed or even read beyond its id, so a broker that
anybody may write to can cost polls and no watts.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

import aiomqtt

from agent.core.openadr import documents
from agent.grid.openadr_ports import Vtn
from agent.model.openadr import Notifiers
from sterna.backoff import Backoff
from sterna.cancellation import heed
from sterna.errors import ConfigError, PeerProtocolError, TransientError
from sterna.listening import is_loopback

log = logging.getLogger(__name__)

COLLECTIONS = ("events", "programs")
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
REMEMBERED = 256
PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttNotifier:
    """Listens to a VTN's notifications.

    Parameters
    ----------
    vtn : Vtn
        Tells broker, topics and token.
    client_id : str
        MQTT client id: stable, and not that of another client of the same broker.
    tls_context : ssl.SSLContext or None
        For ``mqtts``, with a client certificate where the broker wants one; None: the system's authorities.
        Keys that a VTN hands out over REST are not used.
    timeout_s : float
        For connecting and subscribing.
    """

    def __init__(
        self,
        *,
        vtn: Vtn,
        client_id: str,
        tls_context: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._vtn = vtn
        self._client_id = client_id
        self._tls_context = tls_context
        self._timeout_s = timeout_s
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self.connected = False

    async def run(self, ven_id: str, poke: Callable[[], None]) -> None:
        """Listen until cancelled; a broker that is away costs nothing but speed.

        Parameters
        ----------
        ven_id : str
            Ours at the VTN.
        poke : callable
            Called when there may be news, also after every (re)connection.
        """
        backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        reported = ""
        while True:
            try:
                if not await self._listen(ven_id, poke):
                    log.info("the VTN does not notify over MQTT; polling alone")
                    return
                reason = "the broker ended the session"
            except (aiomqtt.MqttError, TransientError, PeerProtocolError, ConfigError, OSError) as error:
                reason = str(error)
            heed()
            if self.connected:
                backoff.reset()
            if self.connected or reason != reported:
                log.warning("no notifications from the VTN", extra={"reason": reason})
                reported = reason
            self.connected = False
            await asyncio.sleep(backoff.next_s())

    async def _listen(self, ven_id: str, poke: Callable[[], None]) -> bool:
        """Hold one session; return False where there is nothing to listen to."""
        notifiers = await self._vtn.notifiers()
        if not notifiers.mqtt_uris:
            return False
        topics = [topic for name in COLLECTIONS for topic in await self._vtn.topics(ven_id, name)]
        if not topics:
            return False
        async with self._client(notifiers, await self._vtn.token()) as client:
            for topic in dict.fromkeys(topics):
                await client.subscribe(topic, qos=1)
                heed()
            self.connected = True
            log.info("listening to the VTN's notifications", extra={"topics": len(topics)})
            poke()  # what happened while we were away
            async for message in client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else b""
                if not message.retain and self._is_news(payload):
                    poke()
        return True

    def _is_news(self, payload: bytes) -> bool:
        notification = documents.notification(payload)
        if notification is None:
            log.warning("a notification could not be read", extra={"payload_bytes": len(payload)})
            return False
        if notification.id is None:
            return True
        if notification.id in self._seen:
            return False
        self._seen.append(notification.id)
        return True

    def _client(self, notifiers: Notifiers, token: str | None) -> aiomqtt.Client:
        host, port, tls = _broker(notifiers.mqtt_uris[0])
        username: str | None = None
        password: str | None = None
        if notifiers.method == "OAUTH2_BEARER_TOKEN":
            own = self._vtn.client_id or ""
            username = (notifiers.username or "{clientID}").replace("{clientID}", own)
            password = token
        context = (self._tls_context or ssl.create_default_context()) if tls else None
        return aiomqtt.Client(
            host,
            port,
            identifier=self._client_id,
            username=username,
            password=password,
            # Every VTN must speak 3.1.1, and nothing here needs more.
            protocol=aiomqtt.ProtocolVersion.V311,
            timeout=self._timeout_s,
            tls_context=context,
            max_queued_incoming_messages=256,
        )


def _broker(uri: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise PeerProtocolError(f"notifiers: MQTT.URIS: {uri}: not a URI") from error
    if parts.scheme not in PORTS or not host:
        raise PeerProtocolError(f"notifiers: MQTT.URIS: {uri}: expected mqtts://host[:port]")
    if parts.scheme == "mqtt" and not is_loopback(host):
        raise ConfigError(f"notifiers: MQTT.URIS: {uri}: plaintext is for loopback only")
    return host, port or PORTS[parts.scheme], parts.scheme == "mqtts"
