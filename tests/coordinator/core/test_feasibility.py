"""The feasibility test: tables for the answers, laws for the shape of the domain."""

from dataclasses import fields, replace
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import domain
from coordinator.core.feasibility import (
    Feasible,
    Infeasible,
    Move,
    MoveArrays,
    Tolerance,
    assess,
    evaluate,
    row,
)

BASE = Move(
    checkpoint_bytes=24e9,
    link_bps=10e9,
    seal_s=20.0,
    load_s=30.0,
    downtime_s=10.0,
    until_window_end_s=9000.0,
    job_power_w=500.0,
    source_power_w=400.0,
    destination_power_w=300.0,
)
TOLERANCE = Tolerance()

seconds = st.floats(0.0, 1e5)
moves = st.builds(
    Move,
    checkpoint_bytes=st.floats(0.0, 1e13),
    link_bps=st.floats(1e3, 1e12),
    seal_s=st.floats(0.0, 600.0),
    load_s=st.floats(0.0, 600.0),
    downtime_s=st.floats(0.0, 600.0),
    until_window_end_s=seconds,
    job_power_w=st.floats(0.0, 1e5),
    source_power_w=st.floats(0.0, 1e5),
    destination_power_w=st.floats(0.0, 1e5),
)
tolerances = st.builds(
    Tolerance,
    alpha=st.floats(0.01, 1.0),
    eta=st.floats(0.05, 1.0),
    network_wh_per_gb=st.floats(0.0, 100.0),
    avoided_nonrenewable_frac=st.floats(0.0, 1.0),
)
anything = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.just(0.0))


def passes(move: Move, tolerance: Tolerance = TOLERANCE) -> bool:
    return isinstance(assess(move, tolerance), Feasible)


def reasons(move: Move, tolerance: Tolerance = TOLERANCE) -> dict[str, str]:
    answer = assess(move, tolerance)
    assert isinstance(answer, Infeasible)
    return {reason.name: reason.sentence for reason in answer.reasons}


def test_every_term_of_a_feasible_move() -> None:
    answer = assess(BASE, TOLERANCE)
    assert isinstance(answer, Feasible)
    got = {term.name: (term.value, term.limit, term.unit) for term in answer.terms}
    transfer_s, total_s = 19.2, 79.2
    energy_wh = 1.9 * 24 + (400 * 20 + 300 * 40) / 3600
    assert got == {
        "seal": (20.0, None, "s"),
        "transfer": (pytest.approx(transfer_s), None, "s"),
        "load": (30.0, None, "s"),
        "downtime": (10.0, None, "s"),
        "window": (pytest.approx(9000 - total_s), 0.0, "s"),
        "time": (pytest.approx(total_s), pytest.approx(0.1 * (9000 - total_s)), "s"),
        "energy": (pytest.approx(energy_wh), None, "Wh"),
        "break_even": (pytest.approx(energy_wh * 3600 / 500), pytest.approx(9000 - total_s), "s"),
    }
    assert all(term.satisfied and not term.remedy for term in answer.terms)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"checkpoint_bytes": None}, {"checkpoint": "not known"}),
        ({"checkpoint_bytes": nan}, {"checkpoint": "not known"}),
        ({"checkpoint_bytes": -1.0}, {"checkpoint": "-1 B cannot be used"}),
        ({"link_bps": None}, {"link": "not known"}),
        ({"link_bps": 0.0}, {"link": "0 bit/s cannot be used"}),
        ({"link_bps": -5.0}, {"link": "-5 bit/s cannot be used"}),
        ({"until_window_end_s": None}, {"window": "not known"}),
        ({"until_window_end_s": 0.0}, {"window": "no window is open"}),
        ({"until_window_end_s": -60.0}, {"window": "no window is open"}),
        ({"seal_s": -1.0}, {"seal": "-1 s cannot be used"}),
        ({"load_s": nan}, {"load": "not known"}),
        ({"downtime_s": -1.0}, {"downtime": "-1 s cannot be used"}),
        ({"job_power_w": -1.0}, {"power": "-1 W cannot be used"}),
        ({"job_power_w": 0.0}, {"break_even": "the move would avoid no non-renewable energy"}),
        (
            {"until_window_end_s": 871.0},
            {"time": "79.200 s, but 0.1 of the window left on arrival is 79.180 s"},
        ),
        ({"until_window_end_s": 60.0}, {"time": "79.200 s, but the window is over in 60.000 s"}),
        ({"job_power_w": 20.0}, {"break_even": "paid back after 9208.000 s, but 8920.800 s are left"}),
        (
            {"checkpoint_bytes": 1e12, "job_power_w": 100.0},
            {"time": "860.000 s", "break_even": "paid back after 68600.000 s"},
        ),
        ({"checkpoint_bytes": None, "link_bps": None}, {"checkpoint": "not known", "link": "not known"}),
    ],
)
def test_every_reason_that_fails_is_named(change: dict[str, float | None], expected: dict[str, str]) -> None:
    got = reasons(replace(BASE, **change))  # type: ignore[arg-type]
    assert got.keys() == expected.keys()
    for name, text in expected.items():
        assert got[name].startswith(f"{name}: {text}")
        assert "; mended by " in got[name]


