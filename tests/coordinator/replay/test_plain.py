"""The scenario of docs/traces.md that needs nobody's recordings, from plain files to the verification."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli.app import app

DOCS = Path(__file__).parents[3] / "docs" / "traces.md"
START = datetime(2022, 3, 20, tzinfo=UTC)


def scenario_of_the_page() -> str:
    page = DOCS.read_text(encoding="utf-8")
    return page.split('```toml\nname = "two-farms"')[1].split("```")[0].join(('name = "two-farms"', ""))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two weeks of quarter hours over the change of the clocks, as two loggers wrote them, and six jobs."""
    slots = [START + timedelta(minutes=15 * n) for n in range(14 * 96)]
    hill = ["time;wind [kW]"]
    roof = ["timestamp,pv_w,price_eur_per_mwh"]
    for place, at in enumerate(slots):
        berlin = at + timedelta(hours=2 if at >= datetime(2022, 3, 27, 1, tzinfo=UTC) else 1)
        hill.append(f"{berlin:%d.%m.%Y %H:%M};{'2,5' if place // 48 % 2 else '0,25'}")
        sunny = 8 <= at.hour < 16
        roof.append(f"{at.isoformat()},{3000.0 if sunny else 0.0},{-10.0 if at.hour == 3 else 80.0}")
    (tmp_path / "hill.csv").write_text("\n".join(hill) + "\n")
    (tmp_path / "roof.csv").write_text("\n".join(roof) + "\n")
    (tmp_path / "jobs.csv").write_text(
        "job_id,submit_s,duration_s,num_gpus\n"
        + "".join(f"{n},{4 * 3600 * n},{6 * 3600 + 900 * n},1\n" for n in range(6))
    )
    (tmp_path / "links.csv").write_text(
        "site_set,src_site,dst_site,gbps\nmine,hill,roof,1\nmine,roof,hill,1\n"
    )
    (tmp_path / "two-farms.toml").write_text(scenario_of_the_page())
    return tmp_path


def test_the_page_s_scenario_replays_writes_and_verifies(data: Path) -> None:
    asked = ["replay", str(data / "two-farms.toml"), "--data", str(data)]
    done = CliRunner().invoke(app, [*asked, "--policy", "static,sterna", "--out", str(data / "out")])
    assert done.exit_code == 0, done.exception
    assert "cost, EUR" in done.stdout and "| spring | sterna |" in done.stdout
    figures = {
        policy: json.loads((data / "out" / "spring" / f"0-{policy}" / "replay.json").read_text())["figures"]
        for policy in ("static", "sterna")
    }
    assert 0.0 < figures["sterna"]["nonrenewable_kwh"] < figures["static"]["nonrenewable_kwh"]
    assert figures["sterna"]["cost"] < figures["static"]["cost"]
    lines = (data / "out" / "spring" / "0-static" / "timeline.csv").read_text().splitlines()
    roof = {line.split(",")[0]: float(line.split(",")[2]) for line in lines if ",roof," in line}
    # A step is a quarter of an hour; at a negative price, what the site may draw counts.
    assert (roof["2022-03-27T02:45:00Z"], roof["2022-03-27T03:00:00Z"]) == (0.0, 1000.0)
    verified = CliRunner().invoke(app, ["replay", "--verify", str(data / "out"), "--data", str(data)])
    assert verified.exit_code == 0, verified.stdout


def test_a_gap_is_refused_by_file_trace_and_time_or_said(data: Path) -> None:
    rows = (data / "roof.csv").read_text().splitlines(keepends=True)
    (data / "roof.csv").write_text("".join(rows[:100] + rows[104:]))
    asked = ["replay", str(data / "two-farms.toml"), "--data", str(data), "--policy", "static"]
    refused = CliRunner().invoke(app, asked)
    assert str(refused.exception) == (
        "roof.csv: pv_w: 4 of 1344 slots are missing, the first 2022-03-21T00:45:00+00:00; "
        'surplus.gaps = "zero" counts them as 0'
    )
    scenario = data / "two-farms.toml"
    scenario.write_text(scenario.read_text().replace('kind = "power"', 'kind = "power"\ngaps = "zero"'))
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0 and "4 of 1344 slots are missing" in said.stderr
