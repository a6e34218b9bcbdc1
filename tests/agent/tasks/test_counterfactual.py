"""The counterfactual asks who is there, and only while a job is missing under a limit what became of it."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace

from agent.model.jobs import JobPhase, JobSpec
from agent.model.limits import Envelope, GridState, Limit
from agent.tasks.counterfactual import JobsAtFullPower

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
LIMIT = Limit(source="mqtt", command_id="c", limit_w=500.0, start_at=NOW, end_at=None, ramp_s=0.0, reason="")


@dataclass
class Parts:
    """What the three collaborators would say."""

    powers_w: dict[str, float] = field(default_factory=dict)
    ended: dict[str, JobPhase] = field(default_factory=dict)
    limit: Limit | None = None
    others_w: float | None = 100.0
    asked: int = 0

    def live(self) -> dict[str, tuple[JobPhase, JobSpec]]:
        return {
            job: (JobPhase.RUNNING, JobSpec(name=job, argv=("true",), power_w=power_w))
            for job, power_w in self.powers_w.items()
        }

    def reports(self) -> list[SimpleNamespace]:
        self.asked += 1
        return [SimpleNamespace(job_id=job, phase=phase) for job, phase in self.ended.items()]

    def envelope(self) -> Envelope:
        return Envelope(state=GridState.LIMITED, limits=() if self.limit is None else (self.limit,))

    @property
    def actions(self) -> SimpleNamespace | None:
        if self.others_w is None:
            return None
        return SimpleNamespace(achievable_max_w=self.others_w + sum(self.powers_w.values()))


def test_through_an_event() -> None:
    parts = Parts(powers_w={"a": 300.0, "b": 200.0, "c": 50.0})
    counterfactual_w = JobsAtFullPower(desk=parts, control=parts, keeper=parts)  # type: ignore[arg-type]
    assert counterfactual_w() == 650.0
    parts.limit = LIMIT
    assert counterfactual_w() == 650.0
    assert parts.asked == 0
    del parts.powers_w["a"], parts.powers_w["c"]
    parts.ended = {"a": JobPhase.RELEASED, "c": JobPhase.COMPLETED}
    assert counterfactual_w() == 600.0, "a was moved away for the limit, c had come to its end"
    parts.limit = replace(LIMIT, source="local")
    assert counterfactual_w() == 300.0, "the site's own limit is nobody's event"
    parts.others_w = None
    assert counterfactual_w() is None
