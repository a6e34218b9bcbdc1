"""What a result depends on: the same replays with one number of the scenario set otherwise.

Each choice is a line that a file may have which extends the scenario. Owns the choices, their table and
their picture; the replays are those of `study`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean as mean

import msgspec

from coordinator.replay import markdown, svg
from coordinator.replay.scenariofile import ScenarioFile
from coordinator.replay.study import LEARNT, STATIC, Case, Row, groups, summed

CASES = (
    STATIC,
    Case(policy="energy-only"),
    Case(policy="feasibility-aware", forecasts=LEARNT),
    Case(policy="sterna", forecasts=LEARNT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One number of a scenario file: ``[table] field = value``."""

    table: str
    field: str
    value: float

    def __str__(self) -> str:
        """Return the line of the file."""
        return f"[{self.table}] {self.field} = {self.value:g}"

    def of(self, scenario: ScenarioFile) -> ScenarioFile:
        """Return the scenario with this number."""
        table = msgspec.structs.replace(getattr(scenario, self.table), **{self.field: self.value})
        return msgspec.structs.replace(scenario, **{self.table: table})


def choices(scenario: ScenarioFile) -> tuple[Choice, ...]:
    """Return what is tried beside the scenario as it is: plant, arrivals, α and the threshold of surplus."""
    every = scenario.jobs.keep_every
    return (
        *(Choice(table="surplus", field="nameplate_w", value=watts) for watts in (8e3, 10e3, 16e3, 24e3)),
        *(
            Choice(table="jobs", field="keep_every", value=k)
            for k in (2 * every, round(every / 1.5), every // 2)
        ),
        *(Choice(table="migration", field="alpha", value=alpha) for alpha in (0.05, 0.2)),
        *(Choice(table="surplus", field="threshold_w", value=watts) for watts in (500.0, 2000.0)),
    )


def named(scenario: ScenarioFile, choice: Choice | None) -> str:
    """Return what rows of a choice, or of the scenario as it is, have as their scenario."""
    return scenario.name if choice is None else f"{scenario.name}: {choice}"


def table(rows: Sequence[Row]) -> str:
    """Return a line for each choice: how much there was to gain, and each policy's share of it."""
    heads = ("`scenario`, and what was set", "static, kWh", "slots held", "bound: less, %")
    lines = []
    for name, some in groups(rows, lambda row: row.scenario):
        static = [row for row in some if row.case == STATIC]
        cells = []
        for case in CASES[1:]:
            sums = summed([row for row in some if row.case == case])
            cells.append(f"{100.0 * sums.share:.1f}; {100.0 * sums.overrun_frac:.1f}; {sums.completion:.3f}")
        lines.append(
            (
                name,
                f"{mean(row.static_kwh for row in static):.0f}",
                f"{mean(row.slots_held for row in static):.1f}",
                f"{100.0 * mean(row.bound_frac for row in static):.1f}",
                *cells,
            )
        )
    return markdown.table((*heads, *(case.policy for case in CASES[1:])), lines, texts=1)


def drawn(rows: Sequence[Row], scenario: ScenarioFile) -> str:
    """Draw each policy's share of the bound's reduction, and its overruns, over plant size and arrivals."""
    found = dict(groups(rows, lambda row: row.scenario))
    turned: tuple[tuple[str, str, str, Callable[[float], float]], ...] = (
        ("surplus", "nameplate_w", "plant, kW", lambda watts: watts / 1e3),
        ("jobs", "keep_every", "arrivals, × the scenario's", lambda every: scenario.jobs.keep_every / every),
    )
    measures: tuple[tuple[str, Callable[[Sequence[Row]], float]], ...] = (
        ("% of the bound's reduction", lambda some: 100.0 * summed(some).share),
        ("overruns, % of moves", lambda some: 100.0 * summed(some).overrun_frac),
    )
    parts = []
    for down, (label, measure) in enumerate(measures):
        for across, (of, field, words, scaled) in enumerate(turned):
            here = {named(scenario, None): getattr(getattr(scenario, of), field)} | {
                named(scenario, one): one.value
                for one in choices(scenario)
                if (one.table, one.field) == (of, field)
            }
            courses = [
                sorted(
                    (scaled(value), measure([row for row in found[name] if row.case == case]))
                    for name, value in here.items()
                )
                for case in CASES[1:]
            ]
            parts.append(_panel(courses, across, down, words, label))
    parts.append(
        svg.legend(985.0, 75.0, [(svg.COLOURS[number], case.policy) for number, case in enumerate(CASES[1:])])
    )
    return svg.document(1150.0, 640.0, f"{scenario.name}, learnt forecasts", parts)


def _panel(courses: Sequence[Sequence[svg.Point]], across: int, down: int, words: str, label: str) -> str:
    x = [at for course in courses for at, _ in course]
    y = [value for course in courses for _, value in course]
    room = 0.08 * (max(x) - min(x))
    panel = svg.Panel(
        left=70.0 + 470.0 * across,
        top=60.0 + 290.0 * down,
        width=390.0,
        height=210.0,
        x=svg.linear(min(x) - room, max(x) + room, words),
        y=svg.linear(0.0 if down else min(y) - 3.0, max(y) + 3.0, label),
    )
    for colour, course in zip(svg.COLOURS, courses, strict=False):
        panel.line(course, colour)
        panel.dots(course, colour)
    return panel.drawn()
