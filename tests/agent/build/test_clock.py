"""Whose word it takes to believe the calendar, as configured."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.build.base import Build
from agent.build.clock import make_clock_trust, watch_clock
from agent.build.links import make_peers
from agent.config import AgentConfig
from agent.config.grid import GridTable
from agent.config.tls import TlsFiles
from agent.tasks.clock_trust import ClockTrust
from sterna import pki, timesync
from sterna.clock import FakeClock
from sterna.errors import ConfigError
from sterna.identity import Role
from sterna.supervise import Pulse

LONG_AGO = datetime(1970, 1, 1, 0, 0, 30, tzinfo=UTC)


def build(folder: Path, trust: ClockTrust) -> Build:
    clock = FakeClock(LONG_AGO)
    config = AgentConfig(
        fleet="f",
        site="a",
        state_dir=Path("state"),
        grid=GridTable(operator="none"),
        tls=TlsFiles(ca=Path("ca.pem"), cert=Path("site-a.pem"), key=Path("site-a-key.pem")),
    )
    return Build(
        config=config,
        base_dir=folder,
        clock=clock,
        stack=AsyncExitStack(),
        pulse=Pulse(clock),
        clock_trust=trust,
    )


@pytest.mark.parametrize("kept", [True, False, None])
def test_the_kernels_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool | None) -> None:
    monkeypatch.setattr(timesync, "synchronised", lambda: kept)
    assert make_clock_trust(GridTable(operator="none"), tmp_path)() is (kept is True)


def test_a_file_that_comes_and_goes(tmp_path: Path) -> None:
    grid = GridTable(operator="none", trust_clock="file", trust_clock_file="kept")
    trust = make_clock_trust(grid, tmp_path)
    assert not trust()
    (tmp_path / "kept").touch()
    trust.look()
    assert trust()
    (tmp_path / "kept").unlink()
    trust.look()
    assert not trust()


def test_always_needs_no_loop(tmp_path: Path) -> None:
    always = make_clock_trust(GridTable(operator="none", trust_clock="always"), tmp_path)
    assert always()
    for trust, loops in ((always, set()), (ClockTrust(ask=lambda: None), {"clock"})):
        built = build(tmp_path, trust)
        watch_clock(built)
        assert set(built.loops) == loops


def test_a_clock_that_is_not_kept_does_not_judge_certificates(tmp_path: Path) -> None:
    """A node without a battery for its clock starts in 1970; it must meter and obey all the same."""
    pki.init(tmp_path, "f")
    pki.issue(tmp_path, Role.SITE, "a")
    with pytest.raises(ConfigError, match="is the clock right"):
        make_peers(build(tmp_path, ClockTrust(ask=lambda: True, always=True, synced=True)))
    assert make_peers(build(tmp_path, ClockTrust(ask=lambda: False))).credentials is not None
