"""The fail-safe over random outages, restarts, cold boots and clock steps (EEBus LPC)."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agent.core import failsafe
from agent.core.failsafe import TABLE, Trigger
from agent.core.limits import HeldCommand
from agent.grid.guards import Guards
from agent.model.limits import GridState, LimitKind
from tests.agent.grid.outages import TICK_S, TIMEOUT_S, Findings, live_through

FEW, MANY = 100, 1000


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "agent.grid")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: what the disk holds counts here, not when it has it."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as name:
        yield Path(name)


def check(findings: Findings, schedules: int) -> None:
    print(json.dumps(asdict(findings)))
    assert findings.violations == []
    assert findings.schedules == schedules
    assert TIMEOUT_S <= findings.worst_lag_s <= TIMEOUT_S + TICK_S
    assert min(findings.losses, findings.restarts, findings.cold_boots, findings.clock_steps) >= schedules / 2
    assert findings.releases >= schedules, "most sites were freed, by the rule"
    assert findings.export_releases >= schedules / 2


async def test_a_hundred_schedules(folder: Path) -> None:
    check(await live_through(folder, range(FEW)), FEW)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_thousand_schedules(folder: Path) -> None:
    check(await live_through(folder, range(MANY)), MANY)


def _told_to_all(guards: Guards, held: HeldCommand, now_boot_s: float) -> None:
    for kind in LimitKind:
        _TOLD(guards, replace(held, command=replace(held.command, kind=kind)), now_boot_s)


_TOLD = Guards.told
_S, _T = GridState, Trigger
BREAKAGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "left on a heartbeat alone": lambda m: m.setitem(TABLE, (_S.FAILSAFE, _T.HEARTBEAT), _S.UNLIMITED),
    "left on a release that nobody vouches for": lambda m: m.setitem(
        TABLE, (_S.FAILSAFE, _T.UNHEARD_RELEASE), _S.UNLIMITED
    ),
    "never left": lambda m: m.setitem(TABLE, (_S.FAILSAFE, _T.RELEASE), _S.FAILSAFE),
    "a start without fail-safe": lambda m: m.setattr(
        "agent.core.failsafe.cold_start",
        lambda now_s, _settings: failsafe.Machine(state=_S.UNLIMITED, entered_s=now_s),
    ),
    "freed by a word on the other direction": lambda m: m.setattr(Guards, "told", _told_to_all),
    "silence is not noticed": lambda m: m.setitem(TABLE, (_S.LIMITED, _T.HEARTBEAT_LOST), _S.LIMITED),
}


@pytest.mark.parametrize("name", BREAKAGES)
async def test_a_planted_fault_is_found(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKAGES[name](monkeypatch)
    assert (await live_through(folder, range(FEW))).violations


async def test_a_timeout_that_is_late_is_found(folder: Path) -> None:
    assert (await live_through(folder, range(FEW), timeout_s=TIMEOUT_S + 2 * TICK_S)).violations
