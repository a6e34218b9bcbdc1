"""The OpenADR 3.1 VEN: polls a VTN, keeps the desk's limits in line with its events, reports what they ask.

A poll either succeeds as a whole and replaces what was known, or changes nothing: the desk goes on with the
schedule that it holds, whose last word is the SUBSCRIPTION (User Guide 8.10.1). Decides nothing itself;
`agent.core.openadr` does.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from agent.core.openadr.book import Book, Outlook
from agent.core.openadr.directions import EXPORTS
from agent.core.openadr.plan import LimitSettings, plan, subscribed
from agent.grid.openadr_feed import PlanFeed
from agent.grid.openadr_mqtt import MqttNotifier
from agent.grid.openadr_ports import Vtn
from agent.grid.openadr_reports import Reporter
from agent.model.openadr import Event, Signal, Unreadable
from sterna.backoff import Backoff
from sterna.clock import Clock
from sterna.errors import ConfigError, PeerProtocolError, TransientError
from sterna.units import w_to_kw

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 15.0
LONGEST_RETRY_AFTER_S = 300.0
BEAT_PERIOD_S = 5.0
SHORTEST_WAIT_S = 0.001
"""What is left of a wait may be less than the loop's clock can tell, and would never be over."""
LEAST_GAP_S = 0.2
"""Between two polls, however many notifications come."""


