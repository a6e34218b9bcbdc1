"""One site in closed loop on virtual time: the agent's own decision, balance and breach count.

What is simulated is what is outside of the agent: the plant and the GPU (the shipped models), a meter that is
polled and may lag behind, jobs that take a moment to pause. What is measured is what the meter shows.
"""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random

from agent.core.breach import BreachTally, fold, import_of
from agent.core.power_budget import BudgetInputs, decide
from agent.core.power_budget_values import BudgetActions, BudgetJob, BudgetSettings, BudgetState, CapRange
from agent.core.sitepower import site_power
from agent.devices.gpu_fake import FakeGpu
from agent.model.jobs import Flexibility
from agent.model.limits import Envelope, GridState, Limit
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower
from agent.simulator.plant import Plant
from agent.simulator.traces import Trace
from sterna.clock import FakeClock

START = datetime(2026, 6, 21, 10, tzinfo=UTC)
MINUTE_S = 60.0
POLL_S = 1.0
TOLERANCE_W = 50.0
"""Meter error that is no breach: the default of ``[grid] meter_tolerance_w``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """How the world around the agent behaves, in seconds and fractions.

    `gpu_lag_s` is the time constant of the GPU, `meter_lag_s` how old what the meter shows is, `pause_s` how
    long a job takes to pause, `wake_s` how soon the decision is taken when a limit comes (None: with the next
    period). `cap_error_frac` is drawn beyond the cap. `blinks` is the share of polls that fail.
    """

    tick_s: float = 0.1
    gpu_lag_s: float = 0.25
    meter_lag_s: float = 0.2
    pause_s: float = 0.3
    wake_s: float | None = None
    control_s: float = 0.5
    cap_error_frac: float = 0.0
    blinks: float = 0.0
    load_meter: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSpec:
    """A site: jobs, what its GPUs can be capped to (None: not at all), its plant, how the agent behaves."""

    jobs: tuple[BudgetJob, ...]
    cap: CapRange | None
    idle_w: float
    pv_w: float
    base_load_w: float
    settings: BudgetSettings
    nature: Nature


def clouds(random: Random, minutes: int) -> Trace:
    """Make a sky whose clouds come and go within minutes; between two minutes it changes evenly."""
    sky, level = array("d"), random.uniform(0.3, 0.9)
    for _ in range(minutes):
        level = min(1.0, max(0.0, level + random.gauss(0.0, 0.12) + 0.05 * (0.6 - level)))
        sky.append(level)
    return Trace(place="clouds", pv_cf=sky, wind_cf=array("d", [0.0] * minutes), step_s=MINUTE_S)


@dataclass(slots=True)
class ClosedLoop:
    """The loop. `import_w` and `compute_w` are true now; what the agent knows went through the meter."""

    spec: SiteSpec
    random: Random
    envelope: Envelope = field(default_factory=lambda: Envelope(state=GridState.UNLIMITED, limits=()))
    state: BudgetState = field(default_factory=BudgetState)
    actions: BudgetActions | None = None
    power: SitePower | None = None
    tally: BreachTally = field(default_factory=BreachTally)
    now_s: float = 0.0
    import_w: float = 0.0
    compute_w: float = 0.0
    samples: list[tuple[float, float]] = field(default_factory=list)
    """What the grid meter has shown: (seconds, watts)."""
    trail: list[tuple[float, float]] = field(default_factory=list)
    """What compute has truly drawn, tick by tick."""
    truth: list[tuple[float, float]] = field(default_factory=list)
    """What the site has truly imported, tick by tick."""
    resumes: list[tuple[float, str]] = field(default_factory=list)
    pauses: list[tuple[float, str]] = field(default_factory=list)
    clock: FakeClock = field(init=False)
    gpu: FakeGpu = field(init=False)
    plant: Plant = field(init=False)
    jobs: dict[str, BudgetJob] = field(init=False)
    _truth: deque[tuple[float, float, float, float]] = field(default_factory=deque)
    _readings: dict[str, MeterReading] = field(default_factory=dict)
    _due_s: dict[str, float] = field(default_factory=dict)
    _acts: list[tuple[float, str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        spec, nature = self.spec, self.spec.nature
        self.clock = FakeClock(START)
        most_w = spec.idle_w + sum(job.power_w or 0.0 for job in spec.jobs)
        self.gpu = FakeGpu(clock=self.clock, idle_w=spec.idle_w, max_w=most_w, lag_s=nature.gpu_lag_s)
        trace = clouds(self.random, 24 * 60)
        self.plant = Plant(trace=trace, pv_w=spec.pv_w, wind_w=0.0, base_load_w=spec.base_load_w)
        self.jobs = {job.job_id: job for job in spec.jobs}
        self._boot_s = self.clock.boottime_s()
        self._due_s = {
            "meter": self.random.uniform(0.0, POLL_S),
            "senses": self.random.uniform(0.0, POLL_S),
            "control": self.random.uniform(0.0, nature.control_s),
        }

    _boot_s: float = 0.0

    def limit(self, *limits: Limit) -> None:
        """Have these limits hold from now on, and no others."""
        order = tuple(sorted(limits, key=lambda one: (one.limit_w, one.source)))
        self.envelope = Envelope(state=GridState.LIMITED if order else GridState.UNLIMITED, limits=order)
        if self.spec.nature.wake_s is not None:
            self._due_s["control"] = min(self._due_s["control"], self.now_s + self.spec.nature.wake_s)

    def make_limit(self, limit_w: float, *, ramp_s: float = 0.0, source: str = "mqtt") -> Limit:
        """Make a limit that begins now."""
        return Limit(
            source=source,
            command_id=f"{source}@{self.now_s:.1f}",
            limit_w=limit_w,
            start_at=self.clock.now(),
            end_at=None,
            ramp_s=ramp_s,
            reason="",
        )

    def run(self, seconds: float) -> Iterator[None]:
        """Let time pass, tick by tick."""
        until_s = self.now_s + seconds
        while self.now_s < until_s - 1e-9:
            self._tick()
            yield

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        for _ in self.run(seconds):
            pass

    def _tick(self) -> None:
        tick_s = self.spec.nature.tick_s
        self.clock.advance(tick_s)
        self.now_s += tick_s
        self._settle_jobs()
        self.compute_w = sum(reading.power_w or 0.0 for reading in self.gpu.read())
        truth = self.plant.state(self.clock.now(), compute_w=self.compute_w)
        self.import_w = truth.grid_w
        self._truth.append((self.now_s, truth.grid_w, truth.generation_w, truth.base_load_w))
        self.trail.append((self.now_s, self.compute_w))
        self.truth.append((self.now_s, truth.grid_w))
        if self._is_due("meter", POLL_S):
            self._poll()
        if self._is_due("senses", POLL_S):
            self._sense()
        if self._is_due("control", self.spec.nature.control_s):
            self._control()

    def _is_due(self, what: str, period_s: float) -> bool:
        if self.now_s < self._due_s[what] - 1e-9:
            return False
        self._due_s[what] = self.now_s + period_s
        return True

    def _settle_jobs(self) -> None:
        ready = [act for act in self._acts if act[0] <= self.now_s + 1e-9]
        if ready or not self._truth:
            self._acts = [act for act in self._acts if act not in ready]
            for _, job_id, paused in ready:
                self.jobs[job_id] = replace(self.jobs[job_id], paused=paused)
            self.gpu.set_jobs(
                {job.job_id: job.power_w or 0.0 for job in self.jobs.values() if not job.paused}
            )

    def _poll(self) -> None:
        """Read the meters: what they show is `meter_lag_s` old, and they do not say so."""
        wanted_s = self.now_s - self.spec.nature.meter_lag_s
        while len(self._truth) > 1 and self._truth[1][0] <= wanted_s + 1e-9:
            self._truth.popleft()
        _, grid_w, generation_w, load_w = self._truth[0]
        roles = {"grid": (MeterRole.GRID, grid_w), "pv": (MeterRole.GENERATION, generation_w)}
        if self.spec.nature.load_meter:
            roles["load"] = (MeterRole.LOAD, load_w)
        silent = self.random.random() < self.spec.nature.blinks
        for name, (role, power_w) in roles.items():
            if silent and name in self._readings:
                self._readings[name] = replace(self._readings[name], quality=Quality.STALE)
                continue
            self._readings[name] = MeterReading(
                meter=name,
                role=role,
                measured_at=self.clock.now(),
                measured_boottime_s=self.now_s,
                quality=Quality.OK,
                active_power_w=power_w,
            )
        if not silent:
            self.samples.append((self.now_s, grid_w))

    def _sense(self) -> None:
        if not self._readings:
            return
        self.power = site_power(
            self._readings,
            meters={name: reading.role for name, reading in self._readings.items()},
            now=self.clock.now(),
            compute_w=sum(reading.power_w or 0.0 for reading in self.gpu.read()),
        )
        self.tally = fold(
            self.tally,
            import_of(self.power),
            self.envelope.binding,
            tolerance_w=TOLERANCE_W,
            now=self.clock.now(),
            now_boot_s=self.now_s,
        )

    def _control(self) -> None:
        inputs = BudgetInputs(
            now=self.clock.now(),
            now_boot_s=self.now_s,
            envelope=self.envelope,
            power=self.power,
            jobs=tuple(self.jobs.values()),
            cap=self.spec.cap,
        )
        self.state, self.actions = decide(self.state, inputs, self.spec.settings)
        cap_w = self.actions.cap_w
        error_frac = self.spec.nature.cap_error_frac
        self.gpu.set_power_cap_w(None if cap_w is None else cap_w * (1.0 + error_frac))
        for paused, names, log in (
            (True, self.actions.pause, self.pauses),
            (False, self.actions.resume, self.resumes),
        ):
            waiting = {job_id for _, job_id, _ in self._acts}
            for job_id in names:
                if job_id not in waiting:
                    self._acts.append((self.now_s + self.spec.nature.pause_s, job_id, paused))
                    log.append((self.now_s, job_id))


def settled_s(samples: Sequence[tuple[float, float]], *, from_s: float, to_s: float, limit_w: float) -> float:
    """Return how long after `from_s` the meter showed the import inside the limit for good, 0 from the start.

    Counted to the first sample inside, so that a meter which is polled once a second adds up to a second.
    """
    first = bisect_left(samples, (from_s, -float("inf")))
    last = bisect_left(samples, (to_s, -float("inf")))
    inside_s = from_s
    for index in range(first, last):
        if samples[index][1] > limit_w + TOLERANCE_W:
            inside_s = samples[index + 1][0] if index + 1 < last else float("inf")
    return inside_s - from_s


def random_jobs(random: Random, count: int, *, least_w: float, most_w: float) -> tuple[BudgetJob, ...]:
    """Make jobs of every tier."""
    return tuple(
        BudgetJob(
            job_id=f"job-{number}",
            flexibility=random.choice(list(Flexibility)),
            power_w=round(random.uniform(least_w, most_w)),
            unsaved_s=random.choice([None, random.uniform(0.0, 3600.0)]),
        )
        for number in range(count)
    )
