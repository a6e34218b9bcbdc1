"""The migration table by itself, and the page that shows it."""

from pathlib import Path

import pytest

from coordinator.core.migration import BEFORE_COMMIT, TABLE, advance, diagram
from coordinator.model.events import MigrationEvent as On
from coordinator.model.fleet import ENDED_MIGRATIONS
from coordinator.model.fleet import MigrationState as M
from sterna.errors import IllegalTransitionError

PAGE = Path(__file__).parents[3] / "docs" / "migration.md"
FORWARD = [
    (M.PLANNED, On.RESERVED),
    (M.PREPARED, On.STOP),
    (M.STOPPING, On.SEAL),
    (M.SEALED, On.FETCH),
    (M.TRANSFERRING, On.VERIFY),
    (M.VERIFIED, On.COMMIT),
    (M.COMMITTED, On.START),
    (M.STARTING, On.CONFIRM),
    (M.CONFIRMED, On.FINISH),
]


def test_the_way_forward() -> None:
    state = M.PLANNED
    for expected, event in FORWARD:
        assert state is expected
        state = advance(state, event)
    assert state is M.DONE


@pytest.mark.parametrize("state", BEFORE_COMMIT)
def test_before_commit_every_failure_compensates(state: M) -> None:
    assert advance(state, On.FAIL) is M.COMPENSATING
    assert advance(advance(state, On.FAIL), On.RESUMED) is M.ABORTED


@pytest.mark.parametrize("state", [M.COMMITTED, M.STARTING, M.CONFIRMED])
def test_after_commit_only_forward(state: M) -> None:
    with pytest.raises(IllegalTransitionError, match=f"FAIL in {state.value}"):
        advance(state, On.FAIL)


@pytest.mark.parametrize("state", list(M))
@pytest.mark.parametrize("event", list(On))
def test_what_is_not_in_the_table_raises(state: M, event: On) -> None:
    if (state, event) in TABLE:
        assert advance(state, event) is TABLE[state, event]
    else:
        with pytest.raises(IllegalTransitionError):
            advance(state, event)


def test_every_state_is_reached_and_only_ends_end() -> None:
    assert {M.PLANNED, *TABLE.values()} == set(M)
    assert {state for state, _ in TABLE} == set(M) - ENDED_MIGRATIONS


def test_commit_is_reached_through_verified_alone() -> None:
    assert [key for key, to in TABLE.items() if to is M.COMMITTED] == [(M.VERIFIED, On.COMMIT)]


def test_the_page_shows_the_table() -> None:
    shown = PAGE.read_text(encoding="utf-8").split("```mermaid\n")[1].split("```")[0]
    assert shown == diagram(), f"docs/migration.md should show:\n{diagram()}"
