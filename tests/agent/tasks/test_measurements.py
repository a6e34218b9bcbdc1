"""What a battery tells is told in reports, and no more."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agent.grid.wire import SiteSnapshot
from agent.model.figures import Figure, Quantity
from agent.model.limits import Envelope, GridState
from agent.model.readings import Quality, Storage
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
