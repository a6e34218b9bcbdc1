"""The demo as a stranger runs it: three minutes, no screen, judged by its own JSON and its exit code."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.system.daemons import COMMANDS, of_folder

pytestmark = [pytest.mark.long, pytest.mark.procs, pytest.mark.timeout(600)]


def test_three_minutes_hold_what_is_promised(tmp_path: Path) -> None:
    out, kept = tmp_path / "out.json", tmp_path / "kept"
    argv = [str(COMMANDS / "sterna"), "demo", "--no-screen", "--minutes", "3"]
    argv += ["--json", str(out), "--keep", str(kept)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(out.read_text())
    print(json.dumps(summary))
    assert summary["schema"] == "sterna.demo/1"
    assert summary["migrations_completed"] >= 3
    assert summary["steps_lost"] == 0
    assert summary["double_runs"] == 0
    assert summary["weights_identical"] is True
    assert summary["renewable_share"] > summary["renewable_share_static"]
    assert summary["renewable_share"] > summary["renewable_share_feasibility_aware"]
    assert summary["forecasts_learnt_frac"] > 0.9
    assert summary["limit_events"] >= 1
    assert summary["limits_obeyed"] == summary["limit_events"]
    assert summary["limit_breaches"] == 0
    assert len(summary["downtime_s"]) >= summary["migrations_completed"]
    assert not of_folder(kept), "nothing is left behind"
