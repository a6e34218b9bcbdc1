"""The values of the power budget: what it is told, what it remembers, what it decides. It knows no rule."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from agent.model.jobs import Flexibility


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetJob:
    """A job at this site that runs or that the budget has paused.

    `power_w` is what it draws uncapped, in watts; None: unknown. `unsaved_s` is the age of the newest sealed
    checkpoint in seconds, or how long the job has run without one; None: unknown, which counts as very old.
    `slow_w` is what the plan has it draw at most; None: it does not slow it.
    """

    job_id: str
    flexibility: Flexibility = Flexibility.FLEX_3
    power_w: float | None = None
    unsaved_s: float | None = None
    pausable: bool = True
    paused: bool = False
    movable: bool = True
    slow_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapRange:
    """What the site's accelerators can be capped to, summed over them, in watts."""

    min_w: float
    max_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowSettings:
    """How our draw follows the site's own surplus.

    `import_w` may be drawn beyond it. The surplus is smoothed over `smooth_s`; below `pause_below_w` for
    `hold_s` jobs are paused (None: never, the cap stays at its lowest).
    """

    import_w: float = 0.0
    smooth_s: float = 20.0
    pause_below_w: float | None = None
    hold_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """How the budget behaves; every field has its unit in its name.

    `margin_w` stays free below the limit. `idle_w` is compute draw with no job running. Our draw rises by
    `ramp_up_w_per_s` at most while anything bounds it, and nears a bound with the time constant
    `approach_s`; it falls at once (`ramp_down_w_per_s` None), or by that much, but in time for the limit.
    `release_delay_s` is this site's share of the spread over which sites rebound after a limit has eased.
    `meter_lag_s` is how long a meter may still show what our draw was, polling included, `gpu_lag_s` the
    same for the accelerators' own figures; `settle_s` how long one may still show jobs that no longer run.
    A meter may be silent for `meter_grace_s`; then `assumed_others_w` stands in for the load that is not
    ours (None: the highest seen so far). `follow` None: surplus is not followed.
    """

    margin_w: float = 0.0
    idle_w: float = 0.0
    ramp_up_w_per_s: float = 50.0
    ramp_down_w_per_s: float | None = None
    approach_s: float = 5.0
    deadband_w: float = 10.0
    release_delay_s: float = 0.0
    resume_margin_w: float = 50.0
    resume_hold_s: float = 30.0
    move_after_s: float = 300.0
    stop_after_s: float = 15.0
    meter_grace_s: float = 10.0
    meter_lag_s: float = 5.0
    gpu_lag_s: float = 2.0
    settle_s: float = 5.0
    assumed_others_w: float | None = None
    follow: FollowSettings | None = None


class Bound(Enum):
    """What keeps our draw from being more than it is."""

    NOTHING = "nothing"
    LIMIT = "a limit"
    RAMP_DOWN = "the ramp down to a limit"
    RAMP_UP = "the ramp up"
    RELEASE = "the site's turn after a limit has eased"
    METER = "a meter that is silent or not believed"
    SURPLUS = "the surplus that is followed"
    PLAN = "the coordinator's plan, which slows jobs down to the surplus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Because:
    """Why our draw is bounded: by what, whose limit it is, and what it comes to.

    `source` and `command_id` name the limit that binds, "" where none does. `budget_w` is what compute may
    draw; None: nothing bounds it, or nothing is known.
    """

    bound: Bound = Bound.NOTHING
    source: str = ""
    command_id: str = ""
    budget_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is believed of the site, from samples that could be trusted; every `_s` is CLOCK_BOOTTIME seconds.

    `others_w` is the import that is not ours (negative when the site would export), `drift_w_per_s` how fast
    it grows, `worst_w` the most it has been without the plant. `unexplained_w` is what our jobs drew beyond
    their declaration, `trim_w` what they drew beyond the cap. `draws` are our recent draws as measured,
    `intended` as commanded, each as (seconds, watts). `trimmed_at` is the instant of the sample that the
    trim has seen; `surplus_w` is smoothed.
    """

    others_w: float | None = None
    drift_w_per_s: float = 0.0
    worst_w: float | None = None
    known_s: float | None = None
    unexplained_w: float = 0.0
    trim_w: float = 0.0
    trimmed_at: datetime | None = None
    running: frozenset[str] = frozenset()
    running_since_s: float | None = None
    draws: tuple[tuple[float, float], ...] = ()
    intended: tuple[tuple[float, float], ...] = ()
    surplus_w: float | None = None
    surplus_known_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMark:
    """What is remembered of one job.

    `debt_s` is the work in seconds at full speed that it has lost beyond what its tier tolerates.
    `paused_since_s` None: it runs. `asked_since_s` is since when it is asked in vain to pause.
    """

    job_id: str
    debt_s: float = 0.0
    paused_since_s: float | None = None
    asked_since_s: float | None = None
    move_requested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """What the budget remembers between two looks.

    `allowed_w` is the ramped ceiling of our draw; None: nothing bounds it. `bound_w` is the limit that bound
    last, inf where none did, and `eased_s` when it last rose. `cap_w` is the cap that was decided last.
    `follow_w` is the surplus that the cap stands at, `dark` whether jobs are paused for want of it, and
    `crossed_s` since when the surplus says otherwise.
    """

    sight: Sight = field(default_factory=Sight)
    allowed_w: float | None = None
    bound_w: float | None = None
    eased_s: float | None = None
    cap_w: float | None = None
    looked_s: float | None = None
    changed_s: float | None = None
    follow_w: float | None = None
    dark: bool = False
    crossed_s: float | None = None
    marks: tuple[JobMark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetActions:
    """What to do now. `cap_w` None: lift the cap. Figures in watts; None where nothing is known.

    `stop` are jobs to checkpoint and stop, because they do not pause. `wants_move` are all jobs that should
    leave, `request_move` those that are newly among them. `predicted_w` is import once the actions have taken
    effect; `achievable_min_w` and `achievable_max_w` are the import with everything capped or paused that
    can be, and with every job at full power.
    """

    cap_w: float | None
    pause: tuple[str, ...]
    resume: tuple[str, ...]
    stop: tuple[str, ...]
    request_move: tuple[str, ...]
    wants_move: tuple[str, ...]
    unachievable: bool
    predicted_w: float | None
    achievable_min_w: float | None
    achievable_max_w: float | None
    because: Because
