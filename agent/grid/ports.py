"""What the grid desk needs from others."""

from typing import Protocol

from agent.model.grid import Refusal


class Seal(Protocol):
    """Tells an operator's messages from others; `agent.grid.signing.OperatorSeal` is one."""

    def check(self, leaf: str, payload: bytes) -> Refusal | None:
        """Return why a message of a kind (``limit``, ``config``, ``heartbeat``) is not the operator's."""
        ...
