"""Bad configurations are refused with file and key, crash nothing, and every check of ours is reached."""

import ast
import copy
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import agent.config
from agent.config import AgentConfig
from sterna.config import parse
from sterna.errors import ConfigError
from tests.hostile.barrage import GROWTH_KIB, LEAST_PER_REASON, Tally, barrage
from tests.hostile.config import SITE, WRONG, ConfigTarget, config_target

FEW, MANY = 400, 250_000
CHECKS = Path(agent.config.__file__).parent


async def run(folder: Path, count: int) -> Tally:
    async with config_target(folder) as target:
        return await barrage(target, count=count, seed=20261122)


async def test_hundreds(tmp_path: Path) -> None:
    tally = await run(tmp_path, FEW)
    assert (tally.crashes, tally.state_changes) == (0, 0), tally.first_faults
    assert sum(tally.reasons.values()) == FEW


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_hundreds_of_thousands(tmp_path: Path) -> None:
    tally = await run(tmp_path, MANY)
    print(tally.line())
    assert (tally.crashes, tally.state_changes) == (0, 0), tally.first_faults
    assert tally.unreached == []
    assert min(tally.reasons[reason] for reason in ConfigTarget.reasons) >= LEAST_PER_REASON
    assert tally.grown_kib <= GROWTH_KIB


def _faults_told() -> set[tuple[str, int]]:
    """Return where our checks tell a fault of their own: file and line of each ``yield``."""
    return {
        (str(file), node.lineno)
        for file in CHECKS.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Yield)
    }


def test_every_check_is_broken_on_purpose() -> None:
    reached: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(str(CHECKS)):
            return None
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    for spoil, _, _ in WRONG:
        document = copy.deepcopy(SITE)
        spoil(document)
        sys.settrace(trace)
        try:
            parse(document, AgentConfig, name="agent.toml")
        except ConfigError:
            pass
        finally:
            sys.settrace(before)
    assert _faults_told() - reached == set()
