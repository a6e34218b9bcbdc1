"""Freezing jobs: a real cgroup where this process may make one, a folder with its files elsewhere."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.power.refusal import Refusal
from agent.power.tree import Tree
from agent.power.units import JobUnits, is_job
from agent.shim import cgroup
from tests.waiting import wait_until

UNIT = "sterna-job@7-512-997.service"
SLICE = "sterna.slice/sterna-jobs.slice"


@pytest.mark.parametrize(
    "name",
    [
        "sterna-agent.service",
        "sterna-job@.service",
        "sterna-jobs.slice",
        "ssh.service",
        "sterna-job@1.service/../ssh.service",
        "sterna-job@1.service\n",
        "../sterna-job@1.service",
        "sterna-job@" + "a" * 300 + ".service",
    ],
)
def test_nothing_but_jobs_is_frozen(tmp_path: Path, name: str) -> None:
    assert not is_job(name)
    with pytest.raises(Refusal) as refused:
        JobUnits(Tree(tmp_path)).set_frozen(name, True)
    assert refused.value.code == "not_a_job"


def test_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        JobUnits(Tree(tmp_path)).set_frozen(UNIT, True)
    assert refused.value.code == "unknown_unit"


def test_the_shim_is_never_frozen_with_its_job(tmp_path: Path) -> None:
    unit = tmp_path / SLICE / UNIT
    unit.mkdir(parents=True)
    (unit / "cgroup.freeze").write_text("0\n")
    units = JobUnits(Tree(tmp_path))
    with pytest.raises(Refusal, match="no cgroup of its own"):
        units.set_frozen(UNIT, True)
    assert (unit / "cgroup.freeze").read_text() == "0\n"


def test_what_the_kernel_says_is_the_answer(tmp_path: Path) -> None:
    job = tmp_path / SLICE / UNIT / "job"
    job.mkdir(parents=True)
    (job / "cgroup.freeze").write_text("0\n")
    (job / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    units = JobUnits(Tree(tmp_path))
    assert units.set_frozen(UNIT, True) is False  # told, and not yet done
    assert units.frozen() == [UNIT]
    (job / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert units.set_frozen(UNIT, True) is True


@pytest.fixture
def real_job() -> Iterator[tuple[JobUnits, Path]]:
    mine = cgroup.own_path()
    mount = next((Path(path) for path in cgroup.MOUNTS if Path(path, "cgroup.controllers").exists()), None)
    if mine is None or mount is None:
        pytest.skip("no cgroup v2 here")
    folder = mount / f"sterna-test-{os.getpid()}.slice"
    job = folder / UNIT / "job"
    try:
        job.mkdir(parents=True)
    except OSError:
        pytest.skip("this process may not make a cgroup")
    try:
        yield JobUnits(Tree(mount), (folder.name,)), job
    finally:
        for path in (job, job.parent, folder):
            wait_until(lambda path=path: _removed(path))


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return not path.exists()
    return True


def test_a_real_job_stands_still_and_goes_on(real_job: tuple[JobUnits, Path], tmp_path: Path) -> None:
    units, job = real_job
    beat = tmp_path / "beat"
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"echo $$ >{job}/cgroup.procs; while :; do date +%N >{beat}; sleep 0.01; done"],
        start_new_session=True,
    )
    try:
        wait_until(beat.exists)
        assert units.set_frozen(UNIT, True) is True
        assert units.frozen() == [UNIT]
        at = beat.stat().st_mtime_ns
        time.sleep(0.2)  # long enough for twenty beats, were it not frozen
        assert beat.stat().st_mtime_ns == at
        assert units.set_frozen(UNIT, False) is False
        wait_until(lambda: beat.stat().st_mtime_ns != at)
        assert units.frozen() == []
    finally:
        units.set_frozen(UNIT, False)
        os.killpg(process.pid, 9)
        process.wait(10)
