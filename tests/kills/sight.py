"""What the coordinator has on record, and what trainers have logged: read from disk, whoever is dead."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.system.harness import System

TAIL_BYTES = 400
"""More than one line of a step log has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A migration that is under way."""

    migration_id: str
    job_id: str
    source: str
    destination: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A job that has not ended. `owner` None: nobody may run it now."""

    state: str
    owner: str | None
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The record at one moment. `ended` has the last state of the jobs that have ended."""

    moves: Mapping[str, Move]
    """By job."""
    jobs: Mapping[str, Standing]
    ended: Mapping[str, str]


_MOVES = """SELECT key, job_id, source_site, destination_site, state FROM migrations
            WHERE state NOT IN ('DONE', 'ABORTED')"""
_ENDED = ("COMPLETED", "FAILED", "CANCELLED")


def look(system: System) -> Sight:
    """Read the record.

    Raises
    ------
    sqlite3.Error
        It cannot be read just now, as while it is made.
    """
    moves = {
        job_id: Move(migration_id=key, job_id=job_id, source=source, destination=destination, state=state)
        for key, job_id, source, destination, state in system.query(_MOVES)
    }
    jobs, ended = {}, {}
    for key, state, owner, epoch in system.query("SELECT key, state, owner_site, epoch FROM jobs"):
        if state in _ENDED:
            ended[key] = state
        else:
            jobs[key] = Standing(state=state, owner=owner, epoch=epoch)
    return Sight(moves=moves, jobs=jobs, ended=ended)


def look_if_possible(system: System) -> Sight | None:
    """Read the record; None when it cannot be read just now."""
    try:
        return look(system)
    except sqlite3.Error:
        return None


def last_step_s(log: Path) -> float:
    """Return CLOCK_BOOTTIME of the last step in a step log; 0 before the first."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return 0.0
    for line in reversed(lines):
        try:
            return float(json.loads(line)["boottime_s"])
        except (ValueError, TypeError, KeyError):  # cut short at either end
            continue
    return 0.0
