"""coordinator.toml: the whole of it, and every fault at once; the command around it."""

import re
import stat
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from coordinator.build import build
from coordinator.config import CoordinatorConfig
from coordinator.core.policy import PlannerSettings
from coordinator.main import main
from coordinator.settings import planner_settings
from sterna.clock import SystemClock
from sterna.config import parse
from sterna.errors import ConfigError, CorruptError
from sterna.identity import Role

GOOD: dict[str, Any] = {
    "fleet": "test-fleet",
    "state_dir": "state",
    "insecure": True,
    "sites": [{"id": "miami"}, {"id": "nome"}],
}


def config(**changes: Any) -> CoordinatorConfig:
    return parse({**GOOD, **changes}, CoordinatorConfig, name="coordinator.toml")


def test_the_least_that_works() -> None:
    made = config()
    assert made.site_ids == {"miami", "nome"}
    assert (made.planner.policy, made.planner.alpha, made.lease.ttl_s) == ("feasibility-aware", 0.10, 120.0)
    assert planner_settings(made.planner) == PlannerSettings()


@pytest.mark.parametrize("name", [one.name for one in fields(PlannerSettings)])
def test_the_file_and_the_planner_refuse_the_same_numbers(name: str) -> None:
    wrong: dict[str, Any] = {name: type(getattr(PlannerSettings(), name))(-1)}
    with pytest.raises(ValueError, match=f"^{name}: expected .* got -1") as caught:
        PlannerSettings(**wrong)
    with pytest.raises(ConfigError, match=re.escape(f"planner.{caught.value}")):
        config(planner=wrong)


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"insecure": False}, ["tls: missing"]),
        ({"sites": [{"id": "a"}, {"id": "a"}]}, ['sites: two sites have the id "a"']),
        ({"sites": [{"id": ""}]}, ["sites[0].id: missing"]),
        (
            {"planner": {"policy": "best", "alpha": 0.0, "epsilon": 1.0, "tick_s": 0.0, "seal_s": -1.0}},
            [
                "planner.policy: 'best': expected one of",
                "planner.alpha: expected above 0",
                "planner.epsilon: expected 0 or more, below 1",
                "planner.tick_s: expected more than zero",
                "planner.seal_s: expected zero or more",
            ],
        ),
        ({"planner": {"effort_pairs": -1}}, ["planner.effort_pairs: expected zero or more, got -1"]),
        (
            {"planner": {"hold_back_s": -1.0}},
            ["planner.hold_back_s: expected zero or more", "planner.hold_back_s: policy 'feasibility-aware'"],
        ),
        (
            {"planner": {"objective": "carbon"}},
            ["planner.objective: policy 'feasibility-aware' saves energy"],
        ),
        ({"planner": {"grid_renewable_frac": 2.0}}, ["planner.grid_renewable_frac: expected 0 to 1"]),
        ({"lease": {"ttl_s": 0.0, "skew_s": -1.0}}, ["lease.ttl_s: expected more", "lease.skew_s: expected"]),
        (
            {"migration": {"retry_s": 0.0, "start_attempts": 0}},
            ["migration.retry_s: expected more", "migration.start_attempts: expected 1"],
        ),
        ({"history": {"samples_per_site": 0}}, ["history.samples_per_site: expected 1"]),
        (
            {
                "links": {
                    "default_bps": 0.0,
                    "pairs": [
                        {"source": "miami", "destination": "miami", "bps": -1.0},
                        {"source": "oslo", "destination": "nome", "bps": 1.0},
                        {"source": "oslo", "destination": "nome", "bps": 2.0},
                    ],
                }
            },
            [
                "links.default_bps: expected more than zero",
                "links.pairs[0].bps: expected zero or more",
                "links.pairs[0].destination: is the source",
                "links.pairs: oslo to nome is given twice",
                'links.pairs[1].source: no site "oslo"',
            ],
        ),
        ({"planer": {}}, ["planer: unknown key; did you mean planner?"]),
        ({"links": {"default_bps": "fast"}}, ["links.default_bps: expected"]),
    ],
)
def test_every_fault_is_named(changes: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        config(**changes)
    for fault in faults:
        assert f"coordinator.toml: {fault}" in str(raised.value)


def toml(folder: Path, text: str) -> Path:
    path = folder / "coordinator.toml"
    path.write_text(text)
    return path


def test_check_config(tmp_path: Path, capsys: pytest.CaptureFixture[str], fleet: Any) -> None:
    files = fleet.files(Role.COORDINATOR, "main")
    tls = f'[tls]\nca = "{files.ca_file}"\ncert = "{files.cert_file}"\nkey = "{files.key_file}"\n'
    head = f'fleet = "{fleet.name}"\nstate_dir = "s"\nsites = [{{id = "miami"}}]\n'
    assert main(["check-config", "--config", str(toml(tmp_path, head + tls))]) == 0
    assert "good; fleet test-fleet, 1 sites" in capsys.readouterr().out
    assert main(["check-config", "--config", str(toml(tmp_path, head + 'id = "other"\n' + tls))]) == 2
    assert "not of spiffe://test-fleet/coordinator/other" in capsys.readouterr().err
    assert main(["check-config", "--config", str(toml(tmp_path, head + "lissten = 1\n" + tls))]) == 2
    assert "lissten: unknown key; did you mean listen?" in capsys.readouterr().err
    assert main(["run", "--config", str(tmp_path / "none.toml")]) == 78
    assert "cannot read" in capsys.readouterr().err


def test_the_ticket_secret_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    first = build(config(), tmp_path, SystemClock())
    path = tmp_path / "state" / "ticket-secret"
    secret = path.read_bytes()
    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first.database.close()
    again = build(config(), tmp_path, SystemClock())
    assert path.read_bytes() == secret
    again.database.close()
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="5 bytes, expected 32"):
        build(config(), tmp_path, SystemClock())


def test_a_state_dir_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ConfigError, match="state_dir"):
        build(config(), tmp_path, SystemClock())


def test_a_broken_store_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "coordinator.db").write_text("no database at all, " * 1000)
    with pytest.raises(CorruptError, match="not usable"):
        build(config(), tmp_path, SystemClock())
    head = 'fleet = "f"\nstate_dir = "state"\ninsecure = true\nlisten = "127.0.0.1:0"\nsites = [{id = "m"}]\n'
    assert main(["run", "--config", str(toml(tmp_path, head))]) == 2
    assert "not usable" in capsys.readouterr().err
