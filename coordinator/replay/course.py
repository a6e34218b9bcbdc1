"""Where one job of an exact replay stands: the only values there that change."""

from coordinator.model.view import Phase
from coordinator.replay.journal import Stage
from coordinator.replay.world import Task


class Course:
    """One job's course.

    Parameters
    ----------
    task : Task
        The job as the scenario fixes it.

    Attributes
    ----------
    phase : Phase or None
        As the planner sees it; None: it has finished.
    stage : Stage or None
        What it draws power for; None: it waits, or its checkpoint is on the WAN.
    site, bound_for : str or None
        Where it is (the destination from the load on), and where its migration takes it.
    promised_bps : float
        What the policy reckoned with on the link, from the seal to the end of the transfer; else 0.
    since_s : float
        When the present stage began.
    worked_s : float
        Running time up to the present stage.
    turn : int
        Counts the stages, so that an end that was planned for an earlier one is known to be void.
    """

    __slots__ = ("bound_for", "phase", "promised_bps", "since_s", "site", "stage", "task", "turn", "worked_s")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.phase: Phase | None = Phase.QUEUED
        self.stage: Stage | None = None
        self.site: str | None = None
        self.bound_for: str | None = None
        self.promised_bps = 0.0
        self.since_s = task.submitted_s
        self.worked_s = 0.0
        self.turn = 0

    def enter(self, phase: Phase | None, now_s: float, stage: Stage | None = None) -> None:
        """Begin the next stage; RUNNING is always the stage RUN."""
        self.phase = phase
        self.stage = Stage.RUN if phase is Phase.RUNNING else stage
        self.since_s = now_s
        self.turn += 1

    def ran_s(self, now_s: float) -> float:
        """Return its running time so far."""
        return self.worked_s + (now_s - self.since_s if self.stage is Stage.RUN else 0.0)
