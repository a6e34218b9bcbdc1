import asyncio
import dataclasses
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.jobs.runner import Run
from agent.model.jobs import JobPhase as P
from agent.model.orders import Fetch, OrderResult, Pause, Prepare, Release, Resume, Start, Stop
from agent.model.records import JobRecord
from agent.shim import files
from agent.simulator import steplog
from sterna.errors import PermanentError, TransientError
from tests.agent.jobs.conftest import Site, SpecMaker, shell
from tests.agent.jobs.endings import end_runs
from tests.waiting import until

ANSWERED = (OrderResult.ACCEPTED, OrderResult.DONE)


def alive(pid: int) -> bool:
    return files.process_stat(pid) is not None


def start(spec, checkpoint_id=None, ttl_s=None):
    return Start(spec=spec, checkpoint_id=checkpoint_id, lease_ttl_s=ttl_s)


def only_run(site: Site, job_id: str = "j1") -> Run:
    live = [run for run in map(Run, (site.jobs / job_id / "runs").iterdir()) if run.is_alive()]
    assert len(live) == 1
    return live[0]


def entries(tmp_path: Path) -> list[steplog.StepEntry]:
    return steplog.parse((tmp_path / "steps.jsonl").read_text().splitlines())


def outside(tmp_path: Path, spec) -> bytes:
    """The same trainer, run outside Sterna, uninterrupted."""
    final = tmp_path / "outside.bin"
    argv = [*spec.argv]
    argv[argv.index("--final") + 1] = str(final)
    argv[argv.index("--step-log") + 1] = str(tmp_path / "outside.jsonl")
    argv[argv.index("--step-s") + 1] = "0"
    subprocess.run(argv, check=True, timeout=60, cwd=tmp_path)
    return final.read_bytes()


async def stepping(site: Site, step: int, job_id: str = "j1") -> None:
    await until(lambda: (r := site.report(job_id)) and r.step is not None and r.step >= step, f"step {step}")


async def test_runs_to_its_end(site: Site, trainer: SpecMaker, tmp_path: Path) -> None:
    spec = trainer(steps=12, step_s=0.0)
    ack = await site.order(start(spec))
    assert ack.result is OrderResult.ACCEPTED
    report = await site.phase(P.COMPLETED)
    assert report.step == 12
    assert report.load_s is None or report.load_s > 0
    assert [entry.step for entry in entries(tmp_path)] == list(range(1, 13))
    assert (await site.order(start(spec))).result is OrderResult.DONE
    assert site.keeper.slots_held == 0


async def test_moves_without_losing_a_step(
    site: Site, other: Site, trainer: SpecMaker, tmp_path: Path
) -> None:
    spec = trainer(steps=40)
    await site.order(start(spec))
    await stepping(site, 7)
    moving = {"migration": "m1"}
    ack = await other.order(Prepare(spec=spec, checkpoint_bytes=1000, expires_after_s=60), **moving)
    assert ack.result is OrderResult.ACCEPTED
    await site.order(Stop(reason="moves", cancel=False), **moving)
    sealed = await site.phase(P.SEALED)
    newest = sealed.checkpoints[0]
    assert newest.manifest.step == sealed.step
    assert sealed.seal_s is not None and 0 < sealed.seal_s < 10
    assert sealed.pid is None

    other.carrier._sites = {"a": site.checkpoints}
    fetch = Fetch(
        checkpoint_id=newest.checkpoint_id, holder_site="a", holder_address=None, ticket="t", max_bps=None
    )
    await other.order(fetch, **moving)
    held = await other.phase(P.HELD)
    assert held.checkpoints[0].checkpoint_id == newest.checkpoint_id
    assert held.goodput_bps == 1e9
    await other.order(start(spec, newest.checkpoint_id), epoch=2, **moving)
    await other.phase(P.COMPLETED)
    release = Release(keep_checkpoints=1)
    assert (await site.order(release, epoch=2, **moving)).result is OrderResult.ACCEPTED
    assert (await site.order(release, epoch=2, **moving)).result is OrderResult.DONE
    assert len(await site.checkpoints.checkpoints("j1")) == 1
    assert site.run_ids() == []

    log = entries(tmp_path)
    assert steplog.steps_lost(log, 40) == 0
    assert steplog.double_runs(log) == 0
    assert len(steplog.downtimes_s(log)) == 1
    assert (tmp_path / "final.bin").read_bytes() == outside(tmp_path, spec)
    assert other.report().start_step == newest.manifest.step


