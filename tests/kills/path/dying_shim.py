"""The shim, with a place at which it dies: what `agent/shim` does, run in its stead by the tests."""

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT))


def main() -> int:
    """Own a run as the shim does; die where the file beside the runs says so, once."""
    from agent.shim import files, owner

    directory = sys.argv[1]
    # state-SITE/jobs/JOB/runs/RUN
    armed = Path(directory).parents[3] / "armed-shim"
    write = files.write_record

    def write_and_die(where: str, name: str, record: files.Record, *, durable: bool = True) -> None:
        wanted = armed.read_text().split() if armed.exists() else []
        if wanted == [name, "before"]:
            _die(armed)
        write(where, name, record, durable=durable)
        if wanted == [name, "after"]:
            _die(armed)

    files.write_record = write_and_die
    return owner.main(directory, int(sys.argv[2]))


def _die(armed: Path) -> None:
    armed.rename(armed.with_suffix(".fired"))
    os.kill(os.getpid(), signal.SIGKILL)


sys.exit(main())
