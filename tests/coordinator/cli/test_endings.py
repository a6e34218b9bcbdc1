"""How the command ends when it cannot do what it was told: one clear message and an exit code."""

import asyncio
import json
import os
import pty
from pathlib import Path

import pytest

from coordinator.cli.exits import Exit
from coordinator.model import events as ev
from coordinator.service.operator_fake import FakeDesk
from sterna.identity import Role
from tests.conftest import Fleet
from tests.coordinator.cli.conftest import (
    WITHIN_S,
    Configure,
    Ended,
    ctrl_c,
    end_of,
    environment,
    next_line,
    run,
    start,
)
from tests.coordinator.service.operator_world import DONE, NOW, RUNNING, serving
from tests.ports import free_port


@pytest.mark.parametrize(
    ("words", "code", "lines"),
    [
        (["job", "show", "zz"], Exit.NOT_FOUND, ["sterna: no job 'zz'"]),
        (["job", "cancel", DONE], Exit.REFUSED, [f"sterna: job {DONE} has already ended"]),
        (
            ["job", "migrate", RUNNING, "miami"],
            Exit.REFUSED,
            [
                f"sterna: moving {RUNNING} to miami is not feasible",
                "  the site is not available",
                "  time: 12.000 s, but 0.1 of the window is 9.000 s; mended by a window of more than 132 s "
                "from now or a checkpoint below 2e+08 B or a link above 4e+09 bit/s",
            ],
        ),
        (["site", "drain", "atlantis"], Exit.NOT_FOUND, None),
        (["job", "show", "a1"], Exit.USAGE, None),
        (
            ["site", "fence", "miami"],
            Exit.USAGE,
            ["sterna: not fenced; --confirm miami says that you mean it"],
        ),
        (["job", "submit", "/nowhere/job.toml"], Exit.USAGE, None),
        (["jobs", "--frobnicate"], Exit.USAGE, None),
    ],
)
async def test_refusals(config: Path, words: list[str], code: Exit, lines: list[str] | None) -> None:
    ended = await run(*words, "--config", str(config))
    assert (ended.code, ended.out) == (code, "")
    assert "Traceback" not in ended.err
    if lines is not None:
        assert ended.err.splitlines() == lines


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["demo", "--no-screen", "--json", "/nowhere/x.json"], "/nowhere/x.json: No such file or directory"),
        (["replay", "--data", "/nowhere"], "/nowhere: no such folder; --data names the one with the traces"),
        (["replay", "--data", "/", "--offsets", "3..1"], "offsets 3..1: none; expected numbers like 0,2 or"),
    ],
)
async def test_what_cannot_be_is_told_at_once(words: list[str], line: str) -> None:
    ended = await run(*words)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert ended.err.startswith(f"sterna: {line}") and len(ended.err.splitlines()) == 1


