"""Many replays side by side: every policy over every offset of a period, held against `static`.

Owns what a table of results says; files and terminals are the command's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from coordinator.core.policies import policy_named
from coordinator.replay.bound import bound_wh
from coordinator.replay.exact import Record, run, settings_of
from coordinator.replay.foresight import MakeForesight
from coordinator.replay.metrics import Metrics, measure
from coordinator.replay.world import World
from sterna.units import s_to_hours

BASELINE = "static"
BOUND = "bound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One policy in one world, beside static there. `bound_wh`: below which nobody gets."""

    policy: str
    record: Record
    metrics: Metrics
    baseline: Metrics
    bound_wh: float
    defers: bool = False
    """Jobs may be held back, so that some could end late."""

    def figures(self) -> dict[str, float]:
        """Return the metrics of the scenario README by name; energy in kWh, shares 0 to 1."""
        m, base = self.metrics, self.baseline
        return {
            "nonrenewable_kwh": m.nonrenewable_wh / 1e3,
            "reduction_frac": 1.0 - m.nonrenewable_wh / base.nonrenewable_wh,
            "bound_frac": 1.0 - self.bound_wh / base.nonrenewable_wh,
            "renewable_frac": m.renewable_frac,
            "total_kwh": m.total_wh / 1e3,
            "absorbed_kwh": m.absorbed_wh / 1e3,
            "network_kwh": m.network_wh / 1e3,
            "mean_completion_h": s_to_hours(m.mean_completion_s),
            "p95_completion_h": s_to_hours(m.p95_completion_s),
            "mean_completion_ratio": m.mean_completion_s / base.mean_completion_s,
            "p95_completion_ratio": m.p95_completion_s / base.p95_completion_s,
            "migrations_per_job": m.migrations_per_job,
            "overrun_frac": m.overrun_frac,
            "late_jobs": float(m.late),
            "slots_held": m.slots_held,
        }


def least_wh_of(world: World) -> float:
    """Return the bound of a world: with deferral by HiGHS, else by sorting."""
    if world.hold_back_s is None:
        return bound_wh(world)
    # Only deferral needs the solver, and its import costs as much as a replay of `static`.
    from coordinator.replay.deferral_bound import deferred_bound_wh

    return deferred_bound_wh(world)


def outcomes(
    world: World, policies: Sequence[str], foresight: MakeForesight, *, declared: bool = False
) -> Iterator[Outcome]:
    """Replay one world under each policy; `static` is always replayed, since all is held against it.

    Parameters
    ----------
    world : World
        The world.
    policies : sequence of str
        Their names.
    foresight : MakeForesight
        What policies are told of the future.
    declared : bool
        Whether jobs declare their work (*clairvoyant*).
    """
    baseline: Metrics | None = None
    least_wh = least_wh_of(world)
    for name in (BASELINE, *(name for name in policies if name != BASELINE)):
        record = run(world, policy_named(name), settings_of(world), foresight(world), declared=declared)
        metrics = measure(world, record.intervals)
        baseline = baseline or metrics
        yield Outcome(
            policy=name,
            record=record,
            metrics=metrics,
            baseline=baseline,
            bound_wh=least_wh,
            defers=world.hold_back_s is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A figure over offsets: its mean, its standard deviation (0 for one offset), least and most."""

    mean: float
    spread: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Summarise at least one value."""
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        spread = sqrt(squares / (len(values) - 1)) if len(values) > 1 else 0.0
        return cls(mean=mean, spread=spread, least=min(values), most=max(values))


def summary(found: Sequence[Outcome]) -> dict[str, dict[str, Mean]]:
    """Return each policy's figures over all its outcomes, by name."""
    by_policy: dict[str, list[Mapping[str, float]]] = {}
    for outcome in found:
        by_policy.setdefault(outcome.policy, []).append(outcome.figures())
    return {
        policy: {name: Mean.of([row[name] for row in rows]) for name in rows[0]}
        for policy, rows in by_policy.items()
    }


def table(periods: Mapping[str, Sequence[Outcome]]) -> str:
    """Return one Markdown table: a line for each period and policy, means over the offsets ± spread."""
    head: tuple[str, ...] = (
        "period",
        "policy",
        "non-renewable, kWh",
        "less than static, %",
        "bound, %",
        "renewable, %",
        "completion, × static",
        "p95, × static",
        "moves a job",
        "overruns, %",
        "absorbed, kWh",
        "slots held",
    )
    defers = any(outcome.defers for found in periods.values() for outcome in found)
    head += ("late jobs",) if defers else ()
    lines = [head, ("---",) * 2 + ("---:",) * (len(head) - 2)]
    for period, found in periods.items():
        for policy, figures in summary(found).items():
            lines.append(
                (
                    period,
                    policy,
                    _said(figures["nonrenewable_kwh"], 1.0, 0),
                    _said(figures["reduction_frac"], 100.0, 1),
                    f"{100 * figures['bound_frac'].mean:.1f}",
                    f"{100 * figures['renewable_frac'].mean:.1f}",
                    _said(figures["mean_completion_ratio"], 1.0, 3),
                    f"{figures['p95_completion_ratio'].mean:.3f}",
                    f"{figures['migrations_per_job'].mean:.2f}",
                    _said(figures["overrun_frac"], 100.0, 1),
                    f"{figures['absorbed_kwh'].mean:.0f}",
                    f"{figures['slots_held'].mean:.1f}",
                    *([f"{figures['late_jobs'].mean:.1f}"] if defers else ()),
                )
            )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _said(figure: Mean, factor: float, digits: int) -> str:
    return f"{factor * figure.mean:.{digits}f} ± {factor * figure.spread:.{digits}f}"
