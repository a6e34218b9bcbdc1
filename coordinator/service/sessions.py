"""The open sessions with sites: one each, a bounded queue down, the newer replaces the older.

A site that does not read loses messages, never the coordinator its memory: orders are level-triggered and
come again, renewals are asked for again.
"""

import asyncio
import itertools
import logging

from sterna.v1.site_service_pb2 import ConnectResponse

log = logging.getLogger(__name__)

QUEUE_MESSAGES_MAX = 256


class Session:
    """One session: what is to be sent, and why it has to end.

    Parameters
    ----------
    site_id : str
        Whose it is.
    number : int
        Strictly increasing over all sessions.
    """

    def __init__(self, site_id: str, number: int) -> None:
        self.site_id = site_id
        self.number = number
        self.outgoing: asyncio.Queue[ConnectResponse] = asyncio.Queue(QUEUE_MESSAGES_MAX)
        self._ended = asyncio.Event()
        self.why_ended = ""

    def send(self, message: ConnectResponse) -> bool:
        """Queue a message; False when the site does not keep up and it was dropped."""
        try:
            self.outgoing.put_nowait(message)
        except asyncio.QueueFull:
            log.warning("a site does not keep up; a message to it was dropped", extra={"site": self.site_id})
            return False
        return True

    def end(self, why: str) -> None:
        """Let the session end from our side."""
        self.why_ended = why
        self._ended.set()

    async def wait_ended(self) -> None:
        """Return once `end` was called."""
        await self._ended.wait()


class Sessions:
    """Which site has which session."""

    def __init__(self) -> None:
        self._by_site: dict[str, Session] = {}
        self._numbers = itertools.count(1)

    def open(self, site_id: str) -> Session:
        """Open a session; an older one of the site ends."""
        self.end(site_id, "replaced by a newer session")
        session = Session(site_id, next(self._numbers))
        self._by_site[site_id] = session
        return session

    def close(self, session: Session) -> None:
        """Forget a session that has ended."""
        if self._by_site.get(session.site_id) is session:
            del self._by_site[session.site_id]

    def end(self, site_id: str, why: str) -> None:
        """End a site's session, if it has one."""
        session = self._by_site.get(site_id)
        if session is not None:
            session.end(why)

    def send(self, site_id: str, message: ConnectResponse) -> bool:
        """Queue a message to a site; False when it has no session or does not keep up."""
        session = self._by_site.get(site_id)
        return session is not None and session.send(message)