async def test_every_fault_of_a_spec_is_a_line(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(
        'name = "n"\nargv = ["x"]\npower_w = 1.0\ncheckpoint_bytes = 1\nstop_signal = "NOPE"\n'
        'home_site = "atlantis"\ncheckpoint_glob = "../x"\n'
    )
    ended = await run("job", "submit", str(file), "--config", str(config))
    assert ended.code == Exit.USAGE
    first, *rest = ended.err.splitlines()
    assert first.startswith("sterna: job.toml: 3 fields are not usable: checkpoint_glob, ")
    assert [line.split(":")[0].strip() for line in rest] == ["checkpoint_glob", "stop_signal", "home_site"]


async def test_every_fault_of_a_job_file_is_a_line(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('name = "n"\nargv = []\npower_w = -1.0\ncheckpoint_bytes = 1\nload_s = 1e300\n')
    ended = await run("job", "submit", str(file), "--config", str(config))
    assert ended.code == Exit.USAGE
    said = [line.split(": ")[:3] for line in ended.err.splitlines()]
    assert said == [["sterna", "job.toml", key] for key in ("argv", "power_w", "load_s")]


async def test_a_role_that_is_too_low(configure: Configure) -> None:
    config = configure(role=Role.VIEWER)
    assert (await run("jobs", "--config", str(config))).code == Exit.OK
    ended = await run("site", "drain", "kiel", "--config", str(config))
    assert ended.code == Exit.DENIED
    assert ended.err == (
        "sterna: spiffe://test-fleet/viewer/ann may not call DrainSite: it takes the role operator\n"
    )


async def test_nobody_listens(configure: Configure) -> None:
    address = f"127.0.0.1:{free_port()}"
    ended = await run("jobs", "--config", str(configure(coordinator=address)))
    assert ended.code == Exit.UNREACHABLE
    assert ended.err == f"sterna: coordinator {address}: connection refused; is it running there?\n"


async def test_a_certificate_of_another_authority(configure: Configure, other_fleet: Fleet) -> None:
    ended = await run("jobs", "--config", str(configure(authority=other_fleet)))
    assert ended.code == Exit.UNREACHABLE
    [line] = ended.err.splitlines()
    assert line.endswith("its certificate is not of the authority of fleet test-fleet")


async def test_our_own_certificate_is_of_another_authority(
    configure: Configure, fleet: Fleet, other_fleet: Fleet, port: int, tmp_path: Path
) -> None:
    """We trust it, it does not trust us: it would be refused by ourselves, before anything is dialled."""
    stranger, ours = other_fleet.files(Role.ADMIN, "ann"), fleet.files(Role.ADMIN, "ann")
    config = tmp_path / "mixed.toml"
    config.write_text(
        f'coordinator = "127.0.0.1:{port}"\nfleet = "test-fleet"\n[tls]\nca = "{ours.ca_file}"\n'
        f'cert = "{stranger.cert_file}"\nkey = "{stranger.key_file}"\n'
    )
    ended = await run("jobs", "--config", str(config))
    assert ended.code == Exit.USAGE
    [line] = ended.err.splitlines()
    assert "not valid under the CA" in line


async def test_another_coordinator_than_expected(configure: Configure) -> None:
    ended = await run("jobs", "--config", str(configure(coordinator_id="other")))
    assert ended.code == Exit.UNREACHABLE
    [line] = ended.err.splitlines()
    assert "it is not spiffe://test-fleet/coordinator/other" in line


async def test_a_fleet_that_our_certificate_is_not_of(configure: Configure) -> None:
    ended = await run("jobs", "--config", str(configure(fleet="elsewhere")))
    assert ended.code == Exit.USAGE
    assert ended.err.endswith("is of fleet test-fleet, not of elsewhere\n")


async def test_no_configuration_says_what_to_write(tmp_path: Path) -> None:
    env = environment(STERNA_CLIENT_CONFIG=str(tmp_path / "absent.toml"))
    ended = await run("jobs", env=env)
    assert ended.code == Exit.USAGE
    assert "absent.toml: not found; write one with" in ended.err


async def test_watch_prints_a_document_a_line_and_ends_quietly_at_ctrl_c(
    config: Path, desk: FakeDesk
) -> None:
    watch = await start("watch", "--json", "--config", str(config))
    first = json.loads(await next_line(watch))
    assert (first["schema"], first["kind"]) == ("sterna.cli/1", "fleet")
    assert not first["data"]["sites"][0]["draining"]
    await desk.happen(ev.SiteDrained(at=NOW, site_id="kiel"))
    second = json.loads(await next_line(watch))
    assert second["data"]["sites"][0]["draining"]
    assert await ctrl_c(watch) == Ended(code=Exit.INTERRUPTED, out="", err="")


async def test_watch_on_a_terminal_gives_the_screen_back(config: Path) -> None:
    ours, theirs = pty.openpty()
    terminal = environment(TERM="xterm", COLUMNS="120", LINES="40")
    watch = await start("watch", "--config", str(config), env=terminal, stdin=theirs, stdout=theirs)
    os.close(theirs)
    seen = bytearray()
    loop = asyncio.get_running_loop()
    painted = asyncio.Event()

    def take() -> None:
        try:
            seen.extend(os.read(ours, 65536))
        except OSError:  # the other end is closed
            loop.remove_reader(ours)
        if b"bert" in seen:
            painted.set()

    loop.add_reader(ours, take)
    async with asyncio.timeout(WITHIN_S):
        await painted.wait()
    assert await ctrl_c(watch) == Ended(code=Exit.INTERRUPTED, out="", err="")
    take()
    loop.remove_reader(ours)
    os.close(ours)
    assert b"\x1b[?1049h" in seen
    assert seen.rfind(b"\x1b[?1049l") > seen.rfind(b"\x1b[?1049h"), "the alternate screen was left on"
    assert b"\x1b[32m" in seen or b"\x1b[33m" in seen, "no colours on a terminal"


async def test_a_reader_that_leaves_is_no_error(config: Path, desk: FakeDesk) -> None:
    watch = await start("watch", "--json", "--config", str(config))
    await next_line(watch)
    watch._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    await desk.happen(ev.SiteDrained(at=NOW, site_id="kiel"))
    assert await end_of(watch) == Ended(code=Exit.FAILED, out="", err="")


async def test_the_coordinator_goes_away_while_watched(
    fleet: Fleet, desk: FakeDesk, configure: Configure
) -> None:
    async with serving(desk, fleet) as port:
        watch = await start("watch", "--json", "--config", str(configure(coordinator=f"127.0.0.1:{port}")))
        await next_line(watch)
    gone = await end_of(watch)
    assert gone.code == Exit.UNREACHABLE
    [line] = gone.err.splitlines()
    assert line.startswith(f"sterna: coordinator 127.0.0.1:{port}: ")
