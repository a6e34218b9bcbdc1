"""Lied to: bad meters, limits, configurations and certificates get a clear error and change nothing else."""

import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent.grid.wire import stamp
from sterna import pki
from sterna.identity import Role
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.daemons import COMMANDS, until
from tests.system.dso import CLOCK, Dso, dso, metered, plant_argv
from tests.system.harness import System, tls, write

pytestmark = [pytest.mark.procs, pytest.mark.broker]

LIMIT_W = 2500.0


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Iterator[System]:
    """One site with two plants on a bus each, four meters and a grid operator; no coordinator is there."""
    ports = {"north": free_port(), "annex": free_port()}
    tables = metered(tmp_path, "north", ports["north"], broker)
    annex = {"name": "annex", "role": "generation", "host": "127.0.0.1", "port": ports["annex"], "unit_id": 1}
    tables["meters"].append(annex)
    system = System(folder=tmp_path, sites=("north",), agents={"north": tables})
    for name, port in ports.items():
        system.daemons.add(f"plant-{name}", *plant_argv(tmp_path, name, port))
    try:
        for name in ("plant-north", "plant-annex", "north"):
            system[name].start()
        yield system
    finally:
        system.daemons.end_all()


async def _limited(operator: Dso) -> None:
    """Bring the site under a limit, all meters read."""

    def all_read() -> bool:
        balance = operator.last("telemetry")
        return balance.get("q") == "OK" and None not in (balance["gridW"], balance["pvW"])

    await until(all_read, within_s=20, what="a balance of all meters")
    await operator.send(operator.command(LIMIT_W))
    await until(lambda: _in_force(operator) == LIMIT_W, within_s=10, what="the limit in force")


def _in_force(operator: Dso) -> float | None:
    status = operator.last("status")
    return status.get("limitW") if status.get("state") == "LIMITED" else None


async def test_meters_that_lie_or_fall_silent(site: System, broker: Broker, tmp_path: Path) -> None:
    faults = {
        "annex": ("annex", {"inverter": "nan"}, "the device gives no active power"),
        "load": ("north", {"load": "garbage"}, "STALE"),
        "inverter": ("north", {"inverter": "dead"}, "answer"),
    }

    def meter_said(meter: str, *words: str) -> bool:
        lines = site["north"].said().splitlines()
        return any(
            all(word in line for word in ("meter quality", f"meter={meter} ", *words)) for line in lines
        )

    async with dso(broker, "north") as operator:
        await _limited(operator)
        north = {
            device: fault for at, one, _ in faults.values() if at == "north" for device, fault in one.items()
        }
        (tmp_path / "north-faults.json").write_text(json.dumps(north))
        (tmp_path / "annex-faults.json").write_text(json.dumps(faults["annex"][1]))
        for meter, (_, fault, words) in faults.items():
            await until(
                lambda m=meter, w=words: meter_said(m, "WARN", w),
                within_s=15,
                what=f"{fault} of {meter} in the log",
            )
        await until(
            lambda: operator.last("telemetry")["pvW"] is None, within_s=5, what="an unknown generation"
        )
        seen = len(operator.of("telemetry"))
        await until(lambda: len(operator.of("telemetry")) > seen + 3, within_s=10, what="further telemetry")
        for balance in operator.of("telemetry")[seen:]:
            assert balance["q"] != "OK"
            assert balance["pvW"] is None, "what is not known is not 0"
            assert balance["gridW"] is not None, "the meter beside them on the bus goes on"
        assert not meter_said("grid", "WARN")
        assert _in_force(operator) == LIMIT_W, "the limit holds"
        for name in ("north", "annex"):
            (tmp_path / f"{name}-faults.json").write_text("{}")
        await until(lambda: operator.last("telemetry")["q"] == "OK", within_s=20, what="the meters' return")
    assert site["north"].running


async def test_limits_that_must_not_hold(site: System, broker: Broker) -> None:
    async with dso(broker, "north") as operator:
        await _limited(operator)
        accepted = operator.command(LIMIT_W)
        await operator.send(accepted)
        await until(lambda: operator.acks(accepted["id"]), within_s=5, what="an answer")
        past = stamp(CLOCK.now() - timedelta(seconds=60))
        bad = {
            "NEGATIVE_VALUE: valueW": operator.command(-5.0),
            "EXPIRED: expires": operator.command(9000.0, issued=past, expires=past),
            "EXPIRED: durationS": operator.command(9000.0, issued=past, durationS=10),
            "WRONG_SITE: site: south": operator.command(9000.0, site="south"),
            "MALFORMED: valueW: not a number": operator.command("much"),  # type: ignore[arg-type]
            "STALE_SEQUENCE: seq": operator.command(9000.0, seq=accepted["seq"] - 1),
            "REPLAY_OTHER_CONTENT: seq": {**accepted, "valueW": 9000.0},
        }
        for reason, command in bad.items():
            seen = len(operator.acks(command["id"]))
            await operator.send(command)
            await until(
                lambda c=command, n=seen: len(operator.acks(c["id"])) > n,
                within_s=5,
                what=f"answer: {reason}",
            )
            ack = operator.acks(command["id"])[-1]
            assert ack["status"] == "REJECTED"
            assert ack["reason"].startswith(reason)
            assert f"a grid command was refused  source=mqtt reason={reason}" in _plain(site["north"].said())
        replayed = len(operator.acks(accepted["id"]))
        await operator.send(accepted)
        await until(lambda: len(operator.acks(accepted["id"])) > replayed, within_s=5, what="a second answer")
        assert operator.acks(accepted["id"])[-1]["reason"] == "repeated"
        await operator.send(operator.command(9000.0), to="south")
        after = len(operator.of("status"))
        newest = operator.command(LIMIT_W - 100)  # the last word shows that all before it were read
        await operator.send(newest)
        await until(lambda: _in_force(operator) == LIMIT_W - 100, within_s=5, what="the next good limit")
        held = [body["limitW"] for body in operator.of("status")[:after] if body["state"] == "LIMITED"]
        assert set(held) == {LIMIT_W}, "no bad command ever showed in the status"


