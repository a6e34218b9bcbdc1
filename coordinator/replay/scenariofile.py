"""Scenario files: TOML that says which traces, cut how, make which worlds. Data paths are arguments.

A file may extend one that ships with Sterna; tables are merged key by key, lists are replaced.
"""

import tomllib
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from coordinator.core.partial import Piece
from coordinator.forecast.series import Series
from coordinator.model.replication import Replication
from coordinator.replay import importers
from coordinator.replay.batteries import BatteryTable, firm
from coordinator.replay.gridlimits import LimitTable, limits_of
from coordinator.replay.jobtables import KindTable, ReplicasTable, SlowTable
from coordinator.replay.signals import Signals, SignalTable, read_signals
from coordinator.replay.sources import (
    Instant,
    Source,
    SurplusTable,
    TraceFiles,
    read_surplus,
    step_s_of,
)
from coordinator.replay.world import Costs, Plant, Task, World, access_of
from sterna.errors import ConfigError
from sterna.units import gb_to_bytes, hours_to_s

_SHIPPED = resources.files("coordinator.replay") / "scenarios"


class SiteTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One site; `wan`: its name in the link matrix, "": its own.

    `traces`: of its `file`, "": that of ``[surplus]``; what they say adds up. `price`, `carbon`: which trace
    of the scenario's file of prices, of carbon intensity; "": unknown.
    """

    id: str
    wan: str = ""
    file: str = ""
    traces: tuple[str, ...] = ()
    price: str = ""
    carbon: str = ""


class FleetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sites, in the order of homes."""

    slots: Annotated[int, msgspec.Meta(ge=1)]
    sites: Annotated[tuple[SiteTable, ...], msgspec.Meta(min_length=1)]


class PeriodTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a period is."""

    days: Annotated[float, msgspec.Meta(gt=0.0)]


class JobsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows of a job trace, and what each job is given; lists are gone through in turn."""

    file: str
    min_duration_s: float
    max_duration_s: float
    keep_every: Annotated[int, msgspec.Meta(ge=1)]
    checkpoint_gb: Annotated[tuple[Annotated[float, msgspec.Meta(gt=0.0)], ...], msgspec.Meta(min_length=1)]
    power_w: Annotated[float, msgspec.Meta(gt=0.0)]
    kinds: tuple[KindTable, ...] = ()


class WanTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The links; `access_bps` bounds every uplink and downlink."""

    file: str
    set: str
    eta: float
    network_wh_per_gb: float
    access_bps: float | None = None


class MigrationTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a move takes beside the link."""

    store_bytes_per_s: float
    downtime_s: float
    alpha: float
    ahead: Literal["always", "if-needed"] = "always"
    """When pieces travel ahead of their job; see `World.ahead_if_needed`."""


class DeferralTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs may be held back."""

    hold_back_s: float


class ScenarioFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scenario."""

    name: str
    periods: dict[str, Instant]
    period: PeriodTable
    fleet: FleetTable
    surplus: SurplusTable
    price: SignalTable | None = None
    carbon: SignalTable | None = None
    jobs: JobsTable
    wan: WanTable
    migration: MigrationTable
    deferral: DeferralTable | None = None
    battery: BatteryTable | None = None
    replicas: ReplicasTable | None = None
    slow: SlowTable | None = None
    limits: tuple[LimitTable, ...] = ()

    @property
    def offsets(self) -> range:
        """Return the offsets over which figures are means."""
        return range(self.jobs.keep_every)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traces:
    """The recorded traces of one scenario: read once, cut into a world for each period and offset."""

    step_s: float
    surplus: dict[str, Series]
    notes: tuple[str, ...]
    """What there is to say of gaps in them."""
    price: Signals
    carbon: Signals
    jobs: tuple[importers.TracedJob, ...]
    pair_bps: dict[tuple[str, str], float]


def shipped_scenarios() -> tuple[str, ...]:
    """Return the names of the scenarios that ship with Sterna."""
    return tuple(sorted(f.name.removesuffix(".toml") for f in _SHIPPED.iterdir() if f.name.endswith(".toml")))


def read_scenario(name_or_path: str) -> ScenarioFile:
    """Read a scenario that ships with Sterna, by name, or a file.

    Raises
    ------
    ConfigError
        There is none, or it is not usable.
    """
    try:
        scenario = msgspec.convert(_merged(name_or_path), ScenarioFile)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name_or_path}: {error}") from error
    _check(scenario)
    return scenario