class OpenAdrVen:
    """One site as a VEN of one VTN.

    Parameters
    ----------
    vtn : Vtn
        The other side.
    feed : PlanFeed
        Takes plans to the grid desk.
    clock : Clock
        Both clocks.
    ven_name, resource_name : str
        Under which the site registers itself and reports.
    settings : LimitSettings
        What the site makes of OpenADR's words.
    exports : tuple of PlanFeed and LimitSettings, or None
        The same for the export; None: nothing at the site obeys a limit of it.
    programs : sequence of str
        Names or ids of the programs to follow; empty: all that the VTN shows us.
    max_import_w : float or None
        Told to the VTN as the resource's greatest consumption; None: not told.
    reporter : Reporter or None
        Makes reports; None: none are made.
    notifier : MqttNotifier or None
        Tells of changes at once; None: polling alone.
    poll_period_s : float
        How often everything is asked; below the fail-safe's heartbeat time, for polls are its heartbeats.
    outage_after_s : float
        Time without a successful poll after which the limits from before count as discarded.
    window_days : int
        How far ahead limits are handed to the desk.
    on_beat : callable or None
        Called whenever the loop comes round, for the watchdog.
    """

    def __init__(
        self,
        *,
        vtn: Vtn,
        feed: PlanFeed,
        clock: Clock,
        ven_name: str,
        resource_name: str,
        settings: LimitSettings,
        exports: tuple[PlanFeed, LimitSettings] | None = None,
        programs: Sequence[str] = (),
        max_import_w: float | None = None,
        reporter: Reporter | None = None,
        notifier: MqttNotifier | None = None,
        poll_period_s: float = 30.0,
        outage_after_s: float = 120.0,
        window_days: int = 8,
        on_beat: Callable[[], None] | None = None,
    ) -> None:
        if not feed.owes_heartbeats and settings.subscription_w is None:
            raise ConfigError("openadr: subscription_w is needed where no fail-safe guards the link")
        self._vtn = vtn
        self._feed = feed
        self._clock = clock
        self._ven_name = ven_name
        self._resource_name = resource_name
        self._settings = settings
        self._exports = exports
        self._programs = frozenset(programs)
        self._max_import_w = max_import_w
        self._reporter = reporter
        self._notifier = notifier
        self._poll_period_s = poll_period_s
        self._outage_after_s = outage_after_s
        self._window_days = window_days
        self._beat = on_beat or (lambda: None)
        self._book = Book()
        self._outlook = Outlook()
        self._ven_id: str | None = None
        self._news = asyncio.Event()
        self._registered = asyncio.Event()
        self._feeding = asyncio.Lock()
        self._answered_s = clock.boottime_s()
        self._faults: tuple[str, ...] = ()
        self.connected = False

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Everything that events say for the days ahead: limits, prices, greenhouse gas, alerts, the rest."""
        return self._outlook.signals

    @property
    def book(self) -> Book:
        """Every event that the VTN lists for us, as of the last successful poll."""
        return self._book

    @property
    def faults(self) -> tuple[str, ...]:
        """What the VTN said and could not be read."""
        return self._faults

    def poke(self) -> None:
        """Have the VTN asked now rather than at the next turn."""
        self._news.set()

    async def run(self) -> None:
        """Hold the link for the daemon's life; a VTN that is away is a state, not an error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll_forever(), name="openadr poll")
            if self._reporter is not None:
                group.create_task(self._reporter.run(lambda: self._book), name="openadr reports")
            if self._notifier is not None:
                group.create_task(self._listen(self._notifier), name="openadr notifier")

    async def poll(self) -> None:
        """Ask for everything once and bring the desk in line with the answer.

        Raises
        ------
        TransientError, PeerProtocolError
            The VTN did not answer, or not with what it should; nothing was changed.
        """
        wanted = await self._wanted_programs()
        events = [event for event in await self._vtn.events() if _is_for(event, wanted)]
        now = self._clock.now()
        async with self._feeding:
            if self._clock.boottime_s() - self._answered_s > self._outage_after_s:
                # What was said before an outage is void; the desk learns everything anew.
                log.warning("the VTN answers again; limits from before are discarded")
                self._feed.forget()
                if self._exports is not None:
                    self._exports[0].forget()
            self._answered_s = self._clock.boottime_s()
            self._book = self._book.polled(events, now)
            self._tell_faults(self._book.faults)
            self._outlook = self._look_ahead(now)
            self._feed.alive()
            await self._feed.send(plan(self._outlook, self._settings, now), now)
            if self._exports is not None:
                feed, settings = self._exports
                await feed.send(plan(self._outlook, settings, now, EXPORTS), now)

    async def _poll_forever(self) -> None:
        backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        reported = ""
        while True:
            self._beat()
            self._news.clear()
            try:
                await self._register()
                await self.poll()
            except (TransientError, PeerProtocolError) as error:
                if str(error) != reported:
                    log.warning("the VTN could not be asked", extra={"reason": str(error)})
                reported, self.connected = str(error), False
                await self._without_vtn()
                await self._wait(max(backoff.next_s(), _stated_s(error)))
                continue
            if not self.connected:
                log.info("linked to the VTN", extra={"events": len(self._book.held)})
            self.connected, reported = True, ""
            backoff.reset()
            await asyncio.sleep(LEAST_GAP_S)
            await self._wait(self._poll_period_s * random.uniform(0.9, 1.0), self._news)

    async def _wait(self, duration_s: float, event: asyncio.Event | None = None) -> None:
        """Wait, beating the while, until the time is over or the event is set."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + duration_s
        while (left_s := until_s - loop.time()) > SHORTEST_WAIT_S:
            if event is not None and event.is_set():
                return
            self._beat()
            slice_s = min(left_s, BEAT_PERIOD_S)
            if event is None:
                await asyncio.sleep(slice_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(slice_s):
                    await event.wait()

    async def _without_vtn(self) -> None:
        """Give a site that no fail-safe guards its subscription from the first failure on."""
        if self._feed.owes_heartbeats or self._feed.ever_spoke:
            return
        now = self._clock.now()
        await self._feed.send(subscribed(Outlook(), self._settings, now), now)

    async def _listen(self, notifier: MqttNotifier) -> None:
        await self._registered.wait()
        if self._ven_id is not None:
            await notifier.run(self._ven_id, self.poke)

    async def _register(self) -> None:
        """Find or make our VEN and resource; a VTN that does not let us is polled all the same."""
        if self._registered.is_set():
            return
        try:
            self._ven_id = await self._own_ven()
            await self._own_resource(self._ven_id)
        except PeerProtocolError as error:
            log.warning("the VTN does not register us", extra={"reason": str(error)})
        self._registered.set()

    async def _own_ven(self) -> str:
        known = [ven for ven in await self._vtn.vens(self._ven_name) if ven.name == self._ven_name]
        body = {"objectType": "VEN_VEN_REQUEST", "venName": self._ven_name}
        ven = known[0] if known else await self._vtn.create_ven(body)
        if ven.id is None:
            raise PeerProtocolError(f"VEN {self._ven_name}: id: missing")
        return ven.id

    async def _own_resource(self, ven_id: str) -> None:
        known = await self._vtn.resources(ven_id, self._resource_name)
        if any(resource.name == self._resource_name for resource in known):
            return
        body: dict[str, object] = {
            "objectType": "VEN_RESOURCE_REQUEST",
            "resourceName": self._resource_name,
            "venID": ven_id,
        }
        if self._max_import_w is not None:
            most = {"type": "MAX_POWER_CONSUMPTION", "values": [w_to_kw(self._max_import_w)]}
            body["attributes"] = [most]
        await self._vtn.create_resource(body)

    async def _wanted_programs(self) -> frozenset[str] | None:
        """Return the ids of the programs that we follow; None: all."""
        if not self._programs:
            return None
        listed = await self._vtn.programs()
        named = {program.id for program in listed if program.name in self._programs and program.id}
        return frozenset(named) | self._programs

    def _look_ahead(self, now: datetime) -> Outlook:
        # The window ends with a day, so that the plan's last word does not move with every poll.
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        until_at = midnight + timedelta(days=self._window_days)
        return self._book.outlook(site=self._ven_name, from_at=now, until_at=until_at)

    def _tell_faults(self, faults: tuple[str, ...]) -> None:
        for fault in faults:
            if fault not in self._faults:
                log.error("an event could not be read", extra={"fault": fault})
        self._faults = faults


def _is_for(event: Event | Unreadable, wanted: frozenset[str] | None) -> bool:
    return wanted is None or isinstance(event, Unreadable) or event.program_id in wanted


def _stated_s(error: TransientError | PeerProtocolError) -> float:
    """Return how long the VTN has asked to be left alone; 0 where it has not."""
    stated_s = error.retry_after_s if isinstance(error, TransientError) else None
    return min(stated_s or 0.0, LONGEST_RETRY_AFTER_S)
