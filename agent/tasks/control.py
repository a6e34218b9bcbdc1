"""Obeying: look at limits, power and jobs, decide, act. All judgement is in `agent.core.power_budget`."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field

from agent.core.power_budget import BudgetInputs, decide
from agent.core.power_budget_values import (
    Because,
    Bound,
    BudgetActions,
    BudgetJob,
    BudgetSettings,
    BudgetState,
    CapRange,
)
from agent.devices.gpu_ports import GpuProvider
from agent.grid.desk import GridDesk
from agent.jobs.keeper import Keeper
from agent.model.jobs import JobPhase
from agent.model.limits import Envelope, GridState
from agent.model.orders import MoveRequest
from agent.tasks.sense import Senses
from sterna.clock import Clock
from sterna.errors import SternaError, TransientError
from sterna.pace import to_beat_s
from sterna.supervise import Heart

log = logging.getLogger(__name__)

ASK_AGAIN_S = 30.0


@dataclass(slots=True, kw_only=True)
class Control:
    """The power budget with its hands: GPU cap, pause and resume, stops, requests to move.

    Parameters
    ----------
    request_move : callable
        Passes a request up to the coordinator.
    """

    desk: GridDesk
    senses: Senses
    keeper: Keeper
    gpu: GpuProvider | None
    settings: BudgetSettings
    request_move: Callable[[MoveRequest], None]
    clock: Clock
    on_change: Callable[[], None] = lambda: None
    """Told when the grid's state or the binding limit has changed."""
    actions: BudgetActions | None = None
    """What was decided last."""
    _state: BudgetState = field(default_factory=BudgetState)
    _told: tuple[GridState, float | None] | None = None
    _because: Because = field(default_factory=Because)
    _asked_s: dict[str, float] = field(default_factory=dict)
    _cap_w: float | None = None
    _cap_failed: bool = False
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Have the next look now: a limit has come."""
        self._woken.set()

    async def rest(self, longest_s: float) -> None:
        """Wait until the next beat of that period, or until somebody wakes us."""
        now_s = asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(to_beat_s(now_s, longest_s)):
                await self._woken.wait()

    async def step(self) -> None:
        """Look once and act; what became of commands is written down after they are obeyed."""
        self._woken.clear()  # before the look: what comes during it is seen by the next one
        if self.gpu is not None:
            self.gpu.set_jobs(self.keeper.running_power())
        envelope = self.desk.envelope()
        inputs = BudgetInputs(
            now=self.clock.now(),
            now_boot_s=self.clock.boottime_s(),
            envelope=envelope,
            power=self.senses.power,
            jobs=self._jobs(),
            cap=self._cap_range(),
            cap_stuck=self._cap_failed,
        )
        self._state, actions = decide(self._state, inputs, self.settings)
        self.actions = actions
        self._explain(actions)
        await self._set_cap(actions.cap_w)
        await self._act(actions, envelope)
        told = (envelope.state, None if envelope.binding is None else envelope.binding.limit_w)
        if told != self._told:
            self._told = told
            self.on_change()
        try:
            await self.desk.tick()
        except TransientError as error:  # a full disk stops neither metering nor obeying
            log.error("what became of grid commands could not be recorded", extra={"fault": str(error)})

    def _jobs(self) -> tuple[BudgetJob, ...]:
        """Every process that may draw; only one that runs is there to be paused or moved.

        One that the plan holds back is not ours to resume; when that ends, it is paused like any other.
        """
        held, slowed = self.keeper.held(), self.keeper.slowed()
        return tuple(
            BudgetJob(
                job_id=job_id,
                flexibility=spec.flexibility,
                power_w=spec.power_w or None,
                unsaved_s=self._unsaved_s(job_id),
                pausable=phase is JobPhase.RUNNING,
                paused=phase is JobPhase.PAUSED,
                movable=spec.may_migrate and phase in (JobPhase.RUNNING, JobPhase.PAUSED),
                slow_w=slowed.get(job_id),
            )
            for job_id, (phase, spec) in self.keeper.live().items()
            if job_id not in held
        )

    def _unsaved_s(self, job_id: str) -> float | None:
        sealed_at = self.keeper.sealed_at(job_id)
        return None if sealed_at is None else max(0.0, (self.clock.now() - sealed_at).total_seconds())

    def _cap_range(self) -> CapRange | None:
        if self.gpu is None:
            return None
        capabilities = self.gpu.capabilities()
        if not capabilities.can_cap or capabilities.cap_min_w is None or capabilities.cap_max_w is None:
            return None
        return CapRange(min_w=capabilities.cap_min_w, max_w=capabilities.cap_max_w)

    async def _set_cap(self, cap_w: float | None) -> None:
        if self.gpu is None or (cap_w == self._cap_w and not self._cap_failed):
            return
        try:
            await asyncio.to_thread(self.gpu.set_power_cap_w, cap_w)
        except SternaError as error:
            if not self._cap_failed:
                log.error("the GPU cap cannot be set", extra={"cap_w": cap_w, "fault": str(error)})
            self._cap_failed = True
            return
        self._cap_failed = False
        if (cap_w is None) != (self._cap_w is None):
            log.info("GPU cap", extra={"cap_w": cap_w})
        self._cap_w = cap_w

    async def _act(self, actions: BudgetActions, envelope: Envelope) -> None:
        why = _words(envelope, actions.because)
        for job_id in actions.pause:
            log.warning("pausing a job", extra={"job_id": job_id, "because": why})
        for job_id in actions.resume:
            log.info("resuming a job", extra={"job_id": job_id})
        for job_id in actions.stop:
            log.error("stopping a job that does not pause", extra={"job_id": job_id, "because": why})
        for job_id in actions.request_move:
            log.warning("asking for a job to be moved", extra={"job_id": job_id, "because": why})
        # One shim that does not answer must not keep the others from pausing; what goes on comes after.
        await _all(
            [self.keeper.pause(job_id) for job_id in actions.pause if job_id not in actions.stop]
            + [self.keeper.halt(job_id, f"it did not pause for {why}") for job_id in actions.stop]
        )
        await _all(self.keeper.resume(job_id) for job_id in actions.resume)
        self._ask(frozenset(actions.wants_move), why)

    def _explain(self, actions: BudgetActions) -> None:
        """Say what binds the site's draw, once each time that it is something else."""
        because, before = actions.because, self._because
        self._because = because
        if (because.bound, because.source, because.command_id) == (
            before.bound,
            before.source,
            before.command_id,
        ):
            return
        log.info(
            "what bounds the draw has changed",
            extra={
                "bound": because.bound.value,
                "limit_source": because.source,
                "command_id": because.command_id,
                "budget_w": because.budget_w,
                "cap_w": actions.cap_w,
            },
        )

    def _ask(self, wanted: frozenset[str], why: str) -> None:
        """Ask for jobs to be moved, and again while it still applies: a request may be lost on its way."""
        now_s = self.clock.boottime_s()
        self._asked_s = {job_id: at_s for job_id, at_s in self._asked_s.items() if job_id in wanted}
        for job_id in sorted(wanted):
            if now_s - self._asked_s.get(job_id, -math.inf) >= ASK_AGAIN_S:
                self._asked_s[job_id] = now_s
                epoch = self.keeper.epoch_of(job_id)
                self.request_move(MoveRequest(job_id=job_id, epoch=epoch, reason=why))


async def _all(works: Iterable[Coroutine[object, object, bool]]) -> None:
    """Do them side by side."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


def _words(envelope: Envelope, because: Because) -> str:
    binding = envelope.binding
    if because.bound is Bound.SURPLUS:
        return "too little surplus at the site"
    if binding is None:
        return "no limit"
    until = "until replaced" if binding.end_at is None else f"until {binding.end_at:%H:%M:%SZ}"
    return f"import limit {binding.limit_w:.0f} W by {binding.source} {until}"


async def run_control(control: Control, *, period_s: float, heart: Heart) -> None:
    """Look and act every `period_s` seconds, and at once when woken."""
    while True:
        await control.step()
        heart.beat()
        await control.rest(period_s)