def test_a_checkpoint_of_nothing_crosses_in_no_time_but_not_without_a_link() -> None:
    assert passes(replace(BASE, checkpoint_bytes=0.0))
    assert "link" in reasons(replace(BASE, checkpoint_bytes=0.0, link_bps=0.0))


def test_remedies_are_the_inverses() -> None:
    slow = replace(BASE, until_window_end_s=858.0)  # budget 78 s, of which 18 are left to carry
    text = reasons(slow)["time"]
    assert "a window of more than 871 s from now" in text
    assert "a checkpoint below 22.5 GB" in text
    assert "a link above 10.67 Gbit/s" in text
    assert passes(replace(slow, checkpoint_bytes=2.249e10))
    assert passes(replace(slow, link_bps=1.067e10))
    assert passes(replace(BASE, until_window_end_s=872.0))


def test_no_link_mends_a_budget_below_the_fixed_times() -> None:
    text = reasons(replace(BASE, until_window_end_s=550.0))["time"]
    assert "less than 50.0 s of seal, load and downtime together" in text
    assert "link" not in text
    assert domain.smallest_link_bps(50.0, 60.0, 1e9, 1.0) is None


def test_what_cannot_be_shown_as_a_number_is_left_to_its_reason() -> None:
    answer = assess(replace(BASE, job_power_w=0.0), TOLERANCE)
    assert "break_even" not in {term.name for term in answer.terms}
    answer = assess(replace(BASE, until_window_end_s=0.0), TOLERANCE)
    time = next(term for term in answer.terms if term.name == "time")
    assert not time.satisfied
    assert time.remedy == "a surplus there that is measured and forecast to last"


@given(moves, tolerances, st.floats(1.0, 100.0))
def test_growing_the_checkpoint_never_makes_a_move_feasible(
    move: Move, tolerance: Tolerance, factor: float
) -> None:
    assert move.checkpoint_bytes is not None
    larger = replace(move, checkpoint_bytes=move.checkpoint_bytes * factor)
    assert passes(move, tolerance) or not passes(larger, tolerance)


@given(moves, tolerances, st.floats(0.0, 1.0))
def test_shrinking_the_link_never_makes_a_move_feasible(
    move: Move, tolerance: Tolerance, factor: float
) -> None:
    assert move.link_bps is not None
    assert passes(move, tolerance) or not passes(replace(move, link_bps=move.link_bps * factor), tolerance)


@given(moves, tolerances, st.floats(0.0, 1.0))
def test_shrinking_the_window_never_makes_a_move_feasible(
    move: Move, tolerance: Tolerance, factor: float
) -> None:
    assert move.until_window_end_s is not None
    shorter = replace(move, until_window_end_s=move.until_window_end_s * factor)
    assert passes(move, tolerance) or not passes(shorter, tolerance)


