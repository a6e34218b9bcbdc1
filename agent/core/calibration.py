"""What a watt at the node's sensors is at the site's meter: learnt from pairs of the two, as one factor.

A module's rails do not see its supply's losses, its carrier board, its disk and its fans: 1.3 to 2.3 times
their sum was drawn in truth on boards that were measured. The factor is learnt in one of two ways:

- the node has a compute meter: the mean of a quiet stretch there over the mean at the rails;
- it has none: a job that starts, stops or is throttled is a step at the rails, and the same step is in the
  load of the whole site. What else the site draws cancels out where it is quiet.

Both use only what meters measure, never a figure that the factor itself went into: our own estimate cannot
teach itself. A coincidence (a kettle at the same moment) makes a bad pair; the estimate is a median, weighted
by the size of the step, and is used only once pairs enough agree.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from itertools import pairwise

from agent.model.readings import MeterRole, Quality, SitePower


class PairMethod(Enum):
    """How a pair was measured."""

    METER = "meter"
    STEP = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One instant: the node's sensors beside the site's meters, all in watts.

    Parameters
    ----------
    measured_at : datetime
        When the meters measured; two samples of one instant are one sample.
    rail_w : float
        What the node's sensors state, before any factor.
    load_w : float or None
        Everything that the site draws, the node included; None: unknown.
    meter_w : float or None
        What the compute meter states; None: there is none.
    """

    measured_at: datetime
    rail_w: float
    load_w: float | None = None
    meter_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same watts seen twice: at the rails and at a meter."""

    method: PairMethod
    measured_at: datetime
    rail_w: float
    metered_w: float

    @property
    def ratio(self) -> float:
        """Watts at the meter per watt at the rails."""
        return self.metered_w / self.rail_w


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings:
    """How the factor is learnt.

    Parameters
    ----------
    initial_factor : float
        What holds until enough was learnt.
    factor_min, factor_max : float
        Bounds of the factor.
    min_step_w : float
        Smallest step at the rails that counts, in watts, > 0.
    window : int
        Samples before and after a step, and of a quiet stretch.
    gap : int
        Samples between the two: meters lag behind, and a job that starts or a cap that rises takes a while.
    min_pairs, max_pairs : int
        Pairs of one method before the factor is used, and that are kept.
    max_spread : float
        Largest median deviation from the factor, as a fraction of it, at which it is used.
    meter_period_s, max_gap_s : float
        Shortest time between two pairs of a compute meter; longest between two samples.
    """

    initial_factor: float = 1.0
    factor_min: float = 1.0
    factor_max: float = 3.0
    min_step_w: float = 5.0
    window: int = 8
    gap: int = 10
    min_pairs: int = 5
    max_pairs: int = 64
    max_spread: float = 0.25
    meter_period_s: float = 60.0
    max_gap_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationState:
    """The newest samples, the pairs learnt from so far, and how many were no believable pair."""

    samples: tuple[Sample, ...] = ()
    pairs: tuple[Pair, ...] = ()
    rejected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The factor and where it comes from; `method` None: nothing usable is learnt, the initial one holds.

    `spread` is the median deviation of the pairs as a fraction of the factor, None without pairs.
    """

    factor: float
    method: PairMethod | None
    pairs: int
    spread: float | None


# Ratios beyond these are no calibration but a coincidence, wider than the bounds so that a factor at a bound
# is still the middle of its pairs.
_RATIO_MIN, _RATIO_MAX = 0.5, 6.0
# A stretch is quiet when its extremes lie this close: fractions of the step, or of the level.
_QUIET_RAIL_FRAC, _QUIET_LOAD_FRAC, _QUIET_LEVEL_FRAC = 0.3, 0.6, 0.2


def load_with_compute_w(power: SitePower, roles: Iterable[MeterRole]) -> float | None:
    """Return all that the site draws, our own nodes included, in watts, from meters alone.

    Parameters
    ----------
    power : SitePower
        The balance; its compute figure is not used.
    roles : iterable of MeterRole
        What the site has meters for. Without one at the grid connection nothing is known.

    Returns
    -------
    float or None
        ``grid + generation - battery``; None where one of them is unknown or not fresh.
    """
    present = frozenset(roles)
    if MeterRole.GRID not in present or power.quality not in (Quality.OK, Quality.ESTIMATED):
        return None
    load_w = power.grid_w
    if MeterRole.GENERATION in present:
        load_w = None if load_w is None or power.generation_w is None else load_w + power.generation_w
    if MeterRole.BATTERY in present:
        load_w = None if load_w is None or power.battery_w is None else load_w - power.battery_w
    return load_w


