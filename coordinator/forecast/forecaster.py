"""What every forecaster is, and the chain that asks one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from coordinator.model.forecast import SurplusForecast


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSurplus:
    """What is known of a site's surplus: the measurement, and what the site published last."""

    site_id: str
    surplus_w: float | None
    """None: unknown, or of doubtful quality."""
    published: SurplusForecast | None
    learnt: SurplusForecast | None = None
    """Made of the site's own past (`coordinator.forecast.learnt`); None: nothing was learnt yet."""


class Forecaster(Protocol):
    """A source of surplus forecasts. Pure: `now` is an argument, state is the caller's."""

    def forecast(self, now: datetime, seen: SiteSurplus) -> SurplusForecast | None:
        """Return a forecast for the site from now on; None when this source has none to give."""
        ...


class FirstOf:
    """The first forecaster that has an answer.

    Parameters
    ----------
    forecasters : sequence of Forecaster
        In order of trust.
    """

    def __init__(self, forecasters: Sequence[Forecaster]) -> None:
        self._forecasters = tuple(forecasters)

    def forecast(self, now: datetime, seen: SiteSurplus) -> SurplusForecast | None:
        """Ask each in turn."""
        answers = (forecaster.forecast(now, seen) for forecaster in self._forecasters)
        return next((answer for answer in answers if answer is not None), None)
