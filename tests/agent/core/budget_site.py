"""A site in a few lines: jobs that do what the budget says, and a meter that shows it at once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.core.power_budget import BudgetInputs, decide
from agent.core.power_budget_values import BudgetActions, BudgetJob, BudgetSettings, BudgetState, CapRange
from agent.model.jobs import Flexibility
from agent.model.limits import Envelope, GridState, Limit
from agent.model.readings import Quality, SitePower

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
CAP = CapRange(min_w=200.0, max_w=1000.0)
SETTINGS = BudgetSettings()
LOW = BudgetJob(job_id="low", flexibility=Flexibility.FLEX_3, power_w=400.0)
HIGH = BudgetJob(job_id="high", flexibility=Flexibility.FLEX_1, power_w=600.0)


def limit(limit_w: float, *, source: str = "mqtt", start_at: datetime = NOW, ramp_s: float = 0.0) -> Limit:
    """Make a limit in force."""
    return Limit(
        source=source,
        command_id=f"{source}-{limit_w:g}",
        limit_w=limit_w,
        start_at=start_at,
        end_at=None,
        ramp_s=ramp_s,
        reason="",
    )


def limited(*limits: Limit | float | None) -> Envelope:
    """Merge limits; None: none."""
    made = [limit(one) if isinstance(one, (int, float)) else one for one in limits if one is not None]
    made.sort(key=lambda one: (one.limit_w, one.source))
    return Envelope(state=GridState.LIMITED if made else GridState.UNLIMITED, limits=tuple(made))


def power(
    others_w: float = 1000.0,
    compute_w: float | None = 1000.0,
    quality: Quality = Quality.OK,
    **more: object,
) -> SitePower:
    """Make a balance."""
    balance = SitePower(
        measured_at=NOW,
        quality=quality,
        grid_w=others_w + (compute_w or 0.0),
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=compute_w,
        site_load_w=None,
        surplus_w=None,
    )
    return replace(balance, **more)  # type: ignore[arg-type]


class Site:
    """Jobs that do what the budget says, and a meter that shows it."""

    def __init__(
        self,
        *jobs: BudgetJob,
        cap: CapRange | None = None,
        settings: BudgetSettings = SETTINGS,
        others_w: float = 1000.0,
        beyond_cap_w: float = 0.0,
    ) -> None:
        self.jobs = jobs
        self.cap = cap
        self.settings = settings
        self.others_w = others_w
        self.beyond_cap_w = beyond_cap_w
        self.state = BudgetState()
        self.now_s = 0.0
        self.deaf: set[str] = set()
        self.actions: BudgetActions | None = None

    @property
    def now(self) -> datetime:
        """The calendar."""
        return NOW + timedelta(seconds=self.now_s)

    def look(
        self,
        limits: Envelope | float | None,
        sample: SitePower | None = None,
        *,
        blind: bool = False,
        after_s: float = 1.0,
        cap_stuck: bool = False,
    ) -> BudgetActions:
        """Let time pass, look, and do what is decided."""
        self.now_s += after_s
        if sample is None and not blind:
            sample = power(self.others_w, self.draw_w())
        if sample is not None:
            sample = replace(sample, measured_at=self.now)
        inputs = BudgetInputs(
            now=self.now,
            now_boot_s=self.now_s,
            envelope=limits if isinstance(limits, Envelope) else limited(limits),
            power=sample,
            jobs=self.jobs,
            cap=self.cap,
            cap_stuck=cap_stuck,
        )
        self.state, actions = decide(self.state, inputs, self.settings)
        changes = {**dict.fromkeys(actions.pause, True), **dict.fromkeys(actions.resume, False)}
        self.jobs = tuple(
            job if job.job_id in self.deaf else replace(job, paused=changes.get(job.job_id, job.paused))
            for job in self.jobs
        )
        self.actions = actions
        return actions

    def draw_w(self) -> float:
        """What the jobs draw now."""
        full_w = sum(job.power_w or 0.0 for job in self.jobs if not job.paused)
        cap_w = self.state.cap_w
        return full_w if cap_w is None else min(full_w, cap_w + self.beyond_cap_w)

    def balance(
        self, others_w: float | None = None, quality: Quality = Quality.OK, **more: object
    ) -> SitePower:
        """Make a balance with what the jobs draw now."""
        return power(self.others_w if others_w is None else others_w, self.draw_w(), quality, **more)

    @property
    def import_w(self) -> float:
        """What the site imports now."""
        return self.others_w + self.draw_w()

    @property
    def paused(self) -> set[str]:
        """The jobs that are paused."""
        return {job.job_id for job in self.jobs if job.paused}
