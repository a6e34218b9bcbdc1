"""``sterna-agent settlement export``: every interval has a line, and what is unknown is empty."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.settlement import opened
from agent.main import main
from agent.model.settlement import LimitUse, SettledBaseline
from agent.store import settlement as settlement_store
from agent.store.db import Database
from agent.store.settlement import SettlementStore
from tests.agent.store.test_settlement import record

START = datetime(2026, 3, 30, 12, tzinfo=UTC)
CONFIG = """
fleet = "f"
site = "s1"
state_dir = "state"
[grid]
operator = "none"
[settlement]
methods = ["10-of-10"]
"""
LIMIT = LimitUse(source="mqtt", command_id="c1", limit_w=300.0, held_s=900.0)
LINE = SettledBaseline(
    event_id="c1",
    source="mqtt",
    start_at=START + timedelta(seconds=900),
    length_s=900.0,
    method="10-of-10",
    baseline_w=800.0,
    delta_wh=-150.0,
    delivered_wh=150.0,
    adjustment="x 1.0000",
)


@pytest.fixture
async def config(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    (tmp_path / "agent.toml").write_text(CONFIG)
    async with Database(tmp_path / "state" / "agent.db", settlement_store.MIGRATIONS) as db:
        store = SettlementStore(db)
        records = [record(0), record(1, 50.0, LIMIT), record(4, None)]
        await store.keep(records, opened(900.0, START), "b")
        await store.settle([LINE])
    return tmp_path / "agent.toml"


def export(config: Path, *more: str) -> int:
    return main(["settlement", "export", "--config", str(config), *more])


DAY = ("--from", "2026-03-30", "--to", "2026-03-31")


async def test_csv(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(config, *DAY) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["start_at"][11:16] for line in lines] == ["12:00", "12:15", "12:30", "12:45", "13:00"]
    assert [line["quality"] for line in lines] == ["OK", "OK", "MISSING", "MISSING", "BAD"]
    assert [line["import_wh"] for line in lines] == ["100.0", "50.0", "", "", ""]
    event = lines[1]
    assert {key: event[key] for key in ("limit_w", "limit_source", "limit_command", "event")} == {
        "limit_w": "300.0",
        "limit_source": "mqtt",
        "limit_command": "c1",
        "event": "c1",
    }
    assert (event["baseline_w 10-of-10"], event["delivered_wh 10-of-10"]) == ("800.0", "150.0")
    assert event["baseline_w workload"] == ""


async def test_json_into_a_file(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    assert export(config, *DAY, "--format", "json", "--output", str(target)) == 0
    body = json.loads(target.read_text())
    assert (body["format"], body["site"], len(body["intervals"])) == ("sterna.settlement/1", "s1", 5)
    assert body["intervals"][1]["record"]["limits"][0]["command_id"] == "c1"
    assert body["intervals"][1]["baselines"][0]["delivered_wh"] == 150.0
    assert body["intervals"][2]["quality"] == "MISSING"
    assert body["intervals"][4]["record"]["grid_import"]["energy_wh"] is None


@pytest.mark.parametrize(
    ("more", "words", "code"),
    [
        (("--from", "2026-03-31", "--to", "2026-03-30"), "--to: must be later than --from", 2),
        (("--from", "2026-03-30", "--to", "2026-03-31", "--output", "/nowhere/x"), "No such file", 1),
    ],
)
async def test_what_cannot_be_done_is_said(
    config: Path, more: tuple[str, ...], words: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(config, *more) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("when", ["yesterday", "2026-03-30T12:00:00", "2026-13-30"])
async def test_instants_need_a_zone(config: Path, when: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        export(config, "--from", when, "--to", "2026-03-31T00:00:00Z")
    assert "expected a day (2026-03-30) or an instant with its zone" in capsys.readouterr().err


async def test_a_site_without_a_store(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "state" / "agent.db").unlink()
    assert export(config, *DAY) == 2
    assert "there is no store" in capsys.readouterr().err
