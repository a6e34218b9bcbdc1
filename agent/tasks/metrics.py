"""What the agent knows of itself, as samples for Prometheus. Only reads; called at most once a second."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from agent.core.power_budget_values import Bound
from agent.devices.meters_counted import CountedMeter
from agent.jobs.transfer import Transfers
from agent.metrics import families as names
from agent.model.jobs import JobPhase
from agent.model.limits import Envelope, GridState, Limit
from agent.model.readings import GpuReading, MeterReading, Quality, SitePower
from agent.store.telemetry import TelemetryStore
from agent.tasks.liaison import News
from sterna.exposition.families import Family, Sample
from sterna.supervise import Heart
from sterna.units import wh_to_joules


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that is told of one agent.

    Parameters
    ----------
    identity : tuple of str
        Fleet, site and version.
    links : mapping of name to callable
        Whether each link is up now.
    hearts : callable
        The loops of the daemon.
    free_bytes : callable
        What the checkpoint store still takes.
    store_files : sequence of Path
        The database and what belongs to it.
    process : callable
        The process's own samples.
    """

    identity: tuple[str, str, str]
    news: News
    meters: Sequence[CountedMeter]
    transfers: Transfers
    telemetry: TelemetryStore
    links: Mapping[str, Callable[[], bool]]
    hearts: Callable[[], Sequence[Heart]]
    free_bytes: Callable[[], int]
    store_files: Sequence[Path]
    process: Callable[[], Iterable[Sample]]

    def samples(self) -> Iterator[Sample]:
        """Look at every part once."""
        news, now = self.news, self.news.clock.now()
        yield from names.AGENT.of(1, *self.identity)
        if news.senses.power is not None:
            yield from site_samples(news.senses.power, now)
        yield from self._meters(now)
        yield from self._grid(now)
        for reading in news.senses.gpus:
            yield from gpu_samples(reading)
        yield from self._jobs()
        yield from self._daemon()
        yield from self.process()

    def _meters(self, now: datetime) -> Iterator[Sample]:
        for meter in self.meters:
            yield from names.METER_POLLS.of(meter.polls, meter.name)
            yield from names.METER_ERRORS.of(meter.errors, meter.name)
        for reading in self.news.senses.readings.values():
            yield from meter_samples(reading, now)

    def _grid(self, now: datetime) -> Iterator[Sample]:
        desk, actions = self.news.desk, self.news.control.actions
        yield from limit_samples(desk.envelope(now), now)
        yield from export_samples(desk.exports(), now)
        for source, machine in desk.machines.items():
            yield from _states(names.GRID_LINK_STATE, GridState, machine.state, source)
        yield from names.BREACHES.of(desk.tally.episodes)
        yield from names.BREACH_SAMPLES.of(desk.tally.samples)
        yield from names.EXPORT_BREACHES.of(desk.export_tally.episodes)
        yield from names.EXPORT_BREACH_SAMPLES.of(desk.export_tally.samples)
        if actions is None:
            return
        yield from names.UNACHIEVABLE.of(actions.unachievable)
        yield from names.ACHIEVABLE_MIN.of(actions.achievable_min_w)
        yield from names.ACHIEVABLE_MAX.of(actions.achievable_max_w)
        yield from names.BUDGET.of(actions.because.budget_w)
        yield from names.CAP.of(actions.cap_w)
        for bound in Bound:
            yield from names.BOUND.of(bound is actions.because.bound, bound.name.lower())

    def _jobs(self) -> Iterator[Sample]:
        keeper = self.news.control.keeper
        reports = keeper.reports()
        phases = Counter(report.phase for report in reports)
        for phase in JobPhase:
            if phase is not JobPhase.RELEASED:
                yield from names.JOBS.of(phases[phase], phase.value)
        yield from names.JOB_SLOTS.of(keeper.slots)
        yield from names.JOB_SLOTS_HELD.of(keeper.slots_held)
        held = [checkpoint for report in reports for checkpoint in report.checkpoints]
        yield from names.CHECKPOINTS.of(len(held))
        yield from names.CHECKPOINT_BYTES.of(sum(checkpoint.manifest.size_bytes for checkpoint in held))
        yield from names.CHECKPOINT_FREE.of(self.free_bytes())
        yield from names.RECEIVED.of(self.transfers.received_bytes)
        yield from names.SENT.of(self.transfers.sent_bytes)

    def _daemon(self) -> Iterator[Sample]:
        for link, is_up in self.links.items():
            yield from names.LINK.of(is_up(), link)
        yield from names.STORE.of(sum(file.stat().st_size for file in self.store_files if file.exists()))
        yield from names.TELEMETRY_WAITING.of(self.telemetry.waiting)
        yield from names.TELEMETRY_DROPPED.of(self.telemetry.dropped)
        for heart in self.hearts():
            yield from names.LOOP_AGE.of(heart.overdue_s + heart.deadline_s, heart.name)
            yield from names.LOOP_DEADLINE.of(heart.deadline_s, heart.name)


