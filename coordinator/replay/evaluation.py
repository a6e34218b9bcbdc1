"""Many replays side by side: every policy over every offset of a period, held against `static`.

Owns what a table of results says; files and terminals are the command's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from coordinator.replay import markdown
from coordinator.replay.bound import bound_wh
from coordinator.replay.foresight import MakeForesight
from coordinator.replay.metrics import Metrics, measure
from coordinator.replay.oracle import replayed
from coordinator.replay.record import Record
from coordinator.replay.world import World
from sterna.units import s_to_hours

BASELINE = "static"
BOUND = "bound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One policy in one world, beside static there.

    `bound_wh`: below which nobody gets; None: not known, as for distributed jobs.
    """

    policy: str
    record: Record
    metrics: Metrics
    baseline: Metrics
    bound_wh: float | None
    defers: bool = False
    """Jobs may be held back, so that some could end late."""
    limited: bool = False
    """Limits of the grid hold, for which jobs may have to stand still."""
    currency: str = ""

    def figures(self) -> dict[str, float | None]:
        """Return the metrics of the scenario README by name, and how they stand to `static` and the bound.

        None: there is no such figure, as of a reduction where `static` draws nothing that is not renewable.
        """
        m, base = self.metrics, self.baseline
        return figures_of(m) | {
            "reduction_frac": _reduction(m.nonrenewable_wh, base.nonrenewable_wh),
            "bound_frac": _reduction(self.bound_wh, base.nonrenewable_wh),
            "mean_completion_ratio": m.mean_completion_s / base.mean_completion_s,
            "p95_completion_ratio": m.p95_completion_s / base.p95_completion_s,
        }


def figures_of(m: Metrics) -> dict[str, float | None]:
    """Return one replay's own metrics by name; energy in kWh, shares 0 to 1; None: part of it is unknown."""
    return {
        "nonrenewable_kwh": m.nonrenewable_wh / 1e3,
        "renewable_frac": m.renewable_frac,
        "total_kwh": m.total_wh / 1e3,
        "absorbed_kwh": m.absorbed_wh / 1e3,
        "network_kwh": m.network_wh / 1e3,
        "mean_completion_h": s_to_hours(m.mean_completion_s),
        "p95_completion_h": s_to_hours(m.p95_completion_s),
        "migrations_per_job": m.migrations_per_job,
        "overrun_frac": m.overrun_frac,
        "late_jobs": float(m.late),
        "slots_held": m.slots_held,
        "exchanges_kwh": m.exchanges_wh / 1e3,
        "replicas": m.replicas,
        "given_up": float(m.given_up),
        "stood_h": s_to_hours(m.stood_s),
        "cost": m.cost,
        "carbon_kg": None if m.carbon_g is None else m.carbon_g / 1e3,
    }


def _reduction(wh: float | None, of_wh: float) -> float | None:
    return 1.0 - wh / of_wh if wh is not None and of_wh > 0.0 else None


