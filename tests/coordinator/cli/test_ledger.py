"""`sterna ledger` against a coordinator with sites on real gRPC, and its checks offline."""

import csv
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from coordinator.bookkeeping import HEAD_FILE
from coordinator.cli.exits import CallError, Exit
from coordinator.service.ledger_service import LEAST_ROLE
from sterna import pki
from sterna.clock import SystemClock
from sterna.errors import ConfigError, CorruptError
from sterna.identity import Identity, Role
from sterna.rpc import open_channel
from sterna.v1 import ledger_service_pb2 as api
from sterna.v1.ledger_service_pb2_grpc import LedgerServiceStub
from tests.conftest import Eventually
from tests.coordinator.cli.conftest import WITHIN_S, Ended, run_here
from tests.coordinator.tasks.fakesite import FLEET, until
from tests.coordinator.tasks.house import House, house


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return pki.make_signing_key(tmp_path / "pki", "ledger-key")


def client(folder: Path, home: House, role: Role = Role.VIEWER) -> str:
    path = folder / "client.toml"
    path.write_text(
        f'coordinator = "127.0.0.1:{home.port}"\nfleet = "{FLEET}"\ninsecure = true\n'
        f'identity = "spiffe://{FLEET}/{role.value}/ann"\n'
    )
    return str(path)


@pytest.fixture
async def home(tmp_path: Path, keys: tuple[Path, Path]) -> AsyncIterator[House]:
    ledger = {"key": str(keys[0]), "slot_s": 1.0}
    sites = [{"id": "miami", "carbon_g_per_kwh": 400.0}, {"id": "nome"}]
    async with house(tmp_path, ledger=ledger, sites=sites) as home:
        yield home


async def shown(home: House, folder: Path, *words: str) -> Ended:
    ended = await run_here("ledger", *words, "--config", client(folder, home))
    assert ended.code == Exit.OK, ended.err
    return ended


async def data(home: House, folder: Path, *words: str) -> Any:
    return json.loads((await shown(home, folder, *words, "--json")).out)["data"]


