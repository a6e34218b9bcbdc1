"""The table of docs/reliability.md from docs/kills.json: ``python -m tests.kills.published`` prints it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "kills.json"
PAGE = DOCS / "reliability.md"
IN_ORDER = (
    "PLANNED PREPARED STOPPING SEALED TRANSFERRING VERIFIED COMMITTED STARTING CONFIRMED COMPENSATING ENDED"
)


def table(result: Mapping[str, Any]) -> str:
    """Return the table of a result of `scripts/kills`.

    Parameters
    ----------
    result : mapping
        Its JSON.
    """
    phases = result["by_phase"]
    met = ", ".join(f"{name} {phases[name]}" for name in IN_ORDER.split() if name in phases)
    rows = (
        ("kills", f"{result['kills']:,}: {_counts(result['by_victim'])}"),
        ("state on record of the migration that was aimed at", met),
        ("migrations that the dead one had a part in", f"{result['migrations_hit']:,}"),
        ("jobs that lived through it", f"{result['jobs']:,}, moved {result['handovers']:,} times"),
        ("jobs lost, jobs that ran twice", f"{result['jobs_lost']}, {result['ran_twice']}"),
        (
            "most steps done again after a kill",
            f"{result['worst_steps_lost']}; a checkpoint interval has {result['checkpoint_interval_steps']}",
        ),
        ("until everything went on: median", f"{result['recovery_p50_s']} s"),
        ("99 in 100", f"{result['recovery_p99_s']} s"),
        ("longest", f"{result['recovery_max_s']} s"),
        (
            "migrations",
            f"{result['migrations_committed']:,} done, {result['migrations_given_up']:,} given up",
        ),
        ("load of the machine, on average", f"{result['load']} on {result['cores']} cores"),
    )
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    print(table(json.loads(FIGURES.read_text())))