@given(moves, st.floats(0.01, 1.0), st.floats(0.05, 1.0))
def test_inverses_agree_with_the_direct_form(move: Move, alpha: float, eta: float) -> None:
    # Powers that never bind, so that time decides.
    free = replace(move, job_power_w=1e30, source_power_w=0.0, destination_power_w=0.0)
    tolerance = Tolerance(alpha=alpha, eta=eta, network_wh_per_gb=0.0)
    assert free.until_window_end_s is not None and free.checkpoint_bytes is not None
    assert free.link_bps is not None
    overhead_s = move.seal_s + move.load_s + move.downtime_s
    budget = domain.fixed_end_budget_s(free.until_window_end_s, alpha)
    most = domain.largest_checkpoint_bytes(budget, overhead_s, free.link_bps, eta)
    slack = 1e-6 * (1.0 + budget + overhead_s) * eta * free.link_bps / 8
    if abs(free.checkpoint_bytes - most) > slack:
        assert passes(free, tolerance) == (free.checkpoint_bytes < most)
    least = domain.smallest_link_bps(budget, overhead_s, free.checkpoint_bytes, eta)
    if least is None:
        assert budget <= overhead_s * (1 + 1e-9) and (
            not passes(free, tolerance) or budget >= overhead_s * (1 - 1e-9)
        )
    elif free.checkpoint_bytes > 0 and budget - overhead_s > 1e-6 * (1.0 + budget + overhead_s):
        assert passes(replace(free, link_bps=least * 1.001 + 1e-3), tolerance) or least < 1.0
        assert not passes(replace(free, link_bps=least * 0.999), tolerance)


@given(st.lists(st.tuples(moves, st.booleans()), min_size=1, max_size=12), tolerances)
def test_one_at_a_time_equals_all_at_once_bit_for_bit(
    given_moves: list[tuple[Move, bool]], tolerance: Tolerance
) -> None:
    rows = [replace(move, link_bps=None) if blind else move for move, blind in given_moves]
    columns = {
        f.name: np.array([nan if getattr(m, f.name) is None else getattr(m, f.name) for m in rows])
        for f in fields(Move)
    }
    together = evaluate(MoveArrays(**columns), tolerance)
    for index, move in enumerate(rows):
        alone = {k: np.array([v[index]]) for k, v in columns.items()}
        assert row(together, (index,)) == row(evaluate(MoveArrays(**alone), tolerance), (0,))
        assert passes(move, tolerance) == bool(together.feasible[index])


@given(moves, tolerances)
def test_energy_and_break_even_are_never_negative(move: Move, tolerance: Tolerance) -> None:
    answer = {term.name: term.value for term in assess(move, tolerance).terms}
    assert answer["energy"] >= 0.0
    assert answer.get("break_even", 0.0) >= 0.0


@given(anything, anything, anything, anything, anything)
def test_nothing_that_is_not_a_number_ever_passes(
    size: float | None, link: float | None, until: float | None, load: float | None, power: float | None
) -> None:
    move = Move(
        checkpoint_bytes=size,
        link_bps=link,
        seal_s=0.0,
        load_s=0.0 if load is None else load,
        downtime_s=0.0,
        until_window_end_s=until,
        job_power_w=0.0 if power is None else power,
        source_power_w=1.0,
        destination_power_w=1.0,
    )
    answer = assess(move, TOLERANCE)
    if isinstance(answer, Infeasible):
        assert answer.reasons  # a no always says why
        return
    assert size is not None and 0.0 <= size < inf
    assert link is not None and 0.0 < link < inf
    assert until is not None and 0.0 < until < inf
    assert 0.0 <= move.load_s < inf and 0.0 < move.job_power_w < inf


@pytest.mark.parametrize("total_s", [0.0, 899.9, 900.0, 3419.9, 3420.0, inf])
def test_classes_by_their_bounds(total_s: float) -> None:
    expected = "A" if total_s < 900 else "C" if total_s >= 3420 else "B"
    assert domain.classify(total_s, 0.10).value == expected
