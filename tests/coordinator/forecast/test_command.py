"""`sterna forecast score` as a person and as a program read it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from coordinator.cli.app import app
from sterna.errors import ConfigError, PermanentError
from tests.coordinator.replay.worlds import DATA, needs_data

DAYS, PER_DAY = 80, 8


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Eighty days of wind that comes and goes and of a load that repeats, in slots of three hours."""
    draw = np.random.default_rng(5)
    state, rows = 0.0, ["ts_utc,wind_w,load_w,solar_w"]
    start_at = datetime(2022, 1, 1, tzinfo=UTC)
    for slot in range(DAYS * PER_DAY):
        state = 0.9 * state + draw.normal(0.0, 0.4)
        at = start_at + timedelta(hours=3 * slot)
        load_w = 300 + 100 * (slot % PER_DAY) + draw.normal(0.0, 5.0)
        rows.append(f"{at:%Y-%m-%dT%H:%M:%SZ},{1000 / (1 + np.exp(-state)):.1f},{load_w:.1f},0")
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(rows))
    return path


def test_as_a_table_and_a_picture(trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "scores.svg"
    words = ["forecast", "score", "--trace", str(trace), "--site", "wind*", "--every", "5"]
    ended = CliRunner().invoke(app, [*words, "--by-site", "--picture", str(picture)])
    assert ended.exit_code == 0, ended.output
    assert "wind, 1 traces" in ended.output
    for word in ("persistence", "day-before", "climatology", "learnt", "p10–p90 holds", "window ±", "24 h"):
        assert word in ended.output
    text = [one.text for one in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert {"wind, 1 traces", "learnt", "climatology", "lead time, h"} <= set(text)


def test_as_json(trace: Path) -> None:
    words = ["forecast", "score", "--trace", str(trace), "--kind", "other", "--every", "7", "--json"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    document = json.loads(ended.output)
    assert (document["schema"], document["kind"]) == ("sterna.cli/1", "forecast-scores")
    (scored,) = document["data"]
    assert (scored["trace"], scored["kind"], scored["lead_h"]) == ("load_w", "other", [3, 6, 12, 24, 48])
    ours, held = scored["sources"]["learnt"], scored["sources"]["persistence"]
    # What repeats is learnt: a few watts of noise are left, where holding the last value is off by hundreds.
    assert max(ours["crps"]) < 6.0
    assert ours["crps"][0] < held["crps"][0]
    assert all(count > 10 for count in ours["slots"])
    assert ours["windows"] > 0


def test_a_trace_that_is_not_there_is_said_so(trace: Path) -> None:
    ended = CliRunner().invoke(app, ["forecast", "score", "--trace", str(trace), "--site", "nowhere"])
    assert isinstance(ended.exception, PermanentError)


@pytest.mark.parametrize("words", [(), ("--trace", "a.csv", "--scenario", "us5")], ids=["neither", "both"])
def test_what_is_to_be_scored_is_said_once(words: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(app, ["forecast", "score", *words])
    assert isinstance(ended.exception, ConfigError)
    assert "expected --trace FILE or --scenario NAME" in str(ended.exception)


@needs_data
def test_what_a_scenario_has_foretold_is_scored_in_its_periods() -> None:
    words = [
        "forecast",
        "score",
        "--scenario",
        "us5",
        "--data",
        str(DATA),
        "--period",
        "apr",
        "--site",
        "CISO/*",
    ]
    ended = CliRunner().invoke(app, [*words, "--every", "24", "--json"])
    assert ended.exit_code == 0, ended.output
    (scored,) = json.loads(ended.output)["data"]
    assert (scored["trace"], scored["kind"]) == ("CISO/apr", "other")
    # One forecast a day for the 28 days of the period, none before and none after it.
    assert scored["sources"]["learnt"]["slots"] == [28] * 6
