"""scripts/test-systemd, where this machine can boot a tree."""

import subprocess
from pathlib import Path

import pytest

from tests.systemd.booted import CANNOT
from tests.systemd.tree import why_not

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_life_of_the_package_on_a_booted_system() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"cannot boot a tree here: {reason}")
    done = subprocess.run(
        [ROOT / "scripts/test-systemd"], capture_output=True, text=True, check=False, timeout=3000
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