async def test_survives_the_agent(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000)))
    await stepping(site, 3)
    pid = (await site.phase(P.RUNNING)).pid
    assert pid is not None
    await site.down()
    assert alive(pid)
    await site.up()
    await stepping(site, 10)
    report = site.report()
    assert (report.phase, report.pid, report.epoch) == (P.RUNNING, pid, 1)
    assert len(site.run_ids()) == 1


async def test_ends_while_the_agent_is_away(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=25)))
    await stepping(site, 2)
    run = only_run(site)
    await site.down()
    await until(lambda: not run.is_alive(), "the job ends")
    site.reports.clear()
    await site.up()
    assert (await site.phase(P.COMPLETED)).step == 25


async def test_agent_killed_between_record_and_start(site: Site, trainer: SpecMaker) -> None:
    site.keeper._tools.launcher._python = "/nonexistent/python"  # every launch fails: STARTING stays recorded
    await site.order(start(trainer(steps=8)))
    await site.phase(P.STARTING)
    await site.down()
    await site.up()
    assert (await site.phase(P.COMPLETED)).step == 8


async def test_nothing_starts_in_another_boot_without_a_grant(site: Site, trainer: SpecMaker) -> None:
    site.keeper._tools.launcher._python = "/nonexistent/python"
    spec = trainer(steps=8)
    await site.order(start(spec))
    await site.phase(P.STARTING)
    await site.down()
    site.boot_id = "another-boot"
    await site.up()
    report = await site.phase(P.SEALED)
    assert "new one is needed" in report.message
    assert (await site.order(start(spec), epoch=1)).result is OrderResult.DONE
    await asyncio.sleep(0)
    assert not (site.jobs / "j1" / "runs").exists() or not any(
        Run(path).is_alive() for path in (site.jobs / "j1" / "runs").iterdir()
    )


async def test_shim_killed_starts_again_under_the_same_epoch(
    site: Site, trainer: SpecMaker, tmp_path: Path
) -> None:
    spec = trainer(steps=60)
    await site.order(start(spec))
    await stepping(site, 12)
    run = only_run(site)
    who = run.identity()
    assert files.signal_process(who.pid, who.start_ticks, signal.SIGKILL)
    await until(lambda: not alive(who.child_pid), "the child follows its shim")
    report = await site.phase(P.COMPLETED)
    assert (report.epoch, report.step) == (1, 60)
    log = entries(tmp_path)
    assert steplog.steps_lost(log, 60) == 0, "the parent-death signal let it save"
    assert steplog.double_runs(log) == 0
    assert (tmp_path / "final.bin").read_bytes() == outside(tmp_path, spec)


async def test_leased_child_dies_with_its_shim_at_once(site: Site) -> None:
    await site.order(start(shell("trap '' TERM; while :; do sleep 0.1; done"), ttl_s=60))
    await site.phase(P.RUNNING)
    who = only_run(site).identity()
    await site.down()
    files.signal_process(who.pid, who.start_ticks, signal.SIGKILL)
    await until(lambda: not alive(who.child_pid), "the child cannot outlive what enforces its lease")


