"""Lied to: bad meters, limits, configurations and certificates get a clear error and change nothing else."""

import json
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent.grid.wire import stamp
from sterna import pki
from sterna.identity import Role
from tests.brokers import Broker
from tests.system.daemons import COMMANDS, until
from tests.system.dso import CLOCK, Dso, dso, metered, plant_argv
from tests.system.harness import System, free_port, tls, write

pytestmark = [pytest.mark.procs, pytest.mark.broker]

LIMIT_W = 2500.0


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker
    broker.kill()


@pytest.fixture
async def site(tmp_path: Path, broker: Broker) -> AsyncIterator[System]:
    """One site with a plant, three meters and a grid operator; no coordinator is there."""
    port = free_port()
    system = System(
        folder=tmp_path, sites=("north",), agents={"north": metered(tmp_path, "north", port, broker)}
    )
    system.daemons.add("plant", *plant_argv(tmp_path, "north", port))
    try:
        system["plant"].start()
        system["north"].start()
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


async def test_a_meter_that_lies_or_falls_silent(site: System, broker: Broker, tmp_path: Path) -> None:
    faults = tmp_path / "north-faults.json"
    words = {"nan": "the device gives no active power", "garbage": "", "dead": "no usable answer"}
    async with dso(broker, "north") as operator:
        await _limited(operator)
        for fault, word in words.items():
            said_before = len(site["north"].said())
            faults.write_text(json.dumps({"grid": fault}))

            def fault_shows(said_before: int = said_before, word: str = word) -> bool:
                lines = [x for x in site["north"].said()[said_before:].splitlines() if "meter=grid" in x]
                return any("meter quality" in x and "WARN" in x and word in x for x in lines)

            await until(fault_shows, within_s=15, what=f"the grid meter's fault {fault} in the log")
            await until(
                lambda: operator.last("telemetry")["q"] != "OK", within_s=10, what="a balance marked as bad"
            )
            if fault == "nan":
                assert operator.last("telemetry")["gridW"] is None, "a number that is none is not 0"
            before = len(operator.of("telemetry"))
            await until(
                lambda seen=before: len(operator.of("telemetry")) > seen + 2,
                within_s=10,
                what="further telemetry",
            )
            assert operator.last("telemetry")["pvW"] is not None, "the inverter on the same bus goes on"
            assert _in_force(operator) == LIMIT_W, "the limit holds"
            faults.write_text("{}")
            await until(
                lambda: operator.last("telemetry")["q"] == "OK", within_s=20, what="the meter's return"
            )
        assert site["north"].running
        assert not any("inverter" in x and "WARN" in x for x in site["north"].said().splitlines())


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
    assert code == 2
    assert "north.toml: meters[1].pol_interval_s: " in said
    assert "Traceback" not in said
    assert not (tmp_path / "state-north").exists(), "nothing was touched"


async def test_a_misspelt_key_in_the_coordinators_file(tmp_path: Path) -> None:
    system = System(folder=tmp_path, sites=("north",), coordinator={"planner": {"tik_s": 1.0}})
    code, said = _run(system, "coordinator")
    assert code == 2
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
            await until(lambda: "east" in system["coordinator"].said(), within_s=15, what="a word about east")
            await until(
                lambda: "WARN" in system["south"].said(), within_s=15, what="the forged site's complaint"
            )
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