def site_samples(power: SitePower, now: datetime) -> Iterator[Sample]:
    """Tell the balance of the site."""
    yield from names.SITE_GRID.of(power.grid_w)
    yield from names.SITE_GENERATION.of(power.generation_w)
    yield from names.SITE_AVAILABLE.of(power.available_w)
    yield from names.SITE_BATTERY.of(power.battery_w)
    yield from names.SITE_COMPUTE.of(power.compute_w)
    yield from names.SITE_LOAD.of(power.site_load_w)
    yield from names.SITE_SURPLUS.of(power.surplus_w)
    yield from _states(names.SITE_QUALITY, Quality, power.quality)
    yield from names.SITE_AGE.of(_age_s(power.measured_at, now))


def meter_samples(reading: MeterReading, now: datetime) -> Iterator[Sample]:
    """Tell one meter's newest reading."""
    meter = reading.meter
    yield from names.METER_POWER.of(reading.active_power_w, meter, reading.role.value)
    yield from names.METER_AGE.of(_age_s(reading.measured_at, now), meter)
    yield from _states(names.METER_QUALITY, Quality, reading.quality, meter)
    if reading.storage is not None:
        yield from names.METER_CHARGE.of(reading.storage.soc_frac, meter)
    yield from names.METER_IMPORT.of(_joules(reading.energy_import_wh), meter)
    yield from names.METER_EXPORT.of(_joules(reading.energy_export_wh), meter)


def limit_samples(envelope: Envelope, now: datetime) -> Iterator[Sample]:
    """Tell what limits the site, and whose limits there are."""
    if envelope.binding is not None:
        yield from _bound(names.LIMIT, names.LIMIT_REMAINING, envelope.binding, now)
    lowest_w: dict[str, float] = {}
    for limit in envelope.limits:
        lowest_w[limit.source] = min(limit.limit_w, lowest_w.get(limit.source, limit.limit_w))
    for source, limit_w in lowest_w.items():
        yield from names.SOURCE_LIMIT.of(limit_w, source)
    yield from _states(names.GRID_STATE, GridState, envelope.state)


def export_samples(limits: Sequence[Limit], now: datetime) -> Iterator[Sample]:
    """Tell what limits the site's export; `limits` has the most restrictive first."""
    if limits:
        yield from _bound(names.EXPORT_LIMIT, names.EXPORT_LIMIT_REMAINING, limits[0], now)


def gpu_samples(reading: GpuReading) -> Iterator[Sample]:
    """Tell one look at one GPU."""
    gpu = reading.name
    yield from names.GPU_POWER.of(reading.power_w, gpu)
    yield from names.GPU_CAP.of(reading.power_cap_w, gpu)
    yield from names.GPU_UTILIZATION.of(reading.utilization_frac, gpu)
    yield from names.GPU_TEMPERATURE.of(reading.temperature_degc, gpu)
    yield from names.GPU_CLOCK.of(reading.clock_hz, gpu)
    yield from names.GPU_CALIBRATION.of(reading.calibration_factor, gpu)


def _bound(power: Family, remaining: Family, limit: Limit, now: datetime) -> Iterator[Sample]:
    yield from power.of(limit.limit_w, limit.source)
    if limit.end_at is not None:
        yield from remaining.of(max(0.0, (limit.end_at - now).total_seconds()), limit.source)


def _states(family: Family, kinds: type[Enum], current: Enum, *labels: str) -> Iterator[Sample]:
    for kind in kinds:
        yield from family.of(kind is current, *labels, str(kind.value))


def _age_s(at: datetime, now: datetime) -> float:
    return (now - at).total_seconds()


def _joules(energy_wh: float | None) -> float | None:
    return None if energy_wh is None else wh_to_joules(energy_wh)