async def test_ghost_that_ignores_term_is_killed_by_identity(site: Site) -> None:
    deaf = "trap '' TERM; while :; do sleep 0.1; done"
    script = f'setsid sh -c "{deaf}" & {deaf}'
    await site.order(start(shell(script)))
    await site.phase(P.RUNNING)
    run = only_run(site)
    await until(lambda: len(files.processes_of_run(run.run_id)) >= 3, "its processes")
    who = run.identity()
    await site.down()
    files.signal_process(who.pid, who.start_ticks, signal.SIGKILL)
    await until(lambda: not alive(who.pid), "the shim dies")
    assert files.processes_of_run(run.run_id), "it ignores the parent-death signal"
    await site.up()
    await until(lambda: not files.processes_of_run(run.run_id), "the ghost is ended")
    await until(lambda: site.run_ids() != [run.run_id], "a new run")
    assert site.report().epoch == 1


async def test_hung_trainer_is_killed_after_its_grace(site: Site) -> None:
    await site.order(start(shell("trap '' TERM; (trap '' TERM; sleep 600) & sleep 600", stop_grace_s=0.4)))
    await site.phase(P.RUNNING)
    run = only_run(site)
    await site.order(Stop(reason="limit", cancel=False))
    report = await site.phase(P.SEALED)
    assert "not in a checkpoint" in report.message
    assert files.processes_of_run(run.run_id) == []
    record = files.read_record(str(run.directory), files.EXIT)
    assert (record["cause"], record["killed"], record["signal"]) == ("stopped", True, 9)


async def test_lease_expires_with_the_agent_gone(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000), ttl_s=2.0))
    await stepping(site, 3)
    run = only_run(site)
    await site.down()
    await until(lambda: not run.is_alive(), "the lease ends it")
    request = json.loads((run.directory / files.STOP).read_text())
    assert request["reason"] == "the lease expired"
    await site.up()
    report = await site.phase(P.SEALED)
    assert report.message == "the lease expired"
    assert report.checkpoints[0].manifest.step == report.step


async def test_lease_is_renewed(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000), ttl_s=3.0))
    await stepping(site, 1)
    pid = site.report().pid
    asked_s = 0.0

    def renewed() -> bool:
        nonlocal asked_s
        due = site.keeper.leases_due()
        if due:
            assert due == [("j1", 1)]
            asked_s = files.boottime_s()
        return bool(due)

    await until(renewed, "the lease is due")
    assert site.keeper.leases_due() == []
    assert not await site.keeper.extend_lease("j1", 2, 30.0, asked_s)
    assert await site.keeper.extend_lease("j1", 1, 30.0, asked_s)
    assert not await site.keeper.extend_lease("j1", 1, 5.0, asked_s), "a lease is never shortened"
    control = files.read_record(str(only_run(site).directory), files.CONTROL)
    assert control["expires_s"] == pytest.approx(asked_s + 30.0)
    assert await site.keeper.extend_lease("j1", 1, None, asked_s)
    assert site.report().pid == pid and alive(pid)


async def test_pause_and_resume(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000)))
    await stepping(site, 2)
    assert site.keeper.running_power() == {"j1": 50.0}
    assert await site.keeper.pause("j1")
    pid = site.report().pid
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    assert site.keeper.running_power() == {}
    assert site.report().phase is P.PAUSED
    assert not await site.keeper.pause("j1")
    await site.down()
    await site.up()
    assert (await site.phase(P.PAUSED)).pid == pid
    assert await site.keeper.resume("j1")
    await stepping(site, site.report().step + 3)
    assert await site.keeper.pause("j1")
    await site.order(Stop(reason="limit", cancel=False))
    report = await site.phase(P.SEALED)
    assert report.checkpoints[0].manifest.step == report.step, "a suspended job can still save"
    assert not await site.keeper.resume("j1")


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_a_pause_of_the_plan_outlives_the_agent_and_expires(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000)))
    await stepping(site, 2)
    ack = await site.order(Pause(sequence=1, expires_after_s=600.0, reason="too little surplus"))
    assert ack.result is OrderResult.ACCEPTED
    report = await site.phase(P.PAUSED)
    pid = report.pid
    assert report.held_until is not None and report.hold_sequence == 1
    await until(lambda: is_stopped(pid), "the process stands still")
    assert site.keeper.held() == {"j1"}
    ack = await site.order(Pause(sequence=1, expires_after_s=1.0))
    assert ack.result is OrderResult.DONE
    await site.down()
    await site.up()
    assert site.keeper.held() == {"j1"}
    await site.order(Pause(sequence=2, expires_after_s=0.5))
    await until(lambda: not site.keeper.held(), "the pause has expired")
    assert site.report().held_until is None
    assert site.report().phase is P.PAUSED, "the site's limits say when it goes on"
    assert is_stopped(pid)
    assert await site.keeper.resume("j1")
    await stepping(site, site.report().step + 3)


