"""The front of a policy: what energy costs in overruns and in time, as its tolerances are turned.

Owns which figures a front has and how they are drawn; running the replays is the caller's. The overruns are
always counted at the scenario's own α, whatever α the policy was given.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from coordinator.core.policies import policy_named
from coordinator.core.policy import Policy
from coordinator.core.sterna_policy import SternaPolicy
from coordinator.replay import svg
from coordinator.replay.exact import run
from coordinator.replay.foresight import Foresight
from coordinator.replay.metrics import Metrics, measure
from coordinator.replay.record import settings_of
from coordinator.replay.world import World

EPSILONS = (0.1, 0.3, 0.5, 0.7, 0.9)
ALPHAS = (0.05, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """One policy with its tolerances; None: it does not look at them."""

    policy: str
    alpha: float | None = None
    epsilon: float | None = None

    def made(self) -> Policy:
        """Return the policy; `sterna` without the ε that it would not go below."""
        return SternaPolicy(epsilon=0.0) if self.policy == "sterna" else policy_named(self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One policy with its tolerances in one world; shares 0 to 1, `completion` as a multiple of static's."""

    period: str
    offset: int
    policy: str
    alpha: float | None
    epsilon: float | None
    nonrenewable_kwh: float
    reduction_frac: float
    bound_frac: float
    overrun_frac: float
    completion: float
    migrations_per_job: float


def knobs(alpha: float) -> Iterator[Knobs]:
    """Yield what a front is made of: both policies over ε at the scenario's α, `sterna` over α at ε = 0.5."""
    yield Knobs(policy="energy-only")
    for epsilon in EPSILONS:
        yield Knobs(policy="feasibility-aware", alpha=alpha, epsilon=epsilon)
        yield Knobs(policy="sterna", alpha=alpha, epsilon=epsilon)
    for other in ALPHAS:
        yield Knobs(policy="sterna", alpha=other, epsilon=0.5)


def replayed(world: World, chosen: Knobs, foresight: Foresight) -> Metrics:
    """Replay one world under a policy with its tolerances."""
    given = {"alpha": chosen.alpha, "epsilon": chosen.epsilon}
    settings = settings_of(world, **{name: value for name, value in given.items() if value is not None})
    return measure(world, run(world, chosen.made(), settings, foresight).intervals)


def point(
    chosen: Knobs, metrics: Metrics, baseline: Metrics, bound_wh: float, *, period: str, offset: int
) -> Point:
    """Return one point of the front, held against `static`."""
    return Point(
        period=period,
        offset=offset,
        policy=chosen.policy,
        alpha=chosen.alpha,
        epsilon=chosen.epsilon,
        nonrenewable_kwh=metrics.nonrenewable_wh / 1e3,
        reduction_frac=1.0 - metrics.nonrenewable_wh / baseline.nonrenewable_wh,
        bound_frac=1.0 - bound_wh / baseline.nonrenewable_wh,
        overrun_frac=metrics.overrun_frac,
        completion=metrics.mean_completion_s / baseline.mean_completion_s,
        migrations_per_job=metrics.migrations_per_job,
    )


def means(points: Iterable[Point]) -> list[Point]:
    """Return one point for each policy and tolerance: the mean over periods and offsets."""
    groups: defaultdict[tuple[object, ...], list[Point]] = defaultdict(list)
    for one in points:
        groups[one.policy, one.alpha, one.epsilon].append(one)
    return [_mean(group) for group in groups.values()]