def observe(
    state: CalibrationState, sample: Sample | None, settings: CalibrationSettings
) -> CalibrationState:
    """Take one sample in and learn from what it completes.

    Parameters
    ----------
    sample : Sample or None
        None: something is unknown now; what came before it is not held against what comes after.

    Returns
    -------
    CalibrationState
        Where a pair was taken its samples are spent: a step counts once.
    """
    if sample is None:
        return replace(state, samples=()) if state.samples else state
    if state.samples:
        gap_s = (sample.measured_at - state.samples[-1].measured_at).total_seconds()
        if gap_s == 0:
            return state
        if not 0 < gap_s <= settings.max_gap_s:
            state = replace(state, samples=())
    samples = (*state.samples, sample)[-(2 * settings.window + settings.gap) :]
    state = replace(state, samples=samples)
    pair = _meter_pair(state, settings) if sample.meter_w is not None else _step_pair(samples, settings)
    return state if pair is None else _learn(state, pair, settings)


def estimate(pairs: Sequence[Pair], settings: CalibrationSettings) -> Calibration:
    """Return the factor that the pairs make: those of a compute meter before those of steps."""
    found = [Calibration(factor=settings.initial_factor, method=None, pairs=0, spread=None)]
    for method in PairMethod:
        chosen = [pair for pair in pairs if pair.method is method]
        if not chosen:
            continue
        middle = _weighted_median([(pair.ratio, pair.rail_w) for pair in chosen])
        spread = _weighted_median([(abs(pair.ratio - middle) / middle, pair.rail_w) for pair in chosen])
        if len(chosen) >= settings.min_pairs and spread <= settings.max_spread:
            factor = min(max(middle, settings.factor_min), settings.factor_max)
            return Calibration(factor=factor, method=method, pairs=len(chosen), spread=spread)
        found.append(replace(found[0], pairs=len(chosen), spread=spread))
    return found[-1]


def _learn(state: CalibrationState, pair: Pair, settings: CalibrationSettings) -> CalibrationState:
    if not _RATIO_MIN <= pair.ratio <= _RATIO_MAX:
        return replace(state, samples=(), rejected=state.rejected + 1)
    others = [known for known in state.pairs if known.method is not pair.method]
    same = [known for known in state.pairs if known.method is pair.method]
    return replace(state, samples=(), pairs=(*others, *same[-(settings.max_pairs - 1) :], pair))


def _meter_pair(state: CalibrationState, settings: CalibrationSettings) -> Pair | None:
    """Return the two means of a quiet stretch, or None: not yet, or too soon after the last pair."""
    samples = state.samples[-settings.window :]
    metered_w = [sample.meter_w for sample in samples if sample.meter_w is not None]
    if len(metered_w) < settings.window:
        return None
    now = samples[-1].measured_at
    for known in state.pairs:
        age_s = (now - known.measured_at).total_seconds()
        if known.method is PairMethod.METER and 0 <= age_s < settings.meter_period_s:
            return None
    rails_w = [sample.rail_w for sample in samples]
    rail_w, meter_w = _mean(rails_w), _mean(metered_w)
    quiet = _range(rails_w) <= _QUIET_LEVEL_FRAC * rail_w and _range(metered_w) <= _QUIET_LEVEL_FRAC * meter_w
    if rail_w < settings.min_step_w or not quiet:
        return None
    return Pair(method=PairMethod.METER, measured_at=now, rail_w=rail_w, metered_w=meter_w)


def _step_pair(samples: Sequence[Sample], settings: CalibrationSettings) -> Pair | None:
    """Return a step at the rails and the one in the site's load, or None: none, or not a clear one."""
    if len(samples) < 2 * settings.window + settings.gap:
        return None
    before, after = samples[: settings.window], samples[-settings.window :]
    loads_w = [[sample.load_w for sample in part if sample.load_w is not None] for part in (before, after)]
    rails_w = [[sample.rail_w for sample in part] for part in (before, after)]
    if any(len(load_w) < settings.window for load_w in loads_w):
        return None
    step_w = _mean(rails_w[1]) - _mean(rails_w[0])
    if abs(step_w) < settings.min_step_w:
        return None
    if any(_range(rail_w) > _QUIET_RAIL_FRAC * abs(step_w) for rail_w in rails_w):
        return None
    if any(_range(load_w) > _QUIET_LOAD_FRAC * abs(step_w) for load_w in loads_w):
        return None
    metered_w = _mean(loads_w[1]) - _mean(loads_w[0])
    # Downward steps are turned round: a ratio is what is wanted, and weights are positive.
    sign = 1 if step_w > 0 else -1
    return Pair(
        method=PairMethod.STEP,
        measured_at=samples[-1].measured_at,
        rail_w=sign * step_w,
        metered_w=sign * metered_w,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _weighted_median(weighted: Sequence[tuple[float, float]]) -> float:
    """Return the value that half of the weight lies below; the middle of two where it falls between them."""
    ordered = sorted(weighted)
    half = sum(weight for _, weight in ordered) / 2
    below = 0.0
    for (value, weight), (following, _) in pairwise(ordered):
        below += weight
        if below > half:
            return value
        if below == half:
            return (value + following) / 2
    return ordered[-1][0]
