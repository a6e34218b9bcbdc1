"""Scripts run by a Python that has torch, transformers and lightning: made by scripts/test-trainers."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.jobs.launch import HOOKS
from agent.shim import files

SCRIPTS = Path(__file__).parent / "scripts"
DEADLINE_S = 300.0
"""Two ranks that import torch on two cores that others want too took more than 120 s."""


def trainer_python() -> str:
    """Return that Python; skips the test where there is none."""
    python = os.environ.get("STERNA_TRAINERS_PYTHON", "")
    if not python:
        pytest.skip("needs a Python with torch, transformers and lightning: run scripts/test-trainers")
    return python


@dataclass
class Script:
    """One run of a script, in a folder of its own."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def losses(self) -> list[str]:
        path = self.folder / "losses.txt"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def result(self) -> dict[str, object] | None:
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def reach(self, step: int) -> None:
        """Wait until a step's loss is written."""
        self.until(lambda: len(self.losses) >= step, f"step {step}")

    def until(self, condition, what: str) -> None:
        deadline_s = files.boottime_s() + DEADLINE_S
        while not condition():
            assert self.process.poll() is None, f"it ended before {what}:\n{self.log[-3000:]}"
            assert files.boottime_s() < deadline_s, f"{what} in time:\n{self.log[-3000:]}"
            time.sleep(0.02)

    def stop(self, signum: int = signal.SIGTERM, *, ask: bool = False) -> int:
        """Signal its whole group as the shim does, after the stop file where `ask`; return its exit code."""
        if ask:
            (self.folder / "stop.json").write_text(json.dumps({"reason": "moves"}))
        os.killpg(self.process.pid, signum)
        return self.end()

    def end(self) -> int:
        return self.process.wait(DEADLINE_S)


def run(
    folder: Path,
    script: str,
    *options: str,
    hooks: bool = False,
    resume: Path | None = None,
    env: Mapping[str, str] | None = None,
    launcher: tuple[str, ...] = (),
) -> Script:
    """Start a script. Without `hooks` nothing of Sterna is in its environment."""
    python = trainer_python()
    folder.mkdir(parents=True)
    (folder / "ck").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ours = {
        "PYTHONPATH": str(HOOKS),
        "STERNA_JOB_ID": "j1",
        "STERNA_EPOCH": "1",
        "STERNA_CHECKPOINT_DIR": str(folder / "ck"),
        "STERNA_RESUME_FROM": str(resume or ""),
        "STERNA_STOP_FILE": str(folder / "stop.json"),
        "STERNA_RESULT_FILE": str(folder / "result.json"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, *launcher, str(SCRIPTS / script), str(folder / "losses.txt"), *options],
            cwd=folder,
            env=kept | (ours if hooks else {}) | {"OMP_NUM_THREADS": "1"} | dict(env or {}),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Script(folder, process)
