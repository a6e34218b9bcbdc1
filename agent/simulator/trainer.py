"""A real, small training job: ``python -m agent.simulator.trainer``.

A multilayer perceptron learns a seeded teacher network with Adam. Everything that decides the next step is in
the checkpoint (weights, both moments, random state, step, data cursor), so a resumed run ends with the very
bits of an uninterrupted one. It uses `sterna.job` as any trainer would, and runs without Sterna too.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sterna import job

if TYPE_CHECKING:
    from agent.simulator.network import Training

KEPT = 2
"""Checkpoints that the trainer itself keeps."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return 0 when done, 85 when stopped with a checkpoint."""
    options = _parser().parse_args(argv)
    # More threads would sum in another order on another machine, and the bits would differ.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    from agent.simulator.network import Training

    job.should_stop()  # catches the stop signal before anything slow
    folder = job.checkpoint_dir() or options.checkpoint_dir
    training = Training(seed=options.seed, params=options.params)
    resume = job.resume_from() or options.resume_from
    if resume is not None:
        training.load(resume)
        time.sleep(options.load_s)
    job.started(training.step)
    while training.step < options.steps:
        began_s = time.monotonic()  # noqa: TID251 - a pace, not a date
        loss = training.advance()
        log_step(options.step_log, training.step)
        job.report(training.step, loss=loss)
        stopping = job.should_stop() and training.step < options.steps
        if stopping or training.step % options.checkpoint_every == 0:
            save(training, folder, options.drop, options.save_s)
        if stopping:
            return job.stopped(training.step)
        _pace(began_s + options.step_s)
    finish(training, options.final)
    job.completed(training.step)
    return 0


def save(training: "Training", folder: Path | None, drop: Sequence[str], save_s: float = 0.0) -> None:
    """Write a complete checkpoint, rename it into place, say so, and drop old ones.

    Parameters
    ----------
    training : Training
        What to save.
    folder : Path or None
        Where; None: nowhere, the run has no checkpoints.
    drop : sequence of str
        Parts to leave out, to show that a checkpoint without them is none: ``optimizer``, ``rng``.
    save_s : float
        Seconds that pass half-way, as they would with a checkpoint of gigabytes.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{training.step:08d}"
    if not target.exists():
        partial = folder / f".partial-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        training.store(partial, drop)
        time.sleep(save_s)
        for path in (*partial.iterdir(), partial):
            _sync(path)
        partial.rename(target)
        _sync(folder)
    job.checkpoint_saved(target, training.step)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def log_step(path: Path | None, step: int, environ: Mapping[str, str] = os.environ) -> None:
    """Append one line about a step that was executed; one write, so that runs may share the file."""
    if path is None:
        return
    line = {
        "step": step,
        "epoch": int(environ.get("STERNA_EPOCH") or 0),
        "pid": os.getpid(),
        "site": environ.get("STERNA_SITE", ""),
        "boottime_s": time.clock_gettime(time.CLOCK_BOOTTIME),
    }
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def finish(training: "Training", final: Path | None) -> None:
    """Write the final weights to `final`, and their SHA-256 beside them as ``.sha256``."""
    if final is None:
        return
    weights = training.weights_bytes()
    for path, data in (
        (final, weights),
        (final.with_name(final.name + ".sha256"), hashlib.sha256(weights).hexdigest().encode()),
    ):
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(data)
        _sync(partial)
        partial.rename(path)
    _sync(final.parent)


def _pace(until_s: float) -> None:
    """Sleep until the step has taken its time, in slices short enough for a request to stop."""
    while (left_s := until_s - time.monotonic()) > 0 and not job.should_stop():  # noqa: TID251
        time.sleep(min(left_s, 0.1))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent.simulator.trainer", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="decides teacher, data and first weights")
    parser.add_argument("--steps", type=int, required=True, help="steps in all")
    parser.add_argument(
        "--params", type=int, default=300_000, help="weights, about; a checkpoint has 12 B each"
    )
    parser.add_argument("--step-s", type=float, default=0.0, help="shortest time per step, in seconds")
    parser.add_argument("--checkpoint-every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--save-s", type=float, default=0.0, help="added to each save, as big ones take, s")
    parser.add_argument("--load-s", type=float, default=0.0, help="added to a resumption, s")
    parser.add_argument("--step-log", type=Path, help="file that gets a line per step")
    parser.add_argument("--final", type=Path, help="file that gets the final weights")
    parser.add_argument("--checkpoint-dir", type=Path, help="where checkpoints go outside Sterna")
    parser.add_argument("--resume-from", type=Path, help="checkpoint to resume from outside Sterna")
    parser.add_argument("--drop", action="append", default=[], choices=("optimizer", "rng"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
