"""Publishes the plant's forecast, retained, over MQTT 5, and again when the broker returns."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping

from sterna.backoff import Backoff
from sterna.supervise import Heart

log = logging.getLogger(__name__)

KEEPALIVE_S = 10
TIMEOUT_S = 5.0
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 10.0


def topic(site_id: str) -> str:
    """Where a site's plant puts its forecast."""
    return f"plant/v1/{site_id}/forecast"


async def run_publisher(
    *,
    host: str,
    port: int,
    site_id: str,
    make: Callable[[], Mapping[str, object]],
    period_s: float,
    heart: Heart,
    username: str | None = None,
    password: str | None = None,
) -> None:
    """Publish what `make` gives, at once and every `period_s` seconds, for the daemon's life.

    Parameters
    ----------
    host, port
        The broker.
    site_id : str
        Names the topic and the MQTT client.
    make : callable
        Gives the newest message, ready for JSON.
    period_s : float
        Between messages, > 0.
    heart : Heart
        Beaten with each message and each attempt.
    username, password : str or None
        None: anonymous.
    """
    import aiomqtt  # only here: the agent proper has its own adapter

    backoff = Backoff(BACKOFF_MIN_S, BACKOFF_MAX_S)
    while True:
        try:
            async with aiomqtt.Client(
                host,
                port,
                identifier=f"sterna-plant-{site_id}",
                username=username,
                password=password,
                protocol=aiomqtt.ProtocolVersion.V5,
                keepalive=KEEPALIVE_S,
                timeout=TIMEOUT_S,
            ) as client:
                log.info("plant connected to the broker", extra={"host": host, "port": port})
                while True:
                    await client.publish(topic(site_id), json.dumps(make()), qos=1, retain=True)
                    backoff.reset()
                    heart.beat()
                    await asyncio.sleep(period_s)
        except aiomqtt.MqttError as error:
            log.warning("no broker for the plant", extra={"host": host, "port": port, "fault": str(error)})
        heart.beat()
        await asyncio.sleep(backoff.next_s())