def read_traces(scenario: ScenarioFile, data_dir: Path) -> Traces:
    """Read everything that a scenario needs.

    Raises
    ------
    ConfigError
        A file is missing or lacks what is needed.
    """
    files, sites, table = TraceFiles(data_dir), scenario.fleet.sites, scenario.surplus
    price = read_signals("price", scenario.price, {site.id: site.price for site in sites}, files)
    sources = {site.id: Source(file=site.file or table.file, traces=site.traces) for site in sites}
    surplus, notes = read_surplus(table, sources, price.series, files)
    chosen = [
        job
        for job in importers.philly_jobs(data_dir / scenario.jobs.file)
        if job.gpus == 1 and scenario.jobs.min_duration_s <= job.duration_s <= scenario.jobs.max_duration_s
    ]
    names = {site.id: site.wan or site.id for site in sites}
    return Traces(
        step_s=step_s_of(surplus.values()),
        surplus=surplus,
        notes=notes,
        price=price,
        carbon=read_signals("carbon", scenario.carbon, {site.id: site.carbon for site in sites}, files),
        jobs=tuple(chosen),
        pair_bps=importers.wan_pairs(data_dir / scenario.wan.file, scenario.wan.set, names),
    )


def world_of(scenario: ScenarioFile, traces: Traces, period: str, offset: int) -> World:
    """Cut one world.

    Parameters
    ----------
    scenario, traces
        What `read_scenario` and `read_traces` gave.
    period : str
        One of the scenario's periods.
    offset : int
        The first row of the job trace that is kept, from 0.

    Raises
    ------
    ConfigError
        There is no such period or offset, or the traces do not cover it.
    """
    if period not in scenario.periods:
        raise ConfigError(f"{scenario.name}: period {period}: expected one of {', '.join(scenario.periods)}")
    if offset not in scenario.offsets:
        raise ConfigError(f"{scenario.name}: offset {offset}: expected 0 to {scenario.offsets[-1]}")
    start_at = scenario.periods[period]
    world = World(
        name=scenario.name,
        start_at=start_at,
        period_s=hours_to_s(24.0 * scenario.period.days),
        step_s=traces.step_s,
        sites=tuple(_plant(scenario, traces, site.id, start_at) for site in scenario.fleet.sites),
        tasks=_tasks(scenario, traces, offset),
        wan=access_of(traces.pair_bps, scenario.wan.access_bps, [site.id for site in scenario.fleet.sites]),
        costs=Costs(
            store_bytes_per_s=scenario.migration.store_bytes_per_s,
            downtime_s=scenario.migration.downtime_s,
            eta=scenario.wan.eta,
            network_wh_per_gb=scenario.wan.network_wh_per_gb,
            alpha=scenario.migration.alpha,
        ),
        currency=traces.price.money,
        ahead_if_needed=scenario.migration.ahead == "if-needed",
        hold_back_s=scenario.deferral.hold_back_s if scenario.deferral is not None else None,
    )
    return world if scenario.battery is None else firm(world, scenario.battery.battery())


def _plant(scenario: ScenarioFile, traces: Traces, site_id: str, start_at: datetime) -> Plant:
    line = traces.surplus[site_id]
    if not line.begin_at <= start_at < line.end_at:
        raise ConfigError(f"{scenario.name}: the traces of {site_id} do not cover {start_at.isoformat()}")
    past, ahead = line.on(start_at, traces.step_s)
    return Plant(
        site_id=site_id,
        slots=scenario.fleet.slots,
        surplus_w=tuple(ahead.tolist()),
        past_w=tuple(past.tolist()),
        price=traces.price.on(site_id, start_at, traces.step_s),
        carbon=traces.carbon.on(site_id, start_at, traces.step_s),
        limits=limits_of(scenario.limits, site_id, traces.step_s * len(ahead)),
    )


def _tasks(scenario: ScenarioFile, traces: Traces, offset: int) -> tuple[Task, ...]:
    table = scenario.jobs
    kept = traces.jobs[offset :: table.keep_every]
    period_s = hours_to_s(24.0 * scenario.period.days)
    tasks = tuple(
        _task(scenario, place, job, job.submit_s - kept[0].submit_s)
        for place, job in enumerate(kept)
        if job.submit_s - kept[0].submit_s <= period_s
    )
    if not tasks:
        raise ConfigError(
            f"{scenario.name}: jobs: no job of {table.file} with one GPU runs for {table.min_duration_s:.0f} "
            f"to {table.max_duration_s:.0f} s"
        )
    return tasks


