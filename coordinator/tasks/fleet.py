"""The one owner of the fleet's state.

Decisions come in as functions, one after the other, and are stored before anybody sees them.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordinator.core.fleet import fold
from coordinator.model.events import Event
from coordinator.model.fleet import FleetState
from coordinator.store.fleet_store import FleetStore, StoredRequest
from coordinator.tasks.bell import Bell
from sterna.errors import SternaError, TransientError

log = logging.getLogger(__name__)

Decide = Callable[[FleetState], Sequence[Event]]
Answer = Callable[[FleetState], StoredRequest | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    decide: Decide
    answer: Answer | None
    done: "asyncio.Future[tuple[Event, ...]]"


class Fleet:
    """The state in memory, always equal to the tables.

    Parameters
    ----------
    store : FleetStore
        Where it is kept.
    bell : Bell
        Rung at every change.
    """

    def __init__(self, store: FleetStore, bell: Bell) -> None:
        self._store = store
        self._bell = bell
        self._state = store.load()
        self._changes: asyncio.Queue[_Change] = asyncio.Queue()
        self._version = 0
        self._doubted = False

    @property
    def state(self) -> FleetState:
        """Return the fleet as it is stored."""
        return self._state

    @property
    def version(self) -> int:
        """Return a number that grows with every change."""
        return self._version

    async def change(self, decide: Decide, answer: Answer | None = None) -> tuple[Event, ...]:
        """Decide on the newest state and store what was decided.

        Parameters
        ----------
        decide : callable
            From the state to events; called once, with nothing else going on.
        answer : callable or None
            From the state after them to the operator's request that they answer, stored with them; it is
            asked even where there are no events.

        Returns
        -------
        tuple of Event
            What was stored.

        Raises
        ------
        IllegalTransitionError
            What was decided does not fit the state; nothing changed.
        TransientError
            The store did not say that it has it. Should it have it nevertheless, that is seen before anything
            else is decided.
        """
        if answer is None and not decide(self._state):
            return ()  # nothing now, and the state may only have moved on: whoever asks asks again
        done: asyncio.Future[tuple[Event, ...]] = asyncio.get_running_loop().create_future()
        self._changes.put_nowait(_Change(decide=decide, answer=answer, done=done))
        return await done

    async def run(self) -> None:
        """Make the changes, one after the other; a change outlives whoever asked for it."""
        while True:
            change = await self._changes.get()
            try:
                events = await self._make(change)
            except Exception as error:
                if not change.done.done():
                    change.done.set_exception(error)
                if not isinstance(error, SternaError):
                    raise
                log.error("a change was not made", extra={"why": str(error)})
                continue
            if not change.done.done():
                change.done.set_result(events)

    async def _make(self, change: _Change) -> tuple[Event, ...]:
        if self._doubted:
            await self._reload()
        before = self._state
        events = tuple(change.decide(before))
        after = fold(events, before)
        request = change.answer(after) if change.answer is not None else None
        if events or request is not None:
            try:
                await self._store.append(events, before, after, request)
            except TransientError:
                self._doubted = True  # it may have been stored all the same: what was lost is the answer
                raise
        if events:
            self._take(after)
            log.debug("the fleet changed", extra={"events": [type(event).__name__ for event in events]})
        return events

    async def _reload(self) -> None:
        """Believe the store, where it may know more than we do; whoever asked then was told of a failure."""
        stored = await self._store.reload()
        self._doubted = False
        if stored != self._state:
            log.warning("a change that seemed to fail had been stored")
            self._take(stored)

    def _take(self, state: FleetState) -> None:
        self._state = state
        self._version += 1
        self._bell.ring()
