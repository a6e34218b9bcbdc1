"""``[ledger]``: every fault is named before the daemon runs."""

from pathlib import Path

import pytest

from coordinator.config import CoordinatorConfig
from coordinator.main import main
from sterna import pki
from sterna.config import parse
from sterna.errors import ConfigError

HEAD = 'fleet = "f"\nstate_dir = "s"\ninsecure = true\n'


def document(**tables: object) -> dict[str, object]:
    return {"fleet": "f", "state_dir": "s", "insecure": True, "sites": [{"id": "a"}], **tables}


@pytest.mark.parametrize(
    ("tables", "fault"),
    [
        ({"ledger": {"slot_s": 7000.0}}, "ledger.slot_s: slots of 7000 s do not make a day"),
        ({"ledger": {"slot_s": 0.0}}, "ledger.slot_s: expected more than zero, got 0.0"),
        ({"ledger": {"hold_s": -1.0}}, "ledger.hold_s: expected more than zero, got -1.0"),
        (
            {"sites": [{"id": "a", "carbon_g_per_kwh": -1.0}]},
            "sites[0].carbon_g_per_kwh: expected zero or more",
        ),
    ],
)
def test_faults(tables: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(document(**tables), CoordinatorConfig, name="coordinator.toml")
    assert fault in str(raised.value)


def test_the_key_is_looked_at_before_the_daemon_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "coordinator.toml"
    config.write_text(f'{HEAD}[[sites]]\nid = "a"\n[ledger]\nkey = "ledger-key.pem"\n')
    assert main(["check-config", "--config", str(config)]) == 2
    assert f"{tmp_path / 'ledger-key.pem'}: cannot read the secret" in capsys.readouterr().err
    pki.make_signing_key(tmp_path, "ledger-key")
    assert main(["check-config", "--config", str(config)]) == 0