def _task(scenario: ScenarioFile, place: int, job: importers.TracedJob, submitted_s: float) -> Task:
    table, sites = scenario.jobs, scenario.fleet.sites
    size_bytes = int(gb_to_bytes(table.checkpoint_gb[place % len(table.checkpoint_gb)]))
    return Task(
        job_id=job.job_id,
        home_site=sites[place % len(sites)].id,
        submitted_s=submitted_s,
        work_s=job.duration_s,
        checkpoint_bytes=size_bytes,
        power_w=table.power_w,
        pieces=_pieces(table.kinds[place % len(table.kinds)], size_bytes) if table.kinds else (),
        replication=_replication(scenario, place, size_bytes),
        slow=scenario.slow.range() if scenario.slow is not None else None,
    )


def _pieces(kind: KindTable, size_bytes: int) -> tuple[Piece, ...]:
    """Cut a checkpoint; the last piece takes what rounding leaves."""
    pieces, left = [], size_bytes
    for number, table in enumerate(kind.pieces, start=1):
        part = left if number == len(kind.pieces) else round(table.share * size_bytes)
        left -= part
        pieces.append(
            Piece(name=table.name, size_bytes=part, change_frac=table.change_frac, stays=table.stays)
        )
    return tuple(pieces)


def _replication(scenario: ScenarioFile, place: int, size_bytes: int) -> Replication | None:
    table = scenario.replicas
    if table is None or place % table.every:
        return None
    return Replication(
        least=table.least,
        most=table.most,
        sync_bytes=round(table.sync_share * size_bytes),
        round_s=table.steps * table.step_s,
        efficiency=table.efficiency,
    )


def _check(scenario: ScenarioFile) -> None:
    """Refuse what no single field shows."""
    name = scenario.name
    faults = [
        f"jobs.kinds[{place}]: shares sum up to {sum(piece.share for piece in kind.pieces):g}: expected 1"
        for place, kind in enumerate(scenario.jobs.kinds)
        if kind.pieces and abs(sum(piece.share for piece in kind.pieces) - 1.0) > 1e-9
    ]
    faults += scenario.surplus.faults()
    faults += [
        f"jobs.kinds[{place}]: no piece changes and moves"
        for place, kind in enumerate(scenario.jobs.kinds)
        if kind.pieces and all(piece.stays or piece.change_frac == 0.0 for piece in kind.pieces)
    ]
    names = {site.id for site in scenario.fleet.sites}
    faults += [f"limits: {one.site} is no site" for one in scenario.limits if one.site not in names]
    if scenario.limits and scenario.battery is not None:
        faults.append("limits: not together with a battery")
    if scenario.slow is not None:
        faults += [f"slow.{field}: {text}" for field, text in scenario.slow.range().faults()]
    if scenario.replicas is not None:
        try:
            _replication(scenario, 0, 1)
        except ValueError as error:
            faults.append(f"replicas: {error}")
        if scenario.replicas.least > len(scenario.fleet.sites):
            faults.append(
                f"replicas.least {scenario.replicas.least}: there are {len(scenario.fleet.sites)} sites"
            )
    if faults:
        raise ConfigError("\n".join(f"{name}: {fault}" for fault in faults))


def _merged(name_or_path: str) -> dict[str, Any]:
    document = _document(name_or_path)
    base = document.pop("extends", None)
    if base is None:
        return document
    under = _merged(str(base))
    for key, value in document.items():
        both = isinstance(value, dict) and isinstance(under.get(key), dict) and key != "periods"
        under[key] = {**under[key], **value} if both else value
    return under


def _document(name_or_path: str) -> dict[str, Any]:
    try:
        if name_or_path in shipped_scenarios():
            return tomllib.loads((_SHIPPED / f"{name_or_path}.toml").read_text(encoding="utf-8"))
        if not name_or_path.endswith(".toml"):
            raise ConfigError(
                f"scenario {name_or_path}: expected a .toml file or one of {', '.join(shipped_scenarios())}"
            )
        return tomllib.loads(Path(name_or_path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{name_or_path}: {error}") from error
