"""The table of docs/reliability.md from docs/kills.json: ``python -m tests.kills.published`` prints it.

With folders of runs as arguments, all of one version, it prints what they add up to: an entry of that file.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.kills.figures import Kill, together

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "kills.json"
PAGE = DOCS / "reliability.md"
IN_ORDER = (
    "PLANNED PREPARED STOPPING SEALED TRANSFERRING VERIFIED COMMITTED STARTING CONFIRMED COMPENSATING ENDED"
)


def added_up(folders: Sequence[Path]) -> dict[str, object]:
    """Add up what lies in the folders of runs of `scripts/kills`, all of one version."""
    runs = [json.loads((folder / "result.json").read_text()) for folder in folders]
    return together(runs, [kill for folder in folders for kill in _kills(folder)])


def _kills(folder: Path) -> list[Kill]:
    return [Kill(**json.loads(line)) for line in (folder / "kills.jsonl").read_text().splitlines()]


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what runs of `scripts/kills` came to, a column each.

    Parameters
    ----------
    runs : sequence of mapping
        Several of one version are added up.
    """
    columns = [_column(run) for run in runs]
    head = " | ".join(_seeds(run["seeds"]) for run in runs)
    lines = [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    return "\n".join([f"| | {head} |", "|---" * (len(runs) + 1) + "|", *lines])


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _column(run: Mapping[str, Any]) -> dict[str, str]:
    phases = run["by_phase"]
    return {
        "kills": f"{run['kills']:,}",
        "of whom": _counts(run["by_victim"]),
        "state on record of the migration that was aimed at": _counts(
            {name: phases[name] for name in IN_ORDER.split() if name in phases}
        ),
        "migrations that the dead one had a part in": f"{run['migrations_hit']:,}",
        "jobs that lived through it": f"{run['jobs']:,}, handed over {run['handovers']:,} times",
        "jobs lost": f"{run['jobs_lost']}",
        "jobs that ran twice": f"{run['ran_twice']}",
        "most steps done again after a kill": (
            f"{run['worst_steps_lost']} of the {run['checkpoint_interval_steps']} of a checkpoint interval"
        ),
        "until everything went on: median": f"{run['recovery_p50_s']} s",
        "99 of 100 within": f"{run['recovery_p99_s']} s",
        **{_range(over, band): _in_band(band) for over, band in pairwise([None, *run["by_load"]])},
        "longest": f"{run['recovery_max_s']} s",
        "migrations done, given up": f"{run['migrations_committed']:,}, {run['migrations_given_up']:,}",
        "load of the machine, on average": f"{run['load']}, on {run['cores']} cores",
        "version": f"`{run['version']}`",
    }


def _range(below: Mapping[str, Any] | None, band: Mapping[str, Any]) -> str:
    least, most = below["load_most"] if below is not None else 0, band["load_most"]
    return f"– at a load over {least:g}" + ("" if most is None else f", up to {most:g}")


def _in_band(band: Mapping[str, Any]) -> str:
    return f"{band['recovery_p99_s']} s ({band['kills']} kills)" if band["kills"] else "no kills"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(added_up([Path(one) for one in sys.argv[1:]]), indent=2))
    else:
        print(table(json.loads(FIGURES.read_text())))
