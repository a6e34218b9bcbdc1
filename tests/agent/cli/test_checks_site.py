"""The doctor's looks at set-points, contacts, ports and the VTN, on real sockets and files."""

import os
import socket
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.cli.checks_peers import check_meters, check_vtn
from agent.cli.checks_site import check_balance, check_contacts, check_ports, check_setpoints
from agent.cli.dial import trouble_at, trouble_with
from agent.cli.findings import Finding, Health
from agent.config import AgentConfig
from agent.main import main
from agent.simulator.vtn import SimulatedVtn
from sterna.clock import SystemClock
from sterna.config import parse
from tests.agent.build.test_setpoints import EXPORT_LIMIT, WRITABLE, config_text
from tests.agent.devices.obedient import HOST, ObedientSite

CLOCK = SystemClock()
OK, WARN, FAIL = Health.OK, Health.WARN, Health.FAIL
BASE = 'fleet = "f"\nsite = "s"\nstate_dir = "state"\n'
NOBODY = '[grid]\noperator = "none"\n'


def config(text: str) -> AgentConfig:
    return parse(tomllib.loads(text), AgentConfig, name="agent.toml")


async def every(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]


def taken(listener: socket.socket) -> str:
    listener.bind((HOST, 0))
    listener.listen()
    return f"{HOST}:{listener.getsockname()[1]}"


PLANT = '[[meters]]\nname = "pv"\nrole = "generation"\nkind = "fake"\n'
FLEET = '[coordinator]\naddress = "127.0.0.1:1"\n[tls]\nca = "c"\ncert = "c"\nkey = "k"\n'


@pytest.mark.parametrize(
    ("more", "estimated"),
    [
        (FLEET + PLANT, True),
        (FLEET + PLANT + PLANT.replace("pv", "house").replace("generation", "load"), False),
        (FLEET + PLANT + PLANT.replace("pv", "node").replace("generation", "compute"), False),
        (FLEET, False),
        (PLANT, False),
    ],
    ids=["plant", "load metered", "compute metered", "no plant", "alone"],
)
def test_a_surplus_that_would_be_an_estimate_is_said_so(more: str, estimated: bool) -> None:
    assert [one.health for one in check_balance(config(BASE + NOBODY + more))] == [WARN] * estimated


async def test_a_set_point_is_looked_for_and_nothing_is_written() -> None:
    site = ObedientSite()
    async with site.server() as server:
        here = config(config_text(server.port, EXPORT_LIMIT, plant=WRITABLE))
        [finding] = await every(check_setpoints(here, Path(), CLOCK, timeout_s=5))
        assert (finding.part, finding.health) == ("set-point plant", OK)
        assert finding.says == "generation-limit: in model 704, not written now"
        fixed = '[[setpoints]]\nmeter = "plant"\nrule = "fixed"\ncontrol = "storage-rates"\n'
        fixed += "values = { InWRte = 0.0, OutWRte = 0.0 }\n"
        other = config(config_text(server.port, fixed, plant='writable = ["storage-rates"]'))
        [finding] = await every(check_setpoints(other, Path(), CLOCK, timeout_s=5))
        assert finding.health is FAIL and "no model for storage-rates" in finding.says
    assert {function for _, function in site.functions} == {3}
    [finding] = await every(check_setpoints(here, Path(), CLOCK, timeout_s=5))
    assert finding.health is FAIL and finding.mend


async def test_a_meter_of_another_role_is_told_what_it_is() -> None:
    async with ObedientSite().server() as server:
        wrong = config(config_text(server.port).replace('role = "generation"', 'role = "load"', 1))
        finding = (await every(check_meters(wrong, Path(), CLOCK, timeout_s=5)))[0]
    assert finding.health is FAIL
    assert "no SunSpec model for the role load; it has 1" in finding.says
    assert finding.mend.startswith("do role, table and unit_id fit")
    finding = (await every(check_meters(wrong, Path(), CLOCK, timeout_s=5)))[0]
    assert "connection refused" in finding.says


