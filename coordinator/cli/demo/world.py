"""The demo's world: which places, plants, links and jobs, and how fast the day goes by. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

DAY_H = 24.0
# 11 March of the measured year, from midnight to midnight in Greensboro: wind at Sand Point at night, sun in
# the south by day, wind again from the afternoon on.
DAY_START_AT = datetime(2021, 3, 11, 6, tzinfo=UTC)
# Further sites see the same skies on other days, so that their windows differ.
DAYS_BETWEEN_COPIES = 19

BASE_LOAD_W = 1000.0
NODE_IDLE_W = 40.0
JOB_POWER_W = 400.0
SLOTS = 3
LINK_BPS = 60e6
STEP_S = 0.2
CHECKPOINT_EVERY_STEPS = 50
PARAMETERS = 700_000
# Weights, two Adam moments in fp32, and a little for the rest; the first seal replaces the estimate.
CHECKPOINT_BYTES = PARAMETERS * 12
# Jobs are sized to end before the day does, also if they lose some seconds to moves.
WORK_FRAC = 0.8

# The planner: what a move takes here, in seconds, until the fleet has measured it.
SEAL_S = 0.6
LOAD_S = 1.5
DOWNTIME_S = 0.3
MIN_RESIDENCE_S = 5.0
# Accepted risk that a window turns out too short.
EPSILON = 0.3
POLICY = "sterna"
TICK_S = 1.0

# Forecasts are learnt from these days before the day that is played, in slots of half an hour, a day ahead.
PAST_DAYS = 60
SLOT_H = 0.5
SLOTS_PER_DAY = 48
AHEAD_SLOTS = 48
# A past of 60 days is gone through while the daemons start; a fleet that lives slower has more time.
LEARNING_BUDGET_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSite:
    """A place with its plant. Nameplates in watts."""

    site_id: str
    place: str
    pv_w: float
    wind_w: float
    trace_start_at: datetime

    @property
    def plant(self) -> str:
        """What its surplus comes of, as the coordinator's configuration says it."""
        if self.pv_w and self.wind_w:
            return "mixed"
        return "sun" if self.pv_w else "wind"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoJob:
    """A training run; `steps` at `STEP_S` each."""

    name: str
    home_site: str
    seed: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that the demo fixes; nothing in it is known to a shipped daemon."""

    sites: tuple[DemoSite, ...]
    jobs: tuple[DemoJob, ...]
    day_s: float
    seed: int

    @property
    def speedup(self) -> float:
        """Trace seconds in a real second."""
        return timedelta(hours=DAY_H).total_seconds() / self.day_s

    @property
    def slot_s(self) -> float:
        """Length of a forecast's slot, real seconds."""
        return self.day_s / SLOTS_PER_DAY

    @property
    def persistence_s(self) -> float:
        """How long the measured surplus is taken to last where nothing was learnt: an hour of the trace."""
        return self.day_s / DAY_H

    @property
    def planner_numbers(self) -> dict[str, Any]:
        """What differs from the planner's defaults, of the live fleet and of those that are replayed."""
        return {"epsilon": EPSILON, "min_residence_s": MIN_RESIDENCE_S, "horizon_s": self.day_s}

    @property
    def limit_after_s(self) -> float:
        """When the grid operator begins to look for a place where a limit bites."""
        return 0.45 * self.day_s

    @property
    def limit_before_s(self) -> float:
        """When it sends the limit at the latest."""
        return 0.75 * self.day_s

    @property
    def limit_s(self) -> float:
        """How long the limit holds."""
        return 0.12 * self.day_s


_PLACES: Sequence[tuple[str, float, float]] = (
    ("greensboro", 6000.0, 0.0),
    ("miami", 4000.0, 2500.0),
    ("sand-point", 0.0, 5000.0),
)
_NAMES = (
    "arctic",
    "sooty",
    "roseate",
    "little",
    "sandwich",
    "caspian",
    "bridled",
    "whiskered",
    "gull-billed",
)


def make_world(*, sites: int, jobs: int, minutes: float, seed: int) -> World:
    """Lay out a demo.

    Parameters
    ----------
    sites, jobs : int
        How many; sites beyond three see the skies of the same places on other days.
    minutes : float
        How long the day takes.
    seed : int
        Of the jobs' data.
    """
    laid = tuple(_site(index) for index in range(sites))
    day_s = minutes * 60
    steps = int(day_s * WORK_FRAC / STEP_S)
    return World(
        sites=laid,
        jobs=tuple(
            DemoJob(
                name=_NAMES[index] if index < len(_NAMES) else f"tern-{index}",
                home_site=laid[index % sites].site_id,
                seed=seed * 1000 + index,
                steps=steps,
            )
            for index in range(jobs)
        ),
        day_s=day_s,
        seed=seed,
    )


def _site(index: int) -> DemoSite:
    place, pv_w, wind_w = _PLACES[index % len(_PLACES)]
    copy = index // len(_PLACES)
    return DemoSite(
        site_id=place if copy == 0 else f"{place}-{copy + 1}",
        place=place,
        pv_w=pv_w,
        wind_w=wind_w,
        trace_start_at=DAY_START_AT + timedelta(days=DAYS_BETWEEN_COPIES * copy),
    )
