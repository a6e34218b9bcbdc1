"""Files of a site's earlier days, as an operator would bring them."""

import csv
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from coordinator.forecast.past import STAMP, VALUE


def write_past(path: Path, rows: Iterable[tuple[datetime, float]]) -> None:
    """Write a file that `read_past` reads."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((STAMP, VALUE))
        writer.writerows((at.isoformat(), f"{value:.1f}") for at, value in rows)
