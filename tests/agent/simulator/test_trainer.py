"""The trainer as a process: resumed runs end with the very bits of an uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.shim.files import boottime_s
from agent.simulator.network import Training
from sterna.errors import CorruptError

STEPS = 30


def train(folder: Path, *args: str, env: dict[str, str] | None = None, code: int = 0) -> None:
    argv = [sys.executable, "-m", "agent.simulator.trainer", "--seed", "5", "--params", "4000"]
    argv += ["--steps", str(STEPS), "--checkpoint-every", "10", "--final", str(folder / "final")]
    argv += ["--checkpoint-dir", str(folder / "ck"), *args]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STERNA_")}
    done = subprocess.run(argv, env=clean | (env or {}), cwd=folder, timeout=60, check=False)
    assert done.returncode == code


def final(folder: Path) -> bytes:
    return (folder / "final").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def test_the_same_run_ends_with_the_same_bits(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, "--checkpoint-every", "7")
    assert final(tmp_path) == final(whole)


def test_resumed_is_bit_exact(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, "--resume-from", str(whole / "ck" / "step-00000020"), "--step-log", str(tmp_path / "log"))
    assert final(tmp_path) == final(whole)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(21, STEPS + 1))


@pytest.mark.parametrize("part", ["optimizer", "rng"])
def test_dropping_state_shows(whole: Path, tmp_path: Path, part: str) -> None:
    train(tmp_path, "--drop", part)
    assert final(tmp_path) == final(whole), "what is dropped from checkpoints does not touch an unbroken run"
    (tmp_path / "final").unlink()
    train(tmp_path, "--resume-from", str(tmp_path / "ck" / "step-00000020"))
    assert final(tmp_path) != final(whole)


def test_stops_on_request_with_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    env = {
        "STERNA_JOB_ID": "j",
        "STERNA_EPOCH": "3",
        "STERNA_SITE": "a",
        "STERNA_CHECKPOINT_DIR": str(run / "ck"),
        "STERNA_STOP_FILE": str(run / "stop.json"),
        "STERNA_RESULT_FILE": str(run / "result.json"),
    }
    (run / "stop.json").write_text('{"reason": "test"}')
    train(tmp_path, "--step-log", str(tmp_path / "log"), env=env, code=85)
    assert json.loads((run / "result.json").read_text())["step"] == 1
    line = json.loads((tmp_path / "log").read_text())
    assert (line["epoch"], line["site"]) == (3, "a")
    train(tmp_path, "--resume-from", str(run / "ck" / "step-00000001"))
    assert final(tmp_path) == final(whole)


def test_stops_on_the_signal_in_the_middle_of_a_long_step(tmp_path: Path) -> None:
    env = os.environ | {
        "STERNA_JOB_ID": "j",
        "STERNA_CHECKPOINT_DIR": str(tmp_path / "ck"),
        "STERNA_RESULT_FILE": str(tmp_path / "result.json"),
    }
    argv = [sys.executable, "-m", "agent.simulator.trainer", "--steps", "100", "--params", "4000"]
    with subprocess.Popen([*argv, "--step-s", "30"], env=env) as process:
        deadline_s = boottime_s() + 20
        progress = tmp_path / "progress.json"
        while not (progress.exists() and json.loads(progress.read_text()).get("first_step_s")):
            assert boottime_s() < deadline_s
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 85
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["outcome"] == "stopped"
    assert Path(result["checkpoint"]["path"]).name == f"step-{result['step']:08d}"


def test_a_foreign_checkpoint_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="seed 5, expected 6"):
        Training(seed=6, params=4000).load(whole / "ck" / "step-00000020")
    with pytest.raises(CorruptError):
        Training(seed=5, params=100).load(whole / "ck" / "step-00000020")
    with pytest.raises(CorruptError):
        Training(seed=5, params=4000).load(tmp_path)


def test_it_learns_and_has_the_size_that_was_asked_for(tmp_path: Path) -> None:
    training = Training(seed=1, params=20_000)
    losses = [training.advance() for _ in range(150)]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    training.store(tmp_path)
    size_bytes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 0.9 * 12 * 20_000 < size_bytes < 1.1 * 12 * 20_000 + 2000
