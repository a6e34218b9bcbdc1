"""The factor between rails and meter: learnt from steps and from a compute meter, robust, bounded."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.calibration import (
    Calibration,
    CalibrationSettings,
    CalibrationState,
    Pair,
    PairMethod,
    Sample,
    estimate,
    load_with_compute_w,
    observe,
)
from agent.model.readings import MeterRole, Quality, SitePower

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
RULES = CalibrationSettings()
GRID_SITE = (MeterRole.GRID, MeterRole.GENERATION, MeterRole.BATTERY)


def at(second: float) -> datetime:
    return NOW + timedelta(seconds=second)


def run(samples: Iterable[Sample | None], state: CalibrationState | None = None) -> CalibrationState:
    state = CalibrationState() if state is None else state
    for sample in samples:
        state = observe(state, sample, RULES)
    return state


def site(
    rails_w: Sequence[float],
    *,
    factor: float = 1.7,
    base_w: float = 400.0,
    noise_w: float = 0.0,
    lag: int = 0,
    seed: int = 1,
) -> list[Sample]:
    """A site whose meter sees what the rails say times a factor, some samples late, beside a base load."""
    rng = random.Random(seed)
    return [
        Sample(
            measured_at=at(second),
            rail_w=rail_w,
            load_w=base_w + factor * rails_w[max(0, second - lag)] + rng.uniform(-noise_w, noise_w),
        )
        for second, rail_w in enumerate(rails_w)
    ]


def on_and_off(times: int, *, idle_w: float = 5.0, busy_w: float = 25.0, dwell: int = 30) -> list[float]:
    return ([idle_w] * dwell + [busy_w] * dwell) * times


def pair(ratio: float, rail_w: float = 20.0, method: PairMethod = PairMethod.STEP) -> Pair:
    return Pair(method=method, measured_at=NOW, rail_w=rail_w, metered_w=ratio * rail_w)


@pytest.mark.parametrize("factor", [1.0, 1.3, 1.7, 2.28, 3.0])
@pytest.mark.parametrize("lag", [0, 3])
def test_the_factor_is_learnt_from_jobs_that_start_and_stop(factor: float, lag: int) -> None:
    state = run(site(on_and_off(5), factor=factor, lag=lag, noise_w=2.0))
    found = estimate(state.pairs, RULES)
    assert found.factor == pytest.approx(factor, rel=0.1)
    assert (found.method, found.pairs) == (PairMethod.STEP, 9)


def test_a_cap_that_rises_slowly_is_a_step_all_the_same() -> None:
    ramp_w = [5.0 + 2.5 * second for second in range(8)]
    found = estimate(run(site(([5.0] * 30 + ramp_w + [25.0] * 30) * 5)).pairs, RULES)
    assert (found.factor, found.method) == (pytest.approx(1.7), PairMethod.STEP)


def test_a_step_counts_once() -> None:
    state = run(site([5.0] * 60 + [25.0] * 200))
    assert len(state.pairs) == 1
    assert state.pairs[0].ratio == pytest.approx(1.7)


@pytest.mark.parametrize(
    ("rails_w", "base_w"),
    [
        ([5.0] * 200, 400.0),
        ([5.0] * 60 + [8.0] * 60, 400.0),
        ([5.0 + 10 * (second % 2) for second in range(200)], 400.0),
    ],
    ids=["nothing happens", "a step too small", "never quiet"],
)
def test_no_pair_without_a_clear_step(rails_w: list[float], base_w: float) -> None:
    state = run(site(rails_w, base_w=base_w))
    assert (state.pairs, state.rejected) == ((), 0)


def test_no_pair_while_the_rest_of_the_site_is_restless() -> None:
    assert run(site(on_and_off(5), noise_w=50.0)).pairs == ()


def test_what_is_no_ratio_at_all_is_rejected_and_counted() -> None:
    samples = [replace(sample, load_w=400.0 - sample.rail_w) for sample in site(on_and_off(1))]
    state = run(samples)
    assert (state.pairs, state.rejected) == ((), 1)


def test_nothing_is_learnt_across_a_gap() -> None:
    samples: list[Sample | None] = list(site([5.0] * 30 + [25.0] * 30))
    for index in range(29, 34):
        samples[index] = None
    assert run(samples[: 34 + RULES.window]).pairs == ()
    late = [
        sample if index < 30 else replace(sample, measured_at=at(index + 3600))
        for index, sample in enumerate(site([5.0] * 30 + [25.0] * 30))
    ]
    assert run(late).pairs == ()
    assert observe(CalibrationState(), None, RULES) == CalibrationState()


def test_a_clock_that_goes_back_starts_over() -> None:
    state = run(site([5.0] * 20))
    state = observe(state, Sample(measured_at=at(3), rail_w=25.0, load_w=450.0), RULES)
    assert [sample.rail_w for sample in state.samples] == [25.0]


def test_a_slow_meter_gives_one_sample_per_measurement() -> None:
    slow = [
        replace(sample, measured_at=at(second // 10 * 10)) for second, sample in enumerate(site([5.0] * 95))
    ]
    assert len(run(slow).samples) == 10


def test_an_unknown_load_is_no_step() -> None:
    samples = [replace(sample, load_w=None) for sample in site(on_and_off(1))]
    assert run(samples).pairs == ()


def metered(seconds: int, *, rail_w: float = 20.0, factor: float = 1.6, noise_w: float = 0.5) -> list[Sample]:
    rng = random.Random(7)
    return [
        Sample(
            measured_at=at(second),
            rail_w=rail_w,
            load_w=300.0,
            meter_w=factor * rail_w + rng.uniform(-noise_w, noise_w),
        )
        for second in range(seconds)
    ]


def test_a_compute_meter_teaches_once_a_minute() -> None:
    state = run(metered(300))
    found = estimate(state.pairs, RULES)
    assert found.factor == pytest.approx(1.6, rel=0.02)
    assert (found.method, found.pairs) == (PairMethod.METER, 5)
    assert found.spread is not None and found.spread < 0.05


@pytest.mark.parametrize(
    "samples",
    [metered(100, rail_w=1.0), metered(100, noise_w=20.0), metered(5)],
    ids=["too little", "restless", "too few"],
)
def test_a_compute_meter_that_says_nothing_clear(samples: list[Sample]) -> None:
    assert run(samples).pairs == ()


def test_a_compute_meter_beats_steps() -> None:
    steps = [pair(2.0)] * 10
    assert estimate([*steps, *[pair(1.5, method=PairMethod.METER)] * 5], RULES).factor == 1.5
    assert estimate([*steps, *[pair(1.5, method=PairMethod.METER)] * 4], RULES).factor == 2.0


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], Calibration(factor=1.2, method=None, pairs=0, spread=None)),
        ([pair(1.7)] * 4, Calibration(factor=1.2, method=None, pairs=4, spread=0.0)),
        ([pair(1.7)] * 5, Calibration(factor=1.7, method=PairMethod.STEP, pairs=5, spread=0.0)),
        ([pair(0.6)] * 5, Calibration(factor=1.0, method=PairMethod.STEP, pairs=5, spread=0.0)),
        ([pair(4.0)] * 5, Calibration(factor=3.0, method=PairMethod.STEP, pairs=5, spread=0.0)),
    ],
    ids=["none", "too few", "enough", "below", "above"],
)
def test_an_estimate(pairs: list[Pair], expected: Calibration) -> None:
    assert estimate(pairs, replace(RULES, initial_factor=1.2)) == expected


def test_pairs_that_do_not_agree_are_not_used() -> None:
    found = estimate([pair(ratio) for ratio in (0.6, 1.0, 1.8, 3.0, 5.0)], RULES)
    assert (found.factor, found.method, found.pairs) == (1.0, None, 5)
    assert found.spread is not None and found.spread > RULES.max_spread


def test_a_large_step_weighs_more_and_halves_meet_in_the_middle() -> None:
    assert estimate([*[pair(2.0, 5.0)] * 4, pair(1.6, 100.0)], RULES).factor == pytest.approx(1.6)
    assert estimate([*[pair(1.5)] * 4, *[pair(2.0)] * 4], RULES).factor == pytest.approx(1.75)


def test_only_the_newest_pairs_are_kept() -> None:
    old = CalibrationState(pairs=(*[pair(1.2)] * RULES.max_pairs, pair(2.9, method=PairMethod.METER)))
    state = run(site([5.0] * 30 + [25.0] * 30), old)
    steps = [known for known in state.pairs if known.method is PairMethod.STEP]
    assert len(steps) == RULES.max_pairs
    assert steps[-1].ratio == pytest.approx(1.7)
    assert len(state.pairs) == RULES.max_pairs + 1


POWER = SitePower(
    measured_at=NOW,
    quality=Quality.OK,
    grid_w=300.0,
    generation_w=500.0,
    available_w=None,
    battery_w=100.0,
    compute_w=50.0,
    site_load_w=650.0,
    surplus_w=0.0,
)


@pytest.mark.parametrize(
    ("changes", "roles", "expected"),
    [
        ({}, GRID_SITE, 700.0),
        ({"quality": Quality.ESTIMATED}, GRID_SITE, 700.0),
        ({"quality": Quality.STALE}, GRID_SITE, None),
        ({"quality": Quality.BAD}, GRID_SITE, None),
        ({"grid_w": None}, GRID_SITE, None),
        ({"generation_w": None}, GRID_SITE, None),
        ({"battery_w": None}, GRID_SITE, None),
        ({"battery_w": None}, (MeterRole.GRID, MeterRole.GENERATION), 800.0),
        ({}, (MeterRole.GRID,), 300.0),
        ({}, (MeterRole.GENERATION,), None),
    ],
)
def test_the_load_is_what_meters_say(
    changes: dict[str, object], roles: Sequence[MeterRole], expected: float | None
) -> None:
    assert load_with_compute_w(replace(POWER, **changes), roles) == expected  # type: ignore[arg-type]


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_our_own_estimate_never_teaches_itself(compute_w: float, surplus_w: float) -> None:
    changed = replace(POWER, compute_w=compute_w, site_load_w=700 - compute_w, surplus_w=surplus_w)
    assert load_with_compute_w(changed, GRID_SITE) == load_with_compute_w(POWER, GRID_SITE)


ratios = st.floats(0.5, 6.0)
pairs_of_steps = st.lists(st.builds(pair, ratios, st.floats(5, 500)), max_size=40)


@given(pairs_of_steps, st.randoms(use_true_random=False))
def test_a_factor_is_in_bounds_and_knows_no_order(pairs: list[Pair], rng: random.Random) -> None:
    found = estimate(pairs, RULES)
    assert RULES.factor_min <= found.factor <= RULES.factor_max
    shuffled = list(pairs)
    rng.shuffle(shuffled)
    other = estimate(shuffled, RULES)
    assert other.factor == pytest.approx(found.factor)


@given(st.floats(1.0, 3.0), st.lists(ratios, max_size=9))
def test_coincidences_in_the_minority_move_nothing(factor: float, outliers: list[float]) -> None:
    pairs = [pair(factor)] * 10 + [pair(ratio) for ratio in outliers]
    assert estimate(pairs, RULES).factor == pytest.approx(factor)


@settings(max_examples=30)
@given(
    factor=st.floats(1.0, 3.0),
    base_w=st.floats(-5000, 5000),
    busy_w=st.floats(15, 300),
    noise_frac=st.floats(0, 0.2),
    seed=st.integers(0, 1000),
)
def test_any_quiet_site_is_learnt(
    factor: float, base_w: float, busy_w: float, noise_frac: float, seed: int
) -> None:
    samples = site(
        on_and_off(6, busy_w=busy_w),
        factor=factor,
        base_w=base_w,
        noise_w=noise_frac * (busy_w - 5.0),
        seed=seed,
    )
    found = estimate(run(samples).pairs, RULES)
    assert found.method is PairMethod.STEP
    assert found.factor == pytest.approx(factor, rel=0.15)