async def test_a_pause_of_the_plan_is_ended_by_an_order_and_by_a_stop(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000)))
    await site.order(Pause(sequence=1, expires_after_s=600.0))
    report = await site.phase(P.PAUSED)
    assert report.held_until is not None, "it was starting, and is paused as soon as it runs"
    await site.order(Resume(sequence=2))
    assert (site.report().held_until, site.report().hold_sequence) == (None, 2)
    assert site.keeper.held() == frozenset()
    assert await site.keeper.resume("j1")
    await stepping(site, 2)
    await site.order(Pause(sequence=3, expires_after_s=600.0))
    await site.order(Stop(reason="moves", cancel=False))
    report = await site.phase(P.SEALED)
    assert report.held_until is None
    refused = await site.order(Pause(sequence=4, expires_after_s=600.0))
    assert refused.result is OrderResult.REFUSED


async def test_a_shim_that_does_not_answer_is_no_pause(
    site: Site, trainer: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.jobs.suspending.ACKNOWLEDGE_S", 0.3)
    await site.order(start(trainer(steps=100_000)))
    await stepping(site, 2)
    who = only_run(site).identity()
    files.signal_process(who.pid, who.start_ticks, signal.SIGSTOP)
    try:
        assert not await site.keeper.pause("j1")
        assert site.report().phase is P.RUNNING
    finally:
        files.signal_process(who.pid, who.start_ticks, signal.SIGCONT)
    await stepping(site, site.report().step + 3)


async def test_a_job_that_must_be_shed_saves_and_stops_without_an_order(
    site: Site, trainer: SpecMaker
) -> None:
    assert site.keeper.sealed_at("j1") is None
    assert not await site.keeper.halt("j1", "nothing runs")
    await site.order(start(trainer(steps=100_000)))
    await stepping(site, 2)
    assert await site.keeper.halt("j1", "it did not pause")
    report = await site.phase(P.SEALED)
    assert report.checkpoints[0].manifest.step == report.step, "nothing is lost"
    assert site.keeper.sealed_at("j1") == report.checkpoints[0].manifest.sealed_at
    assert not await site.keeper.halt("j1", "it has stopped")
    assert (await site.order(start(trainer(steps=100_000)), epoch=2)).result is OrderResult.ACCEPTED


async def test_regrant_goes_on_in_place(site: Site, trainer: SpecMaker) -> None:
    spec = trainer(steps=100_000)
    await site.order(start(spec))
    await stepping(site, 2)
    pid = site.report().pid
    assert (await site.order(start(spec), epoch=2, migration="m1")).result is OrderResult.ACCEPTED
    run = only_run(site)
    await until(lambda: run.identity().epoch == 2, "the shim's record has the new epoch")
    assert (site.report().epoch, site.report().pid) == (2, pid)
    assert (await site.order(Stop(reason="late", cancel=False), epoch=1)).result is OrderResult.REFUSED
    await asyncio.sleep(0)
    assert alive(pid) and len(site.run_ids()) == 1


async def test_regrant_while_stopping_resumes_after_the_seal(
    site: Site, trainer: SpecMaker, tmp_path: Path
) -> None:
    spec = trainer(steps=30)
    await site.order(start(spec))
    await stepping(site, 5)
    await site.order(Stop(reason="moves", cancel=False), migration="m1")
    assert (await site.order(start(spec), epoch=2, migration="m1")).result is OrderResult.ACCEPTED
    report = await site.phase(P.COMPLETED)
    assert report.epoch == 2
    log = entries(tmp_path)
    assert steplog.steps_lost(log, 30) == 0
    assert steplog.double_runs(log) == 0


async def test_compensating_start_resumes_from_the_seal(
    site: Site, trainer: SpecMaker, tmp_path: Path
) -> None:
    spec = trainer(steps=30)
    await site.order(start(spec))
    await stepping(site, 5)
    stop = Stop(reason="moves", cancel=False)
    await site.order(stop, migration="m1")
    await site.phase(P.SEALED)
    assert (await site.order(stop, migration="m1")).result is OrderResult.DONE
    await site.down()
    await site.up()
    assert (await site.order(start(spec), epoch=2)).result is OrderResult.ACCEPTED
    assert (await site.order(stop, migration="m1")).result is OrderResult.REFUSED
    await site.phase(P.COMPLETED)
    assert steplog.steps_lost(entries(tmp_path), 30) == 0


async def test_stopping_continues_after_the_agent_was_killed(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000)))
    await stepping(site, 5)
    await site.order(Stop(reason="moves", cancel=False))
    await site.down()
    await site.up()
    report = await site.phase(P.SEALED)
    assert report.checkpoints[0].manifest.step == report.step


