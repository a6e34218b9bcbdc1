"""What becomes of readings, limits and GPUs on the page; missing stays missing."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.devices.meters_counted import CountedMeter
from agent.model.limits import Envelope, GridState, Limit
from agent.model.readings import GpuReading, MeterReading, MeterRole, Quality, SitePower, Storage
from agent.tasks.metrics import export_samples, gpu_samples, limit_samples, meter_samples, site_samples
from sterna.errors import PeerProtocolError, TransientError
from sterna.exposition.families import Sample

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def told(samples: Iterable[Sample]) -> dict[str, float]:
    """Return every figure by the name and labels that a query uses."""
    return {".".join((sample.family.sample_name, *sample.labels)): sample.value for sample in samples}


def reading(quality: Quality, power_w: float | None, **more: float) -> MeterReading:
    return MeterReading(
        meter="m",
        role=MeterRole.GRID,
        measured_at=NOW - timedelta(seconds=3),
        measured_boottime_s=7.0,
        quality=quality,
        active_power_w=power_w,
        **more,  # type: ignore[arg-type]
    )


def limit(source: str, limit_w: float, end_at: datetime | None = None) -> Limit:
    return Limit(
        source=source, command_id="c", limit_w=limit_w, start_at=NOW, end_at=end_at, ramp_s=0.0, reason=""
    )


def test_a_balance_tells_what_is_known() -> None:
    power = SitePower(
        measured_at=NOW - timedelta(seconds=2),
        quality=Quality.STALE,
        grid_w=-120.5,
        generation_w=3000.0,
        available_w=None,
        battery_w=None,
        compute_w=0.0,
        site_load_w=None,
        surplus_w=None,
    )
    assert told(site_samples(power, NOW)) == {
        "sterna_site_grid_watts": -120.5,
        "sterna_site_generation_watts": 3000.0,
        "sterna_site_compute_watts": 0.0,
        "sterna_site_quality.OK": 0,
        "sterna_site_quality.STALE": 1,
        "sterna_site_quality.ESTIMATED": 0,
        "sterna_site_quality.BAD": 0,
        "sterna_site_age_seconds": 2.0,
    }


def test_a_bad_meter_has_an_age_and_no_watts() -> None:
    figures = told(meter_samples(reading(Quality.BAD, None), NOW))
    assert "sterna_meter_power_watts.m.grid" not in figures
    assert figures["sterna_meter_age_seconds.m"] == 3.0
    assert figures["sterna_meter_quality.m.BAD"] == 1


def test_energy_is_told_in_joules() -> None:
    figures = told(meter_samples(reading(Quality.OK, 1.0, energy_import_wh=2.5), NOW))
    assert figures["sterna_meter_import_joules_total.m"] == 9000.0
    assert "sterna_meter_export_joules_total.m" not in figures


def test_a_battery_tells_its_charge() -> None:
    full = replace(reading(Quality.OK, 1.0), storage=Storage(soc_frac=1.0))
    assert told(meter_samples(full, NOW))["sterna_meter_charge_ratio.m"] == 1.0
    unsure = replace(full, storage=Storage())
    assert not {name for name in told(meter_samples(unsure, NOW)) if "charge" in name}


def test_the_binding_limit_its_source_and_its_time() -> None:
    limits = (
        limit("mqtt", 4200.0, NOW + timedelta(seconds=90)),
        limit("mqtt", 5000.0),
        limit("local", 9000.0),
    )
    figures = told(limit_samples(Envelope(state=GridState.LIMITED, limits=limits), NOW))
    assert {name: value for name, value in figures.items() if "state" not in name} == {
        "sterna_limit_watts.mqtt": 4200.0,
        "sterna_limit_remaining_seconds.mqtt": 90.0,
        "sterna_source_limit_watts.mqtt": 4200.0,
        "sterna_source_limit_watts.local": 9000.0,
    }
    assert [name for name, value in figures.items() if "state" in name and value] == [
        "sterna_grid_state.LIMITED"
    ]


def test_the_export_limit_its_source_and_its_time() -> None:
    limits = (limit("modbus-wset", 0.0, NOW + timedelta(seconds=90)), limit("openadr", 5000.0))
    assert told(export_samples(limits, NOW)) == {
        "sterna_export_limit_watts.modbus-wset": 0.0,
        "sterna_export_limit_remaining_seconds.modbus-wset": 90.0,
    }
    assert told(export_samples(limits[1:], NOW)) == {"sterna_export_limit_watts.openadr": 5000.0}
    assert told(export_samples((), NOW)) == {}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((), set()), ((limit("local", 0.0),), {"sterna_limit_watts.local", "sterna_source_limit_watts.local"})],
)
def test_a_limit_of_zero_is_a_limit_and_none_is_none(limits: tuple[Limit, ...], expected: set[str]) -> None:
    figures = told(limit_samples(Envelope(state=GridState.UNLIMITED, limits=limits), NOW))
    assert {name for name in figures if "state" not in name} == expected


def test_a_gpu_tells_what_it_states() -> None:
    gpu = GpuReading(name="gpu0", measured_at=NOW, power_w=12.0, utilization_frac=0.5, calibration_factor=1.4)
    assert told(gpu_samples(gpu)) == {
        "sterna_gpu_power_watts.gpu0": 12.0,
        "sterna_gpu_utilization_ratio.gpu0": 0.5,
        "sterna_gpu_calibration_ratio.gpu0": 1.4,
    }


class Moody:
    """Answers, fails, talks nonsense, hangs: in this order."""

    name = "m"
    role = MeterRole.GRID

    def __init__(self) -> None:
        self.polls = 0

    async def poll(self) -> MeterReading:
        self.polls += 1
        if self.polls == 2:
            raise TransientError("away")
        if self.polls == 3:
            raise PeerProtocolError("nonsense")
        if self.polls == 4:
            await asyncio.Event().wait()
        return reading(Quality.OK, 1.0)


async def test_polls_are_counted_and_those_that_fail_too() -> None:
    meter = CountedMeter(Moody())
    assert (meter.name, meter.role) == ("m", MeterRole.GRID)
    for _ in range(5):
        try:
            async with asyncio.timeout(0.05):
                await meter.poll()
        except (TransientError, PeerProtocolError, TimeoutError):
            continue
    assert (meter.polls, meter.errors) == (5, 3)
