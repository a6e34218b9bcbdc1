"""Jobs in real containers, with each engine that this machine has: what is promised of processes holds."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.core.container_paths import PYTHON as MODULES
from agent.core.container_paths import RUN
from agent.core.containers import Folder
from agent.jobs.runner import Run
from agent.model.jobs import ContainerSpec, JobPhase, JobSpec
from agent.model.orders import Fetch, OrderResult, Prepare, Start, Stop
from agent.shim import files
from tests.agent.jobs import engines
from tests.agent.jobs.conftest import Site
from tests.agent.jobs.endings import end_runs
from tests.agent.jobs.engines import IMAGE, Rig
from tests.waiting import until

TRAINER = Path(__file__).parent / "container_trainer.py"


@pytest.fixture(scope="module", params=["podman", pytest.param("docker", marks=pytest.mark.long)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with {"podman": engines.podman, "docker": engines.docker}[request.param]() as found:
        if isinstance(found, str):
            pytest.skip(found)
        yield found


@contextlib.asynccontextmanager
async def _site(tmp_path: Path, rig: Rig, name: str, **rules: object) -> AsyncIterator[Site]:
    folders = rig.folders | {"code": Folder(path=str(TRAINER.parent))}
    site = Site(tmp_path / name, name, containers=rig.rules(folders=folders, **rules))
    await site.up()
    try:
        yield site
    finally:
        await site.down()
        await asyncio.to_thread(end_runs, site.jobs, 1.0)


@pytest.fixture
async def site(tmp_path: Path, rig: Rig) -> AsyncIterator[Site]:
    async with _site(tmp_path, rig, "a") as made:
        yield made


def spec(*words: str, **fields: object) -> JobSpec:
    container = ContainerSpec(image=IMAGE, mounts={"code": "/code"} | engines.python_mounts())
    argv = (engines.PYTHON, *(words or ("/code/container_trainer.py",)))
    defaults: dict[str, object] = {"name": "c", "argv": argv, "stop_grace_s": 10.0, "container": container}
    return JobSpec(**(defaults | fields))  # type: ignore[arg-type]


def start(job: JobSpec, checkpoint_id: str | None = None) -> Start:
    return Start(spec=job, checkpoint_id=checkpoint_id, lease_ttl_s=None)


def _run(site: Site) -> Run:
    """Return the latest run."""
    runs = (site.jobs / "j1" / "runs").iterdir()
    return Run(max(runs, key=lambda path: path.stat().st_ctime), contained=True)


def _seen(site: Site) -> dict[str, str]:
    """What the program wrote of its surroundings."""
    seen: dict[str, str] = json.loads((_run(site).shared / "seen.json").read_text())
    return seen


def _state(process: tuple[int, int]) -> str:
    """Return a process's state as proc_pid_stat(5) has it."""
    return Path(f"/proc/{process[0]}/stat").read_text().rpartition(")")[2].split()[0]


def _step(site: Site) -> int:
    report = site.report()
    return report.step or 0 if report is not None else 0


async def test_moves_from_one_site_to_another(tmp_path: Path, rig: Rig, site: Site) -> None:
    job = spec(env={"ODD": ' a "b" $c #d=é '})
    assert (await site.order(start(job))).result is OrderResult.ACCEPTED
    await site.phase(JobPhase.RUNNING)
    await until(lambda: _step(site) >= 5, "steps")
    assert len(rig.listed()) == 1
    seen = _seen(site)
    assert seen["ODD"] == ' a "b" $c #d=é '
    assert seen["STERNA_CHECKPOINT_DIR"] == f"{RUN}/checkpoints"
    assert seen["module"] == f"{MODULES}/sterna/job.py", "what lies there, nobody else's"
    await site.order(Stop(reason="test", cancel=False))
    sealed = await site.phase(JobPhase.SEALED)
    assert sealed.message == ""
    assert sealed.checkpoints[0].manifest.step == sealed.step, "nothing is lost"
    assert rig.listed() == []
    async with _site(tmp_path, rig, "b") as other:
        other.carrier._sites = {"a": site.checkpoints}
        held = sealed.checkpoints[0].checkpoint_id
        await other.order(
            Prepare(spec=job, checkpoint_bytes=1000, expires_after_s=60.0), epoch=2, migration="m"
        )
        await other.order(
            Fetch(checkpoint_id=held, holder_site="a", holder_address=None, ticket="t", max_bps=None),
            epoch=2,
            migration="m",
        )
        await other.phase(JobPhase.HELD)
        await other.order(start(job, held), epoch=2, migration="m")
        await until(lambda: _step(other) > (sealed.step or 0), "steps after the move")
        assert _seen(other)["resumed_at"] == sealed.step, "by its own count"
        assert _seen(other)["STERNA_RESUME_FROM"].startswith(f"{RUN}/resume/")
        (_run(other).shared / "enough").touch()
        assert (await other.phase(JobPhase.COMPLETED)).message == ""
        assert rig.listed() == []
        mine = {path.stat().st_uid for path in _run(other).directory.rglob("*")}
        assert mine == {os.geteuid()}, "whatever the image says, files are the agent's"


