"""Where one job, or one replica of a distributed job, stands: the only values of a replay that change."""

from dataclasses import dataclass
from datetime import datetime

from coordinator.core import partial
from coordinator.model.view import Phase
from coordinator.replay.journal import Interval, Stage
from coordinator.replay.transfers import Cause, Transfer
from coordinator.replay.world import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """Pieces of a checkpoint that travel ahead; `since_s`: from when on.

    `window_end_at`: until when the move that it prepares is worth making; None: in any case.
    """

    since_s: float
    size_bytes: int
    window_end_at: datetime | None = None


class Course:
    """One job's course.

    Parameters
    ----------
    task : Task
        The job as the scenario fixes it; of a replica, with an id of its own.
    replica_of : str or None
        Id of the distributed job that it is a replica of.
    replica : int or None
        Which one.

    Attributes
    ----------
    phase : Phase or None
        As the planner sees it, but for pieces that travel ahead (`sending`); HELD: its site has paused it for
        a limit of the grid, and the planner sees it as one that runs; None: it has finished.
    stage : Stage or None
        What it draws power for; None: it waits, or its checkpoint is on the WAN.
    site, bound_for : str or None
        Where it is (the destination from the load on), and where its migration takes it.
    source : str or None
        Of a replica that fetches its state, where from.
    sending : Sending or None
        Pieces of its checkpoint that travel ahead while it goes on.
    held : dict
        By site the pieces that need not cross again while the job is where it is.
    promised_bps : float
        What the policy reckoned with on the link, from the decision to the end of the transfer; else 0.
    since_s : float
        When the present stage began.
    slow_w : float or None
        What it may draw while it runs; None: its full power.
    worked_s : float
        Work up to the present stage, in seconds at full speed.
    turn : int
        Counts the stages, so that an end that was planned for an earlier one is known to be void.
    """

    __slots__ = (
        "bound_for",
        "held",
        "phase",
        "promised_bps",
        "replica",
        "replica_of",
        "sending",
        "since_s",
        "site",
        "slow_w",
        "source",
        "stage",
        "task",
        "turn",
        "worked_s",
    )

    def __init__(self, task: Task, replica_of: str | None = None, replica: int | None = None) -> None:
        self.task = task
        self.replica_of = replica_of
        self.replica = replica
        self.phase: Phase | None = Phase.QUEUED
        self.stage: Stage | None = None
        self.site: str | None = None
        self.bound_for: str | None = None
        self.source: str | None = None
        self.sending: Sending | None = None
        self.held: dict[str, frozenset[str]] = {}
        self.promised_bps = 0.0
        self.since_s = task.submitted_s
        self.slow_w: float | None = None
        self.worked_s = 0.0
        self.turn = 0

    @property
    def job_id(self) -> str:
        """Return the job's id; a replica's is that of the whole job."""
        return self.replica_of or self.task.job_id

    @property
    def slots_at(self) -> set[str]:
        """Return the sites where it holds a slot."""
        stands = self.phase in (Phase.PAUSED, Phase.HELD)
        here = self.site if self.stage is not None or stands else None
        return {site for site in (here, self.bound_for) if site is not None}

    @property
    def speed(self) -> float:
        """Return its speed while it runs, 1 being the full one."""
        slow = self.task.slow
        return 1.0 if self.slow_w is None or slow is None else slow.speed_at(self.slow_w / self.task.power_w)

    def enter(
        self, phase: Phase | None, now_s: float, stage: Stage | None = None, *, slow_w: float | None = None
    ) -> None:
        """Begin the next stage; RUNNING is always the stage RUN, the only one that can be slow."""
        self.worked_s = self.ran_s(now_s)
        self.phase = phase
        self.stage = Stage.RUN if phase is Phase.RUNNING else stage
        self.slow_w = slow_w
        self.since_s = now_s
        self.turn += 1

    def ran_s(self, now_s: float) -> float:
        """Return its work so far, in seconds at full speed."""
        return self.worked_s + (self.speed * (now_s - self.since_s) if self.stage is Stage.RUN else 0.0)

    def row(self, now_s: float) -> Interval:
        """Return the present stage as a row of the journal that ends now."""
        assert self.stage is not None and self.site is not None
        return Interval(self.job_id, self.site, self.since_s, now_s, self.stage, self.replica, self.slow_w)

    def holds(self, site_id: str) -> frozenset[str]:
        """Return the pieces that a site has already."""
        return self.held.get(site_id, frozenset())

    def received(self, site_id: str) -> None:
        """Remember that all pieces that travel ahead are at a site."""
        self.held[site_id] = frozenset(piece.name for piece in self.task.pieces if piece.travels_ahead)

    def arrived(self, source: str) -> None:
        """Remember after a move what never has to cross again; differences are taken to newer versions."""
        if self.task.pieces:
            lasting = partial.lasting(self.task.pieces)
            self.held = {site: names & lasting for site, names in self.held.items()}
            self.held[source] = lasting
            if self.site is not None:
                self.held[self.site] = lasting

    def transfer(self, now_s: float, left_bytes: float = 0.0) -> Transfer:
        """Return what has crossed for it by the end of its transfer; `left_bytes` of that did not."""
        assert self.site is not None and self.bound_for is not None
        if self.sending is not None:
            cause, since_s, size_bytes = Cause.AHEAD, self.sending.since_s, self.sending.size_bytes
        elif self.source is not None:
            cause, since_s, size_bytes = Cause.JOIN, self.since_s, self.task.checkpoint_bytes
        else:
            size_bytes = self.task.stop_bytes(self.holds(self.bound_for))
            cause, since_s = Cause.STOP, self.since_s
        return Transfer(
            job_id=self.job_id,
            replica=self.replica,
            cause=cause,
            source=self.source or self.site,
            destination=self.bound_for,
            start_s=since_s,
            end_s=now_s,
            size_bytes=size_bytes - left_bytes,
        )
