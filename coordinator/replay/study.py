"""The tables of docs/evaluation.md: which replays they need, and what they make of them.

Owns the policies and forecasts that are held side by side, and the figures of one such replay; a file of
these figures (`rows`) is all that a table is made of.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from math import isclose
from statistics import fmean as mean
from typing import TypeVar

from coordinator.replay import markdown
from coordinator.replay.evaluation import BASELINE, Mean, least_wh_of
from coordinator.replay.foresight import MakeForesight, Perfect
from coordinator.replay.metrics import Metrics, measure
from coordinator.replay.oracle import replayed
from coordinator.replay.record import Record
from coordinator.replay.verify import recompute
from coordinator.replay.world import World
from sterna.errors import CorruptError

LEARNT, PERFECT = "learnt", "perfect"
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A policy, what it is told of the future (None: it does not ask), and whether jobs declare work."""

    policy: str
    forecasts: str | None = None
    clairvoyant: bool = False


STATIC = Case(policy=BASELINE)
PLAIN = (
    STATIC,
    Case(policy="energy-only"),
    Case(policy="feasibility-aware", forecasts=LEARNT),
    Case(policy="sterna", forecasts=LEARNT),
    Case(policy="feasibility-aware", forecasts=PERFECT),
    Case(policy="sterna", forecasts=PERFECT),
)
CLAIRVOYANT = (
    Case(policy="sterna", forecasts=LEARNT, clairvoyant=True),
    Case(policy="sterna", forecasts=PERFECT, clairvoyant=True),
)
"""Where jobs may be held back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One replay; shares 0 to 1, `completion` and `p95` as multiples of static's."""

    scenario: str
    period: str
    offset: int
    policy: str
    forecasts: str | None
    clairvoyant: bool
    nonrenewable_kwh: float
    static_kwh: float
    bound_kwh: float
    renewable_frac: float
    completion: float
    p95: float
    moves: float
    overrun_frac: float
    absorbed_kwh: float
    slots_held: float
    late: int | None
    """Jobs that ended after the scenario's deadline; None: there is none."""

    @property
    def case(self) -> Case:
        """Return what was replayed."""
        return Case(policy=self.policy, forecasts=self.forecasts, clairvoyant=self.clairvoyant)

    @property
    def less_frac(self) -> float:
        """Return how much less is not renewable than under static."""
        return 1.0 - self.nonrenewable_kwh / self.static_kwh

    @property
    def bound_frac(self) -> float:
        """Return how much less there could be at most."""
        return 1.0 - self.bound_kwh / self.static_kwh


def cases(world: World) -> tuple[Case, ...]:
    """Return what is replayed in a world."""
    return PLAIN if world.hold_back_s is None else (*PLAIN, *CLAIRVOYANT)


def rows_of(
    world: World, learnt: MakeForesight, *, scenario: str, period: str, offset: int, wanted: Sequence[Case]
) -> Iterator[Row]:
    """Replay one world under each case and count each journal twice; `static` is always replayed.

    Raises
    ------
    CorruptError
        The two counts of a journal differ.
    """
    foresights: Mapping[str | None, MakeForesight] = {LEARNT: learnt, PERFECT: Perfect, None: Perfect}
    static: Metrics | None = None
    least_wh = least_wh_of(world) or 0.0
    for case in (STATIC, *(case for case in wanted if case != STATIC)):
        record = replayed(world, case.policy, foresights[case.forecasts], declared=case.clairvoyant)
        found = _counted_twice(world, record)
        static = static or found
        yield Row(
            scenario=scenario,
            period=period,
            offset=offset,
            policy=case.policy,
            forecasts=case.forecasts,
            clairvoyant=case.clairvoyant,
            nonrenewable_kwh=found.nonrenewable_wh / 1e3,
            static_kwh=static.nonrenewable_wh / 1e3,
            bound_kwh=least_wh / 1e3,
            renewable_frac=found.renewable_frac,
            completion=found.mean_completion_s / static.mean_completion_s,
            p95=found.p95_completion_s / static.p95_completion_s,
            moves=found.migrations_per_job,
            overrun_frac=found.overrun_frac,
            absorbed_kwh=found.absorbed_wh / 1e3,
            slots_held=found.slots_held,
            late=None if world.hold_back_s is None else found.late,
        )


def _counted_twice(world: World, record: Record) -> Metrics:
    first = measure(world, record.intervals, record.transfers)
    again = recompute(world, record.intervals, record.transfers)
    for field, one, other in zip(fields(first), astuple(first), astuple(again), strict=True):
        alike = (
            one == other if one is None or other is None else isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)
        )
        if not alike:
            raise CorruptError(f"{world.name}, {record.policy}: {field.name}: {one!r}, and again {other!r}")
    return first