def least_wh_of(world: World) -> float | None:
    """Return the bound of a world: with deferral by HiGHS, else by sorting.

    None for distributed jobs, and for jobs that may be slowed: nobody knows theirs.
    """
    if any(task.replication is not None or task.slow is not None for task in world.tasks):
        return None
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
        Their names; ``oracle`` knows all that is to come, and ``bound`` is no policy: every table has it.
    foresight : MakeForesight
        What policies are told of the future.
    declared : bool
        Whether jobs declare their work (*clairvoyant*).
    """
    baseline: Metrics | None = None
    least_wh = least_wh_of(world)
    for name in (BASELINE, *(name for name in policies if name not in (BASELINE, BOUND))):
        record = replayed(world, name, foresight, declared=declared)
        metrics = measure(world, record.intervals, record.transfers)
        baseline = baseline or metrics
        yield Outcome(
            policy=name,
            record=record,
            metrics=metrics,
            baseline=baseline,
            bound_wh=least_wh,
            defers=world.hold_back_s is not None,
            limited=world.is_limited,
            currency=world.currency,
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


def summary(found: Sequence[Outcome]) -> dict[str, dict[str, Mean | None]]:
    """Return each policy's figures over all its outcomes, by name; None: no outcome has such a figure."""
    by_policy: dict[str, list[Mapping[str, float | None]]] = {}
    for outcome in found:
        by_policy.setdefault(outcome.policy, []).append(outcome.figures())
    return {
        policy: {
            name: Mean.of(known) if (known := [v for row in rows if (v := row[name]) is not None]) else None
            for name in rows[0]
        }
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
    every = [outcome for found in periods.values() for outcome in found]
    more = tuple(column for column in _MORE if any(column.shown(outcome) for outcome in every))
    head += tuple(column.head.format(every[0].currency) for column in more)
    lines: list[Sequence[str]] = []
    for period, found in periods.items():
        for policy, figures in summary(found).items():
            lines.append(
                (
                    period,
                    policy,
                    _said(figures["nonrenewable_kwh"], 1.0, 0),
                    _said(figures["reduction_frac"], 100.0, 1),
                    _mean(figures["bound_frac"], 100.0, 1),
                    _mean(figures["renewable_frac"], 100.0, 1),
                    _said(figures["mean_completion_ratio"], 1.0, 3),
                    _mean(figures["p95_completion_ratio"], 1.0, 3),
                    _mean(figures["migrations_per_job"], 1.0, 2),
                    _said(figures["overrun_frac"], 100.0, 1),
                    _mean(figures["absorbed_kwh"], 1.0, 0),
                    _mean(figures["slots_held"], 1.0, 1),
                    *(_mean(figures[column.name], 1.0, column.digits) for column in more),
                )
            )
        lines.append(_bound_line(period, found, len(head)))
    return markdown.table(head, lines, texts=2)


def _bound_line(period: str, found: Sequence[Outcome], columns: int) -> tuple[str, ...]:
    """Return the row below which nobody gets: counted once for each world, however many policies it had."""
    base = [one for one in found if one.policy == BASELINE and one.bound_wh is not None]
    kwh = [one.bound_wh / 1e3 for one in base if one.bound_wh is not None]
    less = [share for one in base if (share := one.figures()["bound_frac"]) is not None]
    row = (
        period,
        BOUND,
        _said(Mean.of(kwh) if kwh else None, 1.0, 0),
        _said(Mean.of(less) if less else None, 100.0, 1),
        _mean(Mean.of(less) if less else None, 100.0, 1),
    )
    return (*row, *["–"] * (columns - len(row)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column that only some scenarios need."""

    name: str
    head: str
    digits: int
    shown: Callable[[Outcome], bool]


_MORE = (
    _Column(name="late_jobs", head="late jobs", digits=1, shown=lambda outcome: outcome.defers),
    _Column(
        name="given_up", head="moves given up", digits=1, shown=lambda outcome: outcome.metrics.given_up > 0
    ),
    _Column(name="stood_h", head="stood still, h", digits=1, shown=lambda outcome: outcome.limited),
    _Column(name="replicas", head="replicas", digits=2, shown=lambda outcome: outcome.metrics.replicas > 0.0),
    _Column(
        name="exchanges_kwh",
        head="exchanges, kWh",
        digits=1,
        shown=lambda outcome: outcome.metrics.replicas > 0.0,
    ),
    _Column(
        name="carbon_kg", head="CO2, kg", digits=0, shown=lambda outcome: outcome.metrics.carbon_g is not None
    ),
    _Column(name="cost", head="cost, {}", digits=2, shown=lambda outcome: outcome.metrics.cost is not None),
)


def _said(figure: Mean | None, factor: float, digits: int) -> str:
    if figure is None:
        return "–"
    return f"{factor * figure.mean:.{digits}f} ± {factor * figure.spread:.{digits}f}"


def _mean(figure: Mean | None, factor: float, digits: int) -> str:
    return "–" if figure is None else f"{factor * figure.mean:.{digits}f}"
