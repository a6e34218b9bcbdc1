"""Patience and probes of a shared bus."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.breaker import UnitHealth, heard, patience_s, refused_for_s, unheard

STRANGER = UnitHealth()


def dead(failures: int, *, quarantine_s: float = 0.0) -> UnitHealth:
    health = heard(STRANGER, answer_s=0.001)
    for _ in range(failures):
        health = unheard(health, now_s=100.0, quarantine_s=quarantine_s, probe_max_s=5.0)
    return health


@pytest.mark.parametrize(
    ("failures", "quarantine_s", "refused_s"),
    [(0, 0, 0), (2, 0, 0), (3, 0, 1), (4, 0, 2), (6, 0, 5), (60, 0, 5), (1, 1.8, 1.8), (3, 1.8, 1.8)],
)  # fmt: skip
def test_a_dead_unit_is_probed_ever_more_seldom_up_to_a_bound(
    failures: int, quarantine_s: float, refused_s: float
) -> None:
    health = dead(failures, quarantine_s=quarantine_s)
    assert refused_for_s(health, now_s=100.0) == pytest.approx(refused_s)
    assert refused_for_s(health, now_s=100.0 + refused_s) == 0
    assert health.trusted == (failures == 0)


def test_one_answer_and_it_is_trusted_again() -> None:
    health = heard(dead(9), answer_s=0.002)
    assert health.trusted and refused_for_s(health, now_s=100.0) == 0


@pytest.mark.parametrize(
    ("health", "bus_slowest_s", "expected_s"),
    [
        (STRANGER, None, 0.03),
        (STRANGER, 0.001, 0.03),
        (STRANGER, 0.1, 0.2),
        (STRANGER, 3.0, 0.9),
        (UnitHealth(slowest_s=0.001), None, 0.03),
        (UnitHealth(slowest_s=0.02), None, 0.1),
        (UnitHealth(slowest_s=0.5), None, 0.9),
        (UnitHealth(slowest_s=0.2, failures=1), 0.01, 0.03),
    ],
)
def test_patience(health: UnitHealth, bus_slowest_s: float | None, expected_s: float) -> None:
    got = patience_s(health, bus_slowest_s=bus_slowest_s, floor_s=0.03, timeout_s=0.9)
    assert got == pytest.approx(expected_s)


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.001, 1), st.floats(1, 5))
def test_patience_lies_between_floor_and_timeout_and_covers_the_last_answer(
    answers_s: list[float], floor_s: float, timeout_s: float
) -> None:
    health = STRANGER
    for answer_s in answers_s:
        health = heard(health, answer_s=answer_s)
    got = patience_s(health, bus_slowest_s=None, floor_s=floor_s, timeout_s=timeout_s)
    assert floor_s <= got <= timeout_s
    assert got >= min(answers_s[-1], timeout_s)


@given(st.integers(1, 100), st.floats(0, 3), st.floats(0.1, 60))
def test_more_failures_never_bring_the_probe_forward(
    failures: int, quarantine_s: float, max_s: float
) -> None:
    pauses = []
    health = STRANGER
    for _ in range(failures):
        health = unheard(health, now_s=0.0, quarantine_s=quarantine_s, probe_max_s=max_s)
        pauses.append(refused_for_s(health, now_s=0.0))
    assert pauses == sorted(pauses)
    assert max(pauses) <= max(max_s, quarantine_s)


def test_a_hiccup_is_forgotten() -> None:
    health = heard(STRANGER, answer_s=0.5)
    for _ in range(300):
        health = heard(health, answer_s=0.001)
    assert health.slowest_s is not None and health.slowest_s < 0.005