def _plain(text: str) -> str:
    return text.replace('"', "")


def _run(system: System, name: str) -> tuple[int, str]:
    """Run a daemon that must refuse to start; return exit code and what it said."""
    daemon = system[name]
    done = subprocess.run(daemon.argv, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


async def test_a_misspelt_key_in_the_agents_file(tmp_path: Path) -> None:
    system = System(folder=tmp_path, sites=("north",))
    config = system.agent_config("north")
    config["meters"][1]["pol_interval_s"] = 2.0
    write(tmp_path / "north.toml", config)
    code, said = _run(system, "north")
    assert code == 78
    assert "north.toml: meters[1].pol_interval_s: " in said
    assert "Traceback" not in said
    assert not (tmp_path / "state-north").exists(), "nothing was touched"


async def test_a_misspelt_key_in_the_coordinators_file(tmp_path: Path) -> None:
    system = System(folder=tmp_path, sites=("north",), coordinator={"planner": {"tik_s": 1.0}})
    code, said = _run(system, "coordinator")
    assert code == 78
    assert "coordinator.toml: planner.tik_s: " in said
    assert "Traceback" not in said
    assert not system.database.exists(), "nothing was touched"


async def test_an_agent_with_another_sites_certificate(tmp_path: Path) -> None:
    system = System(folder=tmp_path, sites=("north", "south"))
    write(tmp_path / "north.toml", {**system.agent_config("north"), "tls": tls("site", "south")})
    code, said = _run(system, "north")
    assert code == 2
    assert (
        "site-south.pem: is the certificate of spiffe://proof/site/south, not of spiffe://proof/site/north"
        in said
    )
    assert "Traceback" not in said


async def test_sites_that_the_coordinator_must_not_let_in(tmp_path: Path) -> None:
    """One that is not configured, and one whose certificate comes from elsewhere; a good one beside them."""
    other = tmp_path / "other"
    other.mkdir()
    pki.init(other, "proof")
    forged = pki.issue(other, Role.SITE, "south")
    system = System(folder=tmp_path, sites=("north", "south"))
    pki.issue(tmp_path / "pki", Role.SITE, "east")
    stranger = {**system.agent_config("north"), "site": "east", "state_dir": "state-east"}
    write(tmp_path / "east.toml", {**stranger, "tls": tls("site", "east")})
    system.daemons.add("east", "sterna-agent", "run", "--config", str(tmp_path / "east.toml"))
    liar = {"ca": "pki/ca.pem", "cert": str(forged.cert_file), "key": str(forged.key_file)}
    write(tmp_path / "south.toml", {**system.agent_config("south"), "tls": liar})
    code, said = _run(system, "south")
    assert code == 2
    assert str(forged.cert_file) in said
    write(
        tmp_path / "south.toml",
        {**system.agent_config("south"), "tls": {**liar, "ca": str(other / "ca.pem")}},
    )
    try:
        system.start()
        async with system.admin() as admin:
            await admin.connected("north")
            refusal = "PERMISSION_DENIED", "site east is not in the coordinator's configuration"
            for name in ("coordinator", "east"):
                await until(
                    lambda name=name: all(word in system[name].said() for word in refusal),
                    within_s=15,
                    what=f"the refusal of east in the log of {name}",
                )
            await until(
                lambda: "CERTIFICATE_VERIFY_FAILED" in system["south"].said(),
                within_s=15,
                what="a bad handshake",
            )
            for name in ("coordinator", "south"):
                assert "ssl_transport_security" not in system[name].said(), "gRPC's own lines in our log"
            for name in ("south", "east"):
                site = await admin.site(name)
                assert site is None or not site.connected
            assert (await admin.site("north")).connected  # type: ignore[union-attr]
            assert system["south"].running, "an agent goes on without its coordinator"
    finally:
        system.daemons.end_all()


async def test_check_config_says_the_same(tmp_path: Path) -> None:
    system = System(folder=tmp_path, sites=("north",))
    write(tmp_path / "north.toml", {**system.agent_config("north"), "grind": {}})
    argv = [str(COMMANDS / "sterna-agent"), "check-config", "--config", str(tmp_path / "north.toml")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "north.toml: grind: " in done.stderr
