"""The command against the coordinator as it ships: two processes, nothing between them but the port."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from coordinator.cli.exits import CallError, Exit
from sterna.identity import Role
from tests.conftest import Eventually, Fleet
from tests.coordinator.cli.conftest import WITHIN_S, Configure, environment, run, run_here
from tests.coordinator.cli.test_app import JOB_FILE
from tests.ports import free_port

DAEMON = Path(sys.executable).parent / "sterna-coordinator"


@pytest.mark.procs
async def test_a_coordinator_is_operated_and_remembers(
    configure: Configure, fleet: Fleet, tmp_path: Path, eventually: Eventually
) -> None:
    port = free_port()
    config = tmp_path / "coordinator.toml"
    files = fleet.files(Role.COORDINATOR, "main")
    config.write_text(
        f'fleet = "{fleet.name}"\nid = "main"\nlisten = "127.0.0.1:{port}"\nstate_dir = "state"\n'
        f'[tls]\nca = "{files.ca_file}"\ncert = "{files.cert_file}"\nkey = "{files.key_file}"\n'
        '[[sites]]\nid = "kiel"\n[[sites]]\nid = "malaga"\n'
    )
    client = str(configure(role=Role.OPERATOR, coordinator=f"127.0.0.1:{port}"))

    async def answers() -> bool:
        try:
            return (await run_here("sites", "--config", client)).code == Exit.OK
        except CallError:
            return False

    async def data(*words: str) -> object:
        ended = await run_here(*words, "--json", "--config", client)
        assert ended.code == Exit.OK, ended.err
        return json.loads(ended.out)["data"]

    submitted: object = None
    for start in range(2):
        daemon = await asyncio.create_subprocess_exec(
            DAEMON,
            *["run", "--config", str(config)],
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        try:
            await eventually(answers, within_s=WITHIN_S, what="the coordinator answers")
            if start == 0:
                submitted = await data("job", "submit", str(JOB_FILE))
                drained = await data("site", "drain", "kiel")
                assert isinstance(drained, dict)
                assert drained["draining"]
            jobs, sites = await data("jobs"), await data("sites")
            assert isinstance(jobs, list)
            assert isinstance(sites, list)
            assert isinstance(submitted, dict)
            assert [job["job_id"] for job in jobs] == [submitted["job_id"]]
            assert [(site["site_id"], site["draining"]) for site in sites] == [
                ("kiel", True),
                ("malaga", False),
            ]
            explained = await run("job", "explain", submitted["job_id"][:6], "--config", client)
            assert explained.code == Exit.OK, explained.err
            assert "kiel: infeasible" in explained.out
            fenced = await run("site", "fence", "kiel", "--confirm", "kiel", "--config", client)
            assert fenced.code == Exit.DENIED
        finally:
            daemon.terminate()
            async with asyncio.timeout(WITHIN_S):
                _, err = await daemon.communicate()
        assert daemon.returncode == 0, err.decode()


@pytest.mark.procs
async def test_a_ledger_is_kept_over_a_restart_and_a_viewer_can_check_it(
    configure: Configure, fleet: Fleet, tmp_path: Path, eventually: Eventually
) -> None:
    port = free_port()
    made = await run_here("pki", "ledger-key", "--dir", str(tmp_path / "keys"))
    assert made.code == Exit.OK, made.err
    files = fleet.files(Role.COORDINATOR, "main")
    config = tmp_path / "coordinator.toml"
    config.write_text(
        f'fleet = "{fleet.name}"\nlisten = "127.0.0.1:{port}"\nstate_dir = "state"\n'
        f'[tls]\nca = "{files.ca_file}"\ncert = "{files.cert_file}"\nkey = "{files.key_file}"\n'
        '[[sites]]\nid = "kiel"\n[planner]\nsettle_s = 0.1\ntick_s = 0.1\n'
        '[ledger]\nkey = "keys/ledger-key.pem"\n'
    )
    exports = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for export in exports:
        daemon = await asyncio.create_subprocess_exec(
            DAEMON, *["run", "--config", str(config)], stderr=asyncio.subprocess.PIPE, env=environment()
        )
        operator = str(configure(role=Role.OPERATOR, coordinator=f"127.0.0.1:{port}"))

        async def submitted(client: str = operator) -> bool:
            try:
                return (await run_here("job", "submit", str(JOB_FILE), "--config", client)).code == Exit.OK
            except CallError:
                return False

        async def decided(export: Path = export) -> bool:
            client = str(configure(role=Role.VIEWER, coordinator=f"127.0.0.1:{port}"))
            export.unlink(missing_ok=True)
            ended = await run_here("ledger", "export", str(export), "--config", client)
            assert ended.code == Exit.OK, ended.err
            # A record for each job that waits, since no site is there, and the seal.
            return len(export.read_bytes().splitlines()) > exports.index(export) + 1

        try:
            await eventually(submitted, within_s=WITHIN_S, what="the coordinator takes a job")
            await eventually(decided, within_s=WITHIN_S, what="the decision about it is signed")
        finally:
            daemon.terminate()
            _, err = await daemon.communicate()
        assert daemon.returncode == 0, err.decode()
    public = str(tmp_path / "keys" / "ledger-key-public.pem")
    words = ("ledger", "verify", str(exports[1]), "--key", public, "--against", str(exports[0]))
    checked = await run(*words)
    assert (checked.code, "good" in checked.out) == (Exit.OK, True), checked.err
    exports[1].write_bytes(exports[1].read_bytes().replace(b'"does":"wait"', b'"does":"stay"', 1))
    spoilt = await run(*words)
    assert (spoilt.code, spoilt.err) == (
        Exit.USAGE,
        f"sterna: {exports[1]}: the first line: its signature is not that of the key\n",
    )
