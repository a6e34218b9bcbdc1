"""A shim and its trainer as they behave, on their node's clock: lease, stop with grace, kill, exit record.

It follows `agent.shim.owner`, whose files it reads and writes on the simulated disk. Progress is reckoned
from time whenever somebody looks, so that a step costs nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.outcome import EndCause, Exit, Result
from agent.jobs.runner import Identity, Progress, Saved, Snapshot
from agent.model.jobs import JobSpec
from agent.model.records import Lease

TICK_S = 1.5
"""How often an agent looks at its jobs."""
SEAL_INTERVAL_S = 5.0
_THERE = Path("checkpoints")

if TYPE_CHECKING:
    from tests.simulation.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a trainer behaves."""

    step_s: float
    save_every: int
    total_steps: int
    load_s: float
    save_s: float
    hangs: bool = False
    """It does not heed a request to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What the agent tells a shim."""

    epoch: int
    lease: Lease
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A checkpoint in the trainer's own folder."""

    step: int
    written_at: datetime


class Shim:
    """One run: the process that owns it, and the trainer below.

    Parameters
    ----------
    machine : Machine
        Where it runs.
    job_id, run_id : str
        Which.
    spec : JobSpec
        For its grace.
    start_step : int
        Of the checkpoint that it resumes from; 0: fresh.
    """

    def __init__(self, machine: "Machine", job_id: str, run_id: str, spec: JobSpec, start_step: int) -> None:
        self.machine, self.job_id, self.run_id = machine, job_id, run_id
        self.folder = ("run", run_id)
        self.manner = machine.manners[job_id]
        self.start_step = start_step
        self.alive = True
        self.training = False
        self._grace_s = spec.stop_grace_s
        self._leased = False
        self._busy_s = 0.0
        self._since_s: float | None = None
        self._frozen_step: int | None = None
        self._cause = EndCause.EXITED
        self._kill_at_s: float | None = None
        self._saved_by_s: float | None = None

    # -- what it does -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the trainer, unless the grant does not hold."""
        if not self.alive:
            return  # the machine below went away first
        control = self._control()
        if control is None or control.lease.boot_id != self.machine.clock.boot_id or self._left_s() <= 0:
            self._end(EndCause.LEASE, None, error="the grant does not hold")
            return
        self.training = True
        self._leased = control.lease.ttl_s is not None
        self._since_s = self.machine.world.now_s
        self.machine.watch.process_began(self.machine.site_id, self.job_id, control.epoch, self.start_step)
        identity = Identity(
            pid=1, start_ticks=1, child_pid=2,
            child_started_s=self.machine.clock.boottime_s(), boot_id=self.machine.clock.boot_id,
            epoch=control.epoch, paused=False,
        )  # fmt: skip
        self.machine.disk.write(self.folder, "shim", identity, durable=True)
        self.look()

    def look(self) -> None:
        """Follow files and clock; called at every nudge and whenever the clock ends something."""
        if not self.alive or not self.training:
            return
        now_s = self.machine.world.now_s
        if self._frozen_step is None and self.step() >= self.manner.total_steps:
            self._save(self.manner.total_steps, completed=True)
            self._end(EndCause.EXITED, 0)
            return
        if self._kill_at_s is not None:
            if self._saved_by_s is not None and now_s >= self._saved_by_s:
                self._save(self.step(), completed=False)
                self._end(self._cause, 0)
                return
            if now_s >= self._kill_at_s:
                self._end(self._cause, None, killed=True)
                return
        elif "stop" in self.machine.disk.folder(self.folder):
            self._stop(EndCause.STOPPED)
        elif self._left_s() <= 0:
            self._stop(EndCause.LEASE)
        self._heed_pause()
        self._wake_in_time()

    def kill(self) -> None:
        """SIGKILL the shim; the kernel then ends a leased child, and asks any other to save."""
        if not self.alive:
            return
        self.alive = False
        self.machine.world.tell(self.machine.site_id, "shim of {} is killed", self.job_id)
        if not self.training:
            return
        if self._leased:
            self._freeze()
            self.end_child()
        elif not self.manner.hangs:
            self._freeze()
            self.machine.world.after(self.manner.save_s, self._orphan_ends)

    def end_child(self) -> None:
        """Let nothing of the trainer run; what it wrote stays."""
        if self.training:
            self._keep_saved()
            self.training = False
            self.machine.watch.process_ended(self.machine.site_id, self.job_id, self.step())

    def vanish(self) -> None:
        """Lose the machine below."""
        self.alive = False
        self.end_child()

    # -- what is seen of it -----------------------------------------------------------------------

    def step(self) -> int:
        """Return the last step done."""
        if self._frozen_step is not None:
            return self._frozen_step
        busy_s = self._busy_s
        if self._since_s is not None:
            busy_s += self.machine.world.now_s - self._since_s
        done = int(max(0.0, busy_s - self.manner.load_s) / self.manner.step_s)
        return min(self.start_step + done, self.manner.total_steps)

    def snapshot(self) -> Snapshot:
        if self.training:
            self._keep_saved()
        return read_snapshot(self.machine, self.run_id, self)

    # -- inside -----------------------------------------------------------------------------------

    def _control(self) -> Control | None:
        control: Control | None = self.machine.disk.read(self.folder, "control")
        return control

    def _left_s(self) -> float:
        """Return seconds of the node's clock until the lease ends."""
        control = self._control()
        if control is None or control.lease.expires_s is None:
            return float("inf")
        return control.lease.expires_s - self.machine.clock.boottime_s()

    def _stop(self, cause: EndCause) -> None:
        now_s = self.machine.world.now_s
        self._cause = cause
        self._kill_at_s = now_s + self.machine.clock.true_s(self._grace_s)
        if cause is EndCause.LEASE:
            self.machine.disk.write(self.folder, "stop", self.machine.clock.now(), durable=True)
            self.machine.watch.lease_ran_out(self.machine.site_id, self.job_id)
        if not self.manner.hangs:
            self._freeze()
            self._saved_by_s = now_s + self.manner.save_s

    def _freeze(self) -> None:
        self._frozen_step = self.step()

    def _heed_pause(self) -> None:
        control = self._control()
        if control is None or self._kill_at_s is not None:
            return
        now_s = self.machine.world.now_s
        if control.paused and self._since_s is not None:
            self._busy_s += now_s - self._since_s
            self._since_s = None
        elif not control.paused and self._since_s is None:
            self._since_s = now_s

    def _wake_in_time(self) -> None:
        now_s = self.machine.world.now_s
        ends = [one - now_s for one in (self._kill_at_s, self._saved_by_s) if one is not None]
        if self._kill_at_s is None:
            ends.append(self.machine.clock.true_s(self._left_s()))
            if self._since_s is not None:
                left = self.manner.total_steps - self.step()
                ends.append(left * self.manner.step_s + self.manner.load_s)
        soonest_s = min(ends)
        if soonest_s != float("inf"):
            self.machine.world.after(max(0.01, soonest_s), self.look)

    def _orphan_ends(self) -> None:
        if self.training:
            self._save(self.step(), completed=False)
            self.end_child()

    def _save(self, step: int, *, completed: bool) -> None:
        """Write a last checkpoint, and say how it ended; the result is durable, the checkpoint is not."""
        if step > self.start_step:
            written = Written(step=step, written_at=self.machine.clock.now())
            self.machine.disk.write(self.folder, "saved", written, durable=False)
        self._frozen_step = step
        self.machine.disk.write(self.folder, "result", Result(completed=completed, step=step), durable=True)

    def _keep_saved(self) -> None:
        """Put the last periodic checkpoint where it would have been written long ago."""
        step = self.step()
        saved = step - step % self.manner.save_every
        known: Written | None = self.machine.disk.read(self.folder, "saved")
        if saved > self.start_step and (known is None or known.step < saved):
            age = timedelta(seconds=(step - saved) * self.manner.step_s)
            written = Written(step=saved, written_at=self.machine.clock.now() - age)
            self.machine.disk.write(self.folder, "saved", written, durable=False)
        self.machine.disk.write(self.folder, "step", step, durable=False)

    def _end(self, cause: EndCause, code: int | None, *, killed: bool = False, error: str = "") -> None:
        self.end_child()
        exit_record = Exit(cause=cause, code=code, signal=9 if killed else None, killed=killed, error=error)
        self.machine.disk.write(self.folder, "exit", exit_record, durable=True)
        self.alive = False
        tell, site_id = self.machine.world.tell, self.machine.site_id
        tell(site_id, "run of {} ended: {}, step {}", self.job_id, cause.value, self.step())
        self.machine.nudge_agent(self.job_id)


def read_snapshot(machine: "Machine", run_id: str, shim: Shim | None) -> Snapshot:
    """Read a run directory, as `agent.jobs.runner.Run.look` does."""
    files = machine.disk.folder(("run", run_id))
    saved: Written | None = files.get("saved")
    started: int | None = files.get("start_step")
    step: int | None = files.get("step")
    identity: Identity | None = files.get("shim")
    moved = step is not None and started is not None and step > started
    return Snapshot(
        alive=shim is not None and shim.alive,
        identity=identity,
        progress=Progress(
            step=step,
            start_step=started,
            first_step_s=identity.child_started_s + 1.0 if moved and identity is not None else None,
            saved=Saved(path=_THERE, step=saved.step) if saved is not None else None,
        ),
        result=files.get("result"),
        exit=files.get("exit"),
    )
