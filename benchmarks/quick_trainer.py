"""A trainer that costs next to nothing: what `scripts/bench downtime --trainer quick` moves.

Its checkpoint is one safetensors file of the size asked for, written in one go and mapped into memory to be
loaded; a step changes a few of its bytes. It writes over a spare file that it made when it saved first: no
save waits for memory that a virtual machine still has to get from its host. What a move of it takes is then
Sterna's own share, and the disk's. Standard library only, so that no import weighs in either.
"""

import argparse
import json
import mmap
import os
import time
from pathlib import Path

from sterna import job

CHANGED_BYTES = 4096
PIECE_BYTES = 8 * 1024 * 1024


def header(size_bytes: int, step: int) -> bytes:
    document = {
        "__metadata__": {"step": str(step)},
        "weights": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]},
    }
    text = json.dumps(document).encode()
    text += b" " * (4096 - 8 - len(text))  # so that the weights begin at a page
    return len(text).to_bytes(8, "little") + text


def fresh(size_bytes: int) -> mmap.mmap:
    """Weights that no compression makes smaller."""
    weights = mmap.mmap(-1, size_bytes)
    piece = os.urandom(min(size_bytes, PIECE_BYTES))
    for start in range(0, size_bytes, PIECE_BYTES):
        part = piece[: size_bytes - start]
        weights[start : start + len(part)] = part
        piece = piece[1:] + piece[:1]
    return weights


def load(path: Path) -> tuple[mmap.mmap, int, int]:
    """Map a checkpoint, privately; return the mapping, where the weights begin in it, and the step."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    length = int.from_bytes(mapped[:8], "little")
    return mapped, 8 + length, int(json.loads(mapped[8 : 8 + length])["__metadata__"]["step"])


def save(weights: memoryview, folder: Path, step: int) -> None:
    """Write over the spare file, and keep the checkpoint before as the next one."""
    spare, target = folder / "spare", folder / f"step-{step:08d}.safetensors"
    write(spare, weights, step)
    spare.rename(target)
    job.checkpoint_saved(target, step)
    for old in sorted(folder.glob("step-*"))[:-1]:
        old.rename(spare)
    if not spare.exists():
        write(spare, weights, step)


def write(path: Path, weights: memoryview, step: int) -> None:
    """Write a checkpoint over what is there: truncated, a file would give its memory back."""
    with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
        file.write(header(len(weights), step))
        for start in range(0, len(weights), PIECE_BYTES):
            file.write(weights[start : start + PIECE_BYTES])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--step-s", type=float, required=True)
    parser.add_argument("--checkpoint-every", type=int, required=True)
    parser.add_argument("--step-log", type=Path, required=True)
    options = parser.parse_args()
    job.should_stop()  # catches the stop signal
    resume, step, start = job.resume_from(), 0, 0
    if resume is None:
        mapped = fresh(options.bytes)
    else:
        mapped, start, step = load(resume)
    weights = memoryview(mapped)[start:]
    folder = job.checkpoint_dir()
    assert folder is not None, "runs under Sterna alone"
    job.started(step)
    while True:
        step += 1
        offset = step * CHANGED_BYTES % max(1, len(weights) - CHANGED_BYTES)
        weights[offset : offset + CHANGED_BYTES] = os.urandom(CHANGED_BYTES)
        log_step(options.step_log, step)
        job.report(step)
        stopping = job.should_stop()
        if stopping or step % options.checkpoint_every == 0:
            save(weights, folder, step)
        if stopping:
            return job.stopped(step)
        until_s = boottime_s() + options.step_s
        while boottime_s() < until_s and not job.should_stop():
            time.sleep(0.02)


def boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def log_step(path: Path, step: int) -> None:
    line = {
        "step": step,
        "epoch": int(os.environ["STERNA_EPOCH"]),
        "pid": os.getpid(),
        "site": os.environ["STERNA_SITE"],
        "boottime_s": boottime_s(),
    }
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    raise SystemExit(main())