def drawn(points: Sequence[Point], title: str) -> str:
    """Draw a front: what is gained against overruns, and against the time that jobs take.

    Parameters
    ----------
    points : sequence of Point
        One for each policy and tolerance, as `means` gives them.
    title : str
        Of the picture.
    """
    lines = _lines([one for one in points if one.epsilon is not None])
    turned = [one for _, _, some in lines for one in some]
    gained = [_gained_pct(one) for one in turned]
    y = svg.linear(min(gained) - 2.0, max(gained) + 2.0, "% of the bound's reduction")
    axes = (
        (_overruns_pct, "overruns, % of moves", "Energy against overruns"),
        (_completion, "mean completion, × static", "Energy against completion"),
    )
    parts = []
    for number, (across, label, name) in enumerate(axes):
        low, high = min(map(across, turned)), max(map(across, turned))
        room = 0.1 * (high - low) or 0.1 * high
        panel = svg.Panel(
            left=70.0 + 500.0 * number,
            top=60.0,
            width=420.0,
            height=340.0,
            x=svg.linear(low - room, high + 2.0 * room, label),
            y=y,
            title=name,
        )
        for place, (colour, _, some) in enumerate(lines):
            panel.line([(across(one), _gained_pct(one)) for one in some], colour)
            panel.dots([(across(one), _gained_pct(one)) for one in some], colour)
            # Labels of one line stand left above its points, those of the others below: lines cross here.
            lower = 0.0 if place == 0 else 0.045 * (y.high - y.low)
            labelled = some if place < 2 else [one for one in some if _label(one).startswith("α")]
            for at, words in _labels(labelled, panel, across):
                panel.write((at[0], at[1] - lower), words, colour, "end" if place == 0 else "start")
        parts.append(panel.drawn())
    entries = [(colour, words) for colour, words, _ in lines]
    entries += [
        (svg.GREY, f"{one.policy} (not drawn): {_gained_pct(one):.1f} %,")
        for one in points
        if one.epsilon is None
    ]
    parts.append(svg.legend(1005.0, 75.0, entries))
    for one in points:
        if one.epsilon is None:
            says = f"overruns {_overruns_pct(one):.1f} %, × {one.completion:.3f}"
            parts.append(svg.legend(1005.0, 75.0 + 18.0 * len(entries), [("white", says)]))
    return svg.document(1290.0, 450.0, title, parts)


def _labels(
    some: Sequence[Point], panel: svg.Panel, across: Callable[[Point], float]
) -> list[tuple[svg.Point, str]]:
    """Return where to write what; points that lie on each other share a label."""
    found: list[tuple[svg.Point, str]] = []
    for one in some:
        at = (across(one), _gained_pct(one))
        if found:
            (x, gained), words = found[-1]
            near_x = abs(panel.x.place(at[0]) - panel.x.place(x)) < 0.1
            if near_x and abs(panel.y.place(at[1]) - panel.y.place(gained)) < 0.05:
                found[-1] = ((x, gained), f"{words}, {_label(one).split()[-1]}")
                continue
        found.append((at, _label(one)))
    return found


def _lines(points: Sequence[Point]) -> list[tuple[str, str, list[Point]]]:
    """Return what is joined by a line: colour, words, points in order of what is turned."""
    usual = next((one.alpha for one in points if one.policy == "feasibility-aware"), None)

    def some(policy: str, holds: Callable[[Point], bool]) -> list[Point]:
        found = [one for one in points if one.policy == policy and holds(one)]
        return sorted(found, key=lambda one: (one.alpha or 0.0, one.epsilon or 0.0))

    wanted = (
        ("sterna, over ε", some("sterna", lambda one: one.alpha == usual)),
        ("feasibility-aware, over ε", some("feasibility-aware", lambda one: True)),
        ("sterna, over α at ε = 0.5", some("sterna", lambda one: one.epsilon == 0.5)),
    )
    return [(svg.COLOURS[number], words, line) for number, (words, line) in enumerate(wanted) if line]


def _label(one: Point) -> str:
    return f"ε {one.epsilon:g}" if one.alpha in (None, 0.1) else f"α {one.alpha:g}"


def _gained_pct(one: Point) -> float:
    return 100.0 * one.reduction_frac / one.bound_frac


def _overruns_pct(one: Point) -> float:
    return 100.0 * one.overrun_frac


def _completion(one: Point) -> float:
    return one.completion


def _mean(group: Sequence[Point]) -> Point:
    def mean(figure: Callable[[Point], float]) -> float:
        return sum(map(figure, group)) / len(group)

    first = group[0]
    return Point(
        period="mean",
        offset=first.offset,
        policy=first.policy,
        alpha=first.alpha,
        epsilon=first.epsilon,
        nonrenewable_kwh=mean(lambda one: one.nonrenewable_kwh),
        reduction_frac=mean(lambda one: one.reduction_frac),
        bound_frac=mean(lambda one: one.bound_frac),
        overrun_frac=mean(lambda one: one.overrun_frac),
        completion=mean(lambda one: one.completion),
        migrations_per_job=mean(lambda one: one.migrations_per_job),
    )
