"""``python -m agent.simulator.evidence``: what trainers' logs and final weights prove, as one JSON object.

The reader of a demonstration or a test, in a process of its own: it takes nothing from the daemons whose work
it judges.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from agent.simulator import steplog


def judge(log: Path, total: int, final: Path) -> dict[str, Any]:
    """Judge one job.

    Parameters
    ----------
    log : Path
        Its step log; absent: it never ran.
    total : int
        Steps that it has in all.
    final : Path
        Its final weights; absent: it never ended.

    Returns
    -------
    dict
        ``steps_lost``, ``double_runs``, ``downtime_s`` (one per hand-over between sites), ``sites`` in order,
        ``digest`` of the final weights or None.
    """
    entries = steplog.parse(log.read_text().splitlines()) if log.exists() else []
    return {
        "steps_lost": steplog.steps_lost(entries, total),
        "double_runs": steplog.double_runs(entries),
        "downtime_s": [round(seconds, 3) for seconds in steplog.downtimes_s(entries)],
        "sites": [stint.site for stint in steplog.stints(entries)],
        "digest": digest(final),
    }


def digest(final: Path) -> str | None:
    """Return the SHA-256 of final weights, read from the weights themselves; None when there are none."""
    return hashlib.sha256(final.read_bytes()).hexdigest() if final.exists() else None


def main() -> int:
    """Read ``LOG TOTAL FINAL`` triples from the arguments and print a list of judgements."""
    parser = argparse.ArgumentParser(prog="evidence", description=__doc__)
    parser.add_argument("triple", nargs="+", help="LOG TOTAL FINAL, repeated")
    words = parser.parse_args().triple
    if len(words) % 3:
        parser.error("expected LOG TOTAL FINAL, repeated")
    triples = zip(words[::3], words[1::3], words[2::3], strict=True)
    json.dump([judge(Path(log), int(total), Path(final)) for log, total, final in triples], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