def every_figure(rows: Sequence[Row]) -> str:
    """Return the table with every metric, means over offsets ± spread: a line for each period and case."""
    heads = (
        *("scenario", "period", "policy", "forecasts", "non-renewable, kWh", "less than static, %"),
        *("of the bound, %", "renewable, %", "completion, × static", "p95, × static", "moves a job"),
        *("overruns, %", "absorbed, kWh", "slots held", "late jobs"),
    )
    lines: list[Sequence[str]] = []
    for (scenario, period), world_rows in groups(rows, lambda row: (row.scenario, row.period)):
        lines += [
            (f"`{scenario}`", period, *_named(case), *_figures(some))
            for case, some in groups(world_rows, lambda row: row.case)
        ]
        base = [row for row in world_rows if row.case == STATIC]
        bound = (
            _spread([row.bound_kwh for row in base], 0),
            _spread([100.0 * row.bound_frac for row in base], 1),
            "100.0",
        )
        lines.append((f"`{scenario}`", period, "bound", "–", *bound, *["–"] * (len(heads) - 4 - len(bound))))
    return markdown.table(heads, lines, texts=4)


def at_a_glance(rows: Sequence[Row]) -> str:
    """Return the short table, a line for each scenario and case: means over periods of means over offsets."""
    periods = " / ".join(dict.fromkeys(row.period.capitalize() for row in rows))
    share = f"share of the bound's reduction, % ({periods})"
    heads = ("scenario", "policy", "forecasts", share, "overruns, %", "completion, × static", "late jobs")
    lines = []
    for (scenario, case), some in groups(rows, lambda row: (row.scenario, row.case)):
        if case != STATIC:
            sums = summed(some)
            shares = " / ".join(f"{100.0 * share:.1f}" for share in sums.shares)
            lines.append(
                (
                    *(f"`{scenario}`", *_named(case), f"{100.0 * sums.share:.1f} ({shares})"),
                    *(f"{100.0 * sums.overrun_frac:.1f}", f"{sums.completion:.3f}", _late(some)),
                )
            )
    return markdown.table(heads, lines, texts=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """One case over all periods; `shares` of the bound's reduction by period, the rest means of periods."""

    shares: tuple[float, ...]
    overrun_frac: float
    completion: float

    @property
    def share(self) -> float:
        """Return the mean share of the bound's reduction."""
        return mean(self.shares)


def summed(rows: Sequence[Row]) -> Sums:
    """Sum up the rows of one case, each period for as much as another."""
    periods = [some for _, some in groups(rows, lambda row: row.period)]
    return Sums(
        shares=tuple(_share(some) for some in periods),
        overrun_frac=mean(mean(row.overrun_frac for row in some) for some in periods),
        completion=mean(mean(row.completion for row in some) for some in periods),
    )


def behind(row: Row, other: Row) -> bool:
    """Tell whether a row is worse than another in energy, overruns and completion at once."""
    return (
        row.nonrenewable_kwh > other.nonrenewable_kwh
        and row.overrun_frac > other.overrun_frac
        and row.completion > other.completion
    )


def groups(rows: Iterable[Row], key: Callable[[Row], Key]) -> list[tuple[Key, list[Row]]]:
    """Return rows by what they have in common, in the order in which it first appears."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return list(found.items())


def _share(rows: Sequence[Row]) -> float:
    """Return the mean reduction of one period as a share of the bound's."""
    return sum(row.less_frac for row in rows) / sum(row.bound_frac for row in rows)


def _figures(rows: Sequence[Row]) -> tuple[str, ...]:
    return (
        _spread([row.nonrenewable_kwh for row in rows], 0),
        _spread([100.0 * row.less_frac for row in rows], 1),
        f"{100.0 * _share(rows):.1f}",
        f"{100.0 * mean(row.renewable_frac for row in rows):.1f}",
        _spread([row.completion for row in rows], 3),
        f"{mean(row.p95 for row in rows):.3f}",
        f"{mean(row.moves for row in rows):.2f}",
        _spread([100.0 * row.overrun_frac for row in rows], 1),
        f"{mean(row.absorbed_kwh for row in rows):.0f}",
        f"{mean(row.slots_held for row in rows):.1f}",
        _late(rows),
    )


def _late(rows: Iterable[Row]) -> str:
    late = [row.late for row in rows if row.late is not None]
    return str(sum(late)) if late else "–"


def _named(case: Case) -> tuple[str, str]:
    policy = f"{case.policy}, *clairvoyant*" if case.clairvoyant else case.policy
    return policy, case.forecasts or "–"


def _spread(values: Sequence[float], digits: int) -> str:
    found = Mean.of(values)
    return f"{found.mean:.{digits}f} ± {found.spread:.{digits}f}"