async def test_program_that_fails_says_so(site: Site) -> None:
    await site.order(start(shell("exit 3")))
    assert (await site.phase(P.FAILED)).message == "exit code 3"
    await site.order(start(shell("kill -9 $$")), job_id="j2")
    assert (await site.phase(P.FAILED, "j2")).message == "killed by signal 9"
    missing = shell("", argv=("/no/such/program",))
    await site.order(start(missing), job_id="j3")
    assert "No such file" in (await site.phase(P.FAILED, "j3")).message


async def test_opaque_program_is_sealed_by_glob(site: Site) -> None:
    script = (
        "trap 'echo last > $STERNA_CHECKPOINT_DIR/w.bin; exit 0' TERM; "
        "echo first > $STERNA_CHECKPOINT_DIR/w.bin; touch ready; while :; do sleep 0.05; done"
    )
    await site.order(start(shell(script, checkpoint_glob="*.bin", stop_grace_s=10)))
    await site.phase(P.RUNNING)
    run = only_run(site)
    await until((run.directory / "ready").exists, "it runs")
    await site.order(Stop(reason="moves", cancel=False))
    report = await site.phase(P.SEALED)
    assert [file.path for file in report.checkpoints[0].manifest.files] == ["checkpoints/w.bin"]
    folder = await site.checkpoints.files_folder(report.checkpoints[0].checkpoint_id)
    assert (folder / "checkpoints" / "w.bin").read_text() == "last\n"


async def test_cancel_ends_without_a_seal(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000, every=10**6)))
    await stepping(site, 2)
    await site.order(Stop(reason="cancelled by its owner", cancel=True))
    report = await site.phase(P.SEALED)
    assert report.message.startswith("cancelled")
    assert report.checkpoints == ()


async def test_slots_and_reservations(site: Site) -> None:
    spec = shell("sleep 600")
    for number in (1, 2):
        ack = await site.order(
            Prepare(spec=spec, checkpoint_bytes=10, expires_after_s=60), job_id=f"p{number}", migration="m"
        )
        assert ack.result is OrderResult.ACCEPTED
    third = await site.order(start(spec), job_id="p3")
    assert (third.result, third.reason) == (OrderResult.REFUSED, "no free slot")
    assert site.keeper.slots_held == 2
    await site.order(Release(keep_checkpoints=2), job_id="p1", migration="m")
    assert (await site.order(start(spec), job_id="p3")).result is OrderResult.ACCEPTED
    huge = await site.order(
        Prepare(spec=spec, checkpoint_bytes=10**18, expires_after_s=60), job_id="p2", migration="m2"
    )
    assert "no space" in huge.reason


