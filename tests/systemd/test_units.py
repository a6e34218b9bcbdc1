import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config.node import JobsTable
from agent.main import EXIT_CONFIG

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


@pytest.fixture(params=UNITS, ids=lambda unit: unit.stem)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit beside all others, with commands that exist here: verify looks for both."""
    for shipped in (ROOT / "systemd").glob("sterna-*.*"):
        text, count = re.subn(
            r"(?m)^ExecStart=/opt/sterna/bin/\S+", f"ExecStart={sys.executable}", shipped.read_text()
        )
        assert count == (shipped.suffix == ".service")
        (tmp_path / shipped.name).write_text(text)
    return tmp_path / str(request.param.name)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{Path(arguments[-1]).parent}:"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_systemd_understands_the_unit(unit: Path) -> None:
    done = analyze("verify", "--man=no", unit)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


def test_exposure_stays_at_two_or_below(unit: Path) -> None:
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", unit)
    assert done.returncode == 0, done.stdout[-400:]


@pytest.mark.parametrize("name", ["sterna-agent", "sterna-coordinator"])
def test_the_daemons_are_watched_and_come_back(name: str) -> None:
    lines = (ROOT / "systemd" / f"{name}.service").read_text().splitlines()
    assert {"Type=notify", "WatchdogSec=30", "Restart=always", "StartLimitIntervalSec=0"} <= set(lines)
    assert f"RestartPreventExitStatus={EXIT_CONFIG}" in lines
    command = next(line for line in lines if line.startswith("ExecStart="))
    assert command.split()[0] == f"ExecStart=/opt/sterna/bin/{name}"


def test_jobs_outlive_a_restart_of_the_agent() -> None:
    lines = (ROOT / "systemd" / "sterna-agent.service").read_text().splitlines()
    assert {"KillMode=process", "OOMPolicy=continue"} <= set(lines)
    # Each would break jobs that the agent started itself or hide them from the next agent.
    assert not {"PrivateTmp=yes", "PrivateUsers=yes", "MemoryDenyWriteExecute=yes"} & set(lines)


def test_a_job_is_a_unit_of_its_own() -> None:
    job = (ROOT / "systemd" / "sterna-job@.service").read_text().splitlines()
    assert {
        "KillMode=mixed",
        "OOMPolicy=continue",
        "Delegate=yes",
        "User=sterna",
        "StandardInput=socket",
    } <= set(job)
    # Training needs the first; the agent finds its shims in /proc only without the second.
    assert not {"MemoryDenyWriteExecute=yes", "PrivateUsers=yes"} & set(job)
    door = (ROOT / "systemd" / "sterna-job.socket").read_text().splitlines()
    listen = f"ListenSequentialPacket={JobsTable().runner_socket}"
    assert {"Accept=yes", "SocketUser=sterna", "SocketMode=0600", listen} <= set(door)


@pytest.mark.parametrize("name", ["sterna-agent", "sterna-power"])
def test_who_obeys_goes_before_the_jobs(name: str) -> None:
    lines = (ROOT / "systemd" / f"{name}.service").read_text().splitlines()
    # A weight counts among neighbours in the tree of slices: sterna-jobs.slice is in sterna.slice.
    assert {"Nice=-10", "CPUWeight=1000", "Slice=sterna.slice"} <= set(lines)
    job = (ROOT / "systemd" / "sterna-job@.service").read_text()
    assert "Slice=sterna-jobs.slice" in job.splitlines() and "Weight=" not in job
