"""A coordinator's operator service on a port, and the command as a real process against it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli.app import app
from coordinator.service.operator_fake import FakeDesk
from sterna.identity import Role
from tests.conftest import Fleet
from tests.coordinator.service import operator_world as world

COMMAND = Path(sys.executable).parent / "sterna"
WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """Ours without what would change how a command prints."""
    kept = {key: value for key, value in os.environ.items() if key not in {"FORCE_COLOR", "COLUMNS"}}
    return {**kept, **changes}


async def start(
    *words: str, env: dict[str, str] | None = None, stdin: int = DEVNULL, stdout: int = PIPE
) -> Process:
    """Start `sterna`."""
    return await create_subprocess_exec(
        COMMAND, *words, stdin=stdin, stdout=stdout, stderr=PIPE, env=env or environment()
    )


async def end_of(process: Process) -> Ended:
    """Wait for its end; what was read of its output before is not in the answer."""
    async with asyncio.timeout(WITHIN_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(code=process.returncode, out=(out or b"").decode(), err=err.decode())


async def ctrl_c(process: Process) -> Ended:
    """Press Ctrl-C, and wait for its end."""
    process.send_signal(signal.SIGINT)
    return await end_of(process)


async def run(*words: str, env: dict[str, str] | None = None) -> Ended:
    """Run `sterna` to its end."""
    return await end_of(await start(*words, env=env))


async def next_line(process: Process) -> str:
    """Return the next line that a running command prints."""
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        return (await process.stdout.readline()).decode()


async def run_here(*words: str) -> Ended:
    """Run `sterna` in a thread of this process: the same code, without the start of an interpreter."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(code=result.exit_code, out=result.stdout, err=result.stderr)


@pytest.fixture
def desk() -> FakeDesk:
    return world.desk()


@pytest.fixture
async def port(desk: FakeDesk, fleet: Fleet) -> AsyncIterator[int]:
    async with world.serving(desk, fleet, watch_period_s=0.05) as port:
        yield port


Configure = Callable[..., Path]


@pytest.fixture
def configure(port: int, fleet: Fleet, tmp_path: Path) -> Configure:
    """Write a client.toml; changes replace its lines."""

    def write(*, role: Role = Role.ADMIN, authority: Fleet = fleet, **changes: str | int) -> Path:
        files = authority.files(role, "ann")
        entries: dict[str, str | int] = {
            "coordinator": f"127.0.0.1:{port}",
            "fleet": fleet.name,
            **changes,
        }
        lines = [f"{key} = {value!r}".replace("'", '"') for key, value in entries.items()]
        tls = ["[tls]", f'ca = "{files.ca_file}"', f'cert = "{files.cert_file}"', f'key = "{files.key_file}"']
        path = tmp_path / "client.toml"
        path.write_text("\n".join([*lines, *tls]) + "\n")
        return path

    return write


@pytest.fixture
def config(configure: Configure) -> Path:
    """An admin's client.toml."""
    return configure()