async def test_reservation_runs_out(site: Site) -> None:
    await site.order(Prepare(spec=shell(":"), checkpoint_bytes=1, expires_after_s=0.2), migration="m")
    report = await site.phase(P.RELEASED)
    assert report.message == "the reservation ran out"
    assert site.keeper.reports() == ()


async def test_hello_waits_for_the_order_that_is_being_recorded(site: Site) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(site.order(start(shell(":"))))
        await asyncio.sleep(0)  # it has begun
        reports = await site.keeper.settled_reports()
    assert [(report.job_id, report.epoch) for report in reports] == [("j1", 1)]


async def test_fetch_is_tried_again_and_given_up(site: Site, other: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=5, step_s=0)))
    newest = (await site.phase(P.COMPLETED)).checkpoints[0].checkpoint_id
    await other.order(Prepare(spec=trainer(), checkpoint_bytes=1, expires_after_s=60), migration="m")
    order = Fetch(checkpoint_id=newest, holder_site="a", holder_address=None, ticket="t", max_bps=None)
    other.carrier.failures.append(PermanentError("forged manifest"))
    await other.order(order, migration="m")
    report = await other.phase(P.RESERVED)
    await until(lambda: "forged manifest" in other.report().message)
    other.carrier._sites = {"a": site.checkpoints}
    other.carrier.failures.append(TransientError("cut", retry_after_s=0.01))
    assert (await other.order(order, migration="m")).result is OrderResult.ACCEPTED
    report = await other.phase(P.HELD)
    assert report.checkpoints[0].checkpoint_id == newest
    assert (await other.order(order, migration="m")).result is OrderResult.DONE


async def test_a_slot_of_a_failed_fetch_is_let_go_of_under_no_name_and_may_be_asked_for_again(
    other: Site, trainer: SpecMaker
) -> None:
    prepare = Prepare(spec=trainer(), checkpoint_bytes=1, expires_after_s=60)
    order = Fetch(checkpoint_id="c" * 64, holder_site="a", holder_address=None, ticket="t", max_bps=None)
    for _ in range(2):
        assert (await other.order(prepare, migration="carry-j1-1")).result is OrderResult.ACCEPTED
        other.carrier.failures.append(PermanentError("it is corrupt where it lies"))
        await other.order(order, migration="carry-j1-1")
        await until(lambda: "corrupt" in other.report().message)
        assert (other.report().phase, other.keeper.slots_held) == (P.RESERVED, 1)
        assert (await other.order(Release(keep_checkpoints=2))).result is OrderResult.ACCEPTED
        assert (other.report().phase, other.keeper.slots_held) == (P.RELEASED, 0)


async def test_a_fetch_follows_a_holder_that_has_moved(site: Site, other: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=5, step_s=0)))
    newest = (await site.phase(P.COMPLETED)).checkpoints[0].checkpoint_id
    await other.order(Prepare(spec=trainer(), checkpoint_bytes=1, expires_after_s=60), migration="m")
    old = Fetch(checkpoint_id=newest, holder_site="a", holder_address="a:1", ticket="t", max_bps=None)
    other.carrier._sites = {"a": site.checkpoints}
    other.carrier.failures.append(TransientError("nobody there", retry_after_s=600))
    await other.order(old, migration="m")
    await until(lambda: not other.carrier.failures)
    new = Fetch(checkpoint_id=newest, holder_site="a", holder_address="a:2", ticket="t", max_bps=None)
    await other.order(new, migration="m")
    assert (await other.phase(P.HELD)).checkpoints[0].checkpoint_id == newest


async def test_orders_that_cannot_be(site: Site) -> None:
    bad = [
        (start(shell(":")), "../x", "plain name"),
        (start(shell(":", argv=())), "j", "argv"),
        (start(shell(":", stop_signal="NO")), "j", "signal"),
        (start(shell(":", working_dir="rel")), "j", "absolute"),
        (start(shell(":"), "f" * 64), "j", "is not here"),
        (Release(keep_checkpoints=0), "j", ""),
        (Stop(reason="", cancel=False), "j", "nothing runs"),
    ]
    for action, job_id, reason in bad:
        ack = await site.order(action, job_id=job_id)
        assert reason in ack.reason
        assert ack.result is (OrderResult.REFUSED if reason else OrderResult.ACCEPTED)
    assert site.keeper.reports() == ()