def test_contacts_are_read_once(tmp_path: Path) -> None:
    contact = '[[grid.relay.contacts]]\nname = "{}"\nlimit_w = 1.0\n'
    file = contact + 'kind = "file"\npath = "w4"\ncomplement_path = "not-w4"\n'
    here = config(BASE + NOBODY + file.format("a") + contact.format("b") + "chip = 'none'\nline = 3\n")
    (tmp_path / "w4").write_text("0\n")
    (tmp_path / "not-w4").write_text("1\n")
    good, bad = check_contacts(here, tmp_path)
    assert (good.part, good.health, good.says) == ("contact a", OK, "closed and open")
    assert bad.health is FAIL and f"{tmp_path / 'none'} line 3: No such file" in bad.says
    (tmp_path / "not-w4").unlink()
    assert [finding.health for finding in check_contacts(here, tmp_path)] == [FAIL, FAIL]


def test_ports_are_taken_and_given_back() -> None:
    with socket.socket() as free, socket.socket() as busy:
        free_address, busy_address = taken(free), taken(busy)
        free.close()
        served = f'[grid.modbus]\nlisten = "{busy_address}"\nclients = ["127.0.0.1"]\n'
        served += f'[metrics]\nlisten = "{free_address}"\n'
        for _ in range(2):
            modbus, metrics = check_ports(config(BASE + NOBODY + served))
            assert (modbus.part, modbus.health) == ("port grid.modbus", WARN)
            assert (metrics.part, metrics.health) == ("port metrics", OK)
    away = config(BASE + NOBODY + '[grid.modbus]\nlisten = "192.0.2.77:5502"\nclients = ["192.0.2.1"]\n')
    [finding] = check_ports(away)
    assert finding.health is FAIL
    assert finding.says.endswith("cannot bind: no interface of this machine has that address")
    assert not list(check_ports(config(BASE + NOBODY)))


async def test_a_vtn_is_asked_as_the_site_asks(tmp_path: Path) -> None:
    vtn = SimulatedVtn()
    await vtn.start()
    try:
        await vtn.put_program({"programName": "limits"})
        secret = tmp_path / "secret"
        secret.write_text(vtn.client_secret)
        secret.chmod(0o600)
        openadr = NOBODY + f'[grid.openadr]\nurl = "{vtn.url}"\n'
        as_client = openadr + f'client_id = "{vtn.client_id}"\nclient_secret_file = "secret"\n'
        good = await check_vtn(config(BASE + as_client), tmp_path, CLOCK, timeout_s=5)
        assert (good.health, good.says) == (OK, f"{vtn.url}: shows 1 programs")
        for wrong, word in (
            (openadr, "401"),
            (as_client.replace(vtn.client_id, "stranger"), "401"),
            (as_client.replace(vtn.url, f"{vtn.url}/elsewhere"), "elsewhere"),
            (as_client + 'ca = "nowhere.pem"\n', "grid.openadr.ca"),
        ):
            bad = await check_vtn(config(BASE + wrong), tmp_path, CLOCK, timeout_s=5)
            assert bad.health is FAIL and word in bad.says, bad
    finally:
        await vtn.stop()
    gone = await check_vtn(config(BASE + openadr), tmp_path, CLOCK, timeout_s=5)
    assert gone.health is FAIL and gone.says.endswith(": connection refused")


async def test_why_nothing_is_reached(tmp_path: Path) -> None:
    with socket.socket() as listener:
        host, _, port = taken(listener).partition(":")
        assert await trouble_at(host, int(port), 5.0) == ""
    assert await trouble_at(host, int(port), 5.0) == "connection refused"
    assert trouble_with(str(tmp_path / "ttyUSB9")) == "no such file or directory"
    (tmp_path / "tty").touch()
    assert trouble_with(str(tmp_path / "tty")) == ""


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "agent.toml"
    here.write_text(BASE + NOBODY)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["check-config", "--config", str(here)]) == 1