async def test_what_a_job_drew_is_told_exported_checked_and_proven(
    home: House,
    tmp_path: Path,
    keys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    monkeypatch.setattr("coordinator.tasks.accounting.SETTLE_S", 0.5)
    job_id = await home.submit()
    await home.running(job_id)

    async def booked() -> bool:
        answer = await data(home, tmp_path, "--job", job_id[:8], "--site", "miami")
        return bool(answer["entries"]) and answer["entries"][0]["renewable_wh"] > 0

    await eventually(booked, within_s=WITHIN_S, what="something of the job is booked")
    (row,) = (await data(home, tmp_path, "--job", job_id, "--site", "miami"))["entries"]
    # The fake site's sun gives 1000 W and its node draws 10.
    assert (row["nonrenewable_wh"], row["unattributed_wh"], row["carbon_g"]) == (0.0, 0.0, 0.0)
    text = (await shown(home, tmp_path, "--csv", str(tmp_path / "rows.csv"))).out
    assert "miami" in text and "(no job)" in text and "booked from" in text
    with (tmp_path / "rows.csv").open() as file:
        found = {(one["site"], one["job"]): one for one in csv.DictReader(file)}
    assert float(found["miami", job_id]["renewable_wh"]) > 0
    tomorrow = (SystemClock().now() + timedelta(days=1)).date().isoformat()
    assert (await data(home, tmp_path, "--from", tomorrow))["entries"] == []

    export = tmp_path / "records.jsonl"
    await shown(home, tmp_path, "export", str(export))
    checked = await run_here("ledger", "verify", str(export), "--key", str(keys[1]))
    assert (checked.code, "good; fleet test-fleet" in checked.out) == (Exit.OK, True)
    with pytest.raises(ConfigError, match="exists already"):
        await run_here("ledger", "export", str(export), "--config", client(tmp_path, home))

    decision = await home.coordinator.desk.last_decision(job_id)
    assert decision is not None
    proof = await shown(home, tmp_path, "prove", decision.decision_id)
    (tmp_path / "proof.json").write_text(proof.out)
    checked = await run_here("ledger", "verify", str(tmp_path / "proof.json"), "--key", str(keys[1]))
    assert "is in the root so far of its day" in checked.out
    (tmp_path / "proof.json").write_text(proof.out.replace('"index":', '"index":1'))
    with pytest.raises(CorruptError, match="another place"):
        await run_here("ledger", "verify", str(tmp_path / "proof.json"), "--key", str(keys[1]))
    later = tmp_path / "later.jsonl"
    await shown(home, tmp_path, "export", str(later))
    checked = await run_here(
        *("ledger", "verify", str(later), "--key", str(keys[1])), "--against", str(export), "--json"
    )
    assert json.loads(checked.out)["data"]["good"] is True
    assert (tmp_path / "coordinator" / HEAD_FILE).exists()


async def test_a_spoilt_export_ends_with_the_record_that_is_wrong(
    home: House, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    for number in range(2):
        job_id = await home.submit(request_id=f"r{number}")
    await until(lambda: home.job(job_id).owner_site is not None, "the last job has no site")
    export = tmp_path / "records.jsonl"
    await shown(home, tmp_path, "export", str(export))
    lines = export.read_bytes().splitlines(keepends=True)
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_bytes(b"".join([lines[0], lines[1].replace(b"miami", b"nome0"), *lines[2:]]))
    words = ("ledger", "verify", str(spoilt), "--key", str(keys[1]))
    with pytest.raises(CorruptError, match=r"spoilt\.jsonl: record 1: its signature is not that of the key"):
        await run_here(*words)
    # An older export that is spoilt itself proves nothing.
    words = ("ledger", "verify", str(export), "--key", str(keys[1]), "--against", str(spoilt))
    with pytest.raises(CorruptError, match=r"^\S*spoilt\.jsonl: record 1"):
        await run_here(*words)


@pytest.mark.parametrize(
    ("words", "error", "why"),
    [
        (("--job", "nobody"), CallError, "no job 'nobody'"),
        (("--site", "mars"), CallError, "no site 'mars'; known sites: miami, nome"),
        (("--from", "2030-01-02", "--to", "2030-01-01"), CallError, "expected later than since"),
        (("--from", "soon"), ConfigError, "--from soon: expected an instant"),
        (("prove", "x"), CallError, "no signed record of a decision 'x'"),
        (("prove", ""), CallError, "expected the id of a decision"),
        (("export", "/nowhere/at/all"), ConfigError, "/nowhere/at/all"),
    ],
)
async def test_what_cannot_be_answered_says_why(
    home: House, tmp_path: Path, words: tuple[str, ...], error: type[Exception], why: str
) -> None:
    with pytest.raises(error) as raised:
        await run_here("ledger", *words, "--config", client(tmp_path, home))
    assert why in str(raised.value)


async def test_without_a_key_nothing_is_signed_and_all_is_booked(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        config = client(tmp_path, home)
        for words in (("export", str(tmp_path / "x")), ("prove", "d")):
            with pytest.raises(CallError, match="signs no records") as raised:
                await run_here("ledger", *words, "--config", config)
            assert raised.value.exit_code is Exit.REFUSED
        assert not (tmp_path / "x").exists()
        assert "nothing is booked yet; slots of 1.00 h" in (await shown(home, tmp_path)).out
        assert (await data(home, tmp_path))["entries"] == []


@pytest.mark.parametrize("role", list(Role))
async def test_every_call_with_every_role(home: House, role: Role) -> None:
    calls = [method.name for method in api.DESCRIPTOR.services_by_name["LedgerService"].methods]
    assert sorted(LEAST_ROLE) == sorted(calls)
    channel = open_channel(
        f"127.0.0.1:{home.port}",
        credentials=None,
        expected=Identity(fleet=FLEET, role=Role.COORDINATOR, name="main"),
        insecure=True,
        claim=Identity(fleet=FLEET, role=role, name="ann"),
    )
    denied = set()
    async with channel:
        stub = LedgerServiceStub(channel)
        for call in calls:
            request = getattr(api, f"{call}Request")()
            try:
                answer = getattr(stub, call)(request, timeout=10.0)
                await (answer.read() if call == "ExportRecords" else answer)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    denied.add(call)
    assert denied == (set() if role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN) else set(calls))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "no public key to read"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key to read"),
    ],
)
async def test_a_key_that_is_none_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    key = tmp_path / "public.pem"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(ConfigError, match=why) as raised:
        await run_here("ledger", "verify", str(tmp_path / "x"), "--key", str(key))
    assert str(key) in str(raised.value)


async def test_a_file_that_is_not_there_is_named(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="x: No such file"):
        await run_here("ledger", "verify", str(tmp_path / "x"), "--key", str(keys[1]))
