"""Who is asked whether the calendar is kept, and what their answers count for."""

import stat
from pathlib import Path

import pytest

from sterna import timesync
from sterna.timesync import ask_kernel, ask_timedated, synchronised


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which alone programs are found, and the mark of systemd-timesyncd."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(timesync, "KEPT_SINCE_BOOT", tmp_path / "synchronized")
    return tmp_path


def say(folder: Path, script: str) -> None:
    program = folder / "timedatectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_the_kernel_bounds_its_error() -> None:
    kernel = ask_kernel()
    if kernel is None:
        pytest.skip("this system does not let us ask the kernel's clock")
    assert kernel.max_error_s >= 0
    assert synchronised() is kernel.synced


@pytest.mark.parametrize(
    ("script", "meaning"),
    [
        ("echo yes", True),
        ("echo no", False),
        ("echo maybe", None),
        ("echo yes; exit 1", None),
    ],
)
def test_what_timedated_says(path: Path, script: str, meaning: bool | None) -> None:
    say(path, script)
    assert ask_timedated() is meaning


def test_no_timedated(path: Path) -> None:
    assert ask_timedated() is None


def test_a_timedated_that_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timesync, "TIMEDATED_TIMEOUT_S", 0.05)
    say(path, "exec /bin/sleep 5")
    assert ask_timedated() is None


@pytest.mark.parametrize(("script", "meaning"), [("echo yes", True), ("echo no", False), ("exit 1", None)])
def test_timedated_is_asked_where_the_kernel_may_not_be(
    path: Path, monkeypatch: pytest.MonkeyPatch, script: str, meaning: bool | None
) -> None:
    monkeypatch.setattr(timesync, "ask_kernel", lambda: None)
    say(path, script)
    assert synchronised() is meaning


@pytest.mark.parametrize(("script", "meaning"), [("echo no", False), ("exit 1", True), ("", True)])
def test_the_mark_of_timesyncd_counts_where_nobody_can_be_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch, script: str, meaning: bool
) -> None:
    monkeypatch.setattr(timesync, "ask_kernel", lambda: None)
    (path / "synchronized").touch()
    if script:
        say(path, script)
    assert synchronised() is meaning
