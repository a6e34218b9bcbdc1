"""What the demo proves, from evidence: step logs, telemetry, the coordinator's record, the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "sterna.demo/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSummary:
    """The demo's result; see docs/demo.md for where each figure comes from."""

    jobs: int
    jobs_completed: int
    migrations_completed: int
    migrations_failed: int
    steps_lost: int
    double_runs: int
    weights_identical: bool
    renewable_share: float
    renewable_share_replayed: Mapping[str, float]
    """By policy, on the surplus that was metered, with the same learnt forecasts."""
    forecasts_learnt_frac: float
    energy_wh: float
    bytes_moved: int
    downtime_s: tuple[float, ...]
    limit_events: int
    limit_breaches: int
    limits_obeyed: int
    seconds: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the summary with its schema."""
        document = {"schema": SCHEMA, **asdict(self)}
        again: Mapping[str, float] = document.pop("renewable_share_replayed")
        return document | {
            "renewable_share_static": again["static"],
            "renewable_share_feasibility_aware": again["feasibility-aware"],
            "renewable_share_sterna_replayed": again["sterna"],
        }

    def problems(self) -> list[str]:
        """Return what is not as promised; empty when the demo shows what it should."""
        found = []
        if self.jobs_completed < self.jobs:
            found.append(f"{self.jobs - self.jobs_completed} of {self.jobs} jobs did not complete")
        if self.steps_lost:
            found.append(f"{self.steps_lost} steps were lost")
        if self.double_runs:
            found.append(f"{self.double_runs} times a job ran twice at once")
        if not self.weights_identical:
            found.append("weights differ from those of the same training outside Sterna")
        if self.limit_breaches:
            found.append(f"the grid limit was breached {self.limit_breaches} times")
        return found

    def lines(self) -> list[str]:
        """Return the summary for people."""
        downtimes = sorted(self.downtime_s)
        middle = f"{downtimes[len(downtimes) // 2]:.1f} s" if downtimes else "–"
        return [
            f"migrations   {self.migrations_completed} completed, {self.migrations_failed} given up; "
            f"{self.bytes_moved / 1e6:.1f} MB moved, median downtime {middle}",
            f"training     {self.jobs_completed} of {self.jobs} jobs completed, "
            f"{self.steps_lost} steps lost, {self.double_runs} double runs",
            f"weights      {'bit-identical' if self.weights_identical else 'DIFFERENT'} "
            "to the same training outside Sterna",
            f"energy       {self.renewable_share:.1%} renewable, as metered under the policy sterna",
            "same day     replayed: "
            + ", ".join(f"{name} {share:.1%}" for name, share in self.renewable_share_replayed.items()),
            f"forecasts    learnt from the days before in {self.forecasts_learnt_frac:.0%} of all looks",
            f"grid limit   {self.limit_events} sent, {self.limits_obeyed} obeyed, "
            f"{self.limit_breaches} breaches",
        ]


def weights_identical(final: Mapping[str, str], reference: Mapping[str, str]) -> bool:
    """Whether every job's final weights have the digest of its reference run; False when one is missing."""
    return bool(reference) and all(final.get(job) == digest for job, digest in reference.items())


def limits_obeyed(journal: Sequence[Mapping[str, Any]]) -> int:
    """Count the limits in the operator's journal that a site acknowledged as in force."""
    sent = {row["id"] for row in journal if row["event"] == "limit"}
    started = {
        row.get("id")
        for row in journal
        if row["event"] == "ack" and row.get("status") in {"STARTED", "SUCCEEDED"}
    }
    return len(sent & started)
