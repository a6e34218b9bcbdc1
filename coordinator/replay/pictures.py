"""What a replay looks like: surplus and placement, energy by source, completion, the feasible domain.

Pictures of the same journals that the figures come of; nothing is computed here that a table does not have.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from coordinator.core import domain, partial
from coordinator.replay import svg
from coordinator.replay.journal import Interval
from coordinator.replay.metrics import Landing, ends, landings, site_course
from coordinator.replay.timeline import Line
from coordinator.replay.world import World
from sterna.units import BITS_PER_BYTE, SECONDS_PER_HOUR, s_to_hours

_DAY_S = 24.0 * SECONDS_PER_HOUR
_NONRENEWABLE = "#5b5b5b"
_BEYOND, _NETWORK = "beyond the surplus", "the network, for moves"
_UNCOVERED = {_BEYOND: _NONRENEWABLE, _NETWORK: "#b0b0b0"}

Rows = Sequence[Interval]
Runs = Mapping[str, Sequence[tuple[World, Rows]]]
"""By policy: each world that it was replayed in, and its journal."""


def placement(world: World, lines: Sequence[Line], policy: str) -> str:
    """Draw, site over site, the surplus and what jobs drew: covered by it, and beyond it.

    Parameters
    ----------
    world : World
        The world.
    lines : sequence of Line
        Its timeline.
    policy : str
        For the title.
    """
    by_site: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_site[line.site].append(line)
    shown = int(world.period_s // world.step_s)
    rows = [by_site[site.site_id][:shown] for site in world.sites]
    most_w = max((line.compute_w for row in rows for line in row), default=1.0)
    # What is far above every draw says no more than that there is plenty.
    top_w = min(max((line.surplus_w for row in rows for line in row), default=1.0), 2.0 * most_w) or 1.0
    x = svg.Axis(low=0.0, high=shown * world.step_s, ticks=_days(world))
    parts = []
    for number, row in enumerate(rows):
        panel = svg.Panel(
            left=70.0,
            top=50.0 + 150.0 * number,
            width=900.0,
            height=105.0,
            x=x,
            y=svg.linear(0.0, top_w, "kW", 1e3),
            title=world.sites[number].site_id,
        )
        panel.area(_steps(world, [line.surplus_w for line in row]), svg.SUN)
        panel.area(_steps(world, [line.compute_w for line in row]), _NONRENEWABLE)
        panel.area(_steps(world, [line.renewable_w for line in row]), svg.COLOURS[2])
        parts.append(panel.drawn())
    entries = [
        (svg.SUN, "surplus"),
        (svg.COLOURS[2], "jobs, covered by it"),
        (_NONRENEWABLE, "jobs, beyond it"),
    ]
    parts.append(svg.legend(985.0, 60.0, entries))
    title = f"{world.name}, {policy}: surplus and placement"
    return svg.document(1150.0, 60.0 + 150.0 * len(rows), title, parts)


def energy_by_source(runs: Runs, network_wh: Mapping[str, float]) -> str:
    """Draw what each policy's jobs drew, by whose surplus covered it; means over the worlds.

    With what the network drew by policy, `network_wh`, which counts as covered by none, as in the tables.
    """
    shares = {policy: _by_source(some) | {_NETWORK: network_wh[policy]} for policy, some in runs.items()}
    sources = [name for name in next(iter(shares.values()), {}) if name not in _UNCOVERED]
    colours = {name: svg.COLOURS[number % len(svg.COLOURS)] for number, name in enumerate(sources)}
    most_wh = max(sum(one.values()) for one in shares.values()) or 1.0
    ticks = tuple((number + 0.5, policy) for number, policy in enumerate(shares))
    panel = svg.Panel(
        left=70.0,
        top=40.0,
        width=140.0 * len(shares),
        height=300.0,
        x=svg.Axis(low=0.0, high=float(len(shares)), ticks=ticks),
        y=svg.linear(0.0, 1.05 * most_wh, "kWh drawn", 1e3),
        title="Energy by source",
    )
    for number, one in enumerate(shares.values()):
        total_wh, base_wh = sum(one.values()) or 1.0, 0.0
        for source in [*sources, *_UNCOVERED]:
            wh = one[source]
            colour = colours.get(source) or _UNCOVERED[source]
            says = f"{source}: {wh / total_wh:.1%}"
            panel.bar((number + 0.15, base_wh), (number + 0.85, base_wh + wh), colour, says)
            base_wh += wh
        covered = 1.0 - sum(one[source] for source in _UNCOVERED) / total_wh
        panel.write((number + 0.5, most_wh * 0.02), f"{covered:.1%}", "white", "middle")
    entries = [(colours[name], f"surplus at {name}") for name in sources]
    entries += [(colour, name) for name, colour in _UNCOVERED.items()]
    right = 85.0 + 140.0 * len(shares)
    return svg.document(
        right + 190.0, 390.0, "Energy by source", [panel.drawn(), svg.legend(right, 55.0, entries)]
    )


def completions(runs: Runs) -> str:
    """Draw what share of the jobs had ended how long after they were submitted."""
    took = {policy: sorted(h for one in some for h in _completion_h(*one)) for policy, some in runs.items()}
    known = [hours for some in took.values() for hours in some if hours > 0.0] or [1.0]
    panel = svg.Panel(
        left=70.0,
        top=40.0,
        width=560.0,
        height=320.0,
        x=svg.logarithmic(min(known), max(known) * 1.1, "hours from submission to end"),
        y=svg.linear(0.0, 1.0, "share of jobs"),
        title="Completion",
    )
    entries = []
    for number, (policy, hours) in enumerate(took.items()):
        colour = svg.COLOURS[number % len(svg.COLOURS)]
        points = [(h, (rank + 1) / len(hours)) for rank, h in enumerate(hours)]
        panel.line(_thinned(points), colour)
        middle = f", median {hours[len(hours) // 2]:.2f} h" if hours else ""
        entries.append((colour, policy + middle))
    return svg.document(880.0, 420.0, "Completion times", [panel.drawn(), svg.legend(650.0, 55.0, entries)])


def feasible_domain(world: World, rows: Rows, policy: str) -> str:
    """Draw the (S, B) plane: the bounds of the shortest and the longest typical window, and the moves in it.

    S is what crosses at the stop, B what the link carries when nobody shares it. A job that never moved
    stands at the fastest link out of its home, if there is any. Dots grow with the number of moves or jobs
    in one place.
    """
    moves = _moves(world, rows)
    met, overran, stayed = _in_domain(world, moves)
    points = [*met, *overran, *stayed]
    x, y = ([at for at, _ in points] or [1e9], [at for _, at in points] or [1e9])
    panel = svg.Panel(
        left=70.0,
        top=40.0,
        width=560.0,
        height=400.0,
        x=svg.logarithmic(min(x) / 2.0, max(x) * 3.0, "checkpoint S, GB", 1e9),
        y=svg.logarithmic(min(y) / 8.0, max(y) * 2.0, "link B, Gbit/s", 1e9),
        title=f"{world.name}, {policy}: moves in the feasible domain",
    )
    panel.dots(stayed, svg.GREY, hollow=True)
    panel.dots(met, svg.COLOURS[0])
    panel.dots(overran, svg.COLOURS[5])
    entries = [
        (svg.COLOURS[0], f"{len(met)} moves within α of the window met"),
        (svg.COLOURS[5], f"{len(overran)} moves that overran"),
        (svg.GREY, f"{len(stayed)} jobs that never moved"),
    ]
    bounds = (("A", domain.SHORT_WINDOW_S, svg.COLOURS[2]), ("C", domain.LONG_WINDOW_S, svg.COLOURS[3]))
    for name, window_s, colour in bounds:
        bound = [
            (largest_bytes(world, window_s, bps), bps) for bps in np.geomspace(panel.y.low, panel.y.high)
        ]
        inside = [point for point in bound if panel.x.low <= point[0] <= panel.x.high]
        panel.line(inside, colour, 2.0, "6 3")
        side = "left of it class A" if name == "A" else "right of it class C"
        entries.append((colour, f"window of {s_to_hours(window_s):g} h: {side}"))
    return svg.document(920.0, 500.0, "Feasible domain", [panel.drawn(), svg.legend(645.0, 55.0, entries)])


def _moves(world: World, rows: Rows) -> tuple[Landing, ...]:
    by_job: defaultdict[str, list[Interval]] = defaultdict(list)
    by_site: dict[str, list[Interval]] = {site.site_id: [] for site in world.sites}
    for row in rows:
        by_job[row.job_id].append(row)
        by_site[row.site_id].append(row)
    return landings(world, by_job, by_site)


def _in_domain(
    world: World, moves: Sequence[Landing]
) -> tuple[list[svg.Point], list[svg.Point], list[svg.Point]]:
    """Return (S, B) of the moves that met their window, of those that overran, of jobs that never moved."""
    size = {
        task.job_id: float(partial.effective_bytes(task.pieces) if task.pieces else task.checkpoint_bytes)
        for task in world.tasks
    }
    wan = world.wan
    rate = {
        (source, destination): min(bps, wan.uplink_bps[source], wan.downlink_bps[destination])
        for (source, destination), bps in wan.pair_bps.items()
    }
    best: defaultdict[str, float] = defaultdict(float)
    for (source, _), bps in rate.items():
        best[source] = max(best[source], bps)
    there: dict[bool, list[svg.Point]] = {False: [], True: []}
    for move in moves:
        point = (size[move.job_id], rate[move.source, move.destination])
        there[move.overran(world.costs.alpha)].append(point)
    moved = {move.job_id for move in moves}
    stayed = [
        (size[task.job_id], best[task.home_site])
        for task in world.tasks
        if task.job_id not in moved and best[task.home_site] > 0.0
    ]
    return there[False], there[True], stayed


def largest_bytes(world: World, window_s: float, link_bps: float) -> float:
    """Return S_max of a link alone, in bytes: all of the move takes α of the window; 0: nothing fits."""
    costs = world.costs
    per_byte_s = 2.0 / costs.store_bytes_per_s + BITS_PER_BYTE / (costs.eta * link_bps)
    return max(0.0, (domain.budget_s(window_s, costs.alpha) - costs.downtime_s) / per_byte_s)


def _by_source(runs: Sequence[tuple[World, Rows]]) -> dict[str, float]:
    """Return jobs' mean watt-hours by the site whose surplus covered them, and what none covered."""
    wh: defaultdict[str, float] = defaultdict(float)
    for world, rows in runs:
        power = {task.job_id: task.power_w for task in world.tasks}
        for site in world.sites:
            mine = [row for row in rows if row.site_id == site.site_id]
            energy = site_course(world, site, mine, power).energy
            wh[site.site_id] += energy.renewable_wh / len(runs)
            wh[_BEYOND] += energy.nonrenewable_wh / len(runs)
    return dict(wh)


def _completion_h(world: World, rows: Rows) -> list[float]:
    ended = ends(rows)
    return [s_to_hours(ended[task.job_id] - task.submitted_s) for task in world.tasks]


def _steps(world: World, watts: Sequence[float]) -> list[svg.Point]:
    return [(world.step_s * edge, power_w) for step, power_w in enumerate(watts) for edge in (step, step + 1)]


def _days(world: World) -> tuple[tuple[float, str], ...]:
    count = int(world.period_s // _DAY_S)
    every = max(1, round(count / 8))
    return tuple((day * _DAY_S, f"{world.at(day * _DAY_S):%d %b}") for day in range(0, count + 1, every))


def _thinned(points: Sequence[svg.Point], most: int = 400) -> list[svg.Point]:
    """Return so few points that a file stays small; the first and last stay."""
    if len(points) <= most:
        return list(points)
    places = np.unique(np.linspace(0, len(points) - 1, most).round().astype(int))
    return [points[place] for place in places]