async def test_environment_of_a_job(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/secret")
    monkeypatch.setenv("SOME_TOKEN", "x")
    spec = shell("env > out; echo $0 $1 > args", env={"MINE": "1"})
    spec = shell("", argv=(*spec.argv, "{job_id}", "{resume_from}"), env={"MINE": "1"})
    await site.order(start(spec))
    await site.phase(P.COMPLETED)
    folder = site.jobs / "j1" / "runs" / site.run_ids()[0]
    env = dict(line.split("=", 1) for line in (folder / "out").read_text().splitlines() if "=" in line)
    assert env["STERNA_JOB_ID"] == "j1" and env["STERNA_EPOCH"] == "1" and env["MINE"] == "1"
    assert env["STERNA_RESUME_FROM"] == "" and env["STERNA_SITE"] == "a"
    assert Path(env["STERNA_STOP_FILE"]).parent == folder
    assert "NOTIFY_SOCKET" not in env and "SOME_TOKEN" not in env
    assert (folder / "args").read_text().split() == ["j1"]


async def test_corrupt_checkpoint_starts_nothing(site: Site, trainer: SpecMaker) -> None:
    spec = trainer(steps=30)
    await site.order(start(spec))
    await stepping(site, 5)
    await site.order(Stop(reason="moves", cancel=False))
    sealed = await site.phase(P.SEALED)
    newest = sealed.checkpoints[0].checkpoint_id
    folder = await site.checkpoints.files_folder(newest)
    victim = next(path for path in folder.rglob("state.npz"))
    victim.chmod(0o600)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    await site.order(start(spec, newest), epoch=2)
    report = await site.phase(P.FAILED)
    assert report.message.startswith("not started")
    assert newest not in [checkpoint.checkpoint_id for checkpoint in report.checkpoints]


async def test_agent_dropped_again_and_again_on_the_way(
    site: Site, trainer: SpecMaker, tmp_path: Path
) -> None:
    spec = trainer(steps=60)
    chance = random.Random(11)
    await site.order(start(spec))
    for epoch in range(1, 5):
        for _ in range(3):
            await asyncio.sleep(chance.uniform(0.0, 0.12))
            await site.down()
            await site.up()
        assert (await site.order(Stop(reason="moves", cancel=False), epoch=epoch)).result in ANSWERED
        await site.down()
        await site.up()
        assert (await site.order(start(spec), epoch=epoch + 1)).result in ANSWERED
    report = await site.phase(P.COMPLETED)
    assert report.epoch == 5
    log = entries(tmp_path)
    assert steplog.steps_lost(log, 60) == 0
    assert steplog.double_runs(log) == 0
    assert (tmp_path / "final.bin").read_bytes() == outside(tmp_path, spec)


async def test_a_whole_site_can_be_ended(site: Site, trainer: SpecMaker) -> None:
    await site.order(start(trainer(steps=100_000)))
    await stepping(site, 3)
    run = only_run(site)
    await site.down()
    assert await asyncio.to_thread(end_runs, site.jobs, 10.0) == 1
    record = files.read_record(str(run.directory), files.EXIT)
    assert (record["cause"], record["code"]) == ("shutdown", 85)
    assert files.processes_of_run(run.run_id) == []
    await site.up()
    assert "its operator ended it" in (await site.phase(P.SEALED)).message


async def test_a_release_that_was_recorded_though_it_was_refused_ends_the_fetch(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.carrier.failures = [TransientError("nobody there", retry_after_s=0.01)] * 10_000
    prepare = Prepare(spec=shell("sleep 600"), checkpoint_bytes=10, expires_after_s=60)
    await site.order(prepare, migration="m")
    fetch = Fetch(checkpoint_id="0" * 64, holder_site="b", holder_address=None, ticket="t", max_bps=None)
    await site.order(fetch, migration="m")
    await until(lambda: len(site.carrier.failures) < 10_000, "it tries")
    records = site.keeper._book._store
    save = records.save

    async def lie(record: JobRecord) -> None:
        monkeypatch.setattr(records, "save", save)
        await save(record)
        raise TransientError("the disk says that it failed")

    monkeypatch.setattr(records, "save", lie)
    release = Release(keep_checkpoints=0)
    assert (await site.order(release, epoch=2, migration="m")).result is OrderResult.REFUSED
    assert (await site.order(release, epoch=2, migration="m")).result is OrderResult.DONE
    assert (await site.phase(P.RELEASED)).highest_epoch == 2
    assert site.keeper._minders["j1"]._fetching is None


async def test_opaque_program_goes_on_from_its_newest_whole_checkpoint(site: Site) -> None:
    """It names its files by step, and is stopped in the middle of writing one.

    The last that is whole has the very time of the stop: a file system's clock ticks every few milliseconds.
    """
    script = """
import os, pathlib, signal, sys, time, zipfile
folder = pathlib.Path(os.environ["STERNA_CHECKPOINT_DIR"])
resumed = os.environ["STERNA_RESUME_FROM"]
pathlib.Path("resumed").write_text(resumed)
def save(step):
    path = folder / f"step-{step}.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", bytes(100))
    return path
def half(*_):
    stop_ns = os.stat(os.environ["STERNA_STOP_FILE"]).st_mtime_ns
    os.utime(folder / "step-20.pt", ns=(stop_ns, stop_ns))
    path = save(30)
    path.write_bytes(path.read_bytes()[:-10])
    sys.exit(1)
signal.signal(signal.SIGTERM, half)
save(10); save(20)
pathlib.Path("ready").touch()
while True: time.sleep(0.05)
"""
    spec = shell("", checkpoint_glob="*.pt", stop_grace_s=10)
    spec = dataclasses.replace(spec, argv=(sys.executable, "-c", script))
    await site.order(start(spec))
    await site.phase(P.RUNNING)
    await until((only_run(site).directory / "ready").exists, "it has saved twice")
    await site.order(Stop(reason="moves", cancel=False))
    report = await site.phase(P.SEALED)
    manifest = report.checkpoints[0].manifest
    assert (manifest.step, [file.path for file in manifest.files]) == (20, ["step-20.pt"])
    assert "steps were not in a checkpoint" in report.message
    await site.order(start(spec), epoch=2)
    await until(lambda: (r := site.report()) and r.phase is P.RUNNING and r.epoch == 2, "it runs again")
    run = only_run(site)
    await until((run.directory / "ready").exists, "it has read where to resume from")
    assert (run.directory / "resumed").read_text() == str(run.resume_dir / "step-20.pt")


async def test_a_reported_checkpoint_that_is_not_whole_is_not_sealed(site: Site) -> None:
    script = (
        "from sterna import job; import pathlib, time; job.report(5); folder = job.checkpoint_dir();"
        "path = folder / 'w.safetensors'; path.write_bytes(b'cut'); job.checkpoint_saved(path, 5);"
        "pathlib.Path('ready').touch()\nwhile not job.should_stop(): time.sleep(0.02)\njob.stopped(5)"
    )
    spec = dataclasses.replace(shell("", stop_grace_s=10), argv=(sys.executable, "-c", script))
    await site.order(start(spec))
    await site.phase(P.RUNNING)
    await until((only_run(site).directory / "ready").exists, "it says that it has saved")
    await site.order(Stop(reason="moves", cancel=False))
    report = await site.phase(P.SEALED)
    assert report.checkpoints == ()
    assert "w.safetensors is not complete" in report.message
    assert "5 steps were not in a checkpoint" in report.message
