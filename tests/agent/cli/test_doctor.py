"""`sterna-agent doctor` on a site with real sockets: what works, what does not, and what to do about it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.cli.check_config import checked
from agent.cli.checks_node import (
    check_certificates,
    check_clock,
    check_gpu,
    check_power_helper,
    check_state_dir,
)
from agent.cli.findings import Finding, Health, as_text, fail, good
from agent.cli.mqtt_knock import Door, KnockError, knock
from agent.config.grid import GridTable
from agent.main import main
from sterna import rpc
from sterna.clock import SystemClock
from sterna.identity import Role
from tests.agent.build.test_setpoints import config_text
from tests.agent.devices.obedient import HOST, ObedientSite
from tests.brokers import MOSQUITTO, Broker
from tests.conftest import FLEET, Fleet


async def doctor(
    capsys: pytest.CaptureFixture[str], config: Path, *more: str
) -> tuple[int, dict[str, dict[str, str]]]:
    arguments = ["doctor", "--config", str(config), "--timeout-s", "1", "--json", *more]
    code = await asyncio.to_thread(main, arguments)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "sterna.doctor/1"
    for finding in document["findings"]:
        assert bool(finding["mend"]) is (finding["health"] in {"warn", "fail"}), finding
    return code, {finding["part"]: finding for finding in document["findings"]}


async def test_a_site_that_works_and_then_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = ObedientSite()
    config = tmp_path / "agent.toml"
    server = rpc.make_server()
    health = rpc.Health([])
    await health.add_to(server)
    port = rpc.bind(server, "127.0.0.1:0", credentials=None, insecure=True)
    await server.start()
    await health.set_serving(True)
    async with site.server() as meters:
        text = (
            "insecure = true\n" + config_text(meters.port) + f'[coordinator]\naddress = "127.0.0.1:{port}"\n'
        )
        config.write_text(text + '[gpu]\nkind = "fake"\nmax_w = 300.0\n')
        code, parts = await doctor(capsys, config)
        assert {
            part: parts[part]["health"] for part in parts if part not in ("clock", "disk", "service")
        } == {
            "config": "ok",
            "state_dir": "ok",
            "meter plant": "ok",
            "meter grid": "ok",
            "meter battery": "ok",
            "surplus": "warn",
            "broker": "skipped",
            "vtn": "skipped",
            "coordinator": "ok",
            "gpu": "ok",
            "gpu cap": "ok",
            "sterna-power": "skipped",
        }
        assert parts["meter grid"]["says"].startswith("grid, -13000 W, OK, 0.")
        assert code == int(any(part["health"] == "fail" for part in parts.values()))
        site.grid_dead = True
        await server.stop(0)
        code, parts = await doctor(capsys, config)
    assert code == 1
    assert {part for part, finding in parts.items() if finding["health"] == "fail"} >= {
        "meter grid",
        "coordinator",
    }
    assert parts["meter plant"]["health"] == "ok", "one dead meter says nothing of its neighbour"
    assert "sterna-agent probe" in parts["meter grid"]["mend"]
    assert {function for _, function in site.functions} == {3}, "it only reads"


async def test_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('fleet = "f"\nsitte = "s"\n')
    code, parts = await doctor(capsys, config)
    assert code == 2 and parts["config"]["health"] == "fail"
    assert await asyncio.to_thread(main, ["doctor", "--config", str(config)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("fail    config: agent.toml: sitte: unknown key") for line in lines)


def test_certificates_are_told_before_they_end(tmp_path: Path, fleet: Fleet) -> None:
    files = fleet.files(Role.SITE, "doctored")
    text = f'fleet = "{FLEET}"\nsite = "doctored"\nstate_dir = "s"\ngrid = {{ operator = "none" }}\n[tls]\n'
    text += f'ca = "{files.ca_file}"\ncert = "{files.cert_file}"\nkey = "{files.key_file}"\n'
    (tmp_path / "agent.toml").write_text(text)
    config = checked(tmp_path / "agent.toml")
    for days, health in ((0, Health.OK), (350, Health.WARN), (400, Health.FAIL)):
        (finding,) = check_certificates(config, tmp_path, datetime.now(UTC) + timedelta(days=days))  # noqa: TID251
        assert (finding.part, finding.health) == ("certificate tls", health)


def test_the_state_dir(tmp_path: Path) -> None:
    findings = {finding.part: finding for finding in check_state_dir(tmp_path)}
    assert findings["state_dir"].health is Health.OK and "GB free of" in findings["disk"].says
    assert list(tmp_path.iterdir()) == []
    (finding, _) = check_state_dir(tmp_path / "not" / "yet")
    assert "will be made" in finding.says
    (finding, _) = check_state_dir(Path("/proc/1/nowhere"))
    assert finding.health is Health.FAIL
    (tmp_path / "file").touch()
    (finding, _) = check_state_dir(tmp_path / "file")
    assert (finding.health, finding.says) == (Health.FAIL, f"{tmp_path / 'file'}: is no folder")


def test_the_clock_is_looked_at_as_the_agent_does(tmp_path: Path) -> None:
    kernel = check_clock(GridTable(operator="none"), tmp_path)
    always = check_clock(GridTable(operator="none", trust_clock="always"), tmp_path)
    assert kernel.part == "clock" and kernel.health in (Health.OK, Health.FAIL)
    assert always.health is (Health.OK if kernel.health is Health.OK else Health.WARN)
    by_file = GridTable(operator="none", trust_clock="file", trust_clock_file="kept")
    assert check_clock(by_file, tmp_path).health is Health.FAIL
    (tmp_path / "kept").touch()
    assert check_clock(by_file, tmp_path).health is Health.OK


def test_a_gpu_that_is_not_there_and_a_helper_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(
        'fleet = "f"\nsite = "s"\nstate_dir = "s"\ngrid = { operator = "none" }\n'
        '[gpu]\nkind = "jetson"\nroot = "empty"\npower_socket = "power.sock"\n'
    )
    config = checked(tmp_path / "agent.toml")
    findings = list(check_gpu(config, tmp_path, SystemClock()))
    assert findings[0].part == "gpu" and findings[0].health is not Health.OK
    helper = check_power_helper(config, tmp_path)
    assert helper.health is Health.FAIL and "sterna-power.socket" in helper.mend


def door(port: int, **more: str | None) -> Door:
    words: dict[str, str | None] = {"username": None, "password": None} | more
    return Door(host=HOST, port=port, client_id="doctor", tls=None, **words)  # type: ignore[arg-type]


@pytest.mark.broker
async def test_a_broker_that_lets_us_in(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        assert await knock(door(broker.port), "dr/v1/dso/s/limit", timeout_s=5)
    finally:
        broker.kill()
    with pytest.raises(KnockError, match="refused"):
        await knock(door(broker.port), "t", timeout_s=1)


@pytest.mark.broker
@pytest.mark.skipif(MOSQUITTO is None, reason="the embedded broker knows no passwords")
async def test_a_broker_that_does_not(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "allow_anonymous false\n")
    await broker.start()
    try:
        for user in ({}, {"username": "site", "password": "wrong"}):
            with pytest.raises(KnockError, match=r"not authorised|bad user name"):
                await knock(door(broker.port, **user), "t", timeout_s=5)
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"", "hung up"),
        (b"\x20", "hung up"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 99, "no MQTT broker"),
        (b"\x20\xff\xff\xff\x7f", "no MQTT broker"),
        (b"\x20\x03\x00\x86\x00", "bad user name or password"),
        (b"\x20\x03\x00\xa0\x00", "reason 0xa0"),
        (b"\x20\x00", "no MQTT broker"),
    ],
)
async def test_whatever_answers_is_told(answer: bytes, word: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        with pytest.raises(KnockError, match=word):
            await knock(door(server.sockets[0].getsockname()[1]), "t", timeout_s=1)


@pytest.mark.parametrize(("reason", "granted"), [(b"\0", True), (b"\1", True), (b"\x87", False)])
async def test_a_subscription_may_be_refused(reason: bytes, granted: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"\x20\x03\0\0\0")
        await reader.read(1024)
        writer.write(b"\x30\x05\0\1t\0x" + b"\x90\x04\0\1\0" + reason)  # what was retained comes first
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        assert await knock(door(server.sockets[0].getsockname()[1]), "t", timeout_s=1) is granted


async def test_silence_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        with pytest.raises(KnockError, match="no answer within"):
            await knock(door(server.sockets[0].getsockname()[1]), "t", timeout_s=0.1)


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (good("disk", "1 GB"), "ok      disk: 1 GB"),
        (fail("meter a", "no\nanswer", "wire it"), "fail    meter a: no answer -> wire it"),
    ],
)
def test_one_line_each(finding: Finding, line: str) -> None:
    assert as_text(finding) == line


def test_a_checkpoint_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "sealed").touch()
    found = [finding for finding in check_state_dir(tmp_path) if finding.part == "checkpoints"]
    assert [one.health for one in found] == [Health.FAIL]
    assert "sealed: cannot be read: Not a directory" in found[0].says
