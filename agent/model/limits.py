"""What the grid asks: limits, commands, and the state of the fail-safe machine."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class GridState(Enum):
    """Where the fail-safe machine stands (EEBus LPC)."""

    INIT = "INIT"
    UNLIMITED = "UNLIMITED"
    LIMITED = "LIMITED"
    FAILSAFE = "FAILSAFE"
    AUTONOMOUS = "AUTONOMOUS"


class LimitKind(Enum):
    """OpenADR payload types that carry a limit we obey."""

    IMPORT_CAPACITY_LIMIT = "IMPORT_CAPACITY_LIMIT"
    EXPORT_CAPACITY_LIMIT = "EXPORT_CAPACITY_LIMIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitCommand:
    """A limit or its release, as accepted from an operator.

    `value_w` is in watts, >= 0, of import or export as `kind` says, and None for a release. `end_at` None:
    holds until replaced.
    """

    source: str
    command_id: str
    sequence: int
    kind: LimitKind
    issued_at: datetime
    start_at: datetime
    end_at: datetime | None
    value_w: float | None
    ramp_s: float
    reason: str

    @property
    def is_release(self) -> bool:
        """Whether the command ends the source's limit."""
        return self.value_w is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit that is in force, or will be; `end_at` None: until replaced."""

    source: str
    command_id: str
    limit_w: float
    start_at: datetime
    end_at: datetime | None
    ramp_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What the timeline says of the import: the state, and every limit in force, the binding one first."""

    state: GridState
    limits: tuple[Limit, ...]
    coming: tuple[Limit, ...] = ()
    """Limits that were commanded and begin later, by start."""

    @property
    def binding(self) -> Limit | None:
        """The most restrictive limit; None when there is none."""
        return self.limits[0] if self.limits else None
