"""What is said back to each source but not stored: refusals and repeats; and a bell for every answer."""

import asyncio
from collections import deque
from collections.abc import Iterable
from datetime import datetime

from agent.core.commands import Repeated
from agent.core.limits import CommandStatus, HeldCommand, Timeline
from agent.model.grid import Ack, AckStatus, Refusal

MAX_VOLATILE_ACKS = 64


class Answers:
    """The volatile answers, bounded per source, and a bell per source that rings when there is any answer."""

    def __init__(self) -> None:
        self._volatile: dict[str, deque[Ack]] = {}
        self._bells: dict[str, asyncio.Event] = {}

    def add(self, ack: Ack) -> None:
        """Keep an answer; beyond the bound the oldest is forgotten."""
        self._volatile.setdefault(ack.source, deque(maxlen=MAX_VOLATILE_ACKS)).append(ack)
        self.ring({ack.source})

    def take(self, source: str) -> Iterable[Ack]:
        """Return a source's volatile answers and forget them."""
        return self._volatile.pop(source, deque())

    def ring(self, sources: Iterable[str]) -> None:
        """Say that there may be answers."""
        for source in sources:
            self._bell(source).set()

    async def wait(self, source: str) -> None:
        """Wait until there may be answers for a source."""
        bell = self._bell(source)
        await bell.wait()
        bell.clear()

    def _bell(self, source: str) -> asyncio.Event:
        return self._bells.setdefault(source, asyncio.Event())


def rejected(source: str, command_id: str, refusal: Refusal, now: datetime) -> Ack:
    """Say that a command was refused, and why."""
    return Ack(
        source=source,
        command_id=command_id,
        sequence=refusal.sequence,
        status=AckStatus.REJECTED,
        at=now,
        reason=str(refusal),
    )


def repeated(source: str, again: Repeated, timeline: Timeline, now: datetime) -> Ack:
    """Say where a command stands that was sent once more."""
    for held in timeline.held:
        if (held.command.source, held.command.sequence) == (source, again.sequence):
            return progress(held, now, reason="repeated")
    return Ack(
        source=source,
        command_id=again.command_id,
        sequence=again.sequence,
        status=AckStatus.SUCCEEDED,
        at=now,
        reason="repeated",
    )


def accepted(held: HeldCommand) -> Ack:
    """Say that a command was accepted."""
    command = held.command
    return Ack(
        source=command.source,
        command_id=command.command_id,
        sequence=command.sequence,
        status=AckStatus.ACCEPTED,
        at=held.accepted_at,
        applied_w=command.value_w,
    )


def progress(held: HeldCommand, now: datetime, *, reason: str = "") -> Ack:
    """Say where a stored command stands; the status words of both are the same."""
    command = held.command
    return Ack(
        source=command.source,
        command_id=command.command_id,
        sequence=command.sequence,
        status=AckStatus(held.status.value),
        at=now,
        reason=reason,
        applied_w=command.value_w,
    )


def is_told(held: HeldCommand) -> bool:
    """Whether a change of status is worth an ack; that it was accepted was said at once."""
    return held.status is not CommandStatus.ACCEPTED
