"""The smallest job that Sterna can stop, move and resume: fits a line, one step at a time.

Runs by itself too: ``python examples/train.py``. What makes it a good citizen is the four lines with `job`.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from sterna import job

STEPS = 2000
RATE = 0.01


def main() -> int:
    """Train; return the exit code."""
    state = {"step": 0, "slope": 0.0, "offset": 0.0}
    if (resume := job.resume_from()) is not None:
        state = json.loads(resume.read_text())
    job.started(state["step"])
    while state["step"] < STEPS:
        step(state)
        job.report(state["step"], slope=state["slope"])
        if job.should_stop():
            save(state)
            return job.stopped(state["step"])
        if state["step"] % 100 == 0:
            save(state)
    print(f"y = {state['slope']:.2f} x + {state['offset']:.2f}")
    job.completed(state["step"])
    return 0


def step(state: dict) -> None:
    """Take one sample, step down its gradient. The sample depends on the step alone, so a resume is exact."""
    x = random.Random(state["step"]).uniform(-1, 1)
    error = state["slope"] * x + state["offset"] - (3 * x + 1)
    state["slope"] -= RATE * error * x
    state["offset"] -= RATE * error
    state["step"] += 1
    time.sleep(0.01)


def save(state: dict) -> None:
    """Write a checkpoint whole, then tell Sterna: from here on it is sealed in the background."""
    folder = job.checkpoint_dir() or Path(tempfile.gettempdir())
    path = folder / f"step-{state['step']:06d}.json"
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    job.checkpoint_saved(path, state["step"])


if __name__ == "__main__":
    sys.exit(main())
