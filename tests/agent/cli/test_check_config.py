"""`sterna-agent check-config`: files, certificates, tables and addresses, all faults together."""

from pathlib import Path

import pytest

from agent.main import main
from sterna.identity import Role
from tests.conftest import FLEET, Fleet

BARE = 'state_dir = "state"\ngrid = { operator = "none" }\n'


def check(path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the faults; none: it was found good."""
    path = path / "agent.toml"
    path.write_text(text)
    code = main(["check-config", "--config", str(path)])
    said = capsys.readouterr()
    assert (code, bool(said.err), "good" in said.out) in {(0, False, True), (2, True, False)}
    return [line.removeprefix("sterna-agent: agent.toml: ") for line in said.err.splitlines()]


def named(fleet: Fleet, site: str = "miami") -> str:
    return f'fleet = "{FLEET}"\nsite = "{site}"\n{BARE}'


def pem(fleet: Fleet, name: str, *, key_of: str | None = None) -> str:
    files, other = fleet.files(Role.SITE, name), fleet.files(Role.SITE, key_of or name)
    return f'ca = "{files.ca_file}"\ncert = "{files.cert_file}"\nkey = "{other.key_file}"\n'


def test_a_good_one(tmp_path: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    text = named(fleet) + '[coordinator]\naddress = "c.example:7400"\n[tls]\n' + pem(fleet, "miami")
    assert check(tmp_path, text, capsys) == []


def test_our_certificate_must_be_ours(
    tmp_path: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    (fault,) = check(tmp_path, named(fleet) + "[tls]\n" + pem(fleet, "oslo"), capsys)
    assert fault.startswith("tls: ") and "is the certificate of" in fault and "not of" in fault
    (fault,) = check(tmp_path, named(fleet) + "[tls]\n" + pem(fleet, "miami", key_of="oslo"), capsys)
    assert "is not the key of" in fault


def test_all_faults_are_told_together(
    tmp_path: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open-secret").write_text("secret")
    (tmp_path / "open-secret").chmod(0o644)
    (tmp_path / "table.toml").write_text('name = "mine"\n')
    text = f"""
    fleet = "{FLEET}"
    site = "miami"
    state_dir = "state"
    [tls]
    ca = "nowhere.pem"
    cert = "c.pem"
    key = "k.pem"
    [coordinator]
    address = "coordinator.example"
    [transfer]
    listen = "0.0.0.0:99999"
    [grid]
    operator = "dso"
    [grid.mqtt]
    host = "mqtts://broker"
    password_file = "open-secret"
    operator_keys = ["op.pem"]
    [grid.mqtt.tls]
    ca = "dso-ca.pem"
    [[meters]]
    name = "a"
    role = "grid"
    host = "10.0.0.1:502"
    [[meters]]
    name = "b"
    role = "load"
    kind = "registers"
    table = "eastron-sdm6300"
    host = "10.0.0.2"
    [[meters]]
    name = "c"
    role = "load"
    kind = "registers"
    table_file = "table.toml"
    host = "10.0.0.3"
    [[buses]]
    name = "t"
    kind = "tls"
    host = "h"
    {"tls = {" + ", ".join(pem(fleet, "miami", key_of="oslo").splitlines()) + "}"}
    """
    faults = check(tmp_path, text, capsys)
    expected = [
        ("tls: ", "nowhere.pem: cannot read the certificate: No such file"),
        ("coordinator.address: ", "expected host:port"),
        ("grid.mqtt.host: ", "expected a host alone"),
        ("grid.mqtt.password_file: ", "chmod o-r"),
        ("grid.mqtt.operator_keys: ", "op.pem: no such file"),
        ("grid.mqtt.tls.ca: ", "dso-ca.pem: no such file"),
        ("buses[0].tls.cert: ", "not a pair"),
        ("meters[0].host: ", "expected a host without a port"),
        ("meters[1].table: ", "did you mean eastron-sdm630"),
        ("meters[2].table_file: ", "table.toml: title: missing"),
        ("transfer.listen: ", "expected a port of 0 to 65535"),
    ]
    for key, what in expected:
        assert any(fault.startswith(key) and what in fault for fault in faults), (key, what, faults)


def test_a_fault_in_one_table_does_not_hide_the_files_of_another(
    tmp_path: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        named(fleet)
        + '[gpu]\nkind = "abacus"\n[coordinator]\naddress = "nowhere"\n[tls]\n'
        + pem(fleet, "miami")
    )
    faults = check(tmp_path, text, capsys)
    assert [fault.split(": ")[0] for fault in faults] == ["gpu.kind", "coordinator.address"]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--config", str(tmp_path / "nowhere.toml")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_a_table_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    head = 'name = "mine"\ntitle = "Mine"\nsource = "manual"\n'
    head += 'space = "input"\naddress_base = 1\nword_order = "big"\n'
    file.write_text(
        head + "max_read = 10\n[registers]\n" + 'active_power_w = { address = 53, type = "float32" }\n'
    )
    assert main(["table", "check", str(file)]) == 0
    said = capsys.readouterr().out
    assert "good; Mine, 1 figures in 1 requests" in said and "input 52 to 53 as on the wire" in said
    assert "without frequency_hz (Hz)" in said and "not verified on hardware" in said
    file.write_text(head + '[registers]\nactive_power = { address = 0, type = "float32" }\n')
    assert main(["table", "check", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "sterna-agent: mine.toml: registers.active_power: unknown figure; did you mean active_power_w?"
    )
    assert any("registers.active_power.address: 0 is -1 on the wire" in line for line in lines)
