"""Settlement records as lines of a table and as plain data; an interval without a record has a line too."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from agent.core.settlement_events import binding
from agent.model.settlement import Energy, SettledBaseline, SettlementRecord

FORMAT = "sterna.settlement/1"
MISSING = "MISSING"
ENERGIES = (
    ("grid_import", "import"),
    ("grid_export", "export"),
    ("generation", "generation"),
    ("compute", "compute"),
    ("load", "load"),
    ("battery_charge", "battery_charge"),
    ("battery_discharge", "battery_discharge"),
)
DIGITS = 3

Cell = str | float | int | None


def header(methods: Iterable[str]) -> tuple[str, ...]:
    """Name the columns; every number has its unit at its end."""
    energies = [column for _, name in ENERGIES for column in (f"{name}_wh", f"{name}_method")]
    baselines = [
        column for name in methods for column in (f"baseline_w {name}", f"delivered_wh {name}", f"why {name}")
    ]
    return (
        "start_at",
        "end_at",
        "quality",
        *energies,
        "limit_w",
        "limit_source",
        "limit_command",
        "limit_held_s",
        "compliance",
        "breach_samples",
        "worst_excess_w",
        "event",
        "counterfactual_w",
        *baselines,
        "faults",
        "closed_at",
        "version",
    )


def lines(
    records: Sequence[SettlementRecord], baselines: Iterable[SettledBaseline], methods: Sequence[str]
) -> Iterator[tuple[Cell, ...]]:
    """Write the lines of the table, in order, the intervals between two records that have none included."""
    settled = {(line.start_at, line.method): line for line in baselines}
    width = len(header(methods))
    before: SettlementRecord | None = None
    for record in records:
        for start_at in _missing(before, record):
            end_at = start_at + timedelta(seconds=record.length_s)
            yield (_instant(start_at), _instant(end_at), MISSING, *(None,) * (width - 3))
        yield _line(record, [settled.get((record.start_at, name)) for name in methods])
        before = record


def document(
    site: str, records: Sequence[SettlementRecord], baselines: Iterable[SettledBaseline]
) -> dict[str, object]:
    """Return everything as plain data for JSON; what is unknown is null."""
    by_start: dict[datetime, list[SettledBaseline]] = {}
    for line in baselines:
        by_start.setdefault(line.start_at, []).append(line)
    intervals: list[object] = []
    before: SettlementRecord | None = None
    for record in records:
        intervals += [
            {"start_at": start_at, "length_s": record.length_s, "quality": MISSING}
            for start_at in _missing(before, record)
        ]
        intervals.append({"record": record, "baselines": by_start.get(record.start_at, [])})
        before = record
    return {"format": FORMAT, "site": site, "intervals": intervals}


def _missing(before: SettlementRecord | None, record: SettlementRecord) -> Iterator[datetime]:
    if before is None:
        return
    step, at = timedelta(seconds=record.length_s), before.end_at
    while at + step <= record.start_at:
        yield at
        at += step


def _line(record: SettlementRecord, baselines: Sequence[SettledBaseline | None]) -> tuple[Cell, ...]:
    energies = [cell for field, _ in ENERGIES for cell in _energy(getattr(record, field))]
    strictest = record.limits[0] if record.limits else None
    source, _ = binding(record.limits, record.length_s)
    events = {line.event_id for line in baselines if line is not None}
    return (
        _instant(record.start_at),
        _instant(record.end_at),
        record.quality.value,
        *energies,
        None if strictest is None else _rounded(strictest.limit_w),
        None if strictest is None else strictest.source,
        None if strictest is None else strictest.command_id,
        None if strictest is None else _rounded(strictest.held_s),
        record.compliance.value,
        record.breach_samples,
        _rounded(record.worst_excess_w),
        " ".join(sorted(events)) or (source or None),
        _rounded(record.counterfactual_w),
        *(cell for line in baselines for cell in _baseline(line)),
        "; ".join(record.faults) or None,
        _instant(record.closed_at),
        record.version,
    )


def _energy(energy: Energy | None) -> tuple[Cell, Cell]:
    if energy is None:
        return None, None
    return _rounded(energy.energy_wh), None if energy.method is None else energy.method.value


def _baseline(line: SettledBaseline | None) -> tuple[Cell, Cell, Cell]:
    if line is None:
        return None, None, None
    return _rounded(line.baseline_w), _rounded(line.delivered_wh), line.reason or line.adjustment or None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
