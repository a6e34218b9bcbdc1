"""The second opinion on a journal, and the files around it."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli.app import app
from coordinator.core.policies import policy_named
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Interval, Stage, read_journal, write_journal
from coordinator.replay.metrics import measure
from coordinator.replay.record import settings_of
from coordinator.replay.scenariofile import read_scenario, read_traces, shipped_scenarios, world_of
from coordinator.replay.verify import recompute
from coordinator.replay.world import World
from sterna.errors import ConfigError, CorruptError
from tests.coordinator.replay.worlds import DATA, HOUR, needs_data, recorded_world, task, world

DAY = world(
    {"a": [500.0, 0.0, 0.0, 0.0], "b": [0.0, 1000.0, 1000.0, 1000.0]},
    task("1", size_gb=6),
    task("2", "b", at_s=60.0),
)


def intervals(day: World) -> tuple[Interval, ...]:
    return run(day, policy_named("energy-only"), settings_of(day), Perfect(day)).intervals


def test_a_journal_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    rows = intervals(DAY)
    write_journal(path, DAY, rows)
    again = list(read_journal(path, DAY))
    written = sorted(rows, key=lambda row: (row.start_s, row.job_id))
    assert [replace(row, start_s=0.0, end_s=0.0) for row in again] == [
        replace(row, start_s=0.0, end_s=0.0) for row in written
    ]
    assert [row.start_s for row in again] == pytest.approx([row.start_s for row in written], abs=1e-6)
    assert [row.end_s for row in again] == pytest.approx([row.end_s for row in written], abs=1e-6)
    assert path.read_text().splitlines()[0] == (
        '{"job": "1", "site": "a", "start_utc": "2022-04-01T00:00:00Z",'
        ' "end_utc": "2022-04-01T01:00:00Z", "state": "run"}'
    )


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda row: replace(row, job_id="9") if row.stage is Stage.RUN else row, "job 9 is not of this"),
        (lambda row: replace(row, end_s=row.end_s - 5) if row.stage is Stage.RUN else row, "ran "),
        (lambda row: replace(row, start_s=row.start_s - 99), "began before it was submitted"),
        (lambda row: replace(row, stage=Stage.RUN), "ran "),
        (lambda row: replace(row, site_id="b") if row.start_s == 0.0 else row, None),
        (lambda row: replace(row, end_s=row.end_s - 1) if row.stage is Stage.SEAL else row, "a seal of"),
        (lambda row: replace(row, start_s=row.start_s - 5) if row.stage is Stage.LOAD else row, "a transfer"),
        (lambda row: replace(row, end_s=row.end_s + 60) if row.stage is Stage.SEAL else row, "two rows at"),
    ],
)
def test_a_spoilt_journal_is_refused(spoil: object, fault: str | None) -> None:
    rows = [spoil(row) for row in intervals(DAY)]  # type: ignore[operator]
    with pytest.raises(CorruptError, match=fault or "without a move"):
        recompute(DAY, rows)


def test_more_jobs_than_slots_are_refused() -> None:
    crowd = world({"a": [0.0], "b": [0.0]}, task("1"), task("2"), slots=1)
    rows = [Interval(job_id, "a", 0.0, 2 * HOUR, Stage.RUN) for job_id in ("1", "2")]
    with pytest.raises(CorruptError, match="a: 2 of 1 slots"):
        recompute(crowd, rows)


def test_late_jobs_are_counted_where_there_is_a_deadline() -> None:
    day = replace(
        world({"a": [0.0], "b": [0.0]}, task("1", work_s=HOUR), task("2", work_s=HOUR), slots=1),
        hold_back_s=-HOUR,
    )
    rows = run(day, policy_named("static"), settings_of(day), Perfect(day)).intervals
    assert measure(day, rows).late == recompute(day, rows).late == 1


def test_the_shipped_scenarios_are_usable() -> None:
    assert shipped_scenarios() == (
        "caiso-curtail",
        "de5",
        "us2-battery",
        "us2-prices",
        "us5",
        "us5-battery",
        "us5-battery-defer",
        "us5-defer",
        "us5-diloco",
        "us5-limits",
        "us5-slow",
        "us5-thin",
        "us5-thin-defer",
        "us5-thin-partial",
    )
    for name in shipped_scenarios():
        assert read_scenario(name).name == name
    assert read_scenario("us5-thin-defer").wan.access_bps == 0.25e9
    assert read_scenario("us5-thin-defer").offsets == range(8)
    assert next(iter(read_scenario("caiso-curtail").periods)) == "apr17"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('extends = "us5"\n[wan]\nspeed = 1\n', "unknown field `speed` - at `\\$.wan`"),
        ("name = \n", "Invalid value"),
        ('extends = "us5"\n[periods]\nn = 2022-04-01T00:00:00\n', "with a timezone"),
        ('extends = "us5"\n[fleet]\nsites = []\n', "length >= 1"),
        ('extends = "us5"\n[fleet]\nslots = 0\n', ">= 1"),
        (
            'extends = "us5"\n[jobs]\nkinds = [{ name = "x", pieces = [{ name = "a", share = 0.5 }] }]\n',
            "sum up to 0.5",
        ),
        (
            'extends = "us5"\n[jobs]\n'
            'kinds = [{ name = "x", pieces = [{ name = "a", share = 1.0, change_frac = 0.0 }] }]\n',
            r"jobs.kinds\[0\]: no piece changes and moves",
        ),
        ('extends = "us5-diloco"\n[replicas]\nmost = 1\n', "replicas: most 1: expected 2"),
        ('extends = "us5-diloco"\n[fleet]\nsites = [{ id = "CISO" }]\n', "least 2: there are 1 sites"),
        ('extends = "nowhere"\n', "expected a .toml file or one of caiso-curtail"),
    ],
)
def test_a_scenario_that_cannot_be_used_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=fault):
        read_scenario(str(path))


@needs_data
def test_the_command_replays_writes_and_verifies(tmp_path: Path) -> None:
    data = ["--data", str(DATA)]
    done = CliRunner().invoke(
        app, ["replay", "us5-thin", "--policy", "static", "--period", "jul", "--out", str(tmp_path), *data]
    )
    assert done.exit_code == 0 and "| jul | static | 1494 ± 0 |" in done.stdout
    folder = tmp_path / "jul" / "0-static"
    assert sorted(path.name for path in folder.iterdir()) == [
        "decisions.jsonl",
        "domain.svg",
        "ledger.csv",
        "placement.svg",
        "replay.json",
        "timeline.csv",
    ]
    assert sorted(path.name for path in folder.parent.glob("*.svg")) == ["completion.svg", "energy.svg"]
    verified = CliRunner().invoke(app, ["replay", "--verify", str(tmp_path), *data])
    assert (verified.exit_code, verified.stdout) == (0, "agrees  jul/0-static\n")
    journal = folder / "decisions.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[1:]))
    spoilt = CliRunner().invoke(app, ["replay", "--verify", str(tmp_path), *data])
    assert isinstance(spoilt.exception, CorruptError)
    assert "ran 0.000 s of" in spoilt.stdout


@needs_data
def test_curtailed_energy_is_scaled_to_its_percentile() -> None:
    day = recorded_world("caiso-curtail", "apr17")
    assert [site.site_id for site in day.sites] == [
        "solar-local",
        "solar-system",
        "wind-local",
        "wind-system",
        "all",
    ]
    for site in day.sites:
        seen = sorted(watts for watts in (*site.past_w, *site.surplus_w) if watts > 0.0)
        assert seen[-1] > 4000.0 > seen[len(seen) // 2]


@needs_data
def test_deferral_is_loaded_with_its_deadline() -> None:
    assert recorded_world("us5-defer", "apr").hold_back_s == 86_400.0
    assert recorded_world("us5", "apr").hold_back_s is None


@needs_data
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[periods]\nlate = 2025-01-01T00:00:00Z\n", "of CISO do not cover 2025-01-01"),
        ("[jobs]\nmin_duration_s = 1e9\nmax_duration_s = 2e9\n", "no job of .* with one GPU runs for"),
        ('[fleet]\nsites = [{ id = "CISO" }]\n', "fleet.sites: CISO: traces: missing"),
        (
            '[fleet]\nsites = [{ id = "N", traces = ["N/wind"] }]\n',
            "hourly.csv.gz: no trace N/wind, the surplus at N; it has AZPS/solar, ",
        ),
    ],
)
def test_a_period_or_jobs_that_no_trace_has_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nextends = "us5"\n{text}')
    scenario = read_scenario(str(path))
    with pytest.raises(ConfigError, match=fault):
        world_of(scenario, read_traces(scenario, DATA), next(reversed(scenario.periods)), 0)


@needs_data
def test_one_recorded_site_replays_and_what_it_lacks_is_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nextends = "us5"\n[period]\ndays = 1\n[fleet]\n'
        'sites = [{ id = "CISO", traces = ["CISO/wind"] }]\n[surplus]\nbase_load_w = -100000.0\n'
    )
    asked = ["replay", str(path), "--policy", "energy-only", "--period", "apr", "--data", str(DATA)]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "out")])
    # Nothing that is not renewable: there is no share of it to save.
    assert done.exit_code == 0 and "| apr | energy-only | 0 ± 0 | – | – | 100.0 |" in done.stdout


@needs_data
@pytest.mark.parametrize("name", ["us5-diloco", "us5-thin-partial"])
def test_jobs_in_parts_are_replayed_written_and_verified(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nextends = "{name}"\n[period]\ndays = 1\n')
    data = ["--data", str(DATA)]
    asked = ["replay", str(path), "--policy", "sterna", "--period", "apr", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, [*asked, *data]).exit_code == 0
    folder = tmp_path / "out" / "apr" / "0-sterna"
    assert (folder / "transfers.jsonl").read_text().count("\n") > 3
    verified = CliRunner().invoke(app, ["replay", "--verify", str(tmp_path / "out"), *data])
    assert (verified.exit_code, verified.stdout.splitlines()[1]) == (0, "agrees  apr/0-sterna")
    (folder / "transfers.jsonl").unlink()
    assert CliRunner().invoke(app, ["replay", "--verify", str(tmp_path / "out"), *data]).exit_code != 0