async def test_is_paused_and_goes_on(site: Site, rig: Rig) -> None:
    await site.order(start(spec()))
    await until(lambda: _step(site) >= 3, "steps")
    assert await site.keeper.pause("j1")
    report = await site.phase(JobPhase.PAUSED)
    if rig.pauses:
        assert rig.status() == "paused"
    else:
        assert set(map(_state, files.processes_of_run(_run(site).run_id))) == {"T"}
    assert await site.keeper.resume("j1")
    await until(lambda: _step(site) > (report.step or 0) + 3, "steps after the pause")


async def test_one_that_is_paused_stops_with_a_checkpoint(site: Site, rig: Rig) -> None:
    await site.order(start(spec()))
    await until(lambda: _step(site) >= 3, "steps")
    assert await site.keeper.pause("j1")
    await site.order(Stop(reason="test", cancel=False))
    sealed = await site.phase(JobPhase.SEALED)
    assert sealed.checkpoints[0].manifest.step == sealed.step
    assert rig.listed() == []


async def test_one_that_hears_nothing_is_killed_after_its_grace(site: Site, rig: Rig) -> None:
    await site.order(start(spec("/code/container_trainer.py", "deaf", stop_grace_s=0.5)))
    await until(lambda: _step(site) >= 3, "steps")
    await site.order(Stop(reason="test", cancel=False))
    await site.phase(JobPhase.SEALED)
    record = files.read_record(str(_run(site).directory), files.EXIT)
    assert record is not None and (record["cause"], record["killed"]) == ("stopped", True)
    assert rig.listed() == []


async def test_what_a_dead_shim_leaves_is_ended_before_the_job_runs_again(site: Site, rig: Rig) -> None:
    await site.order(start(spec("/code/container_trainer.py", "deaf", stop_grace_s=0.2)))
    await until(lambda: _step(site) >= 3, "steps")
    old = rig.listed()
    first = _run(site)
    assert first.nudge(signal.SIGKILL)
    runs = first.directory.parent
    await until(lambda: len(list(runs.glob("*/shared/seen.json"))) == 2, "the program of the second run")
    new = rig.listed()
    assert len(old) == len(new) == 1
    assert old != new
    await site.order(Stop(reason="test", cancel=True))
    await site.phase(JobPhase.SEALED)


async def test_nothing_of_a_job_is_left_where_it_starts(site: Site, rig: Rig) -> None:
    mounts = [
        f"--mount=type=bind,source={one.path},target={one.path},readonly" for one in rig.folders.values()
    ]
    stale = ("--detach", "--name=stale", "--label=sterna.job=a/j1", *rig.arguments, *mounts, IMAGE)
    other = ("--detach", "--name=other", "--label=sterna.job=b/j1", *rig.arguments, *mounts, IMAGE)
    for words in (stale, other):
        rig("run", *words, engines.PYTHON, "-c", "import time; time.sleep(1000)")
    await site.order(start(spec()))
    await until(lambda: _step(site) >= 1, "steps")
    names = rig.listed()
    rig("kill", "other")
    rig("rm", "--force", "other")
    assert "stale" not in names
    assert "other" in names, "another site's on the same machine is none of ours"
    assert len(names) == 2


async def test_the_agents_death_means_nothing(site: Site, rig: Rig) -> None:
    await site.order(start(spec()))
    await until(lambda: _step(site) >= 3, "steps")
    names = rig.listed()
    await site.down()
    await site.up()
    report = await site.phase(JobPhase.RUNNING)
    await until(lambda: _step(site) > (report.step or 0) + 3, "steps")
    assert rig.listed() == names


async def test_an_image_that_is_not_there(site: Site) -> None:
    container = ContainerSpec(image="localhost/none@sha256:" + "0" * 64)
    await site.order(start(spec(container=container)))
    failed = await site.phase(JobPhase.FAILED)
    assert failed.message.startswith("could not be started: ")
    assert "exit code 125" in failed.message


async def test_no_job_comes_before_its_image(site: Site) -> None:
    prepare = Prepare(
        spec=spec(container=ContainerSpec(image="localhost/none:1")), checkpoint_bytes=1, expires_after_s=60.0
    )
    answer = await site.order(prepare, migration="m")
    assert answer.result is OrderResult.REFUSED
    assert answer.reason.startswith("container.image: localhost/none:1 is not here, and is being fetched")


async def test_a_program_that_fails(site: Site) -> None:
    await site.order(start(spec("-c", "raise SystemExit(3)")))
    assert (await site.phase(JobPhase.FAILED)).message == "exit code 3"


async def test_what_the_site_does_not_give_is_refused(site: Site, rig: Rig) -> None:
    container = ContainerSpec(image=IMAGE, mounts={"data": "/data"})
    answer = await site.order(start(spec(container=container)))
    assert answer.result is OrderResult.REFUSED
    assert answer.reason == "spec: container.mounts: this site has no folder 'data' for containers"
    assert rig.listed() == []
