"""One settlement record per interval: what was metered, what was asked, whether it was kept.

A fold over what the site sees each second; it keeps the open intervals and gives each one up, once, as a
record. An interval in which nothing was seen gets a record that says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from agent.core.breach import Judgement
from agent.core.metering import (
    Direction,
    MeterLedger,
    closed,
    energy,
    index_of,
    rebooted,
    start_of,
    take,
)
from agent.core.settlement_faults import faults
from agent.model.limits import Limit
from agent.model.readings import MeterReading, MeterRole, Quality
from agent.model.settlement import Compliance, Energy, EnergyMethod, LimitUse, SettlementRecord

NODES = "(nodes)"
"""Stands among the meters for the nodes' own figure of what they draw."""
KNOWN_FRAC = 0.9
"""Share of an interval that must have been judged before it is said to have been kept."""
MAX_CATCH_UP = 3000
"""Most intervals that are made up for after a long absence, a month of quarter hours."""
GRACE_S = 30.0
"""An interval waits so long for a meter that is silent at its end, and after a start."""
WORSE = (EnergyMethod.COUNTED, EnergyMethod.INTEGRATED, EnergyMethod.ESTIMATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What was asked and kept in one interval. `judged_s` has seconds by `Judgement`."""

    limits: tuple[LimitUse, ...] = ()
    judged_s: Mapping[str, float] = field(default_factory=dict)
    breach_samples: int = 0
    worst_excess_w: float = 0.0
    counterfactual_ws: float = 0.0
    counterfactual_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLedger:
    """Everything that is not yet a record; `first` is the oldest open interval.

    `looked_s` is CLOCK_BOOTTIME of the newest sample; None after a restart.
    """

    length_s: float
    first: int
    meters: Mapping[str, MeterLedger] = field(default_factory=dict)
    notes: Mapping[int, Notes] = field(default_factory=dict)
    looked_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the site sees at one instant.

    `breach_samples` and `excess_w` are since the sample before; `counterfactual_w` is the import with every
    job at full power, None: unknown.
    """

    now: datetime
    now_boot_s: float
    readings: Sequence[MeterReading]
    limit: Limit | None = None
    judgement: Judgement = Judgement.NO_LIMIT
    breach_samples: int = 0
    excess_w: float = 0.0
    counterfactual_w: float | None = None


def opened(length_s: float, now: datetime) -> SiteLedger:
    """Return an empty ledger whose first interval is the present one."""
    return SiteLedger(length_s=length_s, first=index_of(now, length_s))


def resumed(ledger: SiteLedger, *, length_s: float, now: datetime, same_boot: bool) -> SiteLedger:
    """Return a stored ledger as it goes on after a restart.

    Another length of interval starts anew, with the first one that overlaps none of the former. An absence
    longer than `MAX_CATCH_UP` intervals is not made up for before that.
    """
    if ledger.length_s != length_s:
        after_s = ledger.first * ledger.length_s
        return SiteLedger(length_s=length_s, first=max(index_of(now, length_s), -int(-after_s // length_s)))
    first = max(ledger.first, index_of(now, length_s) - MAX_CATCH_UP)
    meters = ledger.meters
    if not same_boot:
        meters = {name: rebooted(meter) for name, meter in meters.items()}
    return rewound(replace(ledger, first=first, meters=meters, looked_s=None), now)


def rewound(ledger: SiteLedger, now: datetime) -> SiteLedger:
    """Follow a calendar that was set back by more than an interval; its future is forgotten."""
    present = index_of(now, ledger.length_s)
    if present >= ledger.first - 1:
        return ledger
    return SiteLedger(
        length_s=ledger.length_s,
        first=present,
        meters={name: MeterLedger(track=meter.track) for name, meter in ledger.meters.items()},
        looked_s=ledger.looked_s,
    )


def observe(ledger: SiteLedger, sample: Sample, *, max_power_w: float, max_gap_s: float) -> SiteLedger:
    """Take one sample.

    Parameters
    ----------
    ledger : SiteLedger
        As it stands.
    sample : Sample
        The newest.
    max_power_w : float
        Largest power that can flow at a meter, > 0.
    max_gap_s : float
        Longest time between two samples that still belong together.
    """
    if index_of(sample.now, ledger.length_s) < ledger.first and not ledger.meters:
        return ledger  # the first interval has not begun
    meters = dict(ledger.meters)
    for reading in sample.readings:
        meters[reading.meter] = take(
            meters.get(reading.meter, MeterLedger()),
            reading,
            length_s=ledger.length_s,
            first=ledger.first,
            max_power_w=max_power_w,
            max_gap_s=max_gap_s,
        )
    # A sample tells of the time before it: one that falls on an edge belongs to what has ended.
    index = max(ledger.first, index_of(sample.now - timedelta(microseconds=1), ledger.length_s))
    elapsed_s = 0.0 if ledger.looked_s is None else sample.now_boot_s - ledger.looked_s
    notes = dict(ledger.notes)
    notes[index] = _noted(notes.get(index, Notes()), sample, elapsed_s if elapsed_s <= max_gap_s else 0.0)
    return replace(ledger, meters=meters, notes=notes, looked_s=sample.now_boot_s)


def closable(ledger: SiteLedger, names: Iterable[str], *, now: datetime, up_s: float) -> int:
    """Return the first interval that must stay open: those before it can be closed.

    Parameters
    ----------
    names : iterable of str
        The site's meters; each that has spoken since the end lets an interval close at once.
    up_s : float
        Since the agent was started: a counter that is yet to speak may tell of a gap.
    """
    present = index_of(now, ledger.length_s)
    ended_at = start_of(present, ledger.length_s)
    heard = [ledger.meters.get(name, MeterLedger()).track.measured_at for name in names]
    if all(at is not None and at >= ended_at for at in heard):
        return max(ledger.first, present)
    if up_s < GRACE_S:
        return ledger.first
    return max(ledger.first, index_of(now - timedelta(seconds=GRACE_S), ledger.length_s))


def close(
    ledger: SiteLedger, *, until: int, roles: Mapping[str, MeterRole], now: datetime
) -> tuple[SiteLedger, tuple[SettlementRecord, ...]]:
    """Give up every interval before `until` as a record, oldest first, one each without a hole.

    Parameters
    ----------
    ledger : SiteLedger
        As it stands.
    until : int
        The first interval that stays open.
    roles : mapping of meter name to MeterRole
        The site's meters.
    now : datetime
        Stamped on the records.
    """
    records = []
    meters = dict(ledger.meters)
    for index in range(ledger.first, until):
        notes = ledger.notes.get(index, Notes())
        records.append(_record(meters, notes, index=index, length_s=ledger.length_s, roles=roles, now=now))
        meters = {name: closed(meter, index, ledger.length_s) for name, meter in meters.items()}
    left = {index: notes for index, notes in ledger.notes.items() if index >= until}
    return replace(ledger, first=max(ledger.first, until), meters=meters, notes=left), tuple(records)


def _noted(notes: Notes, sample: Sample, elapsed_s: float) -> Notes:
    judged = dict(notes.judged_s)
    judged[sample.judgement.value] = judged.get(sample.judgement.value, 0.0) + elapsed_s
    known = sample.counterfactual_w is not None
    return Notes(
        limits=_bound(notes.limits, sample.limit, elapsed_s),
        judged_s=judged,
        breach_samples=notes.breach_samples + sample.breach_samples,
        worst_excess_w=max(notes.worst_excess_w, sample.excess_w),
        counterfactual_ws=notes.counterfactual_ws + (sample.counterfactual_w or 0.0) * elapsed_s,
        counterfactual_s=notes.counterfactual_s + (elapsed_s if known else 0.0),
    )


def _bound(limits: tuple[LimitUse, ...], limit: Limit | None, elapsed_s: float) -> tuple[LimitUse, ...]:
    if limit is None:
        return limits
    key = (limit.source, limit.command_id, limit.limit_w)
    for place, use in enumerate(limits):
        if (use.source, use.command_id, use.limit_w) == key:
            return (*limits[:place], replace(use, held_s=use.held_s + elapsed_s), *limits[place + 1 :])
    new = LimitUse(source=limit.source, command_id=limit.command_id, limit_w=limit.limit_w, held_s=elapsed_s)
    return (*limits, new)


def _record(
    meters: Mapping[str, MeterLedger],
    notes: Notes,
    *,
    index: int,
    length_s: float,
    roles: Mapping[str, MeterRole],
    now: datetime,
) -> SettlementRecord:
    def summed(role: MeterRole, direction: str) -> Energy | None:
        names = sorted(name for name, its in roles.items() if its is role)
        if role is MeterRole.COMPUTE and not names and NODES in meters:
            names = [NODES]
        ledgers = [meters.get(name, MeterLedger()) for name in names]
        return _sum([_one(getattr(meter, direction), index, length_s) for meter in ledgers])

    unknown = Energy(energy_wh=None, method=None)
    grid_import = summed(MeterRole.GRID, "imported") or unknown
    record = SettlementRecord(
        start_at=start_of(index, length_s),
        length_s=length_s,
        grid_import=grid_import,
        grid_export=summed(MeterRole.GRID, "exported") or unknown,
        generation=summed(MeterRole.GENERATION, "exported"),
        compute=summed(MeterRole.COMPUTE, "imported"),
        load=summed(MeterRole.LOAD, "imported"),
        battery_charge=summed(MeterRole.BATTERY, "imported"),
        battery_discharge=summed(MeterRole.BATTERY, "exported"),
        limits=tuple(sorted(notes.limits, key=lambda use: (use.limit_w, use.source, use.command_id))),
        compliance=_compliance(notes, length_s),
        breach_samples=notes.breach_samples,
        worst_excess_w=notes.worst_excess_w,
        counterfactual_w=_counterfactual_w(notes, length_s),
        quality=_quality(grid_import),
        closed_at=now,
    )
    return replace(record, faults=faults(record, metered=frozenset(roles.values())))


def _one(direction: Direction, index: int, length_s: float) -> Energy:
    return energy(direction, index, length_s)[0]


def _sum(energies: Sequence[Energy]) -> Energy | None:
    """Add the meters of one role; one that is unknown makes the sum so. None: there are none."""
    if len(energies) <= 1:
        return energies[0] if energies else None
    known_s = min(each.known_s for each in energies)
    methods = [each.method for each in energies if each.method is not None]
    if len(methods) < len(energies):
        return Energy(energy_wh=None, method=None, known_s=known_s)
    flows = [each.integrated_wh for each in energies if each.integrated_wh is not None]
    return Energy(
        energy_wh=sum(each.energy_wh or 0.0 for each in energies),
        method=max(methods, key=WORSE.index),
        known_s=known_s,
        integrated_wh=None if len(flows) < len(energies) else sum(flows),
    )


def _compliance(notes: Notes, length_s: float) -> Compliance:
    judged_s = notes.judged_s
    if notes.breach_samples:
        return Compliance.BREACH
    known_s = sum(seconds for word, seconds in judged_s.items() if word != Judgement.UNKNOWN.value)
    if known_s < KNOWN_FRAC * length_s:
        return Compliance.UNKNOWN
    if judged_s.get(Judgement.UNACHIEVABLE.value, 0.0) > 0:
        return Compliance.UNACHIEVABLE
    return Compliance.KEPT if notes.limits else Compliance.NO_LIMIT


def _counterfactual_w(notes: Notes, length_s: float) -> float | None:
    if notes.counterfactual_s < KNOWN_FRAC * length_s:
        return None
    return notes.counterfactual_ws / notes.counterfactual_s


def _quality(grid_import: Energy) -> Quality:
    match grid_import.method:
        case None:
            return Quality.BAD
        case EnergyMethod.ESTIMATED:
            return Quality.ESTIMATED
        case _:
            return Quality.OK
