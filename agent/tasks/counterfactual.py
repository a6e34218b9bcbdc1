"""Asks the parts that know, each second, what the site would import with all of its jobs at full power."""

from dataclasses import dataclass, field

from agent.core.counterfactual import Workload, counterfactual_w, followed
from agent.core.settlement_events import is_asked
from agent.grid.desk import GridDesk
from agent.jobs.keeper import Keeper
from agent.model.jobs import JobPhase
from agent.tasks.control import Control

FINISHED = (JobPhase.COMPLETED, JobPhase.FAILED)


@dataclass(slots=True, kw_only=True)
class JobsAtFullPower:
    """Follows the site's jobs through its limits."""

    desk: GridDesk
    control: Control
    keeper: Keeper
    _workload: Workload = field(default_factory=Workload)

    def __call__(self) -> float | None:
        """Return the import in watts, >= 0; None: unknown."""
        live = {job_id: spec.power_w or None for job_id, (_, spec) in self.keeper.live().items()}
        binding = self.desk.envelope().binding
        limited = binding is not None and is_asked(binding.source, binding.command_id)
        # Only who is missing is asked about: that is rare, and a report of every job is not free.
        finished = self._finished() if limited and self._workload.jobs.keys() - live.keys() else ()
        self._workload = followed(self._workload, live, finished=finished, limited=limited)
        actions = self.control.actions
        return counterfactual_w(None if actions is None else actions.achievable_max_w, self._workload, live)

    def _finished(self) -> frozenset[str]:
        return frozenset(report.job_id for report in self.keeper.reports() if report.phase in FINISHED)
