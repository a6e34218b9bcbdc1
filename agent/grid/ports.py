"""What the grid desk needs from a store; the layers keep it from importing one."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from agent.core.breach import BreachTally
from agent.core.gridmemory import GridMemory
from agent.core.limits import HeldCommand
from agent.model.grid import Ack, OperatorConfig, Refusal
from agent.model.limits import LimitKind


class Seal(Protocol):
    """Tells an operator's messages from others; `agent.grid.signing.OperatorSeal` is one."""

    def check(self, leaf: str, payload: bytes) -> Refusal | None:
        """Return why a message of a kind (``limit``, ``config``, ``heartbeat``) is not the operator's."""
        ...


class GridStore(Protocol):
    """Where accepted commands outlive the process; `agent.store.commands.CommandStore` is one."""

    async def recover(self, now: datetime, now_boot_s: float) -> GridMemory:
        """Read everything back."""
        ...

    async def accept(
        self, held: HeldCommand, digest: str, ack: Ack, after: HeldCommand | None = None
    ) -> None:
        """Store a command with its sequence, its ack and what follows it, durably."""
        ...

    async def advance(
        self, moved: Sequence[HeldCommand], gone: Sequence[HeldCommand], acks: Sequence[Ack]
    ) -> None:
        """Store new statuses and acks; forget what is gone."""
        ...

    async def keep_config(self, source: str, config: OperatorConfig) -> None:
        """Store an operator's settings."""
        ...

    async def keep_tally(self, kind: LimitKind, tally: BreachTally) -> None:
        """Store the count of breaches in one direction."""
        ...

    async def pending_acks(self, source: str, most: int) -> list[tuple[int, Ack]]:
        """Return undelivered acks, oldest first."""
        ...

    async def drop_acks(self, numbers: Iterable[int]) -> None:
        """Forget delivered acks."""
        ...
