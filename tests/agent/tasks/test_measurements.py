"""What reports tell of a site: its import whatever other meters say, and what a battery tells of itself."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agent.grid.wire import SiteSnapshot
from agent.model.figures import Figure, Quantity
from agent.model.limits import Envelope, GridState
from agent.model.readings import Quality, SitePower, Storage
from agent.tasks.measurements import SiteMeasurements

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CHARGE, CAPACITY = Quantity.BATTERY_SOC_FRAC, Quantity.BATTERY_CAPACITY_WH


@pytest.mark.parametrize(
    ("stored", "quantity", "figure"),
    [
        (None, CHARGE, None),
        (Storage(), CHARGE, None),
        (Storage(), CAPACITY, None),
        (Storage(soc_frac=0.0), CHARGE, Figure(value=0.0, quality=Quality.OK)),
        (Storage(capacity_wh=1e4, soh_frac=0.9), CAPACITY, Figure(value=9e3, quality=Quality.OK)),
        (Storage(capacity_wh=1e4), CAPACITY, Figure(value=1e4, quality=Quality.ESTIMATED)),
        (Storage(capacity_wh=1e4), Quantity.BATTERY_CHARGE_MAX_W, None),
    ],
)
def test_a_batterys_figures(stored: Storage | None, quantity: Quantity, figure: Figure | None) -> None:
    measurements = SiteMeasurements(
        snapshot=SiteSnapshot,
        envelope=lambda: Envelope(state=GridState.AUTONOMOUS, limits=()),
        stored=lambda: stored,
    )
    asked = measurements.figure(quantity, NOW, NOW + timedelta(minutes=15), forecast=False)
    assert asyncio.run(asked) == figure


@pytest.mark.parametrize(
    ("grid_quality", "told"), [(Quality.OK, Quality.OK), (Quality.STALE, Quality.ESTIMATED)]
)
def test_a_silent_plant_meter_takes_nothing_from_the_import(grid_quality: Quality, told: Quality) -> None:
    measurements = SiteMeasurements(
        snapshot=SiteSnapshot, envelope=lambda: Envelope(state=GridState.AUTONOMOUS, limits=())
    )
    for second in range(61):
        power = SitePower(
            measured_at=NOW,
            quality=Quality.STALE,
            grid_w=3600.0,
            generation_w=0.0,
            available_w=None,
            battery_w=None,
            compute_w=None,
            site_load_w=None,
            surplus_w=None,
            grid_quality=grid_quality,
            grid_measured_at=NOW + timedelta(seconds=second),
        )
        measurements.take(power)
    asked = measurements.figure(Quantity.IMPORT_WH, NOW, NOW + timedelta(minutes=1), forecast=False)
    assert asyncio.run(asked) == Figure(value=60.0, quality=told)
