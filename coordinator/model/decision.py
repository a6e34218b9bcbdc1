"""What a policy decides, with everything that it weighed."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class DecisionKind(Enum):
    """What happens to the job."""

    START = "start"
    STAY = "stay"
    MIGRATE = "migrate"
    WAIT = "wait"
    PAUSE = "pause"
    RESUME = "resume"
    """Goes on where it was paused, or at full power where it was slowed."""
    SLOW = "slow"
    """Draws `power_w` at most where it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One figure of a judgement against its limit; the fields of sterna.v1.FeasibilityTerm."""

    name: str
    value: float
    limit: float | None
    unit: str
    satisfied: bool
    remedy: str = ""
    """What would satisfy it, for people; empty when it is satisfied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A site that was considered. `rejections` is empty for the one chosen."""

    site_id: str
    feasible: bool
    score: float
    terms: tuple[Term, ...]
    rejections: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One job's decision. `source_site` None: it ran nowhere; `target_site` None: it waits."""

    job_id: str
    decided_at: datetime
    policy: str
    kind: DecisionKind
    source_site: str | None
    target_site: str | None
    reason: str
    alternatives: tuple[Alternative, ...]
    predicted_s: float | None = None
    """T_mig as predicted, for a migration."""
    reserved_bps: float | None = None
    """Link rate that the plan allots, for a migration."""
    window_end_at: datetime | None = None
    """End of the window at the destination that the plan relies on; None: the move has another reason."""
    power_w: float | None = None
    """What it may draw at most from now on; None: its full power."""
