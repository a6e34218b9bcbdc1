"""What a site offers its grid operator; the messages of sterna.v1 as frozen values."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Direction(Enum):
    """Which way import would go."""

    DOWN = "DOWN"
    UP = "UP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Power that import can fall or rise by for a while, and what that costs jobs.

    Parameters
    ----------
    offer_id : str
        Unique.
    direction : Direction
        Which way.
    power_w : float
        By how much, above 0.
    start_at : datetime
        From when.
    duration_s : float
        For how long, above 0.
    jobs, moves : int
        Jobs that it would touch, and how many of them would move away rather than stand still throughout.
    delay_s : float
        Work delayed, in job-seconds, at most; 0 where import rises.
    steps_at_risk : int or None
        Training steps since the jobs' last sealed checkpoints; None: not all of them report their steps.
    shifted_wh : float
        Energy that is drawn later (down) or earlier (up) instead.
    extra_wh : float
        Energy that it takes on top.
    """

    offer_id: str
    direction: Direction
    power_w: float
    start_at: datetime
    duration_s: float
    jobs: int
    moves: int = 0
    delay_s: float = 0.0
    steps_at_risk: int | None = None
    shifted_wh: float = 0.0
    extra_wh: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSet:
    """All that a site may offer now: alternatives, of which one may be taken up.

    `reason` says why there is nothing to offer; "" where there is.
    """

    site_id: str
    issued_at: datetime
    expires_at: datetime
    offers: tuple[Offer, ...] = ()
    reason: str = ""
