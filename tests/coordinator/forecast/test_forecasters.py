"""Forecasters: the site's own while it can be believed, else persistence, else nothing."""

from datetime import timedelta

import pytest

from coordinator.forecast.feed import FeedForecaster
from coordinator.forecast.forecaster import FirstOf, SiteSurplus
from coordinator.forecast.persistence import PersistenceForecaster
from coordinator.model.forecast import SurplusForecast
from tests.coordinator.core.fleets import NOW, forecast

FEED = FeedForecaster(max_age_s=900.0)
PERSISTENCE = PersistenceForecaster(horizon_s=100.0, slot_s=40.0, spread_frac_per_s=0.02)


def seen(published: SurplusForecast | None = None, surplus_w: float | None = 800.0) -> SiteSurplus:
    return SiteSurplus(site_id="a", surplus_w=surplus_w, published=published)


@pytest.mark.parametrize(("later_s", "used"), [(0, True), (900, True), (901, False), (-5, True), (-6, False)])
def test_a_published_forecast_is_used_while_it_is_fresh(later_s: float, used: bool) -> None:
    published = forecast(500, 500, slot_s=3600.0)
    got = FEED.forecast(NOW + timedelta(seconds=later_s), seen(published))
    assert got is (published if used else None)


@pytest.mark.parametrize(
    "published",
    [
        None,
        SurplusForecast(issued_at=NOW, source="plant", slots=()),
        forecast(500, slot_s=60.0, start_s=-60.0),
    ],
)
def test_nothing_published_or_nothing_left_of_it(published: SurplusForecast | None) -> None:
    assert FEED.forecast(NOW, seen(published)) is None


def test_persistence_holds_the_measurement_with_widening_quantiles() -> None:
    got = PERSISTENCE.forecast(NOW, seen())
    assert got is not None
    assert (got.source, got.issued_at) == ("persistence", NOW)
    spans = [
        ((s.start_at - NOW).total_seconds(), (s.end_at - NOW).total_seconds(), s.p10_w, s.p50_w, s.p90_w)
        for s in got.slots
    ]
    assert spans == [
        (0, 40, pytest.approx(160), 800, pytest.approx(1440)),
        (40, 80, 0, 800, pytest.approx(2080)),
        (80, 100, 0, 800, pytest.approx(2400)),
    ]


def test_persistence_knows_nothing_of_the_unmeasured() -> None:
    assert PERSISTENCE.forecast(NOW, seen(surplus_w=None)) is None


def test_the_first_that_answers() -> None:
    chain = FirstOf([FEED, PERSISTENCE])
    fresh = chain.forecast(NOW, seen(forecast(500, 500)))
    fallen_back = chain.forecast(NOW, seen())
    assert fresh is not None and fresh.source == "plant"
    assert fallen_back is not None and fallen_back.source == "persistence"
    assert chain.forecast(NOW, seen(surplus_w=None)) is None
