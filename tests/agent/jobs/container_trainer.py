"""A trainer for tests: runs in a container, in whatever Python that has, with nothing but `sterna.job`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from sterna import job

HERE = Path(os.environ["STERNA_RESULT_FILE"]).parent
DEAF = "deaf" in sys.argv


def save(step: int) -> None:
    folder = job.checkpoint_dir()
    assert folder is not None
    path = folder / f"step-{step}.json"
    path.write_text(json.dumps({"step": step}))
    job.checkpoint_saved(path, step)


source = job.resume_from()
step = json.loads(source.read_text())["step"] if source is not None else 0
(HERE / "seen.part").write_text(json.dumps({**os.environ, "module": job.__file__, "resumed_at": step}))
(HERE / "seen.part").replace(HERE / "seen.json")
job.started(step)
if DEAF:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    step += 1
    time.sleep(0.02)
    job.report(step)
    if step % 5 == 0:
        save(step)
    if not DEAF and job.should_stop():
        save(step)
        sys.exit(job.stopped(step))
    if (HERE / "enough").exists():
        job.completed(step)
        sys.exit(0)
