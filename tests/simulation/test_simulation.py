"""Whole histories: nothing is broken, the same seed is the same history, and broken rules are found."""

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.breakages import BREAKAGES
from tests.simulation.scene import Outcome, play

FOUND_WITHIN = 200
MUST_HAPPEN = frozenset(
    {
        "MigrationCommitted",
        "MigrationFailed",
        "MigrationSentAhead",
        "CONFIRM",
        "RESUMED",
        "VOIDED",
        "JobRequeued",
        "EpochAdopted",
        "SiteFenced",
        "JobEnded",
        "power cut",
        "shim killed",
        "lease ran out",
        "store restored",
        "site burnt",
        "bit flipped",
    }
)


def broken(outcome: Outcome) -> str:
    """Tell what a seed has broken, with what led to it."""
    if not outcome.violation:
        return ""
    return "\n".join([*outcome.lines[-40:], f"seed {outcome.seed}: {outcome.violation}"])


@pytest.mark.parametrize("first", range(0, 100, 10))
def test_nothing_is_broken(first: int) -> None:
    for seed in range(first, first + 10):
        found = broken(play(seed))
        assert not found, found


@pytest.mark.parametrize("seed", [1462, 2600, 7408, 7415, 8533, 9242])
def test_what_restored_stores_broke_once_is_mended(seed: int) -> None:
    found = broken(play(seed))
    assert not found, found


@pytest.mark.parametrize("seed", [1381, 1463, 3945])
def test_what_rot_and_refusing_disks_broke_once_is_mended(seed: int) -> None:
    found = broken(play(seed))
    assert not found, found


def test_a_seed_gives_its_history_again() -> None:
    once, again = play(3), play(3)
    assert once.lines == again.lines
    assert (once.steps, once.counts) == (again.steps, again.counts)


def test_the_histories_are_eventful() -> None:
    """What never happens is not shown to be harmless."""
    happened: Counter[str] = Counter()
    for seed in range(100, 160):
        happened.update(play(seed).counts)
    assert not MUST_HAPPEN - happened.keys()


def first_found(name: str) -> tuple[int, int, str]:
    """Return the seed that shows a breakage, the invariant that it breaks, and how."""
    for seed in range(FOUND_WITHIN):
        with BREAKAGES[name][0]():
            outcome = play(seed)
        if outcome.violation:
            return seed, outcome.invariant, outcome.violation
    return -1, -1, "not found"


QUICK = frozenset(
    {
        "commits_before_it_has_arrived",
        "starts_before_the_seal",
        "takes_jobs_from_silent_sites",
        "releases_the_source_at_once",
        "accepts_lower_epochs",
        "verifies_no_chunk",
        "starts_under_a_grant_again",
    }
)


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_broken_rule_is_found(name: str) -> None:
    seed, number, violation = first_found(name)
    assert seed >= 0
    assert number in BREAKAGES[name][1], violation


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(BREAKAGES.keys() - QUICK))
def test_a_subtly_broken_rule_is_found(name: str) -> None:
    seed, number, violation = first_found(name)
    assert seed >= 0, name
    assert number in BREAKAGES[name][1], violation


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_is_broken_in_ten_thousand_histories() -> None:
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool:
        found = [one for one in pool.map(broken_seed, range(10_000), chunksize=50) if one]
    assert not found, "\n\n".join(found[:3])


def broken_seed(seed: int) -> str:
    return broken(play(seed))
