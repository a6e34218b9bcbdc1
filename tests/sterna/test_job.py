import json
import signal
from pathlib import Path

import pytest

from sterna import job
from sterna.job import Job


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "STERNA_JOB_ID": "j",
        "STERNA_EPOCH": "4",
        "STERNA_CHECKPOINT_DIR": str(tmp_path / "ck"),
        "STERNA_RESUME_FROM": "",
        "STERNA_STOP_FILE": str(tmp_path / "stop.json"),
        "STERNA_RESULT_FILE": str(tmp_path / "result.json"),
    }


def read(path: Path) -> dict[str, object]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


def test_outside_sterna_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outside = Job({})
    outside.catch_signal()
    outside.started(0)
    outside.report(1, loss=0.5)
    outside.checkpoint_saved("x", 1)
    outside.completed(1)
    assert outside.stopped(1) == 85
    assert not outside.should_stop()
    assert (outside.stop_reason(), outside.stop_deadline_s()) == (None, None)
    assert (outside.checkpoint_dir(), outside.resume_from(), outside.job_id) == (None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_cheap_and_checkpoints_are_told_at_once(environ: dict[str, str], tmp_path: Path) -> None:
    run = Job(environ, reports_per_s=0.001)
    run.started(10)
    assert read(tmp_path / "progress.json")["start_step"] == 10
    run.report(11, loss=1.0)
    first = read(tmp_path / "progress.json")
    assert (first["step"], first["metrics"]) == (11, {"loss": 1.0})
    run.report(12, loss=0.5)
    assert read(tmp_path / "progress.json")["step"] == 11
    run.checkpoint_saved(tmp_path / "ck" / "one", 12)
    now = read(tmp_path / "progress.json")
    assert now["checkpoint"] == {"path": str(tmp_path / "ck" / "one"), "step": 12}
    assert (now["step"], now["first_step_s"]) == (12, first["first_step_s"])


def test_a_trainer_that_does_not_say_where_it_started(environ: dict[str, str], tmp_path: Path) -> None:
    Job(environ).report(8)
    assert read(tmp_path / "progress.json")["start_step"] == 7


def test_results(environ: dict[str, str], tmp_path: Path) -> None:
    run = Job(environ)
    run.checkpoint_saved("/ck/nine", 9)
    assert run.stopped(9) == 85
    expected = {"outcome": "stopped", "step": 9, "checkpoint": {"path": "/ck/nine", "step": 9}}
    assert read(tmp_path / "result.json") == expected
    run.completed(10)
    assert read(tmp_path / "result.json")["outcome"] == "completed"
    assert not list(tmp_path.glob("*.tmp"))


def test_stop_by_file(environ: dict[str, str], tmp_path: Path) -> None:
    run = Job(environ)
    assert not run.should_stop()
    stop = tmp_path / "stop.json"
    stop.write_text(json.dumps({"reason": "limit", "deadline_boottime_s": 0.0}))
    assert run.should_stop()
    assert (run.stop_reason(), run.stop_deadline_s()) == ("limit", 0.0)
    for broken in ("", "[]", "{"):
        stop.write_text(broken)
        assert run.should_stop()
        assert (run.stop_reason(), run.stop_deadline_s()) == (None, None)


def test_stop_by_signal(environ: dict[str, str]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        run = Job(environ | {"STERNA_STOP_SIGNAL": "USR1"})
        run.catch_signal()
        assert not run.should_stop()
        signal.raise_signal(signal.SIGUSR1)
        assert run.should_stop()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_module_speaks_for_this_process(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGTERM)
    job.current.cache_clear()
    try:
        assert not job.should_stop()
        assert (job.checkpoint_dir(), job.resume_from()) == (tmp_path / "ck", None)
        assert (job.stop_reason(), job.stop_deadline_s()) == (None, None)
        job.started(0)
        job.report(1)
        job.checkpoint_saved("/x", 1)
        assert job.stopped(1) == 85
        job.completed(1)
        assert read(tmp_path / "result.json")["outcome"] == "completed"
    finally:
        job.current.cache_clear()
        signal.signal(signal.SIGTERM, before)
